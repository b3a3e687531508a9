/** Regions and interrupts: what must come of each command. */
import type { IoEventFd, RegionArea } from '../../src/vfio-user/device-model.ts';
import {
  DeviceInfo,
  InfoCapability,
  IrqInfo,
  IrqSet,
  RegionAccess,
  RegionInfo,
  RegionIoFds,
  RegionWriteMulti,
  SparseMmap,
  SubRegion,
} from '../../src/vfio-user/spec.ts';
import { Errno, type FunctionFacts } from './expectation.ts';
import { exactly, fields, isOneBit, repeats } from './reference-checks.ts';
import type { DescriptorKind } from './steps.ts';

/** What the server announces. */
export const MAX_TRANSFER = 1048576;
const MOST_WRITES = 4096;

export function deviceInfo(facts: FunctionFacts, payload: DataView) {
  if (payload.byteLength < DeviceInfo.bytes || payload.getUint32(0, true) < DeviceInfo.bytes) {
    return { errnos: [Errno.EINVAL] };
  }
  const { regions, interrupts } = facts;
  return {
    errnos: [0],
    check: (reply: Uint8Array) =>
      fields(reply, DeviceInfo.bytes, [
        [DeviceInfo.regions, regions.length],
        [DeviceInfo.irqs, interrupts.length],
      ]),
  };
}

/** `descriptors`: what the client takes with one message. */
export function regionInfo(facts: FunctionFacts, payload: DataView, descriptors: number) {
  if (payload.byteLength < RegionInfo.bytes) return { errnos: [Errno.EINVAL] };
  const index = payload.getUint32(RegionInfo.index, true);
  const room = payload.getUint32(0, true);
  const region = facts.regions[index];
  if (room < RegionInfo.bytes || region === undefined) return { errnos: [Errno.EINVAL] };
  const memory = descriptors > 0 ? region.memory : undefined;
  const areas = memory?.areas ?? [];
  const needed = RegionInfo.bytes + (areas.length === 0 ? 0 : SparseMmap.areas + SparseMmap.areaBytes * areas.length);
  const tells = areas.length > 0 && room >= needed;
  return {
    errnos: [0],
    descriptors: memory === undefined ? 0 : 1,
    check: (reply: Uint8Array) =>
      exactly(reply, tells ? needed : RegionInfo.bytes, [
        [RegionInfo.argsz, needed],
        [RegionInfo.index, index],
        [RegionInfo.size, region.size],
        [RegionInfo.size + 4, 0],
        [RegionInfo.flags, region.flags | (memory === undefined ? 0 : RegionInfo.mmap) | (tells ? RegionInfo.caps : 0)],
        [RegionInfo.offset, memory?.offset ?? 0],
        [RegionInfo.offset + 4, 0],
        [RegionInfo.capOffset, tells ? RegionInfo.bytes : 0],
        ...(tells ? sparseAreas(areas) : []),
      ]),
  };
}

/** One capability, the last: sparse areas, version 1. */
function sparseAreas(areas: readonly RegionArea[]): (readonly [number, number])[] {
  const at = RegionInfo.bytes;
  return [
    [at + InfoCapability.id, InfoCapability.sparseMmap | (1 << 16)],
    [at + InfoCapability.next, 0],
    [at + SparseMmap.count, areas.length],
    ...areas.flatMap(({ offset, size }, i): (readonly [number, number])[] => {
      const area = at + SparseMmap.areas + SparseMmap.areaBytes * i;
      return [
        [area, offset],
        [area + 4, 0],
        [area + SparseMmap.areaSize, size],
        [area + SparseMmap.areaSize + 4, 0],
      ];
    }),
  ];
}

export function irqInfo(facts: FunctionFacts, payload: DataView) {
  if (payload.byteLength < IrqInfo.bytes) return { errnos: [Errno.EINVAL] };
  const index = payload.getUint32(IrqInfo.index, true);
  const interrupt = facts.interrupts[index];
  if (payload.getUint32(0, true) < IrqInfo.bytes || interrupt === undefined) return { errnos: [Errno.EINVAL] };
  return {
    errnos: [0],
    check: (reply: Uint8Array) =>
      fields(reply, IrqInfo.bytes, [
        [IrqInfo.index, index],
        [IrqInfo.flags, interrupt.flags],
        [IrqInfo.count, interrupt.count],
      ]),
  };
}

export function setIrqs(facts: FunctionFacts, payload: DataView, descriptors: readonly DescriptorKind[]): number {
  if (payload.byteLength < IrqSet.bytes) return Errno.EINVAL;
  const flags = payload.getUint32(IrqSet.flags, true);
  const start = payload.getUint32(IrqSet.start, true);
  const count = payload.getUint32(IrqSet.count, true);
  const needed = IrqSet.bytes + ((flags & IrqSet.dataBool) !== 0 ? count : 0);
  if (payload.getUint32(IrqSet.argsz, true) < needed || payload.byteLength < needed) return Errno.EINVAL;
  const interrupt = facts.interrupts[payload.getUint32(IrqSet.index, true)];
  const data = flags & IrqSet.dataMask;
  const action = flags & IrqSet.actionsMask;
  if (interrupt === undefined || flags >>> 6 !== 0 || !isOneBit(data) || !isOneBit(action)) return Errno.EINVAL;
  if (data !== IrqSet.dataEventfd && descriptors.length > 0) return Errno.EINVAL;
  if (count === 0) {
    return data === IrqSet.dataNone && action === IrqSet.actionTrigger && start === 0 ? 0 : Errno.EINVAL;
  }
  if (start + count > interrupt.count) return Errno.EINVAL;
  if (action !== IrqSet.actionTrigger && (interrupt.flags & IrqInfo.maskable) === 0) return Errno.EINVAL;
  if (data !== IrqSet.dataEventfd) return 0;
  if ((interrupt.flags & IrqInfo.eventfd) === 0) return Errno.EINVAL;
  if (descriptors.length !== 0 && descriptors.length !== count) return Errno.EINVAL;
  return descriptors.every(({ is }) => is === 'eventfd' || is === 'full-eventfd') ? 0 : Errno.EINVAL;
}

