/** Findings as JUnit XML, which build servers show: each detector is a test case, and it failed if it found something. */
import { DETECTOR_NAMES, type DetectorName } from '../sanitizer/detectors.ts';
import type { Finding } from '../sanitizer/finding.ts';
import { lostText, type ReportOptions } from './counts.ts';
import { reportText } from './text.ts';

const SUITE = 'viommu sanitizer';
const CLASS = 'viommu.sanitizer';

/** Notes are told, but do not make a case fail. */
export function reportJunit(findings: readonly Finding[], options: ReportOptions = {}): string {
  const lost = lostText(options);
  const cases = DETECTOR_NAMES.map(name => testCase(name, findings));
  const failures = DETECTOR_NAMES.filter(name => findings.some(one => one.detector === name && fails(one))).length;
  const totals = `tests="${cases.length}" failures="${failures}" errors="0" skipped="0"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="${SUITE}" ${totals}>`,
    `  <testsuite name="${SUITE}" ${totals}>`,
    ...cases,
    ...(lost !== '' ? [`    <system-err>${escapeXml(lost)}</system-err>`] : []),
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

function fails({ severity }: Finding): boolean {
  return severity !== 'note';
}

function testCase(name: DetectorName, all: readonly Finding[]): string {
  const findings = all.filter(one => one.detector === name);
  const head = `    <testcase classname="${CLASS}" name="${name}"`;
  if (findings.length === 0) return `${head}/>`;
  const failed = findings.filter(fails);
  const notes = findings.filter(one => !fails(one));
  const lines = [`${head}>`];
  if (failed.length > 0) {
    const more = failed.length > 1 ? ` (and ${failed.length - 1} more)` : '';
    const message = escapeXml(`${failed[0]!.summary}${more}`);
    lines.push(`      <failure type="${name}" message="${message}">${escapeXml(reportText(failed))}</failure>`);
  }
  if (notes.length > 0) lines.push(`      <system-out>${escapeXml(reportText(notes))}</system-out>`);
  lines.push('    </testcase>');
  return lines.join('\n');
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
};

/** Also leaves out what XML 1.0 cannot hold at all: control characters and lone surrogates. */
export function escapeXml(text: string): string {
  return text
    .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '?')
    .replace(/[&<>"']/g, character => ENTITIES[character]!);
}
