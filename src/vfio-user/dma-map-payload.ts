/** DMA_MAP's request, and its flags: what a region allows, and how the descriptor that comes with it is to be used. */
import type { AnnouncedRegion, DmaRegion } from './device-model.ts';
import { DmaMap } from './spec.ts';

const ACCESS = DmaMap.readable | DmaMap.writable;
const MODES = DmaMap.mmap | DmaMap.fileIo;
const TWO_TO_32 = 0x100000000;

export type DmaMapMeaning = Pick<AnnouncedRegion, 'readable' | 'writable' | 'access'>;

/** By flags, for all that mean anything: each is made once. */
const MEANINGS: readonly (DmaMapMeaning | undefined)[] = Array.from({ length: (ACCESS | MODES) + 1 }, (_, flags) =>
  (flags & ACCESS) === 0
    ? undefined
    : {
        readable: (flags & DmaMap.readable) !== 0,
        writable: (flags & DmaMap.writable) !== 0,
        access: (flags & DmaMap.mmap) !== 0 ? 'mmap' : (flags & DmaMap.fileIo) !== 0 ? 'fileIo' : undefined,
      },
);

/**
 * Undefined where the flags mean nothing: a bit that is not known, no access at all, or a way to use a descriptor where there is none.
 * Where both ways are asked for it is `mmap`, as libvfio-user has it.
 */
export function readDmaMapFlags(flags: number, hasDescriptor: boolean): DmaMapMeaning | undefined {
  if (flags >= MEANINGS.length || (!hasDescriptor && (flags & MODES) !== 0)) return undefined;
  return MEANINGS[flags];
}

/** A field of 64 bits, little-endian: exact below 2^53, and for whole pages; else the nearest number. Unlike a bigint it costs nothing. */
export function readAddress(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * TWO_TO_32 + view.getUint32(at, true);
}

/** Whether `[first, first + length)`, two such fields at these places, ends beyond 2^64. Exact. */
export function endsBeyond64Bits(view: DataView, first: number, length: number): boolean {
  const low = view.getUint32(first, true) + view.getUint32(length, true);
  const carry = low < TWO_TO_32 ? 0 : 1;
  const high = view.getUint32(first + 4, true) + view.getUint32(length + 4, true) + carry;
  return high > TWO_TO_32 || (high === TWO_TO_32 && low !== carry * TWO_TO_32);
}

/** The request by which a client announces a region. */
export function dmaMapPayload(region: DmaRegion): Uint8Array {
  const { readable, writable, access, offset, address, size } = region;
  const payload = new Uint8Array(DmaMap.bytes);
  const view = new DataView(payload.buffer);
  const mode = access === undefined ? 0 : DmaMap[access];
  view.setUint32(DmaMap.argsz, DmaMap.bytes, true);
  view.setUint32(DmaMap.flags, (readable ? DmaMap.readable : 0) | (writable ? DmaMap.writable : 0) | mode, true);
  view.setBigUint64(DmaMap.offset, offset, true);
  view.setBigUint64(DmaMap.address, address, true);
  view.setBigUint64(DmaMap.size, size, true);
  return payload;
}

/** The flags for somebody who gets no descriptor. */
export function withoutMode(flags: number): number {
  return flags & ~MODES;
}
