/** Which mistakes the demo's cases make on purpose, and whether the sanitizer found those and no others. */
import type { DetectorName } from '../trace/sanitizer/detectors.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { CaseResult } from './demo-report.ts';

export interface FindingsVerdict {
  readonly right: boolean;
  /** For people. */
  readonly lines: readonly string[];
}

/** By case, what it does wrong on purpose. A case that is not here does nothing wrong. */
const DELIBERATE: Readonly<Record<string, Readonly<Record<string, readonly DetectorName[]>>>> = {
  vtd: {
    'two-domains': ['never-mapped'],
    'read-only': ['wrong-direction'],
    'read-only-cached': ['wrong-direction'],
    unmapped: ['never-mapped'],
    'use-after-unmap': ['use-after-unmap'],
  },
  'dma-iommu': {
    CreateDomain: ['never-mapped'],
    DeleteDomain: ['mapping-leak', 'operation-order', 'dma-while-detached'],
    AttachDevice: ['dma-while-detached'],
    DetachDevice: ['dma-while-detached'],
    FlushDomain: ['dma-before-flush', 'use-after-unmap'],
    FlushDomainByVaList: ['dma-before-flush', 'use-after-unmap', 'stale-paging-structure', 'stale-iotlb'],
    MapLogicalRange: ['wrong-direction', 'overlapping-map'],
    UnmapLogicalRange: ['use-after-unmap', 'mismatched-unmap'],
    MapIdentityRange: ['out-of-bounds', 'overlapping-map'],
    UnmapIdentityRange: ['double-unmap', 'use-after-unmap'],
    SetDeviceFaultReporting: ['never-mapped', 'wrong-direction'],
    ConfigureDomain: ['dma-while-detached', 'wrong-direction'],
    CreateDomainEx: ['overlapping-map', 'never-mapped'],
    AttachDeviceEx: ['dma-while-detached', 'never-mapped'],
    DetachDeviceEx: ['mapping-leak', 'dma-while-detached'],
    MapLogicalRangeEx: ['overlapping-map', 'use-after-unmap'],
    MapIdentityRangeEx: ['out-of-bounds', 'overlapping-map'],
    UnmapIdentityRangeEx: ['use-after-unmap', 'mismatched-unmap'],
    SetDeviceFaultReportingEx: ['never-mapped'],
    ReserveLogicalAddressRange: ['never-mapped', 'overlapping-map'],
    FreeReservedLogicalAddressRange: ['mapping-leak', 'operation-order'],
    MapReservedLogicalRange: ['out-of-bounds', 'overlapping-map'],
    UnmapReservedLogicalRange: ['use-after-unmap', 'double-unmap'],
    DeleteDevice: ['dma-while-detached', 'operation-order'],
    CreatePasidDevice: ['pasid-misuse'],
    DeletePasidDevice: ['operation-order', 'pasid-misuse'],
    AttachPasidDevice: ['never-mapped', 'operation-order', 'pasid-misuse'],
    DetachPasidDevice: ['mapping-leak', 'operation-order', 'pasid-misuse'],
    'buddy-allocator': ['use-after-unmap'],
    'two-domains': ['use-after-unmap'],
    'tables-x64': ['wrong-direction', 'out-of-bounds'],
    'tables-x64-5-levels': ['wrong-direction', 'out-of-bounds'],
    'tables-arm64-4k': ['wrong-direction', 'out-of-bounds', 'malformed-table'],
    'tables-arm64-16k': ['malformed-table', 'wrong-direction', 'out-of-bounds'],
    'tables-arm64-64k': ['malformed-table', 'wrong-direction', 'out-of-bounds'],
    'tables-arm64-ttbr1': ['address-too-wide'],
    'bad-commands': ['invalidation-queue-misuse'],
    'bad-index': ['invalidation-queue-misuse', 'use-after-unmap'],
    'interrupt-pending': ['use-after-unmap'],
  },
};

/** Where tables are reached by messages, one of eight answers is compared with them: these may or may not be found. */
const SAMPLED_BY_MESSAGES: ReadonlySet<DetectorName> = new Set([
  'stale-iotlb',
  'stale-context',
  'stale-paging-structure',
  'dma-before-flush',
]);

/** `memory`: how guest memory is reached, `shared` or `message`. */
export function judgeFindings(
  iommu: string,
  cases: readonly Pick<CaseResult, 'name'>[],
  findings: readonly Finding[],
  memory: string,
): FindingsVerdict {
  const expected = new Set(cases.flatMap(({ name }) => DELIBERATE[iommu]?.[name] ?? []));
  const made = findings.filter(finding => finding.severity !== 'note');
  const wrong = made.filter(({ detector }) => !expected.has(detector));
  const isSure = (detector: DetectorName) => memory !== 'message' || !SAMPLED_BY_MESSAGES.has(detector);
  const found = new Set(made.map(finding => finding.detector));
  const missing = [...expected].filter(detector => !found.has(detector) && isSure(detector));
  const lines = [
    ...wrong.map(({ detector, summary }) => `  FAIL  findings           not expected: ${detector}: ${summary}`),
    ...missing.map(detector => `  FAIL  findings           not found: ${detector}`),
  ];
  const right = lines.length === 0;
  if (right)
    lines.push(`  PASS  findings           ${made.length}, each made on purpose: ${[...found].join(', ') || 'none'}`);
  return { right, lines };
}
