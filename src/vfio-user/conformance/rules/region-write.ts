import { Command, HeaderFlag, RegionInfo } from '../../spec.ts';
import { CONFIG, read, SCRATCH, write } from '../context.ts';
import { equal, equalBytes, inSection, isTrue, type Rule, skip } from '../rule.ts';
import { accessPayload, concat, message, readMessage, viewOf, writeMessage } from '../wire.ts';
import { configSize, refuseWrite, TOP, TRIED_TRANSFER, writesScratch } from './region-steps.ts';

const { regionRead, regionWrite } = Command;

export const regionWriteRules: readonly Rule[] = inSection('VFIO_USER_REGION_WRITE', [
  {
    id: 'region-write.echo',
    basis: 'specification',
    says: 'The reply repeats offset, region and count, without the data.',
    check: context => {
      const data = Uint8Array.of(0);
      const { payload } = context.session().succeed(regionWrite, accessPayload(CONFIG, SCRATCH, 1, data));
      equalBytes(payload, accessPayload(CONFIG, SCRATCH, 1), 'payload of the reply');
    },
  },
  {
    id: 'region-write.width-1',
    basis: 'specification',
    says: 'A write of one byte writes it.',
    check: context => writesScratch(context, SCRATCH, 1),
  },
  {
    id: 'region-write.width-2',
    basis: 'specification',
    says: 'A write of 2 bytes writes them.',
    check: context => writesScratch(context, SCRATCH, 2),
  },
  {
    id: 'region-write.width-4',
    basis: 'specification',
    says: 'A write of 4 bytes writes them.',
    check: context => writesScratch(context, SCRATCH, 4),
  },
  {
    id: 'region-write.width-8',
    basis: 'linux-vfio',
    says: 'A write of 8 bytes writes them.',
    check: context => writesScratch(context, SCRATCH - 4, 8),
  },
  {
    id: 'region-write.unaligned',
    basis: 'linux-vfio',
    says: 'A write need not be aligned.',
    check: context => writesScratch(context, SCRATCH - 1, 3),
  },
  {
    id: 'region-write.last-one-stays',
    basis: 'specification',
    says: 'Of two writes the second one stays.',
    check: context => {
      const peer = context.session();
      context.scratch(peer);
      write(peer, CONFIG, SCRATCH, Uint8Array.of(1));
      write(peer, CONFIG, SCRATCH, Uint8Array.of(2));
      equal(read(peer, CONFIG, SCRATCH, 1)[0], 2, 'the register');
    },
  },
  {
    id: 'region-write.read-only-bytes',
    basis: 'linux-vfio',
    says: 'A write of registers that cannot be written succeeds and changes nothing.',
    check: context => {
      const peer = context.session();
      const before = read(peer, CONFIG, 0, 4);
      write(peer, CONFIG, 0, Uint8Array.of(1, 2, 3, 4));
      equalBytes(read(peer, CONFIG, 0, 4), before, 'vendor and device id');
    },
  },
  {
    id: 'region-write.bar-sizing',
    basis: 'linux-vfio',
    says: 'A BAR register reads back as its size after all ones are written.',
    check: context => {
      const { index, size } = context.region('BAR', one => one.index === 0 && one.size > 0n);
      const peer = context.session();
      const at = 0x10 + 4 * index;
      write(peer, CONFIG, at, new Uint8Array(4).fill(0xff));
      const mask = viewOf(read(peer, CONFIG, at, 4)).getUint32(0, true) & ~0xf;
      write(peer, CONFIG, at, new Uint8Array(4));
      if (size < 1n << 31n) equal(BigInt(-mask >>> 0), size, 'size of BAR 0');
    },
  },
  {
    id: 'region-write.posted',
    basis: 'specification',
    says: 'A write with the No_reply bit is done before the reply to the next command, and is not answered.',
    check: context => {
      const peer = context.session();
      context.scratch(peer);
      peer.send(writeMessage(CONFIG, SCRATCH, Uint8Array.of(0x77), { flags: HeaderFlag.noReply }));
      equal(read(peer, CONFIG, SCRATCH, 1)[0], 0x77, 'the register');
    },
  },
  {
    id: 'region-write.posted-in-order',
    basis: 'specification',
    says: 'Posted writes and reads are done in the order in which they are sent.',
    check: context => {
      const peer = context.session();
      context.scratch(peer);
      const parts: Uint8Array[] = [];
      for (let i = 0; i < 50; i++) {
        parts.push(writeMessage(CONFIG, SCRATCH, Uint8Array.of(i), { flags: HeaderFlag.noReply }));
        parts.push(readMessage(CONFIG, SCRATCH, 1, { id: i }));
      }
      peer.send(concat(...parts));
      for (let i = 0; i < 50; i++) equal(peer.reply(i, regionRead).payload[16], i, `read ${i}`);
    },
  },
  {
    id: 'region-write.posted-refused',
    basis: 'specification',
    says: 'A posted write that fails is not answered either.',
    check: context => {
      const peer = context.session();
      peer.send(writeMessage(0xffff, 0, Uint8Array.of(1), { flags: HeaderFlag.noReply }));
      peer.alive();
    },
  },
  {
    id: 'region-write.behind-last-byte',
    basis: 'specification',
    says: 'A write behind the region is refused.',
    check: context =>
      refuseWrite(context.session(), CONFIG, configSize(context), Uint8Array.of(1), 'an offset behind the region'),
  },
  {
    id: 'region-write.across-end',
    basis: 'specification',
    says: 'A write that begins inside the region and ends outside is refused.',
    check: context =>
      refuseWrite(context.session(), CONFIG, configSize(context) - 2, new Uint8Array(4), 'a range across the end'),
  },
  {
    id: 'region-write.far-behind',
    basis: 'specification',
    says: 'All 64 bits of the offset count.',
    check: context => {
      const peer = context.session();
      context.scratch(peer);
      refuseWrite(peer, CONFIG, (1n << 32n) + BigInt(SCRATCH), Uint8Array.of(0x11), 'an offset above 4 GiB');
      equal(read(peer, CONFIG, SCRATCH, 1)[0], 0, 'the register 4 GiB below');
    },
  },
  {
    id: 'region-write.wraps',
    basis: 'robustness',
    says: 'A range that wraps around is refused.',
    check: context => refuseWrite(context.session(), CONFIG, TOP, new Uint8Array(2), 'a range that wraps'),
  },
  {
    id: 'region-write.unknown-region',
    basis: 'specification',
    says: 'A region that there is not is refused.',
    check: context => refuseWrite(context.session(), 0xffff, 0, new Uint8Array(4), 'region 65535'),
  },
  {
    id: 'region-write.absent-region',
    basis: 'specification',
    says: 'A write to a region of no bytes is refused.',
    check: context => {
      const { index } = context.region('region of no bytes', ({ size }) => size === 0n);
      refuseWrite(context.session(), index, 0, new Uint8Array(4), 'a region of no bytes');
    },
  },
  {
    id: 'region-write.not-writable',
    basis: 'specification',
    says: 'A write to a region that cannot be written is refused.',
    check: context => {
      const region = context.region(
        'region that can be read alone',
        ({ size, flags }) => size > 0n && (flags & RegionInfo.write) === 0,
      );
      refuseWrite(context.session(), region.index, 0, new Uint8Array(4), 'a region that cannot be written');
    },
  },
  {
    id: 'region-write.data-missing',
    basis: 'specification',
    says: 'A count of more than the data that came is refused, and nothing is written.',
    check: context => {
      const peer = context.session();
      context.scratch(peer);
      peer.refuse(regionWrite, accessPayload(CONFIG, SCRATCH, 2, Uint8Array.of(0x33)), 'a byte that did not come');
      equal(read(peer, CONFIG, SCRATCH, 1)[0], 0, 'the register');
    },
  },
  {
    id: 'region-write.data-missing-all',
    basis: 'specification',
    says: 'A count without any data is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(regionWrite, accessPayload(CONFIG, SCRATCH, 4), 'no data');
      peer.alive();
    },
  },
  {
    id: 'region-write.data-behind',
    basis: 'robustness',
    says: 'More data than the count says is decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(regionWrite, accessPayload(CONFIG, SCRATCH, 1, new Uint8Array(8)));
      peer.alive();
    },
  },
  {
    id: 'region-write.no-bytes',
    basis: 'robustness',
    says: 'A count of 0 is decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(regionWrite, accessPayload(CONFIG, SCRATCH, 0));
      peer.alive();
    },
  },
  {
    id: 'region-write.above-transfer-size',
    basis: 'specification',
    says: 'More than max_data_xfer_size is refused, or the connection ends.',
    check: context => {
      const limit = context.limit('max_data_xfer_size');
      if (limit > TRIED_TRANSFER) skip(`${limit} bytes take too long`);
      const peer = context.session();
      peer.send(message(regionWrite, accessPayload(CONFIG, 0, limit + 1, new Uint8Array(limit + 1))));
      isTrue(peer.outcome('too much data') !== 'answered', `a write of ${limit + 1} bytes succeeded`);
    },
  },
  {
    id: 'region-write.largest-count',
    basis: 'robustness',
    says: 'A count of 4294967295 with four bytes of data is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(regionWrite, accessPayload(CONFIG, 0, 0xffffffff, new Uint8Array(4)), '4294967295 bytes');
      peer.alive();
    },
  },
  {
    id: 'region-write.payload-short',
    basis: 'specification',
    says: 'A payload of 15 bytes is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(regionWrite, accessPayload(CONFIG, SCRATCH, 0).subarray(0, 15), '15 bytes of payload');
      peer.alive();
    },
  },
]);
