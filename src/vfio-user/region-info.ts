/** DEVICE_GET_REGION_INFO and DEVICE_GET_REGION_IO_FDS: what a region is, and how it is reached without messages. */
import { Errno, type RegionArea } from './device-model.ts';
import { errnoOf } from './io-eventfds.ts';
import type { Reply, Request } from './messages.ts';
import type { ServedClient } from './served-client.ts';
import { InfoCapability, RegionInfo, RegionIoFds, SparseMmap, SubRegion } from './spec.ts';

export function deviceGetRegionInfo(client: ServedClient, request: Request, reply: Reply): number {
  const index = request.u32(RegionInfo.index);
  const room = request.u32(RegionInfo.argsz);
  const region = client.model.regions[index];
  if (room < RegionInfo.bytes || region === undefined) return Errno.EINVAL;
  // A descriptor that the client cannot take is no offer.
  const mapping = client.terms.descriptors > 0 ? region.mapping : undefined;
  const areas = mapping?.areas;
  const needed = RegionInfo.bytes + (areas === undefined ? 0 : SparseMmap.areas + SparseMmap.areaBytes * areas.length);
  const tellsAreas = areas !== undefined && room >= needed;
  reply.setU32(RegionInfo.argsz, needed);
  reply.setU32(
    RegionInfo.flags,
    (region.readable ? RegionInfo.read : 0) |
      (region.writable ? RegionInfo.write : 0) |
      (mapping === undefined ? 0 : RegionInfo.mmap) |
      (tellsAreas ? RegionInfo.caps : 0),
  );
  reply.setU32(RegionInfo.index, index);
  reply.setU32(RegionInfo.capOffset, tellsAreas ? RegionInfo.bytes : 0);
  reply.setU64(RegionInfo.size, BigInt(region.size));
  reply.setU64(RegionInfo.offset, BigInt(mapping?.offset ?? 0));
  reply.length = RegionInfo.bytes;
  if (tellsAreas) putAreas(reply, areas);
  if (mapping !== undefined) reply.descriptors = [mapping.descriptor];
  return Errno.ok;
}

/** The only capability, and so the end of the list. */
function putAreas(reply: Reply, areas: readonly RegionArea[]): void {
  const at = RegionInfo.bytes;
  reply.setU32(at + InfoCapability.id, InfoCapability.sparseMmap | (SparseMmap.version << 16));
  reply.setU32(at + InfoCapability.next, 0);
  reply.setU32(at + SparseMmap.count, areas.length);
  reply.setU32(at + SparseMmap.reserved, 0);
  areas.forEach(({ offset, size }, i) => {
    const area = at + SparseMmap.areas + SparseMmap.areaBytes * i;
    reply.setU64(area + SparseMmap.areaOffset, BigInt(offset));
    reply.setU64(area + SparseMmap.areaSize, BigInt(size));
  });
  reply.length = at + SparseMmap.areas + SparseMmap.areaBytes * areas.length;
}

/**
 * Each sub-region has an eventfd of its own, because one that is shared would not say which was written; those for which the client
 * takes no descriptor are left to messages.
 */
export function deviceGetRegionIoFds(client: ServedClient, request: Request, reply: Reply): number {
  const index = request.u32(RegionIoFds.index);
  const room = request.u32(RegionIoFds.argsz);
  const region = client.model.regions[index];
  if (room < RegionIoFds.bytes || request.u32(RegionIoFds.flags) !== 0) return Errno.EINVAL;
  if (request.u32(RegionIoFds.count) !== 0 || region === undefined) return Errno.EINVAL;
  const offered = region.ioEventFds ?? [];
  const count = Math.min(offered.length, client.terms.descriptors);
  const needed = RegionIoFds.bytes + SubRegion.bytes * count;
  reply.setU32(RegionIoFds.argsz, needed);
  reply.setU32(RegionIoFds.flags, 0);
  reply.setU32(RegionIoFds.index, index);
  reply.setU32(RegionIoFds.count, count);
  reply.length = RegionIoFds.bytes;
  if (count === 0 || room < needed) return Errno.ok;
  try {
    reply.descriptors = client.ioEventFds.open(index, count);
  } catch (error) {
    return errnoOf(error);
  }
  for (let i = 0; i < count; i++) {
    const { offset, size, value } = offered[i]!;
    const at = RegionIoFds.bytes + SubRegion.bytes * i;
    reply.setU64(at + SubRegion.offset, BigInt(offset));
    reply.setU64(at + SubRegion.size, BigInt(size));
    reply.setU32(at + SubRegion.descriptor, i);
    reply.setU32(at + SubRegion.type, SubRegion.ioEventFd);
    reply.setU32(at + SubRegion.flags, value === undefined ? 0 : SubRegion.dataMatch);
    reply.setU32(at + SubRegion.padding, 0);
    reply.setU64(at + SubRegion.value, value ?? 0n);
  }
  reply.length = needed;
  return Errno.ok;
}
