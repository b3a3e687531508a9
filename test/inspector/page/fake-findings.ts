import { DETECTORS, type DetectorName } from '../../../src/trace/sanitizer/detectors.ts';
import type { Evidence, Finding } from '../../../src/trace/sanitizer/finding.ts';

const at = (milliseconds: number, kind: string, source: string, text: string): Evidence => ({
  time: 1e9 + milliseconds * 1e6,
  kind,
  source,
  text,
});

function finding(
  id: string,
  detector: DetectorName,
  severity: Finding['severity'],
  device: string,
  summary: string,
  evidence: readonly Evidence[],
  rest: Partial<Finding> = {},
): Finding {
  const { about, suggestion } = DETECTORS[detector];
  const last = evidence.at(-1)!.time;
  return {
    id,
    detector,
    severity,
    device,
    summary,
    explanation: about,
    suggestion,
    evidence,
    first: last,
    last,
    count: 1,
    ...rest,
  };
}

export function fakeFindings(): Finding[] {
  return [
    finding(
      'F1',
      'use-after-unmap',
      'warning',
      'edu0',
      'edu0 (01:00.0) wrote 64 bytes at 0x5680040, which was unmapped 3.2 ms before',
      [
        at(12.1, 'mapping.added', 'iommu', '0x5680000-0x5683fff -> 0x10345000 mapped in domain 1, read and write'),
        at(40.7, 'dma.write', 'edu0', '64 bytes written at 0x5680040'),
        at(96.4, 'invalidation', 'iommu', 'domain 1, 0x5680000, 4 pages, page-selective'),
        at(96.5, 'mapping.removed', 'iommu', '0x5680000-0x5683fff -> 0x10345000 found gone by that invalidation'),
        at(99.7, 'fault', 'iommu', 'write to 0x5680040 refused: not present at level 1'),
      ],
      { iova: 0x5680040n, length: 64, domain: 1, count: 3 },
    ),
    finding(
      'F2',
      'stale-iotlb',
      'stop',
      'edu1',
      'edu1 (02:00.0) read 4096 bytes at 0xfffff000 through an IOTLB entry that the tables do not have any more',
      [
        at(22.0, 'mapping.added', 'iommu', '0xfffff000-0xffffffff -> 0x2344000 mapped in domain 2, read only'),
        at(310.0, 'stale', 'iommu', 'read of 0xfffff000 answered with 0x2344000; a walk says not present'),
      ],
      { iova: 0xfffff000n, length: 4096, domain: 2 },
    ),
    finding(
      'F3',
      'out-of-bounds',
      'warning',
      'edu0',
      'edu0 (01:00.0) read 512 bytes at 0xffffef00, 256 bytes beyond a mapping of 2 pages',
      [at(402.3, 'fault', 'iommu', 'read of 0xfffff000 refused: not present at level 1')],
      { iova: 0xffffef00n, length: 512, domain: 1 },
    ),
    finding('F4', 'register-spin', 'note', 'edu1', 'the guest read status of edu1 100000 times in 92 ms, always 0x1', [
      at(500.0, 'register.spin', 'edu1', 'offset 0x20 read 100000 times, always 0x1'),
    ]),
  ];
}
