/** Findings for people at a terminal. */
import type { Finding } from '../sanitizer/finding.ts';
import { durationText } from '../sanitizer/text.ts';
import { countBySeverity, lostText, type ReportOptions } from './counts.ts';

const LINE = 100;
const STYLES = { note: '\u001b[36m', warning: '\u001b[33m', stop: '\u001b[31m' } as const;
const BOLD = '\u001b[1m';
const DIM = '\u001b[2m';
const PLAIN = '\u001b[0m';

/** Lines that end with a newline; the graver findings are not put first: what came first often explains the rest. */
export function reportText(findings: readonly Finding[], colour = false, options: ReportOptions = {}): string {
  const painted = (style: string, text: string) => (colour ? `${style}${text}${PLAIN}` : text);
  if (findings.length === 0) return 'No findings.\n';
  const blocks = findings.map(finding => findingText(finding, painted));
  return `${blocks.join('\n')}\n${painted(BOLD, totals(findings, lostText(options)))}\n`;
}

type Paint = (style: string, text: string) => string;

function findingText(finding: Finding, paint: Paint): string {
  const { id, detector, severity, summary, explanation, evidence, suggestion, first, last, count } = finding;
  const head = `${paint(STYLES[severity] + BOLD, `${id} ${detector}`)} ${paint(STYLES[severity], `(${severity})`)}`;
  const again = count > 1 ? ` ${paint(DIM, `${count} times within ${durationText(last - first)}`)}` : '';
  const lines = [`${head}${again}`, ...wrapped(summary, '  '), ''];
  lines.push(...wrapped(explanation, '  '));
  if (evidence.length > 0) lines.push('', ...evidence.flatMap(one => evidenceLines(one, paint)));
  lines.push('', ...wrapped(`What to look for: ${suggestion}`, '  '), '');
  return lines.map(line => line.trimEnd()).join('\n');
}

function evidenceLines({ time, source, kind, text }: Finding['evidence'][number], paint: Paint): string[] {
  const when = `${(time / 1e9).toFixed(6)} s`.padStart(16);
  const [head = '', ...rest] = wrapped(`${kind} [${source}] ${text}`, ' '.repeat(18));
  return [`${paint(DIM, when)}  ${head.trimStart()}`, ...rest];
}

function totals(findings: readonly Finding[], lost: string): string {
  const { note, warning, stop } = countBySeverity(findings);
  const parts = [
    stop > 0 ? `${stop} that stopped the machine` : '',
    warning > 0 ? `${warning} warning${warning === 1 ? '' : 's'}` : '',
    note > 0 ? `${note} note${note === 1 ? '' : 's'}` : '',
  ].filter(part => part !== '');
  const more = lost === '' ? '' : `; ${lost}`;
  return `${findings.length} finding${findings.length === 1 ? '' : 's'}: ${parts.join(', ')}${more}`;
}

function wrapped(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of printable(text).split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > LINE) {
      lines.push(indent + line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  lines.push(indent + line);
  return lines;
}

/** Names come from files and from clients: none may move the cursor or colour the rest. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones that are meant
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}
