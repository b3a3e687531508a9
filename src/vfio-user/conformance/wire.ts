/** Messages as bytes, field by field, wrong ones too. */
import { writeHeader } from '../header.ts';
import { Command, DmaAccess, DmaMap, DmaUnmap, HEADER_BYTES, IrqSet, RegionAccess } from '../spec.ts';

export const NOTHING: Uint8Array = new Uint8Array(0);
export const PAGE = 4096n;

export interface HeaderFields {
  readonly id?: number;
  readonly flags?: number;
  /** What the header says; by default the truth. */
  readonly size?: number;
  readonly error?: number;
}

export function message(command: number, payload: Uint8Array, fields: HeaderFields = {}): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const { id = 1, flags = 0, size = bytes.length, error = 0 } = fields;
  writeHeader(viewOf(bytes), 0, id, command, size, flags, error);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

export function words(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Bytes that are told from zeros, from ones and from each other's neighbours. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17 + 5) & 0xff);
}

/** A VERSION payload: the proposal as JSON, or the version data as text without its NUL, or nothing at all. */
export function versionPayload(
  proposal: object | string | undefined,
  { major = 0, minor = 0, end = '\0' } = {},
): Uint8Array {
  const head = new Uint8Array(4);
  viewOf(head).setUint16(0, major, true);
  viewOf(head).setUint16(2, minor, true);
  if (proposal === undefined) return head;
  const json = typeof proposal === 'string' ? proposal : JSON.stringify(proposal);
  return concat(head, new TextEncoder().encode(json + end));
}

export interface MapFields {
  readonly argsz?: number;
  readonly flags?: number;
  readonly offset?: bigint;
  readonly address?: bigint;
  readonly size?: bigint;
}

export function mapPayload(fields: MapFields = {}): Uint8Array {
  const { argsz = DmaMap.bytes, flags = 3, offset = 0n, address = 0x100000n, size = PAGE } = fields;
  const payload = new Uint8Array(DmaMap.bytes);
  const view = viewOf(payload);
  view.setUint32(DmaMap.argsz, argsz, true);
  view.setUint32(DmaMap.flags, flags, true);
  view.setBigUint64(DmaMap.offset, offset, true);
  view.setBigUint64(DmaMap.address, address, true);
  view.setBigUint64(DmaMap.size, size, true);
  return payload;
}

export function unmapPayload(fields: Omit<MapFields, 'offset'> = {}): Uint8Array {
  const { argsz = DmaUnmap.bytes, flags = 0, address = 0x100000n, size = PAGE } = fields;
  const payload = new Uint8Array(DmaUnmap.bytes);
  const view = viewOf(payload);
  view.setUint32(DmaUnmap.argsz, argsz, true);
  view.setUint32(DmaUnmap.flags, flags, true);
  view.setBigUint64(DmaUnmap.address, address, true);
  view.setBigUint64(DmaUnmap.size, size, true);
  return payload;
}

export interface IrqSetFields {
  readonly argsz?: number;
  readonly flags: number;
  readonly index: number;
  readonly start?: number;
  readonly count?: number;
  readonly data?: readonly number[];
}

export function irqSetPayload(fields: IrqSetFields): Uint8Array {
  const { flags, index, start = 0, count = 0, data = [] } = fields;
  const argsz = fields.argsz ?? IrqSet.bytes + data.length;
  return concat(words(argsz, flags, index, start, count), Uint8Array.from(data));
}

/** Of REGION_READ, and with data of REGION_WRITE; `count` is by default what `data` holds. */
export function accessPayload(region: number, offset: number | bigint, count: number, data = NOTHING): Uint8Array {
  const head = new Uint8Array(RegionAccess.bytes);
  const view = viewOf(head);
  view.setBigUint64(RegionAccess.offset, BigInt.asUintN(64, BigInt(offset)), true);
  view.setUint32(RegionAccess.region, region, true);
  view.setUint32(RegionAccess.count, count, true);
  return concat(head, data);
}

export function readMessage(region: number, offset: number, count: number, fields: HeaderFields = {}): Uint8Array {
  return message(Command.regionRead, accessPayload(region, offset, count), fields);
}

export function writeMessage(region: number, offset: number, data: Uint8Array, fields: HeaderFields = {}): Uint8Array {
  return message(Command.regionWrite, accessPayload(region, offset, data.length, data), fields);
}

/** Of a DMA message or of its reply. */
export function dmaPayload(address: bigint, count: number, data = NOTHING): Uint8Array {
  const head = new Uint8Array(DmaAccess.bytes);
  viewOf(head).setBigUint64(DmaAccess.address, address, true);
  viewOf(head).setBigUint64(DmaAccess.count, BigInt(count), true);
  return concat(head, data);
}
