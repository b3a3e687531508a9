/** What a server may offer beside messages: memory to map, eventfds to write to, a stream for its own commands. */
import { fstatSync } from 'node:fs';
import { isEventFd, signalEventFd } from '../../../posix/eventfd.ts';
import { Command, InfoCapability, RegionInfo, RegionIoFds, SparseMmap, SubRegion } from '../../spec.ts';
import { type Context, capabilitiesOf, isObject, regionInfoRequest } from '../context.ts';
import type { Received } from '../peer.ts';
import { equal, inSection, isTrue, notOffered, type Rule } from '../rule.ts';
import { PAGE, versionPayload, viewOf, words } from '../wire.ts';

const ROOM = 65536;
const MOST_STEPS = 64;
const KNOWN_TYPES = 2;

interface Area {
  readonly offset: bigint;
  readonly end: bigint;
}

interface Mappable {
  readonly index: number;
  readonly reply: Received;
  /** Where the region starts in the file. */
  readonly start: bigint;
  readonly size: bigint;
  readonly areas: readonly Area[];
}

/** All regions that may be mapped; skips the rule where there is none. */
function mappable(context: Context, peer = context.session()): Mappable[] {
  const found = context.device.regions.flatMap(({ index, flags }) => {
    if ((flags & RegionInfo.mmap) === 0) return [];
    const reply = peer.succeed(Command.deviceGetRegionInfo, regionInfoRequest(index, ROOM));
    const view = viewOf(reply.payload);
    const size = view.getBigUint64(RegionInfo.size, true);
    const areas = sparseAreas(view) ?? [{ offset: 0n, end: size }];
    return [{ index, reply, start: view.getBigUint64(RegionInfo.offset, true), size, areas }];
  });
  if (found.length === 0) notOffered('regions to map');
  return found;
}

function sparseAreas(view: DataView): Area[] | undefined {
  if ((view.getUint32(RegionInfo.flags, true) & RegionInfo.caps) === 0) return undefined;
  let at = view.getUint32(RegionInfo.capOffset, true);
  for (let steps = 0; at !== 0 && steps < MOST_STEPS; steps++) {
    if (view.getUint16(at + InfoCapability.id, true) === InfoCapability.sparseMmap) {
      return Array.from({ length: view.getUint32(at + SparseMmap.count, true) }, (_, i) => {
        const area = at + SparseMmap.areas + SparseMmap.areaBytes * i;
        const offset = view.getBigUint64(area + SparseMmap.areaOffset, true);
        return { offset, end: offset + view.getBigUint64(area + SparseMmap.areaSize, true) };
      });
    }
    at = view.getUint32(at + InfoCapability.next, true);
  }
  return undefined;
}

