import { Command, RegionInfo, RegionIoFds } from '../../spec.ts';
import { CONFIG, type Context, regionInfoRequest } from '../context.ts';
import type { Received } from '../peer.ts';
import { equal, equalBytes, fail, inSection, isTrue, type Rule } from '../rule.ts';
import { viewOf, words } from '../wire.ts';

const VGA = 8;
const CAP_SPARSE_MMAP = 1;
const CAP_HEADER_BYTES = 8;
const KNOWN_FLAGS = RegionInfo.read | RegionInfo.write | RegionInfo.mmap | RegionInfo.caps;

/** The reply of each region, all in one connection. */
function eachRegion(context: Context, see: (reply: Received, index: number) => void): void {
  const peer = context.session();
  // Enough for all capabilities that one can think of.
  for (const { index } of context.device.regions) {
    see(peer.succeed(Command.deviceGetRegionInfo, regionInfoRequest(index, 65536)), index);
  }
}

function flagsOf(reply: Received): number {
  return viewOf(reply.payload).getUint32(RegionInfo.flags, true);
}

function sizeOf(reply: Received): bigint {
  return viewOf(reply.payload).getBigUint64(RegionInfo.size, true);
}

export const regionInfoRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_GET_REGION_INFO', [
  {
    id: 'region-info.each',
    basis: 'specification',
    says: 'Each of the num_regions regions can be asked for.',
    check: context => eachRegion(context, reply => isTrue(reply.payload.length >= 32, 'the reply is too short')),
  },
  {
    id: 'region-info.index',
    basis: 'specification',
    says: 'The reply names the region.',
    check: context =>
      eachRegion(context, (reply, index) =>
        equal(viewOf(reply.payload).getUint32(RegionInfo.index, true), index, 'index'),
      ),
  },
  {
    id: 'region-info.argsz',
    basis: 'specification',
    says: 'argsz in the reply is the size of the full payload.',
    check: context =>
      eachRegion(context, (reply, index) => {
        equal(viewOf(reply.payload).getUint32(0, true), reply.payload.length, `argsz of region ${index}`);
      }),
  },
  {
    id: 'region-info.flags-known',
    basis: 'specification',
    says: 'No flags are set beside read, write, mmap and capabilities.',
    check: context => eachRegion(context, reply => equal(flagsOf(reply) & ~KNOWN_FLAGS, 0, 'other flags')),
  },
  {
    id: 'region-info.absent-has-no-access',
    basis: 'linux-vfio',
    says: 'A region of size 0 is not there: it can be neither read nor written.',
    check: context =>
      eachRegion(context, (reply, index) => {
        if (sizeOf(reply) === 0n) equal(flagsOf(reply), 0, `flags of region ${index}, which has no bytes`);
      }),
  },
  {
    id: 'region-info.present-has-access',
    basis: 'linux-vfio',
    says: 'A region that is there can be read or written.',
    check: context =>
      eachRegion(context, (reply, index) => {
        const reachable = (flagsOf(reply) & (RegionInfo.read | RegionInfo.write)) !== 0;
        isTrue(sizeOf(reply) === 0n || reachable, `region ${index} can be neither read nor written`);
      }),
  },
  {
    id: 'region-info.bar-sizes',
    basis: 'linux-vfio',
    says: 'The size of a BAR is a power of two.',
    check: context => {
      for (const { index, size } of context.device.regions.slice(0, 6)) {
        isTrue((size & (size - 1n)) === 0n, `BAR ${index} has ${size} bytes`);
      }
    },
  },
  {
    id: 'region-info.config-access',
    basis: 'linux-vfio',
    says: 'The configuration space can be read and written.',
    check: context => {
      const both = RegionInfo.read | RegionInfo.write;
      equal(context.device.regions[CONFIG]!.flags & both, both, 'flags of region 7');
    },
  },
  {
    id: 'region-info.vga',
    basis: 'linux-vfio',
    says: 'Region 8, VGA, can be asked for also where the device has none.',
    check: context => {
      context.session().succeed(Command.deviceGetRegionInfo, regionInfoRequest(VGA));
    },
  },
  {
    id: 'region-info.unknown',
    basis: 'specification',
    says: 'A region behind the last one is refused.',
    check: context => {
      const peer = context.session();
      const { length } = context.device.regions;
      peer.refuse(Command.deviceGetRegionInfo, regionInfoRequest(length), `index ${length}`);
      peer.alive();
    },
  },
  {
    id: 'region-info.index-largest',
    basis: 'specification',
    says: 'Region 4294967295 is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.deviceGetRegionInfo, regionInfoRequest(0xffffffff), 'index 4294967295');
      peer.alive();
    },
  },
  {
    id: 'region-info.index-negative',
    basis: 'robustness',
    says: 'Region 2147483648 is refused: an index has no sign.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.deviceGetRegionInfo, regionInfoRequest(0x80000000), 'index 2147483648');
      peer.alive();
    },
  },
  {
    id: 'region-info.argsz-short',
    basis: 'robustness',
    says: 'An argsz below the fixed part of the reply is refused, or answered with the size that is needed.',
    check: context => {
      const peer = context.session();
      const { error, payload } = peer.ask(Command.deviceGetRegionInfo, regionInfoRequest(CONFIG, 16));
      isTrue(error !== 0 || viewOf(payload).getUint32(0, true) >= 32, 'argsz in the reply is too small');
      peer.alive();
    },
  },
  {
    id: 'region-info.argsz-large',
    basis: 'specification',
    says: 'argsz is a maximum: more is not refused.',
    check: context => {
      context.session().succeed(Command.deviceGetRegionInfo, regionInfoRequest(CONFIG, 0xffffffff));
    },
  },
  {
    id: 'region-info.argsz-exact',
    basis: 'specification',
    says: 'Capabilities that do not fit in argsz are left out, and argsz in the reply says what is needed.',
    check: context => {
      const peer = context.session();
      for (const { index } of context.device.regions) {
        const { payload } = peer.succeed(Command.deviceGetRegionInfo, regionInfoRequest(index, 32));
        equal(payload.length, 32, `bytes of payload for region ${index}`);
        isTrue(viewOf(payload).getUint32(0, true) >= 32, 'argsz in the reply is too small');
      }
    },
  },
  {
    id: 'region-info.payload-short',
    basis: 'specification',
    says: 'A payload of 31 bytes is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.deviceGetRegionInfo, regionInfoRequest(0).subarray(0, 31), '31 bytes of payload');
      peer.alive();
    },
  },
  {
    id: 'region-info.repeatable',
    basis: 'specification',
    says: 'Asked twice, the answer is the same.',
    check: context => {
      const peer = context.session();
      const ask = () => peer.succeed(Command.deviceGetRegionInfo, regionInfoRequest(CONFIG)).payload;
      equalBytes(ask(), ask(), 'the second answer');
    },
  },
  {
    id: 'region-info.mmap-descriptor',
    basis: 'specification',
    says: 'A region that can be mapped comes with a descriptor, any other with none.',
    check: context =>
      eachRegion(context, (reply, index) => {
        const mappable = (flagsOf(reply) & RegionInfo.mmap) !== 0;
        isTrue(mappable === reply.descriptors.length > 0, `region ${index}: ${reply.descriptors.length} descriptors`);
      }),
  },
  {
    id: 'region-info.caps-offset',
    basis: 'specification',
    says: 'cap_offset lies within the reply where there are capabilities, and is 0 where there are none.',
    check: context =>
      eachRegion(context, (reply, index) => {
        const at = viewOf(reply.payload).getUint32(RegionInfo.capOffset, true);
        const has = (flagsOf(reply) & RegionInfo.caps) !== 0;
        if (!has) equal(at, 0, `cap_offset of region ${index}, which has no capabilities`);
        else isTrue(at >= 32 && at + CAP_HEADER_BYTES <= reply.payload.length, `cap_offset ${at} of region ${index}`);
      }),
  },
  {
    id: 'region-info.caps-chain',
    basis: 'specification',
    says: 'Capabilities form a list that ends; sparse areas lie within their region.',
    check: context => eachRegion(context, checkCapabilities),
  },
]);

