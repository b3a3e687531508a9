import { describe, expect, it } from 'vitest';
import { runProgram } from '../support.ts';

interface Report {
  readonly passed: boolean;
  readonly rounds: readonly {
    readonly commandLine: string;
    readonly cases: readonly { readonly name: string; readonly outcome: string; readonly detail: string }[];
    readonly kernelLog: readonly string[];
  }[];
  readonly statistics: {
    readonly iommu: {
      readonly translations: number;
      readonly faults: readonly number[];
      readonly untranslated: number;
    };
    readonly functions: Readonly<Record<string, { readonly memory: Readonly<Record<string, number>> }>>;
  };
}

const CASES = [
  'device-reads',
  'device-writes',
  'scattered',
  'large-pages',
  'two-domains',
  'read-only',
  'read-only-cached',
  'msi',
  'remap',
  'intx',
  'use-after-unmap',
  'unmapped',
];
const FAULT_CASES = ['read-only', 'read-only-cached', 'unmapped', 'use-after-unmap'];
const KERNEL_FAULT = /DMAR: \[DMA (Read|Write) NO_PASID\] Request device \[[0-9a-f:.]{7}\] fault addr 0x[0-9a-f]+/;

async function demo(...flags: string[]): Promise<Report> {
  const outcome = await runProgram(['demo', '--json', '--verbose', ...flags]);
  if (outcome.stdout === '') throw new Error(outcome.stderr);
  const report: Report = JSON.parse(outcome.stdout);
  const failures = report.rounds.flatMap(round => round.cases.filter(one => one.outcome !== 'PASS'));
  expect(failures).toEqual([]);
  expect({ status: outcome.status, passed: report.passed }).toEqual({ status: 0, passed: true });
  return report;
}

/** Each takes a guest, so options that have nothing to do with each other share one. */
describe('demo', () => {
  it('passes every case by default, with nothing on the kernel command line about an IOMMU, and after a reboot', async () => {
    const report = await demo('--rounds', '2');
    expect(report.rounds.map(({ cases }) => cases.map(one => one.name))).toEqual([CASES, CASES]);
    for (const round of report.rounds) {
      expect(round.commandLine).not.toMatch(/iommu/i);
      for (const { detail } of round.cases.filter(one => FAULT_CASES.includes(one.name)))
        expect(detail).toMatch(KERNEL_FAULT);
      const log = round.kernelLog.join('\n');
      expect(log).toMatch(/DMAR: dmar0: reg_base_addr/);
      expect(log).toMatch(/Using Queued invalidation/);
      expect(log).toMatch(/0000:01:00\.0: Adding to iommu group/);
      expect(log).not.toMatch(/Firmware Bug|malfunctioning|conflict|WARN/);
    }
    expect(report.statistics.iommu.untranslated).toBe(0);
    expect(report.statistics.functions.edu0!.memory.messageBytes).toBe(0);
    expect(report.statistics.functions.edu0!.memory.directBytesRead).toBeGreaterThan(0);
  });

  it('passes when guest memory is reached by messages only, endpoints on the root bus and intel_iommu=on', async () => {
    const report = await demo('--memory', 'message', '--topology', 'root-bus');
    const { memory } = report.statistics.functions.edu0!;
    expect(memory.directBytesRead! + memory.directBytesWritten!).toBe(0);
    expect(memory.messageBytes).toBeGreaterThan(0);
    expect(report.rounds[0]!.commandLine).toMatch(/intel_iommu=on/);
  });

  it('passes under UEFI firmware, and with caching mode, where the driver also invalidates what becomes present', async () => {
    await demo('--firmware', 'uefi', '--caching-mode');
  });
});
