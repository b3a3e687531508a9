import { describe, expect, it } from 'vitest';
import { testJunit } from '../../../src/cli/driver-test/junit.ts';
import { stepLines, summaryLine, type TestReport, testDocument } from '../../../src/cli/driver-test/report.ts';
import { ExitStatus } from '../../../src/cli/errors.ts';
import type { Finding } from '../../../src/trace/sanitizer/finding.ts';
import { step } from './support.ts';

const FINDING: Finding = {
  id: 'F1',
  detector: 'use-after-unmap',
  severity: 'warning',
  summary: 'edu0 wrote to 0x5000, which was unmapped',
  explanation: '',
  suggestion: '',
  device: 'edu0',
  iova: 0x5000n,
  evidence: [],
  first: 1,
  last: 1,
  count: 1,
};
const PROBLEM = { headline: 'BUG: bad <things>', lines: ['[ 1.0] BUG: bad <things>', '[ 1.1] Call Trace:'] };

function report(more: Partial<TestReport['result']> = {}, findings: Finding[] = []): TestReport {
  const timings = { prepare: 10, boot: 4200, load: 120, run: 130, total: 4500 };
  const result = { bootProblems: [], modules: [step('load my.ko')], cases: [step('a.sh')], unloads: [], ...more };
  return { result, findings, timings };
}

const late = step('b.sh', { outcome: 'timed-out', status: 137, reason: 'killed after 5 s (--timeout)' });

describe('the summary', () => {
  it('tells a round that passed in one line', () => {
    expect(summaryLine(report(), ExitStatus.ok)).toBe(
      'PASSED  1 of 1 passed; no findings; 4.5 s (prepare 0.01 s, boot 4.2 s, load 0.12 s, run 0.13 s)',
    );
  });

  it('names what failed, and counts what was found', () => {
    const crashed = step('load my.ko', { outcome: 'failed', kernelProblems: [PROBLEM] });
    const line = summaryLine(
      report({ modules: [crashed], cases: [step('a.sh'), late] }, [FINDING]),
      ExitStatus.findings,
    );
    expect(line).toMatch(/^FAILED {2}1 of 2 passed; failed: load my\.ko, b\.sh; 1 finding; 1 kernel problem; /);
  });

  it('says what made the status where all scripts passed', () => {
    expect(summaryLine(report({}, [FINDING]), ExitStatus.findings)).toMatch(/^FINDINGS {2}1 of 1 passed; 1 finding; /);
    expect(summaryLine(report({}, [FINDING]), ExitStatus.ok)).toMatch(/^PASSED /);
  });
});

describe('the end of a step', () => {
  it('shows what the kernel reported, and not its whole log beside it', () => {
    const lines = stepLines(
      step('x', { outcome: 'failed', reason: 'no', kernelLog: ['noise'], kernelProblems: [PROBLEM] }),
    );
    expect(lines).toEqual(['FAIL  x  0.12 s  no', ...PROBLEM.lines.map(line => `      ${line}`)]);
  });

  it('shows the end of the log where a step failed for no reason that the kernel reported', () => {
    const kernelLog = ['my: loading out-of-tree module taints kernel.', 'my: probe failed with error -12'];
    expect(stepLines(step('x', { outcome: 'failed', reason: 'status 1', kernelLog }))).toEqual([
      'FAIL  x  0.12 s  status 1',
      '      my: probe failed with error -12',
    ]);
    expect(stepLines(step('x', { kernelLog }))).toEqual(['PASS  x  0.12 s']);
  });

  it('cuts a long report', () => {
    const long = { headline: 'BUG', lines: Array.from({ length: 80 }, (_, index) => `line ${index}`) };
    const lines = stepLines(step('x', { outcome: 'failed', kernelProblems: [long] }));
    expect(lines).toHaveLength(27);
    expect(lines.at(-1)).toBe('      ... 55 more lines');
  });
});

describe('the document', () => {
  it('can be written as JSON, addresses included', () => {
    const document = JSON.parse(JSON.stringify(testDocument(report({ cases: [late] }, [FINDING]), 3)));
    expect(document).toMatchObject({
      format: 'viommu-test',
      version: 1,
      passed: false,
      status: 3,
      cases: [{ name: 'b.sh', outcome: 'timed-out', status: 137 }],
      findings: [{ id: 'F1', iova: '0x5000' }],
      timings: { boot: 4200 },
    });
  });
});

describe('JUnit', () => {
  const failed = step('a & b.sh', {
    outcome: 'failed',
    status: 3,
    reason: 'status 3\nmore of it',
    output: ['hello <world>', 'bad \u0001 byte'],
    kernelLog: ['[ 1.0] my: log'],
  });
  const xml = testJunit(
    report({ cases: [failed, step('c.sh', { outcome: 'not-run', reason: 'the guest was lost' })] }, [FINDING]),
  );

  it('has a case for each step, with output, kernel log and verdict', () => {
    expect(xml).toContain('<testsuite name="viommu test" tests="3" failures="1" errors="0" skipped="1" time="0.360">');
    expect(xml).toContain('<testcase classname="viommu.test" name="load my.ko" time="0.120">');
    expect(xml).toContain('<testcase classname="viommu.test" name="a &amp; b.sh" time="0.120">');
    expect(xml).toContain('<failure type="failed" message="status 3">status 3\nmore of it</failure>');
    expect(xml).toContain('<system-out>hello &lt;world&gt;\nbad ? byte</system-out>');
    expect(xml).toContain('<system-err>[ 1.0] my: log</system-err>');
    expect(xml).toContain('<skipped message="the guest was lost"/>');
  });

  it("has the sanitizer's cases beside them", () => {
    expect(xml).toMatch(/<testsuite name="viommu sanitizer" [\s\S]*name="use-after-unmap">\s*<failure/);
  });

  it('is one well-formed document', () => {
    const open: string[] = [];
    for (const [, close, name, empty] of xml.matchAll(/<(\/?)([a-z-]+)(?:\s+[\w-]+="[^"<]*")*(\/?)>/g)) {
      if (close) expect(open.pop()).toBe(name);
      else if (!empty) open.push(name!);
    }
    expect(open).toEqual([]);
    expect(xml.match(/<\?xml/g)).toHaveLength(1);
  });
});
