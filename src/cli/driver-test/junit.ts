/** A round as JUnit XML: a test case for each module and script with its output, beside those of the sanitizer's detectors. */

import type { ReportOptions } from '../../trace/report/counts.ts';
import { escapeXml, reportJunit } from '../../trace/report/junit.ts';
import { stepsOf, type TestReport } from './report.ts';
import type { StepResult } from './round.ts';

const SUITE = 'viommu test';
const CLASS = 'viommu.test';

export function testJunit({ result, findings }: TestReport, options: ReportOptions = {}): string {
  const steps = stepsOf(result);
  const failures = steps.filter(({ outcome }) => outcome === 'failed' || outcome === 'timed-out').length;
  const skipped = steps.filter(({ outcome }) => outcome === 'not-run').length;
  const seconds = steps.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000;
  const counts = `tests="${steps.length}" failures="${failures}" errors="0" skipped="${skipped}" time="${seconds.toFixed(3)}"`;
  const suite = [`  <testsuite name="${SUITE}" ${counts}>`, ...steps.map(testCase), '  </testsuite>'].join('\n');
  const sanitizer = reportJunit(findings, options);
  const start = sanitizer.indexOf('  <testsuite ');
  const inner = sanitizer.slice(start, sanitizer.lastIndexOf('</testsuites>'));
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="viommu">\n${suite}\n${inner}</testsuites>\n`;
}

function testCase({ name, outcome, milliseconds, reason = '', output, kernelLog }: StepResult): string {
  const head = `    <testcase classname="${CLASS}" name="${escapeXml(name)}" time="${(milliseconds / 1000).toFixed(3)}">`;
  const lines = [head];
  const [first = ''] = reason.split('\n');
  if (outcome === 'not-run') lines.push(`      <skipped message="${escapeXml(first)}"/>`);
  else if (outcome !== 'passed') {
    lines.push(`      <failure type="${outcome}" message="${escapeXml(first)}">${escapeXml(reason)}</failure>`);
  }
  if (output.length > 0) lines.push(`      <system-out>${escapeXml(output.join('\n'))}</system-out>`);
  if (kernelLog.length > 0) lines.push(`      <system-err>${escapeXml(kernelLog.join('\n'))}</system-err>`);
  lines.push('    </testcase>');
  return lines.join('\n');
}
