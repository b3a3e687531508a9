import { describe, expect, it } from 'vitest';
import { NoPasidDmaPort } from '../../src/iommu/no-pasid.ts';
import { DmaStatus } from '../../src/pci/ports.ts';
import { TraceLog } from '../../src/trace/trace.ts';

describe('a DMA port without PASID support', () => {
  it.each(['read', 'write'] as const)('refuses and reports every %s', access => {
    const trace = new TraceLog();
    const port = new NoPasidDmaPort(trace, 'edu0', 0x12345);
    expect(port[access](-1, 0x1000)).toBe(DmaStatus.fault);
    expect(trace.events).toEqual([
      {
        kind: 'dma.noPasidSupport',
        source: 'edu0',
        detail: { pasid: 0x12345, address: 0xffffffff_00001000n, access },
      },
    ]);
  });
});
