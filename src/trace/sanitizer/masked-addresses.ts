/** DMA of devices that were given more address bits than they drive: what becomes of it is the same mistake, and told already. */
import type { FindingLog } from './finding-log.ts';
import { type Transfer, transferAddress } from './history-evidence.ts';
import { MAX_MASKED_ADDRESSES } from './limits.ts';
import type { NoteDetail } from './note-words.ts';

export class MaskedAddresses {
  /** By source: where its DMA goes without the bits that were lost. */
  readonly #clamped = new Map<string, bigint>();

  constructor(private readonly log: FindingLog) {}

  note(kind: string, source: string, { clamped, address }: NoteDetail): void {
    switch (kind) {
      case 'edu.mask':
        if (typeof clamped !== 'bigint' || !this.log.wants('address-too-wide')) return;
        if (this.#clamped.has(source) || this.#clamped.size < MAX_MASKED_ADDRESSES) this.#clamped.set(source, clamped);
        return;
      case 'edu.dmaFailed':
        // The end of that DMA, however it failed.
        if (address === this.#clamped.get(source)) this.#clamped.delete(source);
        return;
    }
  }

  /** Whether the failed transfer is that DMA; once. */
  explains(source: string, transfer: Transfer): boolean {
    const clamped = this.#clamped.get(source);
    if (clamped === undefined || clamped !== transferAddress(transfer)) return false;
    this.#clamped.delete(source);
    return true;
  }
}
