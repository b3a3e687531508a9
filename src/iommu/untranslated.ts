/** DMA without an IOMMU in its way: every IOVA is the guest-physical address. */
import { Access, bytesToPageEnd, type RunTranslator, type Translation } from './translator.ts';

/** Above this, the high word of an address has bits that a page-frame number (8 TiB) has no room for. */
const HIGH_MASK = ~0x7ff;

export class Untranslated implements RunTranslator {
  /** False only for addresses of 8 TiB and above, where no memory can be. */
  translate(_requesterId: number, high: number, low: number, _access: number, out: Translation): boolean {
    if ((high & HIGH_MASK) !== 0) return false;
    out.frame = (high << 20) | (low >>> 12);
    out.shift = 12;
    out.permissions = Access.read | Access.write;
    return true;
  }

  /** To the end of the gibibyte, as if pages were as large as that. */
  translateRun(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    out.bytes = bytesToPageEnd(30, low, length);
    return this.translate(requesterId, high, low, access, out);
  }
}
