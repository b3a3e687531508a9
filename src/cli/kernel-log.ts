/** What the guest kernel's own log must and must not say about our IOMMU. */

const REQUIRED = [/DMAR: dmar0: reg_base_addr/, /Using Queued invalidation/, /Adding to iommu group/] as const;
const FORBIDDEN = /Firmware Bug|malfunctioning|conflict|WARN/;

export interface LogVerdict {
  /** Patterns that no line has. */
  readonly missing: readonly string[];
  /** Lines that should not be there. */
  readonly bad: readonly string[];
}

export function judgeKernelLog(log: readonly string[]): LogVerdict {
  return {
    missing: REQUIRED.filter(pattern => !log.some(line => pattern.test(line))).map(pattern => pattern.source),
    bad: log.filter(line => FORBIDDEN.test(line)),
  };
}