function checkCapabilities(reply: Received, index: number): void {
  if ((flagsOf(reply) & RegionInfo.caps) === 0) return;
  const view = viewOf(reply.payload);
  let at = view.getUint32(RegionInfo.capOffset, true);
  for (let steps = 0; at !== 0; steps++) {
    if (steps > 64) fail(`the capabilities of region ${index} do not end`);
    isTrue(at >= 32 && at + CAP_HEADER_BYTES <= view.byteLength, `a capability of region ${index} lies at ${at}`);
    if (view.getUint16(at, true) === CAP_SPARSE_MMAP) checkSparse(view, at + CAP_HEADER_BYTES, reply, index);
    at = view.getUint32(at + 4, true);
  }
}

function checkSparse(view: DataView, at: number, reply: Received, index: number): void {
  const areas = view.getUint32(at, true);
  isTrue(at + 8 + 16 * areas <= view.byteLength, `${areas} sparse areas of region ${index} do not fit in the reply`);
  for (let i = 0; i < areas; i++) {
    const offset = view.getBigUint64(at + 8 + 16 * i, true);
    const size = view.getBigUint64(at + 16 + 16 * i, true);
    isTrue(offset + size <= sizeOf(reply), `sparse area ${i} of region ${index} leaves it`);
  }
}

