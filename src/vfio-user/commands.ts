/** What the server does on each command of the client: one function each, and the table by which they are found. */
import { Errno } from './device-model.ts';
import { endsBeyond64Bits, readAddress, readDmaMapFlags } from './dma-map-payload.ts';
import { deviceFeature, migrationDataRead, migrationDataWrite } from './features.ts';
import type { Reply, Request } from './messages.ts';
import { deviceGetRegionInfo, deviceGetRegionIoFds } from './region-info.ts';
import type { ServedClient } from './served-client.ts';
import {
  Command,
  DeviceFeature,
  DeviceInfo,
  DmaMap,
  DmaUnmap,
  IrqInfo,
  IrqSet,
  MigrationData,
  PAGE_BYTES,
  RegionAccess,
  RegionInfo,
  RegionIoFds,
  RegionWriteMulti,
  Version,
} from './spec.ts';
import { agreedTerms, composeVersionData, parseVersion, VersionError } from './version.ts';
import { regionWriteMulti } from './write-multi.ts';

/** Too many DMA regions (asm-generic/errno-base.h). */
export const ENOSPC = 28;

const TWO_TO_32 = 0x100000000;
// The hot path's own names: the compiler folds constants of this file, and loads those of others each time.
const OK = Errno.ok;
const OFFSET = RegionAccess.offset;
const REGION = RegionAccess.region;
const COUNT = RegionAccess.count;
const DATA = RegionAccess.data;
const ACCESS = RegionAccess.bytes;
const NO_TRIGGERS: readonly number[] = [];
const PAGE_MASK = PAGE_BYTES - 1;

export interface CommandHandler {
  /** Bytes of payload without which the command means nothing; fewer are EINVAL. */
  readonly payload: number;
  /** Descriptors on a command that takes none close the connection. */
  readonly takesDescriptors: boolean;
  /** Returns an errno. On success `reply.length` bytes of payload follow the reply's header. */
  serve(client: ServedClient, request: Request, reply: Reply): number;
}

/** By command number. What is missing is answered ENOTSUP. */
export const commandHandlers: readonly (CommandHandler | undefined)[] = table([
  [Command.version, { payload: 0, takesDescriptors: false, serve: version }],
  [Command.dmaMap, { payload: DmaMap.bytes, takesDescriptors: true, serve: dmaMap }],
  [Command.dmaUnmap, { payload: DmaUnmap.bytes, takesDescriptors: false, serve: dmaUnmap }],
  [Command.deviceGetInfo, { payload: DeviceInfo.bytes, takesDescriptors: false, serve: deviceGetInfo }],
  [Command.deviceGetRegionInfo, { payload: RegionInfo.bytes, takesDescriptors: false, serve: deviceGetRegionInfo }],
  [Command.deviceGetRegionIoFds, { payload: RegionIoFds.bytes, takesDescriptors: false, serve: deviceGetRegionIoFds }],
  [Command.deviceGetIrqInfo, { payload: IrqInfo.bytes, takesDescriptors: false, serve: deviceGetIrqInfo }],
  [Command.deviceSetIrqs, { payload: IrqSet.bytes, takesDescriptors: true, serve: deviceSetIrqs }],
  [Command.regionRead, { payload: RegionAccess.bytes, takesDescriptors: false, serve: regionRead }],
  [Command.regionWrite, { payload: RegionAccess.bytes, takesDescriptors: false, serve: regionWrite }],
  [Command.regionWriteMulti, { payload: RegionWriteMulti.bytes, takesDescriptors: false, serve: regionWriteMulti }],
  [Command.deviceReset, { payload: 0, takesDescriptors: false, serve: deviceReset }],
  [Command.deviceFeature, { payload: DeviceFeature.bytes, takesDescriptors: false, serve: deviceFeature }],
  [Command.migrationDataRead, { payload: MigrationData.bytes, takesDescriptors: false, serve: migrationDataRead }],
  [Command.migrationDataWrite, { payload: MigrationData.bytes, takesDescriptors: false, serve: migrationDataWrite }],
]);

function table(entries: readonly (readonly [number, CommandHandler])[]): (CommandHandler | undefined)[] {
  const handlers: (CommandHandler | undefined)[] = [];
  for (const [command, handler] of entries) handlers[command] = handler;
  return handlers;
}

