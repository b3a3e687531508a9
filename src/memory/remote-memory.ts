/** Guest memory behind messages: what a client offers (see `ClientPort` in vfio-user). */
import type { DmaBatch } from '../vfio-user/device-model.ts';

export interface RemoteMemory {
  /** From (frame, offset) to `target[at, at + length)`, of any length; an errno, zero on success. May serve other messages while it waits. */
  dmaRead(frame: number, offset: number, target: Uint8Array, at: number, length: number): number;
  dmaWrite(frame: number, offset: number, source: Uint8Array, at: number, length: number): number;
  /** Missing: every run is waited for. */
  readonly dmaBatch?: DmaBatch;
}
