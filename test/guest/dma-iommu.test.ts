import { describe, expect, it } from 'vitest';
import { operationNames } from '../../src/iommu/dma-iommu/opcodes.ts';
import { runProgram } from '../support.ts';

interface Report {
  readonly passed: boolean;
  readonly statistics: { readonly iommu: { readonly staleHits: number } };
  readonly rounds: readonly { readonly cases: readonly { readonly name: string; readonly outcome: string }[] }[];
}

/** The slot's name in the interface structure, as the guest's program prints it. */
function slotName(operation: string): string {
  return operation[0]!.toUpperCase() + operation.slice(1);
}

describe('demo --iommu dma-iommu', () => {
  it.each([
    ['shared memory', ['--memory', 'shared']],
    ['message memory and the refusals of Windows', ['--memory', 'message', '--compat', 'windows']],
  ])('passes every operation of versions 1 to 3 from inside the guest, with %s', async (_name, flags) => {
    const outcome = await runProgram(['demo', '--iommu', 'dma-iommu', '--json', ...flags]);
    if (outcome.stdout === '') throw new Error(outcome.stderr);
    const report: Report = JSON.parse(outcome.stdout);
    const cases = report.rounds.flatMap(round => round.cases);
    expect(cases.filter(one => one.outcome !== 'PASS')).toEqual([]);
    expect(cases.map(one => one.name)).toEqual(expect.arrayContaining(operationNames.map(slotName)));
    // The cases that forget a flush on purpose were seen from our side too.
    expect(report.statistics.iommu.staleHits).toBeGreaterThan(0);
    expect({ status: outcome.status, passed: report.passed }).toEqual({ status: 0, passed: true });
  });
});