function version(client: ServedClient, request: Request, reply: Reply): number {
  if (client.negotiated) {
    client.connection.close('second VERSION');
    return Errno.EINVAL;
  }
  try {
    const proposal = parseVersion(request.bytes, request.at, request.length, client.limits);
    const terms = agreedTerms(proposal, client.limits);
    const twin = terms.twinSocket ? client.openTwin() : -1;
    const data = composeVersionData(proposal, client.limits, client.migration !== undefined, twin >= 0);
    reply.view.setUint16(reply.at + Version.majorAt, Version.major, true);
    reply.view.setUint16(reply.at + Version.minorAt, Math.min(proposal.minor, Version.minor), true);
    reply.bytes.set(data, reply.at + Version.dataAt);
    reply.length = Version.bytes + data.length;
    if (twin >= 0) reply.descriptors = [twin];
    client.negotiate(terms);
    return Errno.ok;
  } catch (error) {
    if (!(error instanceof VersionError)) throw error;
    client.connection.close('handshake failed', { why: error.message });
    return Errno.EINVAL;
  }
}

function dmaMap(client: ServedClient, request: Request): number {
  const { view, at, descriptors } = request;
  const mapped = descriptors.length > 0;
  if (request.u32(DmaMap.argsz) < DmaMap.bytes) return Errno.EINVAL;
  const meaning = readDmaMapFlags(request.u32(DmaMap.flags), mapped);
  if (meaning === undefined || descriptors.length > 1) return Errno.EINVAL;
  const size = readAddress(view, at + DmaMap.size);
  if (size === 0) return Errno.EINVAL;
  if (endsBeyond64Bits(view, at + DmaMap.address, at + DmaMap.size)) return Errno.EINVAL;
  if (endsBeyond64Bits(view, at + DmaMap.offset, at + DmaMap.size)) return Errno.EINVAL;
  // A mapping starts at a page of the file; reads and writes start anywhere.
  const isPageOfFile = mapped && meaning.access !== 'fileIo';
  const lowBits =
    request.u32(DmaMap.address) | request.u32(DmaMap.size) | (isPageOfFile ? request.u32(DmaMap.offset) : 0);
  if ((lowBits & PAGE_MASK) !== 0) return Errno.EINVAL;
  if (client.dmaRegions >= client.limits.maxDmaMaps) return ENOSPC;
  const descriptor = request.takeDescriptors()[0] ?? -1;
  const { readable, writable, access } = meaning;
  const address = readAddress(view, at + DmaMap.address);
  const offset = readAddress(view, at + DmaMap.offset);
  const errno = client.model.dma.map({ address, size, readable, writable, descriptor, offset, access });
  if (errno === Errno.ok) client.dmaRegions++;
  return errno;
}

function dmaUnmap(client: ServedClient, request: Request, reply: Reply): number {
  const flags = request.u32(DmaUnmap.flags);
  const address = readAddress(request.view, request.at + DmaUnmap.address);
  const size = readAddress(request.view, request.at + DmaUnmap.size);
  if (request.u32(DmaUnmap.argsz) < DmaUnmap.bytes) return Errno.EINVAL;
  if (flags & DmaUnmap.getDirtyBitmap) return Errno.ENOTSUP;
  if ((flags & ~DmaUnmap.all) !== 0) return Errno.EINVAL;
  if (flags & DmaUnmap.all) {
    if (address !== 0 || size !== 0) return Errno.EINVAL;
    client.model.dma.unmapAll();
    client.dmaRegions = 0;
    client.dmaUnmapped(0, Number.POSITIVE_INFINITY);
  } else {
    const errno = client.model.dma.unmap(address, size);
    if (errno !== Errno.ok) return errno;
    client.dmaRegions--;
    client.dmaUnmapped(address / PAGE_BYTES, size / PAGE_BYTES);
  }
  echo(request, reply, DmaUnmap.bytes);
  return Errno.ok;
}

function deviceGetInfo(client: ServedClient, request: Request, reply: Reply): number {
  if (request.u32(DeviceInfo.argsz) < DeviceInfo.bytes) return Errno.EINVAL;
  reply.setU32(DeviceInfo.argsz, DeviceInfo.bytes);
  reply.setU32(DeviceInfo.flags, DeviceInfo.reset | DeviceInfo.pci);
  reply.setU32(DeviceInfo.regions, client.model.regions.length);
  reply.setU32(DeviceInfo.irqs, client.model.interrupts.length);
  reply.length = DeviceInfo.bytes;
  return Errno.ok;
}