export const regionIoFdsRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_GET_REGION_IO_FDS', [
  {
    id: 'region-io-fds.answered',
    basis: 'specification',
    says: 'It is optional: each region is answered, with a list or an error.',
    check: context => {
      const peer = context.session();
      for (const { index } of context.device.regions) peer.ask(Command.deviceGetRegionIoFds, words(4096, 0, index, 0));
      peer.alive();
    },
  },
  {
    id: 'region-io-fds.form',
    basis: 'specification',
    says: 'A list names its region, has no flags, and argsz says its size.',
    check: context => {
      const peer = context.session();
      for (const { index } of context.device.regions) {
        const { error, payload } = peer.ask(Command.deviceGetRegionIoFds, words(65536, 0, index, 0));
        if (error !== 0 || payload.length === 0) continue;
        const view = viewOf(payload);
        equal(view.getUint32(RegionIoFds.argsz, true), payload.length, 'argsz');
        equal(view.getUint32(RegionIoFds.flags, true), 0, 'flags');
        equal(view.getUint32(RegionIoFds.index, true), index, 'index');
      }
    },
  },
  {
    id: 'region-io-fds.descriptors',
    basis: 'specification',
    says: 'Each entry of a list names a descriptor that came with it.',
    check: context => {
      const peer = context.session();
      for (const { index } of context.device.regions) {
        const { error, payload, descriptors } = peer.ask(Command.deviceGetRegionIoFds, words(65536, 0, index, 0));
        if (error !== 0 || payload.length === 0) continue;
        const view = viewOf(payload);
        const count = view.getUint32(RegionIoFds.count, true);
        const stride = count === 0 ? 0 : (payload.length - RegionIoFds.bytes) / count;
        for (let i = 0; i < count; i++) {
          const fd = view.getUint32(RegionIoFds.bytes + i * stride + 16, true);
          isTrue(fd < descriptors.length, `entry ${i} of region ${index} names descriptor ${fd}`);
        }
      }
    },
  },
  {
    id: 'region-io-fds.unknown',
    basis: 'specification',
    says: 'A region that there is not is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.deviceGetRegionIoFds, words(4096, 0, 0xffff, 0), 'index 65535');
      peer.alive();
    },
  },
  {
    id: 'region-io-fds.flags',
    basis: 'robustness',
    says: 'Flags, which must be zero, are decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(Command.deviceGetRegionIoFds, words(4096, 1, 0, 0));
      peer.alive();
    },
  },
  {
    id: 'region-io-fds.argsz-short',
    basis: 'robustness',
    says: 'An argsz below the fixed part of the reply is decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(Command.deviceGetRegionIoFds, words(8, 0, 0, 0));
      peer.alive();
    },
  },
  {
    id: 'region-io-fds.payload-short',
    basis: 'specification',
    says: 'A payload of 15 bytes is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.deviceGetRegionIoFds, words(4096, 0, 0, 0).subarray(0, 15), '15 bytes of payload');
      peer.alive();
    },
  },
]);
