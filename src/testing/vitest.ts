/**
 * Matchers for vitest: `import 'viommu/testing/vitest'` once, in a set-up file or in the test itself.
 *
 *     await expect(machine).toHaveNoFindings();
 *     await expect(machine).toHaveFinding('use-after-unmap', { device: 'edu0' });
 *     await expect(machine).toHaveTranslated({ device: 'edu0', iova: 0x1000n, access: 'write', to: 0x10345000n });
 */
import { expect } from 'vitest';
import type { DetectorName } from '../trace/sanitizer/detectors.ts';
import {
  checkLooked,
  describeExpectedFinding,
  describeFinding,
  describeFindings,
  type ExpectedFinding,
} from './findings.ts';
import { TestMachine, type WaitOptions } from './machine.ts';
import { describeExpected, describeRun, describeTranslations, type ExpectedTranslation } from './translations.ts';

/** For `toHaveNoFindings`. */
export interface NoFindingsOptions {
  /** Whether notes count as well. Default: no. */
  readonly notes?: boolean;
}

interface ViommuMatchers<Result> {
  /** The sanitizer found no mistake in what happened so far. Notes do not count unless asked for. */
  toHaveNoFindings(options?: NoFindingsOptions): Promise<Result>;
  /** There is a finding of this detector. Waits for it, a second unless told otherwise. */
  toHaveFinding(detector: DetectorName, expected?: ExpectedFinding, wait?: WaitOptions): Promise<Result>;
  /** A device's access was translated, as the records since the start or since `forget` say. Waits for it as `toHaveFinding` does. */
  toHaveTranslated(expected: ExpectedTranslation, wait?: WaitOptions): Promise<Result>;
}

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: vitest declares it so.
  interface Matchers<T = any> extends ViommuMatchers<T> {}
}

/** How long something that must be there is waited for. */
const WAIT_MS = 1000;

expect.extend({
  async toHaveNoFindings(received: unknown, { notes = false }: NoFindingsOptions = {}) {
    const machine = machineOf(received);
    await machine.settle();
    const answer = await machine.findingsAnswer();
    const findings = answer.findings.filter(({ severity }) => notes || severity !== 'note');
    if (findings.length === 0) checkLooked(answer);
    return {
      pass: findings.length === 0,
      message: () =>
        findings.length === 0
          ? 'expected findings, and there are none'
          : `expected no findings, and there are ${findings.length}:\n${describeFindings(findings)}`,
    };
  },

  async toHaveFinding(
    received: unknown,
    detector: DetectorName,
    expected: ExpectedFinding = {},
    { timeoutMs = WAIT_MS }: WaitOptions = {},
  ) {
    const machine = machineOf(received);
    if (this.isNot) await machine.settle();
    const found = await machine.lookForFinding(detector, expected, this.isNot ? 0 : timeoutMs);
    const answer = await machine.findingsAnswer();
    const { findings } = answer;
    if (found === undefined) checkLooked(answer);
    return {
      pass: found !== undefined,
      message: () =>
        found === undefined
          ? `expected a finding of ${describeExpectedFinding(detector, expected)}; there are:\n${describeFindings(findings)}`
          : `expected no such finding, and there is one:\n${describeFinding(found)}`,
    };
  },

  async toHaveTranslated(received: unknown, expected: ExpectedTranslation, { timeoutMs = WAIT_MS }: WaitOptions = {}) {
    const machine = machineOf(received);
    if (this.isNot) await machine.settle();
    const found = await machine.lookForTranslation(expected, this.isNot ? 0 : timeoutMs);
    const { lost, lostBatches } = machine.records;
    const incomplete = lost + lostBatches > 0;
    const some = incomplete ? ' (some records were lost)' : '';
    if (found === undefined && incomplete && this.isNot) {
      throw new Error('it cannot be said that there was no such translation: some records were lost');
    }
    return {
      pass: found !== undefined,
      message: () =>
        found === undefined
          ? `expected a translation of ${describeExpected(expected)}${some}; ${describeTranslations(machine.records)}`
          : `expected no such translation, and there is one: ${describeRun(found)}`,
    };
  },
});

function machineOf(received: unknown): TestMachine {
  if (received instanceof TestMachine) return received;
  throw new TypeError('expect what startMachine, attachMachine or watchMachine gave');
}
