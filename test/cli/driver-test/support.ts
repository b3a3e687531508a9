/** Results of rounds that were none. */
import type { StepResult } from '../../../src/cli/driver-test/round.ts';

export function step(name: string, more: Partial<StepResult> = {}): StepResult {
  return {
    name,
    outcome: 'passed',
    status: 0,
    milliseconds: 120,
    output: [],
    reason: undefined,
    kernelLog: [],
    kernelProblems: [],
    ...more,
  };
}