export const mappingRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_GET_REGION_INFO', [
  {
    id: 'region-info.areas-apart',
    basis: 'linux-vfio',
    says: 'Sparse areas are whole pages, and do not overlap.',
    check: context => {
      for (const { index, areas } of mappable(context)) {
        const sorted = [...areas].sort((one, other) => (one.offset < other.offset ? -1 : 1));
        sorted.forEach(({ offset, end }, i) => {
          isTrue(offset % PAGE === 0n, `an area of region ${index} starts at ${offset}`);
          isTrue(i === 0 || sorted[i - 1]!.end <= offset, `two areas of region ${index} overlap at ${offset}`);
          isTrue(end > offset, `an area of region ${index} is empty`);
        });
      }
    },
  },
  {
    id: 'region-info.in-file',
    basis: 'linux-vfio',
    says: 'What can be mapped lies in the file that comes along, from a page on.',
    check: context => {
      for (const { index, reply, start, areas } of mappable(context)) {
        equal(start % PAGE, 0n, `offset of region ${index} within its page`);
        const stat = fstatSync(reply.descriptors[0]!, { bigint: true });
        if (!stat.isFile()) continue;
        const last = areas.toSorted((one, other) => (one.end < other.end ? -1 : 1)).at(-1);
        isTrue(start + (last?.end ?? 0n) <= stat.size, `region ${index} ends behind its file of ${stat.size} bytes`);
      }
    },
  },
  {
    id: 'region-info.caps-short',
    basis: 'specification',
    says: 'Where argsz leaves no room for capabilities the flag is clear, and a second try with the size from the answer has them.',
    check: context => {
      const peer = context.session();
      let seen = false;
      for (const { index } of mappable(context, peer)) {
        const short = viewOf(peer.succeed(Command.deviceGetRegionInfo, regionInfoRequest(index)).payload);
        const needed = short.getUint32(RegionInfo.argsz, true);
        if (needed === RegionInfo.bytes) continue;
        seen = true;
        equal(short.getUint32(RegionInfo.flags, true) & RegionInfo.caps, 0, `capability flag of region ${index}`);
        const whole = peer.succeed(Command.deviceGetRegionInfo, regionInfoRequest(index, needed));
        equal(whole.payload.length, needed, 'bytes of the whole answer');
        isTrue(
          (viewOf(whole.payload).getUint32(RegionInfo.flags, true) & RegionInfo.caps) !== 0,
          'there are no capabilities',
        );
      }
      if (!seen) notOffered('capabilities of regions');
    },
  },
  {
    id: 'region-info.still-by-messages',
    basis: 'specification',
    says: 'A region that can be mapped is read by messages too.',
    check: context => {
      const peer = context.session();
      for (const { index, reply } of mappable(context, peer)) {
        if ((viewOf(reply.payload).getUint32(RegionInfo.flags, true) & RegionInfo.read) === 0) continue;
        equal(peer.succeed(Command.regionRead, words(0, 0, index, 4)).payload.length, 20, 'bytes of the reply');
      }
    },
  },
  {
    id: 'region-info.still-written-by-messages',
    basis: 'specification',
    says: 'A region that can be mapped is written by messages too.',
    check: context => {
      const peer = context.session();
      const both = RegionInfo.read | RegionInfo.write;
      for (const { index, reply } of mappable(context, peer)) {
        if ((viewOf(reply.payload).getUint32(RegionInfo.flags, true) & both) !== both) continue;
        // What is there already, so that a device at work is not upset.
        const held = peer.succeed(Command.regionRead, words(0, 0, index, 4)).payload;
        equal(peer.succeed(Command.regionWrite, held).payload.length, 16, 'bytes of the reply');
      }
    },
  },
  {
    id: 'region-info.no-descriptors-taken',
    basis: 'specification',
    says: 'A client whose max_msg_fds is 0 gets no descriptor.',
    check: context => {
      const peer = context.session({ capabilities: { max_msg_fds: 0 } });
      for (const { index } of context.device.regions) {
        const { descriptors } = peer.succeed(Command.deviceGetRegionInfo, regionInfoRequest(index, ROOM));
        equal(descriptors.length, 0, `descriptors with the answer on region ${index}`);
      }
    },
  },
]);

interface Listed {
  readonly index: number;
  readonly reply: Received;
  readonly view: DataView;
  readonly count: number;
  readonly stride: number;
}

/** The lists that are not empty; skips the rule where there is none. */
function listed(context: Context, peer = context.session()): Listed[] {
  const found = context.device.regions.flatMap(({ index }) => {
    const reply = peer.ask(Command.deviceGetRegionIoFds, words(ROOM, 0, index, 0));
    if (reply.error !== 0 || reply.payload.length <= RegionIoFds.bytes) return [];
    const view = viewOf(reply.payload);
    const count = view.getUint32(RegionIoFds.count, true);
    return [{ index, reply, view, count, stride: (reply.payload.length - RegionIoFds.bytes) / count }];
  });
  if (found.length === 0) notOffered('descriptors for the I/O of regions');
  return found;
}

