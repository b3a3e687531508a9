/** The `DmaPort` for DMA that carries a PASID, behind an IOMMU that knows none. */
import { type DmaPort, DmaStatus } from '../pci/ports.ts';
import type { Trace } from '../trace/trace.ts';

/** Refuses every transfer and reports it: the unit would answer an unsupported request, and memory is left alone. */
export class NoPasidDmaPort implements DmaPort {
  constructor(
    private readonly trace: Trace,
    private readonly source: string,
    private readonly pasid: number,
  ) {}

  read(high: number, low: number): DmaStatus {
    return this.refuse(high, low, 'read');
  }

  write(high: number, low: number): DmaStatus {
    return this.refuse(high, low, 'write');
  }

  private refuse(high: number, low: number, access: string): DmaStatus {
    const address = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    this.trace.note('dma.noPasidSupport', this.source, { pasid: this.pasid, address, access });
    return DmaStatus.fault;
  }
}
