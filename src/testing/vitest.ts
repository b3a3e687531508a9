/**
 * Matchers for vitest: `import 'viommu/testing/vitest'` once, in a set-up file or in the test itself.
 *
 *     await expect(machine).toHaveNoFindings();
 *     await expect(machine).toHaveFinding('use-after-unmap', { device: 'edu0' });
 *     await expect(machine).toHaveTranslated({ device: 'edu0', iova: 0x1000n, access: 'write', to: 0x10345000n });
 */
import { expect } from 'vitest';
import type { DetectorName } from '../trace/sanitizer/detectors.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { TestMachine } from './machine.ts';
import { describeTranslations, type ExpectedTranslation, findTranslation } from './translations.ts';

export interface ExpectedFinding {
  /** The endpoint's name, or its requester id as 01:00.0. */
  readonly device?: string;
  /** Any address of the access. */
  readonly iova?: bigint;
  /** In the summary. */
  readonly text?: string | RegExp;
}

interface ViommuMatchers<Result> {
  /** The sanitizer found no mistake; notes count as well. */
  toHaveNoFindings(): Promise<Result>;
  /** There is a finding of this detector. Does not wait: see `TestMachine.waitForFinding`. */
  toHaveFinding(detector: DetectorName, expected?: ExpectedFinding): Promise<Result>;
  /** A device's access was translated, as the records say; waits for it a little. */
  toHaveTranslated(expected: ExpectedTranslation): Promise<Result>;
}

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: vitest declares it so.
  interface Assertion<T = any> extends ViommuMatchers<T> {}
  interface AsymmetricMatchersContaining extends ViommuMatchers<unknown> {}
}

const RECORDS_TIMEOUT_MS = 1000;

expect.extend({
  async toHaveNoFindings(machine: TestMachine) {
    const findings = await machine.findings();
    return {
      pass: findings.length === 0,
      message: () =>
        findings.length === 0
          ? 'expected findings, and there are none'
          : `expected no findings, and there are ${findings.length}:\n${findings.map(describe).join('\n')}`,
    };
  },

  async toHaveFinding(machine: TestMachine, detector: DetectorName, expected: ExpectedFinding = {}) {
    const findings = await machine.findings();
    const found = findings.find(finding => finding.detector === detector && fits(finding, expected));
    const list = findings.map(describe).join('\n') || '  (none)';
    return {
      pass: found !== undefined,
      message: () =>
        found
          ? `expected no such finding, and there is one:\n${describe(found)}`
          : `expected a finding of ${detector}; there are:\n${list}`,
    };
  },

  async toHaveTranslated(machine: TestMachine, expected: ExpectedTranslation) {
    const timeout = this.isNot ? 0 : RECORDS_TIMEOUT_MS;
    const found = await findTranslation(machine.records, expected, timeout);
    return {
      pass: found !== undefined,
      message: () =>
        found
          ? `expected no such translation, and there is one: ${JSON.stringify(found, hexadecimal)}`
          : `expected a translation of ${JSON.stringify(expected, hexadecimal)}; ${describeTranslations(machine.records)}`,
    };
  },
});

function fits(finding: Finding, { device, iova, text }: ExpectedFinding): boolean {
  if (device !== undefined && finding.device !== device) return false;
  if (iova !== undefined) {
    if (finding.iova === undefined) return false;
    const end = finding.iova + BigInt(Math.max(1, finding.length ?? 1));
    if (iova < finding.iova || iova >= end) return false;
  }
  if (text === undefined) return true;
  return typeof text === 'string' ? finding.summary.includes(text) : text.test(finding.summary);
}

function describe({ id, detector, severity, summary }: Finding): string {
  return `  ${id} ${severity} ${detector}: ${summary}`;
}

function hexadecimal(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `0x${value.toString(16)}` : value;
}