export const ioEventFdRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_GET_REGION_IO_FDS', [
  {
    id: 'region-io-fds.in-region',
    basis: 'specification',
    says: 'Sub-regions lie in their region.',
    check: context => {
      for (const { index, view, count, stride } of listed(context)) {
        const { size } = context.device.regions[index]!;
        for (let i = 0; i < count; i++) {
          const at = RegionIoFds.bytes + i * stride;
          const end = view.getBigUint64(at + SubRegion.offset, true) + view.getBigUint64(at + SubRegion.size, true);
          isTrue(end <= size, `sub-region ${i} of region ${index} ends at ${end}`);
        }
      }
    },
  },
  {
    id: 'region-io-fds.types',
    basis: 'specification',
    says: 'A sub-region is an ioeventfd or an ioregionfd, and an ioeventfd comes as an eventfd.',
    check: context => {
      for (const { index, reply, view, count, stride } of listed(context)) {
        for (let i = 0; i < count; i++) {
          const at = RegionIoFds.bytes + i * stride;
          const type = view.getUint32(at + SubRegion.type, true);
          isTrue(type < KNOWN_TYPES, `sub-region ${i} of region ${index} has type ${type}`);
          const descriptor = reply.descriptors[view.getUint32(at + SubRegion.descriptor, true)]!;
          if (type === SubRegion.ioEventFd)
            isTrue(isEventFd(descriptor), `descriptor of sub-region ${i} of region ${index}`);
        }
      }
    },
  },
  {
    id: 'region-io-fds.argsz-small',
    basis: 'specification',
    says: 'A list that does not fit in argsz is left out, and argsz in the reply says what is needed.',
    check: context => {
      const peer = context.session();
      for (const { index, reply } of listed(context, peer)) {
        const small = peer.succeed(Command.deviceGetRegionIoFds, words(RegionIoFds.bytes, 0, index, 0));
        equal(viewOf(small.payload).getUint32(RegionIoFds.argsz, true), reply.payload.length, 'argsz');
        equal(small.payload.length, RegionIoFds.bytes, 'bytes of the reply');
        equal(small.descriptors.length, 0, 'descriptors');
      }
    },
  },
  {
    id: 'region-io-fds.most-descriptors',
    basis: 'specification',
    says: 'No more descriptors come at once than max_msg_fds of the client.',
    check: context => {
      const peer = context.session({ capabilities: { max_msg_fds: 1 } });
      for (const { index } of context.device.regions) {
        const { descriptors } = peer.ask(Command.deviceGetRegionIoFds, words(ROOM, 0, index, 0));
        isTrue(descriptors.length <= 1, `${descriptors.length} descriptors came`);
      }
    },
  },
  {
    id: 'region-io-fds.signalled',
    basis: 'robustness',
    says: 'A signal to each of the descriptors ends no server.',
    check: context => {
      const peer = context.session();
      for (const { reply } of listed(context, peer)) {
        for (const descriptor of reply.descriptors) if (isEventFd(descriptor)) signalEventFd(descriptor);
      }
      peer.alive();
    },
  },
]);

/** The client's end of the second stream, and the connection that it belongs to; skips the rule where there is none. */
function twins(context: Context) {
  const main = context.connect();
  const proposal = { capabilities: { max_msg_fds: 8, twin_socket: { supported: true } } };
  const reply = main.succeed(Command.version, versionPayload(proposal));
  const twin = capabilitiesOf(reply.payload).twin_socket;
  if (!isObject(twin) || twin.supported !== true) notOffered('twin_socket');
  return { main, twin: context.over(reply.descriptors[Number(twin.fd_index)]!) };
}

export const twinSocketRules: readonly Rule[] = inSection('VFIO_USER_VERSION', [
  {
    id: 'version.twin-socket-serves',
    basis: 'specification',
    says: 'In twin-socket mode commands are answered on the connection itself.',
    check: context => {
      const { main, twin } = twins(context);
      main.alive();
      isTrue(!twin.ended, 'the second stream has ended');
    },
  },
  {
    id: 'version.twin-socket-ends',
    basis: 'robustness',
    says: 'The second stream ends with the connection.',
    check: context => {
      const { main, twin } = twins(context);
      main.close();
      twin.untilEnd('the end of the second stream');
    },
  },
  {
    id: 'version.twin-socket-without-descriptors',
    basis: 'specification',
    says: 'Twin-socket mode is not set up for a client that takes no descriptors.',
    check: context => {
      const main = context.connect();
      const proposal = { capabilities: { max_msg_fds: 0, twin_socket: { supported: true } } };
      const reply = main.succeed(Command.version, versionPayload(proposal));
      equal(reply.descriptors.length, 0, 'descriptors with the reply');
    },
  },
]);
