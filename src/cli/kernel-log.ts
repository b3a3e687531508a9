/** What the guest kernel's own log must and must not say about our IOMMU. */

interface Expectation {
  readonly required: readonly RegExp[];
  readonly praise: string;
}

const FORBIDDEN = /Firmware Bug|malfunctioning|conflict|WARN/;

const EXPECTATIONS: Readonly<Record<string, Expectation>> = {
  vtd: {
    required: [/DMAR: dmar0: reg_base_addr/, /Using Queued invalidation/, /Adding to iommu group/],
    praise: 'the kernel found the unit, uses queued invalidation and complains of nothing',
  },
  // No kernel has a driver for it: the guest's program is its driver.
  'dma-iommu': { required: [], praise: 'the kernel complains of nothing' },
};

export interface LogVerdict {
  /** Patterns that no line has. */
  readonly missing: readonly string[];
  /** Lines that should not be there. */
  readonly bad: readonly string[];
  /** What to say where both are empty. */
  readonly praise: string;
}

export function judgeKernelLog(log: readonly string[], iommu: string): LogVerdict {
  const { required, praise } = EXPECTATIONS[iommu] ?? { required: [], praise: '' };
  return {
    missing: required.filter(pattern => !log.some(line => pattern.test(line))).map(pattern => pattern.source),
    bad: log.filter(line => FORBIDDEN.test(line)),
    praise,
  };
}
