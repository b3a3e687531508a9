/** How addresses, devices, memory and permissions are written on the command line. */
import type { DeviceHandle, DomainHandle, Mdl, PhysicalAddressToMap } from '../iommu/dma-iommu/types.ts';
import { Permission } from '../iommu/dma-iommu/types.ts';
import { DescriptionError, parseDevice } from '../machine/description.ts';
import { MAX_PAGE_FRAMES } from '../machine/operations-command.ts';
import { FRAME_BYTES, FRAME_SHIFT } from '../memory/guest-memory.ts';
import { UsageError } from './errors.ts';

const PAGE = BigInt(FRAME_BYTES);
const PFN_MAX = 0x7fffffffn;

/** `0x...` or decimal, up to 64 bits. */
export function parseWide(text: string): bigint {
  if (!/^(0x[0-9a-f]+|[0-9]+)$/i.test(text)) throw new UsageError(`'${text}' is not a number, e.g. 0x1000 or 4096`);
  const value = BigInt(text);
  if (value >= 1n << 64n) throw new UsageError(`'${text}' does not fit in 64 bits`);
  return value;
}

export function parseNumber(text: string): number {
  const value = parseWide(text);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new UsageError(`'${text}' is too large`);
  return Number(value);
}

export const parseDomain = (text: string) => parseNumber(text) as DomainHandle;
export const parseDmaDevice = (text: string) => parseNumber(text) as DeviceHandle;

export type DeviceWord =
  | { readonly physicalDeviceObject: number; readonly dmaDevice?: undefined }
  | { readonly physicalDeviceObject?: undefined; readonly dmaDevice: DeviceHandle };

/** A device of the machine by its address (`01:00.0`), or what `create-device` made of one by its handle. */
export function parseDeviceWord(text: string): DeviceWord {
  return /^[0-9]+$/.test(text)
    ? { dmaDevice: parseDmaDevice(text) }
    : { physicalDeviceObject: parseDeviceAddress(text) };
}

export function parseDeviceAddress(text: string): number {
  try {
    return parseDevice(`device@${text}`).requesterId;
  } catch (error) {
    if (!(error instanceof DescriptionError)) throw error;
    throw new UsageError(`'${text}' is not a device's address: write BB:DD.F, e.g. 01:00.0`);
  }
}

/** `r`, `w` or `rw`. */
export function parsePermissions(text: string): number {
  if (!/^(r|w|rw|wr)$/.test(text)) throw new UsageError(`'${text}' is not r, w or rw`);
  return (text.includes('r') ? Permission.read : 0) | (text.includes('w') ? Permission.write : 0);
}

export interface Range {
  readonly base: bigint;
  readonly size: bigint;
}

/** `BASE+BYTES`. */
export function parseRange(text: string): Range {
  const [base, size, more] = text.split('+');
  if (base === undefined || size === undefined || more !== undefined) {
    throw new UsageError(`'${text}' is not BASE+BYTES, e.g. 0x100000+0x4000`);
  }
  return { base: parseWide(base), size: parseWide(size) };
}

/** `BASE+BYTES`, or several of them with commas: physical memory. */
export function parseMemory(text: string): PhysicalAddressToMap {
  const ranges = text.split(',').map(parseRange);
  const [only, second] = ranges;
  return only && !second ? { type: 'contiguousRange', ...only } : { type: 'pfnArray', pages: pageFrames(ranges) };
}

/** The same as an MDL, for the operations of version 1. */
export function parseMdl(text: string): Mdl {
  const pages = pageFrames(text.split(',').map(parseRange));
  return { type: 'mdl', pages, byteOffset: 0, byteCount: pages.length * FRAME_BYTES };
}

function pageFrames(ranges: readonly Range[]): Int32Array {
  const pages: number[] = [];
  for (const { base, size } of ranges) {
    if (base % PAGE !== 0n || size % PAGE !== 0n) {
      throw new UsageError(`0x${base.toString(16)}+0x${size.toString(16)} is not made of whole pages of 4 KiB`);
    }
    const first = base >> BigInt(FRAME_SHIFT);
    const count = size / PAGE;
    if (BigInt(pages.length) + count > BigInt(MAX_PAGE_FRAMES))
      throw new UsageError(`at most ${MAX_PAGE_FRAMES} pages`);
    if (first + count - 1n > PFN_MAX) throw new UsageError(`0x${base.toString(16)} is beyond 8 TiB`);
    for (let frame = Number(first), left = Number(count); left > 0; frame++, left--) pages.push(frame);
  }
  return Int32Array.from(pages);
}

/** Options that were not given have no place in the arguments. */
export function given<Name extends string, T>(name: Name, value: T | undefined): { [K in Name]?: T } {
  return (value === undefined ? {} : { [name]: value }) as { [K in Name]?: T };
}