function deviceGetIrqInfo(client: ServedClient, request: Request, reply: Reply): number {
  const index = request.u32(IrqInfo.index);
  const interrupt = client.model.interrupts[index];
  if (request.u32(IrqInfo.argsz) < IrqInfo.bytes || interrupt === undefined) return Errno.EINVAL;
  reply.setU32(IrqInfo.argsz, IrqInfo.bytes);
  reply.setU32(
    IrqInfo.flags,
    (interrupt.eventfd ? IrqInfo.eventfd : 0) |
      (interrupt.maskable ? IrqInfo.maskable : 0) |
      (interrupt.automasked ? IrqInfo.automasked : 0) |
      (interrupt.noresize ? IrqInfo.noresize : 0),
  );
  reply.setU32(IrqInfo.index, index);
  reply.setU32(IrqInfo.count, interrupt.count);
  reply.length = IrqInfo.bytes;
  return Errno.ok;
}

function deviceSetIrqs(client: ServedClient, request: Request): number {
  const flags = request.u32(IrqSet.flags);
  const count = request.u32(IrqSet.count);
  const needed = IrqSet.bytes + (flags & IrqSet.dataBool ? count : 0);
  if (request.u32(IrqSet.argsz) < needed || request.length < needed) return Errno.EINVAL;
  const triggers = client.carriesDescriptors ? request.takeDescriptors() : triggersIn(request, flags, count);
  if (triggers === undefined) return Errno.EINVAL;
  return client.interrupts.set(
    flags,
    request.u32(IrqSet.index),
    request.u32(IrqSet.start),
    count,
    request.bytes,
    request.at + IrqSet.data,
    triggers,
  );
}

/** What stands for eventfds in the messages profile; undefined where there are too few. */
function triggersIn(request: Request, flags: number, count: number): readonly number[] | undefined {
  if ((flags & IrqSet.dataEventfd) === 0) return NO_TRIGGERS;
  if (request.length < IrqSet.bytes + 4 * count) return undefined;
  const at = request.at + IrqSet.data;
  return Array.from({ length: count }, (_, i) => request.view.getInt32(at + 4 * i, true));
}

function regionRead(client: ServedClient, request: Request, reply: Reply): number {
  const { view, at } = request;
  const high = view.getUint32(at + OFFSET + 4, true);
  const low = view.getUint32(at + OFFSET, true);
  const index = view.getUint32(at + REGION, true);
  const count = view.getUint32(at + COUNT, true);
  if (count > client.limits.maxDataTransfer) return Errno.EINVAL;
  const region = client.model.regions[index];
  // Both sums are exact: a region's size is, and a double holds the first 2^53.
  if (region?.readable !== true || high * TWO_TO_32 + low + count > region.size) return Errno.EINVAL;
  if (count > 0) {
    const errno = client.model.read(index, high * TWO_TO_32 + low, reply.bytes, reply.at + DATA, count);
    if (errno !== OK) return errno;
  }
  echoAccess(reply, high, low, index, count);
  reply.length = ACCESS + count;
  return OK;
}

function regionWrite(client: ServedClient, request: Request, reply: Reply): number {
  const { view, at } = request;
  const high = view.getUint32(at + OFFSET + 4, true);
  const low = view.getUint32(at + OFFSET, true);
  const index = view.getUint32(at + REGION, true);
  const count = view.getUint32(at + COUNT, true);
  if (count > client.limits.maxDataTransfer || count !== request.length - ACCESS) return Errno.EINVAL;
  const region = client.model.regions[index];
  if (region?.writable !== true || high * TWO_TO_32 + low + count > region.size) return Errno.EINVAL;
  if (count > 0) {
    const errno = client.model.write(index, high * TWO_TO_32 + low, request.bytes, at + DATA, count);
    if (errno !== OK) return errno;
  }
  echoAccess(reply, high, low, index, count);
  reply.length = ACCESS;
  return OK;
}

function deviceReset(client: ServedClient): number {
  client.model.reset();
  client.migration?.reset();
  return Errno.ok;
}

function echo(request: Request, reply: Reply, length: number): void {
  for (let i = 0; i < length; i++) reply.bytes[reply.at + i] = request.bytes[request.at + i]!;
  reply.length = length;
}

function echoAccess(reply: Reply, high: number, low: number, index: number, count: number): void {
  const { view, at } = reply;
  view.setUint32(at + OFFSET, low, true);
  view.setUint32(at + OFFSET + 4, high, true);
  view.setUint32(at + REGION, index, true);
  view.setUint32(at + COUNT, count, true);
}
