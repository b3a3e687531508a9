/** Regions and interrupts: what must come of each command. */
import {
  DeviceInfo,
  IrqInfo,
  IrqSet,
  RegionAccess,
  RegionInfo,
  RegionIoFds,
  RegionWriteMulti,
  SubRegion,
} from '../../src/vfio-user/spec.ts';
import { Errno, type FunctionFacts } from './expectation.ts';
import { fields, isOneBit, repeats } from './reference-checks.ts';
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

export function regionInfo(facts: FunctionFacts, payload: DataView) {
  if (payload.byteLength < RegionInfo.bytes) return { errnos: [Errno.EINVAL] };
  const index = payload.getUint32(RegionInfo.index, true);
  const region = facts.regions[index];
  if (payload.getUint32(0, true) < RegionInfo.bytes || region === undefined) return { errnos: [Errno.EINVAL] };
  return {
    errnos: [0],
    check: (reply: Uint8Array) =>
      fields(reply, RegionInfo.bytes, [
        [RegionInfo.index, index],
        [RegionInfo.size, region.size],
        [RegionInfo.flags, region.flags],
      ]),
  };
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

export function regionIoFds(facts: FunctionFacts, payload: DataView) {
  if (payload.byteLength < RegionIoFds.bytes) return { errnos: [Errno.EINVAL] };
  const index = payload.getUint32(RegionIoFds.index, true);
  const isBad =
    payload.getUint32(RegionIoFds.argsz, true) < RegionIoFds.bytes ||
    payload.getUint32(RegionIoFds.flags, true) !== 0 ||
    payload.getUint32(RegionIoFds.count, true) !== 0 ||
    facts.regions[index] === undefined;
  if (isBad) return { errnos: [Errno.EINVAL] };
  return {
    errnos: [0],
    check: (reply: Uint8Array) => {
      const entries = Math.max(0, reply.length - RegionIoFds.bytes) / SubRegion.bytes;
      const wrong = fields(reply, RegionIoFds.bytes, [
        [RegionIoFds.flags, 0],
        [RegionIoFds.index, index],
      ]);
      return wrong ?? (Number.isInteger(entries) ? undefined : `${reply.length} bytes, which are no whole entries`);
    },
  };
}
