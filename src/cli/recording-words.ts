/** Findings and times in words. */
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { Timeline } from './recording-timeline.ts';

const WIDTH = 100;
const RELATIVE_WIDTH = 9;
const STAMP_WIDTH = 14;
const SOURCE_WIDTH = 6;
/** A number stays with its unit. */
const BREAK = / (?!(?:ns|us|ms|s|bytes?)\b)/;
/** Even where names are long. */
const MIN_TEXT_WIDTH = 40;

/** `3.2 ms`, `15 ns`; `-3.2 ms` for what was before. */
export function formatSpan(nanoseconds: number): string {
  const size = Math.abs(nanoseconds);
  const sign = nanoseconds < 0 ? '-' : '';
  if (size < 1e3) return `${sign}${Math.round(size)} ns`;
  if (size < 1e6) return `${sign}${(size / 1e3).toFixed(1)} us`;
  return size < 1e9 ? `${sign}${(size / 1e6).toFixed(1)} ms` : `${sign}${(size / 1e9).toFixed(2)} s`;
}

/** One line in a list, however long. */
export function findingLine({ id, detector, severity, summary, count }: Finding): string {
  const often = count > 1 ? ` (${count} times)` : '';
  const weight = severity === 'warning' ? '' : ` [${severity}]`;
  return oneLine(`${id.padEnd(4)} ${detector}${weight}: ${summary}${often}`);
}

/** All that a finding says, with the moment of each piece of evidence as seconds since the machine's start. */
export function describeFinding(finding: Finding): string[] {
  const { id, detector, severity, summary, explanation, evidence, suggestion, count, first, last } = finding;
  const weight = severity === 'warning' ? '' : ` [${severity}]`;
  return [
    oneLine(`${id} ${detector}${weight}`),
    ...wrap(summary),
    '',
    ...wrap(explanation),
    '',
    ...(evidence.length === 0 ? [] : ['What led there:']),
    ...evidence.flatMap(({ time, source, text }) =>
      hanging(`${stamp(time)}  ${oneLine(source).padEnd(SOURCE_WIDTH)} `, text),
    ),
    ...(evidence.length === 0 ? [] : ['']),
    ...(count > 1
      ? [`It happened ${count} times, the last time ${formatSpan(last - first)} after the first.`, '']
      : []),
    ...wrap(`What to look for: ${suggestion}`),
  ];
}

/** The records of a timeline, by their distance from the moment that it is about, which is marked; without one, by their time. */
export function describeTimeline({ entries, omitted }: Timeline, focus: number | undefined): string[] {
  if (entries.length === 0) return ['No records have to do with it.'];
  const earlier =
    omitted === 0 ? [] : [`  ... ${omitted} earlier records are left out; viommu trace with --iova shows all`];
  const sources = Math.max(...entries.map(({ source }) => source.length));
  const kinds = Math.max(...entries.map(({ kind }) => kind.length));
  return [
    ...earlier,
    ...entries.flatMap(({ time, source, kind, text }) => {
      const head = `${oneLine(source).padEnd(sources)}  ${oneLine(kind).padEnd(kinds)}`;
      const mark = time === focus ? '>' : ' ';
      const when = focus === undefined ? stamp(time) : formatSpan(time - focus).padStart(RELATIVE_WIDTH);
      return hanging(`${mark}${when}  ${head}  `, text);
    }),
  ];
}

/** `   3.587906 s`, since the machine's start. */
export function stamp(time: number): string {
  return `${(time / 1e9).toFixed(6)} s`.padStart(STAMP_WIDTH);
}

/** Behind a head, with the lines that follow below the first. */
function hanging(head: string, text: string): string[] {
  const [first = '', ...rest] = wrap(text, Math.max(MIN_TEXT_WIDTH, WIDTH - head.length));
  return [`${head}${first}`.trimEnd(), ...rest.map(line => ' '.repeat(head.length) + line)];
}

/** What comes from a file must not move the cursor of a terminal. */
export function oneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}

export function wrap(text: string, width = WIDTH): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of oneLine(text).split(BREAK)) {
    if (line !== '' && line.length + word.length >= width) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return line === '' ? lines : [...lines, line];
}
