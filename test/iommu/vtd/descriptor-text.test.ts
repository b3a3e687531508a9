import { expect, it } from 'vitest';
import { describeDescriptor } from '../../../src/iommu/vtd/descriptor-text.ts';

it.each([
  [0, 0, 0, 0, 'empty'],
  [0x11, 0, 0, 0, 'context-cache invalidate, global'],
  [0x0003_0021, 0, 0, 0, 'context-cache invalidate, domain-selective, domain 3'],
  [
    0x0003_0031,
    0x0001_0108,
    0,
    0,
    'context-cache invalidate, device-selective, domain 3, 01:01.0 and one other function',
  ],
  [0x0001, 0, 0, 0, 'context-cache invalidate, reserved granularity'],
  [0x12, 0, 0, 0, 'IOTLB invalidate, global'],
  [0x0003_00e2, 0, 0, 0, 'IOTLB invalidate, domain-selective, domain 3'],
  [0x0003_00f2, 0, 0xfffff000 | 0, 0, 'IOTLB invalidate, page-selective, domain 3, 0xfffff000, 1 page'],
  [
    0x0003_0032,
    0,
    0x0000_0049,
    1,
    'IOTLB invalidate, page-selective, domain 3, 0x100000000, 512 pages, leaf entries only',
  ],
  [0x4, 0, 0, 0, 'interrupt entry cache invalidate'],
  [0x75, 9, 0x1000, 2, 'invalidation wait, writes 0x9 to 0x200001000, interrupts, fence'],
  [0x5, 0, 0, 0, 'invalidation wait'],
  [0x3, 0, 0, 0, 'type 3, not valid here'],
  [0x12, 1, 0, 0, 'IOTLB invalidate, global, reserved bits set'],
])('%i %i %i %i is "%s"', (w0, w1, w2, w3, text) => {
  expect(describeDescriptor({ w0, w1, w2, w3 })).toBe(text);
});
