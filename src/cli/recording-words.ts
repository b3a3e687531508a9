/** Findings and times in words. */
import { formatTime } from '../trace/record-format.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { Timeline } from './recording-timeline.ts';

const WIDTH = 100;
const RELATIVE_WIDTH = 12;

/** `3.2 ms`, `15 ns`; `-3.2 ms` for what was before. */
export function formatSpan(nanoseconds: number): string {
  const size = Math.abs(nanoseconds);
  const sign = nanoseconds < 0 ? '-' : '';
  if (size < 1e3) return `${sign}${Math.round(size)} ns`;
  if (size < 1e6) return `${sign}${(size / 1e3).toFixed(1)} us`;
  return size < 1e9 ? `${sign}${(size / 1e6).toFixed(1)} ms` : `${sign}${(size / 1e9).toFixed(2)} s`;
}

/** One line in a list. */
export function findingLine({ id, detector, severity, summary, count }: Finding): string {
  const often = count > 1 ? ` (${count} times)` : '';
  const weight = severity === 'warning' ? '' : ` [${severity}]`;
  return oneLine(`${id.padEnd(4)} ${detector}${weight}: ${summary}${often}`);
}

/** All that a finding says; times are shown as seconds since the machine's start, and beside that before or after the access. */
export function describeFinding(finding: Finding): string[] {
  const { summary, explanation, evidence, suggestion, count, first, last } = finding;
  const end = evidence.at(-1)?.time ?? first;
  return [
    findingLine({ ...finding, summary, count: 1 }),
    '',
    ...wrap(explanation),
    '',
    ...(evidence.length === 0 ? [] : ['What led there:']),
    ...evidence.map(({ time, source, text }) => `${stamp(time, end)} [${oneLine(source)}] ${oneLine(text)}`),
    ...(count > 1 ? [`It happened ${count} times, the last time ${formatSpan(last - first)} after the first.`] : []),
    '',
    ...wrap(`What to look for: ${suggestion}`),
  ];
}

/** The records of a timeline, with the moment that it is about marked. */
export function describeTimeline({ entries, omitted }: Timeline, focus: number | undefined): string[] {
  if (entries.length === 0) return ['No records have to do with it.'];
  const earlier =
    omitted === 0 ? [] : [`  ... ${omitted} earlier records are left out; viommu trace with --iova shows all`];
  return [
    ...earlier,
    ...entries.map(({ time, line }) => {
      const mark = time === focus ? '>' : ' ';
      const relative = focus === undefined ? '' : ` ${formatSpan(time - focus).padStart(RELATIVE_WIDTH)}`;
      return `${mark}${relative} ${line}`;
    }),
  ];
}

function stamp(time: number, end: number): string {
  return `${formatTime(time)} ${formatSpan(time - end).padStart(RELATIVE_WIDTH)}`;
}

/** What comes from a file must not move the cursor of a terminal. */
export function oneLine(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}

export function wrap(text: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of oneLine(text).split(' ')) {
    if (line !== '' && line.length + word.length >= WIDTH) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return line === '' ? lines : [...lines, line];
}
