/** DMA_MAP's request, and its flags: what a region allows, and how the descriptor that comes with it is to be used. */
import type { DmaRegion } from './device-model.ts';
import { DmaMap } from './spec.ts';

const ACCESS = DmaMap.readable | DmaMap.writable;
const MODES = DmaMap.mmap | DmaMap.fileIo;

export type DmaMapMeaning = Pick<DmaRegion, 'readable' | 'writable' | 'access'>;

/**
 * Undefined where the flags mean nothing: a bit that is not known, no access at all, or a way to use a descriptor where there is none.
 * Where both ways are asked for it is `mmap`, as libvfio-user has it.
 */
export function readDmaMapFlags(flags: number, hasDescriptor: boolean): DmaMapMeaning | undefined {
  if ((flags & ~(ACCESS | MODES)) !== 0 || (flags & ACCESS) === 0) return undefined;
  const allowed = { readable: (flags & DmaMap.readable) !== 0, writable: (flags & DmaMap.writable) !== 0 };
  if ((flags & MODES) === 0) return allowed;
  if (!hasDescriptor) return undefined;
  return { ...allowed, access: (flags & DmaMap.mmap) !== 0 ? 'mmap' : 'fileIo' };
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
