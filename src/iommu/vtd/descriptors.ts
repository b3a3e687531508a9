/** Invalidation descriptors of 128 bits (6.5.2), as data: which bits of each kind mean something; all others are reserved. */

export const DESCRIPTOR_BYTES = 16;

export const DescriptorType = {
  context: 1,
  iotlb: 2,
  /** Needs device-TLBs: an invalid type without them (6.5.2.5). */
  deviceTlb: 3,
  interruptEntry: 4,
  wait: 5,
} as const;

export interface DescriptorFormat {
  readonly name: string;
  readonly section: string;
  /** Bits that are not reserved, by 32-bit word. */
  readonly defined: readonly [number, number, number, number];
}

/** Bits 11:9 and 3:0 of every descriptor. */
const TYPE = 0xe0f;

export const DESCRIPTORS: ReadonlyMap<number, DescriptorFormat> = new Map<number, DescriptorFormat>([
  // Granularity 5:4, domain id 31:16; source id 15:0, function mask 17:16.
  [
    DescriptorType.context,
    { name: 'context-cache invalidate', section: '6.5.2.1', defined: [TYPE | 0xffff0030, 0x3ffff, 0, 0] },
  ],
  // Granularity 5:4, drain writes 6, drain reads 7, domain id 31:16; address mask 5:0, hint 6, address 63:12.
  [
    DescriptorType.iotlb,
    { name: 'IOTLB invalidate', section: '6.5.2.3', defined: [TYPE | 0xffff00f0, 0, 0xfffff07f, -1] },
  ],
  // Granularity 4, index mask 31:27; interrupt index 15:0.
  [
    DescriptorType.interruptEntry,
    { name: 'interrupt entry cache invalidate', section: '6.5.2.8', defined: [TYPE | 0xf8000010, 0xffff, 0, 0] },
  ],
  // Interrupt flag 4, status write 5, fence 6; status data 31:0; status address 63:2. Page-request drain is reserved.
  [DescriptorType.wait, { name: 'invalidation wait', section: '6.5.2.9', defined: [TYPE | 0x70, -1, 0xfffffffc, -1] }],
]);

export function descriptorType(w0: number): number {
  return (w0 & 0xf) | ((w0 >>> 5) & 0x70);
}