export function regionRead(facts: FunctionFacts, payload: DataView) {
  const access = accessOf(facts, payload, RegionInfo.read);
  if (access === undefined) return { errnos: [Errno.EINVAL] };
  return {
    errnos: [0],
    check: (reply: Uint8Array) => repeats(reply, payload, 0, RegionAccess.bytes, RegionAccess.bytes + access.count),
  };
}

export function regionWrite(facts: FunctionFacts, payload: DataView) {
  const access = accessOf(facts, payload, RegionInfo.write);
  if (access === undefined || access.count !== payload.byteLength - RegionAccess.bytes) {
    return { errnos: [Errno.EINVAL] };
  }
  return { errnos: [0], check: (reply: Uint8Array) => repeats(reply, payload, 0, RegionAccess.bytes) };
}

/** Undefined: it is not allowed. */
function accessOf(facts: FunctionFacts, payload: DataView, needed: number): { readonly count: number } | undefined {
  if (payload.byteLength < RegionAccess.bytes) return undefined;
  const offset = payload.getBigUint64(RegionAccess.offset, true);
  const count = payload.getUint32(RegionAccess.count, true);
  const region = facts.regions[payload.getUint32(RegionAccess.region, true)];
  if (region === undefined || (region.flags & needed) === 0 || count > MAX_TRANSFER) return undefined;
  return offset + BigInt(count) <= BigInt(region.size) ? { count } : undefined;
}

/** Each write by itself; those that are allowed are counted, and a message that has none of them fails. */
export function regionWriteMulti(facts: FunctionFacts, payload: DataView, agreed: boolean) {
  if (payload.byteLength < RegionWriteMulti.bytes) return { errnos: [Errno.EINVAL] };
  if (!agreed) return { errnos: [Errno.ENOTSUP] };
  const count = payload.getBigUint64(RegionWriteMulti.count, true);
  const { writes, each, longest, bytes } = RegionWriteMulti;
  if (count > MOST_WRITES || BigInt(payload.byteLength) !== BigInt(writes) + count * BigInt(each)) {
    return { errnos: [Errno.EINVAL] };
  }
  const all = Array.from({ length: Number(count) }, (_, i) => {
    const at = writes + each * i;
    const length = payload.getUint32(at + RegionWriteMulti.length, true);
    const region = facts.regions[payload.getUint32(at + RegionWriteMulti.region, true)];
    const end = payload.getBigUint64(at + RegionWriteMulti.offset, true) + BigInt(length);
    const isGood = region !== undefined && (region.flags & RegionInfo.write) !== 0 && end <= BigInt(region.size);
    return { length, isGood };
  });
  if (all.some(({ length }) => length > longest)) return { errnos: [Errno.EINVAL] };
  const done = all.filter(({ isGood }) => isGood).length;
  if (done === 0 && all.length > 0) return { errnos: [Errno.EINVAL] };
  return {
    errnos: [0],
    check: (reply: Uint8Array) => {
      if (reply.length !== bytes) return `a payload of ${reply.length} bytes, not ${bytes}`;
      const said = new DataView(reply.buffer, reply.byteOffset).getBigUint64(0, true);
      return said === BigInt(done) ? undefined : `${said} writes done, not ${done}`;
    },
  };
}

/** `descriptors`: what the client takes with one message; for sub-regions beyond them there are no eventfds. */
export function regionIoFds(facts: FunctionFacts, payload: DataView, descriptors: number) {
  if (payload.byteLength < RegionIoFds.bytes) return { errnos: [Errno.EINVAL] };
  const index = payload.getUint32(RegionIoFds.index, true);
  const room = payload.getUint32(RegionIoFds.argsz, true);
  const region = facts.regions[index];
  const isBad =
    room < RegionIoFds.bytes ||
    payload.getUint32(RegionIoFds.flags, true) !== 0 ||
    payload.getUint32(RegionIoFds.count, true) !== 0 ||
    region === undefined;
  if (isBad) return { errnos: [Errno.EINVAL] };
  const offered = (region.ioEventFds ?? []).slice(0, descriptors);
  const needed = RegionIoFds.bytes + SubRegion.bytes * offered.length;
  const told = room >= needed ? offered : [];
  return {
    errnos: [0],
    descriptors: told.length,
    check: (reply: Uint8Array) =>
      exactly(reply, RegionIoFds.bytes + SubRegion.bytes * told.length, [
        [RegionIoFds.argsz, needed],
        [RegionIoFds.flags, 0],
        [RegionIoFds.index, index],
        [RegionIoFds.count, offered.length],
        ...told.flatMap(subRegion),
      ]),
  };
}

function subRegion({ offset, size, value }: IoEventFd, index: number): (readonly [number, number])[] {
  const at = RegionIoFds.bytes + SubRegion.bytes * index;
  const match = value ?? 0n;
  return [
    [at + SubRegion.offset, offset],
    [at + SubRegion.offset + 4, 0],
    [at + SubRegion.size, size],
    [at + SubRegion.size + 4, 0],
    [at + SubRegion.descriptor, index],
    [at + SubRegion.type, SubRegion.ioEventFd],
    [at + SubRegion.flags, value === undefined ? 0 : SubRegion.dataMatch],
    [at + SubRegion.value, Number(match & 0xffffffffn)],
    [at + SubRegion.value + 4, Number(match >> 32n)],
  ];
}
