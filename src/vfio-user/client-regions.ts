/** What a client asks of regions beyond reading and writing them: memory to map, eventfds to write to, many writes at once. */
import { type VfioUserClient, VfioUserError } from './client.ts';
import type { RegionArea } from './device-model.ts';
import {
  Command,
  commandName,
  InfoCapability,
  RegionInfo,
  RegionIoFds,
  RegionWriteMulti,
  SparseMmap,
  SubRegion,
} from './spec.ts';

export interface OfferedMemory {
  /** What the whole answer needs. Where that is more than was asked for, areas are missing. */
  readonly argsz: number;
  /** `RegionInfo` says which. */
  readonly flags: number;
  readonly size: bigint;
  readonly offset: bigint;
  readonly areas: readonly RegionArea[];
  /** The caller's to close. */
  readonly descriptors: readonly number[];
}

export interface OfferedEventFd {
  readonly offset: number;
  readonly size: number;
  /** Index in `descriptors`. */
  readonly descriptor: number;
  readonly type: number;
  /** Undefined where any value will do. */
  readonly value: bigint | undefined;
}

export interface OfferedEventFds {
  readonly argsz: number;
  readonly count: number;
  readonly subRegions: readonly OfferedEventFd[];
  /** The caller's to close. */
  readonly descriptors: readonly number[];
}

export interface SmallWrite {
  readonly region: number;
  readonly offset: number | bigint;
  /** 8 bytes at most. */
  readonly bytes: Uint8Array;
}

export function askRegionMemory(client: VfioUserClient, index: number, argsz: number): OfferedMemory {
  const request = words(argsz, 0, index, 0, 0, 0, 0, 0);
  const { view, descriptors } = ask(client, Command.deviceGetRegionInfo, request);
  const flags = view.getUint32(RegionInfo.flags, true);
  return {
    argsz: view.getUint32(RegionInfo.argsz, true),
    flags,
    size: view.getBigUint64(RegionInfo.size, true),
    offset: view.getBigUint64(RegionInfo.offset, true),
    areas: (flags & RegionInfo.caps) === 0 ? [] : areasIn(view, view.getUint32(RegionInfo.capOffset, true)),
    descriptors,
  };
}

export function askIoEventFds(client: VfioUserClient, index: number, argsz: number): OfferedEventFds {
  const { view, descriptors } = ask(client, Command.deviceGetRegionIoFds, words(argsz, 0, index, 0));
  const count = view.getUint32(RegionIoFds.count, true);
  const listed = (view.byteLength - RegionIoFds.bytes) / SubRegion.bytes;
  const subRegions = Array.from({ length: listed }, (_, i) => subRegion(view, RegionIoFds.bytes + SubRegion.bytes * i));
  return { argsz: view.getUint32(RegionIoFds.argsz, true), count, subRegions, descriptors };
}

/** How many were done. A posted message has no answer, and so undefined. */
export function writeMany(client: VfioUserClient, writes: readonly SmallWrite[], posted: true): undefined;
export function writeMany(client: VfioUserClient, writes: readonly SmallWrite[]): number;
export function writeMany(client: VfioUserClient, writes: readonly SmallWrite[], posted = false): number | undefined {
  const payload = writeMultiPayload(writes);
  if (!posted) return Number(ask(client, Command.regionWriteMulti, payload).view.getBigUint64(0, true));
  client.sendCommand(Command.regionWriteMulti, payload, { posted });
  return undefined;
}

export function writeMultiPayload(writes: readonly SmallWrite[]): Uint8Array {
  const payload = new Uint8Array(RegionWriteMulti.bytes + RegionWriteMulti.each * writes.length);
  const view = new DataView(payload.buffer);
  view.setBigUint64(RegionWriteMulti.count, BigInt(writes.length), true);
  writes.forEach(({ region, offset, bytes }, i) => {
    const at = RegionWriteMulti.writes + RegionWriteMulti.each * i;
    view.setBigUint64(at + RegionWriteMulti.offset, BigInt(offset), true);
    view.setUint32(at + RegionWriteMulti.region, region, true);
    view.setUint32(at + RegionWriteMulti.length, bytes.length, true);
    payload.set(bytes.subarray(0, RegionWriteMulti.longest), at + RegionWriteMulti.data);
  });
  return payload;
}

function ask(
  client: VfioUserClient,
  command: number,
  payload: Uint8Array,
): { view: DataView; descriptors: readonly number[] } {
  let descriptors: readonly number[] = [];
  const before = client.onDescriptors;
  client.onDescriptors = came => {
    descriptors = came;
  };
  try {
    const answer = client.request(command, payload);
    if (answer.errno !== 0) throw new VfioUserError(commandName(command), answer.errno);
    return { view: new DataView(answer.payload.buffer, answer.payload.byteOffset, answer.payload.length), descriptors };
  } finally {
    client.onDescriptors = before;
  }
}

function areasIn(view: DataView, first: number): RegionArea[] {
  for (let at = first; at !== 0; at = view.getUint32(at + InfoCapability.next, true)) {
    if (view.getUint16(at + InfoCapability.id, true) !== InfoCapability.sparseMmap) continue;
    return Array.from({ length: view.getUint32(at + SparseMmap.count, true) }, (_, i) => {
      const area = at + SparseMmap.areas + SparseMmap.areaBytes * i;
      return {
        offset: Number(view.getBigUint64(area + SparseMmap.areaOffset, true)),
        size: Number(view.getBigUint64(area + SparseMmap.areaSize, true)),
      };
    });
  }
  return [];
}

function subRegion(view: DataView, at: number): OfferedEventFd {
  const matches = (view.getUint32(at + SubRegion.flags, true) & SubRegion.dataMatch) !== 0;
  return {
    offset: Number(view.getBigUint64(at + SubRegion.offset, true)),
    size: Number(view.getBigUint64(at + SubRegion.size, true)),
    descriptor: view.getUint32(at + SubRegion.descriptor, true),
    type: view.getUint32(at + SubRegion.type, true),
    value: matches ? view.getBigUint64(at + SubRegion.value, true) : undefined,
  };
}

function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}
