import { Command, HeaderFlag } from '../../spec.ts';
import { CONFIG, read } from '../context.ts';
import { equal, inSection, type Rule } from '../rule.ts';
import { accessPayload, concat, readMessage, viewOf } from '../wire.ts';
import { configSize, readable, readsLikeBytes, refuseRead, TOP, TRIED_TRANSFER } from './region-steps.ts';

const { regionRead } = Command;

export const regionReadRules: readonly Rule[] = inSection('VFIO_USER_REGION_READ', [
  {
    id: 'region-read.echo-offset',
    basis: 'specification',
    says: 'The reply repeats the offset.',
    check: context => {
      const { payload } = context.session().succeed(regionRead, accessPayload(CONFIG, 8, 4));
      equal(viewOf(payload).getBigUint64(0, true), 8n, 'offset');
    },
  },
  {
    id: 'region-read.echo-region',
    basis: 'specification',
    says: 'The reply repeats the region.',
    check: context => {
      const { payload } = context.session().succeed(regionRead, accessPayload(CONFIG, 8, 4));
      equal(viewOf(payload).getUint32(8, true), CONFIG, 'region');
    },
  },
  {
    id: 'region-read.echo-count',
    basis: 'specification',
    says: 'The reply says how many bytes it holds, and holds them.',
    check: context => {
      const { payload } = context.session().succeed(regionRead, accessPayload(CONFIG, 8, 4));
      equal(viewOf(payload).getUint32(12, true), 4, 'count');
      equal(payload.length, 16 + 4, 'bytes of payload');
    },
  },
  ...[1, 2, 4, 8].map(
    (width): Omit<Rule, 'section'> => ({
      id: `region-read.width-${width}`,
      basis: 'specification',
      says: `A read of ${width} gives the bytes that are there.`,
      check: context => readsLikeBytes(context, 0, width),
    }),
  ),
  {
    id: 'region-read.odd-width',
    basis: 'specification',
    says: 'A read of three bytes gives three bytes.',
    check: context => readsLikeBytes(context, 0, 3),
  },
  {
    id: 'region-read.unaligned',
    basis: 'specification',
    says: 'A read need not be aligned.',
    check: context => readsLikeBytes(context, 1, 4),
  },
  {
    id: 'region-read.bulk',
    basis: 'specification',
    says: 'A read may be as large as the region: 256 bytes of configuration space.',
    check: context => readsLikeBytes(context, 0, 64),
  },
  {
    id: 'region-read.whole-config',
    basis: 'specification',
    says: 'The whole configuration space can be read at once.',
    check: context => void read(context.session(), CONFIG, 0, configSize(context)),
  },
  {
    id: 'region-read.last-byte',
    basis: 'specification',
    says: 'The last byte of the region can be read.',
    check: context => void read(context.session(), CONFIG, configSize(context) - 1, 1),
  },
  {
    id: 'region-read.behind-last-byte',
    basis: 'specification',
    says: 'The byte behind the region cannot be read.',
    check: context => refuseRead(context.session(), CONFIG, configSize(context), 1, 'an offset behind the region'),
  },
  {
    id: 'region-read.across-end',
    basis: 'specification',
    says: 'A range that begins inside the region and ends outside cannot be read.',
    check: context => refuseRead(context.session(), CONFIG, configSize(context) - 2, 4, 'a range across the end'),
  },
  {
    id: 'region-read.far-behind',
    basis: 'specification',
    says: 'All 64 bits of the offset count.',
    check: context => refuseRead(context.session(), CONFIG, 1n << 32n, 4, 'an offset of 4 GiB'),
  },
  {
    id: 'region-read.wraps',
    basis: 'robustness',
    says: 'A range that wraps around is refused.',
    check: context => refuseRead(context.session(), CONFIG, TOP, 2, 'a range that wraps'),
  },
  {
    id: 'region-read.largest-offset',
    basis: 'robustness',
    says: 'The largest offset is refused.',
    check: context => refuseRead(context.session(), CONFIG, TOP, 1, 'the largest offset'),
  },
  {
    id: 'region-read.negative-offset',
    basis: 'robustness',
    says: 'An offset of 2^63 is refused: it has no sign.',
    check: context => refuseRead(context.session(), CONFIG, 1n << 63n, 4, 'an offset of 2^63'),
  },
  {
    id: 'region-read.beyond-exact',
    basis: 'robustness',
    says: 'An offset of 2^53 + 1, which a double cannot hold, is refused.',
    check: context => refuseRead(context.session(), CONFIG, (1n << 53n) + 1n, 4, 'an offset of 2^53 + 1'),
  },
  {
    id: 'region-read.unknown-region',
    basis: 'specification',
    says: 'A region that there is not is refused.',
    check: context => refuseRead(context.session(), 0xffff, 0, 4, 'region 65535'),
  },
  {
    id: 'region-read.region-largest',
    basis: 'robustness',
    says: 'Region 4294967295 is refused.',
    check: context => refuseRead(context.session(), 0xffffffff, 0, 4, 'region 4294967295'),
  },
  {
    id: 'region-read.absent-region',
    basis: 'specification',
    says: 'A read of a region of no bytes is refused.',
    check: context => {
      const { index } = context.region('region of no bytes', ({ size }) => size === 0n);
      refuseRead(context.session(), index, 0, 1, 'a region of no bytes');
    },
  },
  {
    id: 'region-read.not-readable',
    basis: 'specification',
    says: 'A read of a region that cannot be read is refused.',
    check: context => {
      const { index } = context.region('region that can be written alone', one => one.size > 0n && !readable(one));
      refuseRead(context.session(), index, 0, 4, 'a region that cannot be read');
    },
  },
  {
    id: 'region-read.each-region',
    basis: 'specification',
    says: 'Every region that says so can be read.',
    check: context => {
      const peer = context.session();
      for (const { index } of context.device.regions.filter(readable)) read(peer, index, 0, 4);
    },
  },
  {
    id: 'region-read.end-of-each-region',
    basis: 'specification',
    says: 'Every region that says so can be read up to its last byte.',
    check: context => {
      const peer = context.session();
      for (const { index, size } of context.device.regions.filter(readable)) read(peer, index, size - 1n, 1);
    },
  },
  {
    id: 'region-read.behind-each-region',
    basis: 'specification',
    says: 'No region can be read beyond its last byte.',
    check: context => {
      const peer = context.session();
      for (const { index, size } of context.device.regions.filter(readable)) {
        peer.refuse(regionRead, accessPayload(index, size, 1), `an offset behind region ${index}`);
      }
    },
  },
  {
    id: 'region-read.large-bar',
    basis: 'specification',
    says: 'A BAR can be read in one piece, up to max_data_xfer_size.',
    check: context => {
      const { index, size } = context.region(
        'BAR of a page or more',
        one => one.index < 6 && one.size >= 4096n && readable(one),
      );
      const limit = Math.min(context.limit('max_data_xfer_size'), TRIED_TRANSFER, 1048576);
      read(context.session(), index, 0, Math.min(Number(size), limit));
    },
  },
  {
    id: 'region-read.above-transfer-size',
    basis: 'specification',
    says: 'More than max_data_xfer_size is refused.',
    check: context => {
      const limit = context.limit('max_data_xfer_size');
      refuseRead(context.session(), CONFIG, 0, limit + 1, `${limit + 1} bytes`);
    },
  },
  {
    id: 'region-read.largest-count',
    basis: 'robustness',
    says: 'A count of 4294967295 is refused at once.',
    check: context => refuseRead(context.session(), CONFIG, 0, 0xffffffff, '4294967295 bytes'),
  },
  {
    id: 'region-read.no-bytes',
    basis: 'robustness',
    says: 'A count of 0 is decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(regionRead, accessPayload(CONFIG, 0, 0));
      peer.alive();
    },
  },
  {
    id: 'region-read.payload-short',
    basis: 'specification',
    says: 'A payload of 15 bytes is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(regionRead, accessPayload(CONFIG, 0, 4).subarray(0, 15), '15 bytes of payload');
      peer.alive();
    },
  },
  {
    id: 'region-read.payload-long',
    basis: 'robustness',
    says: 'Bytes behind the request are decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(regionRead, accessPayload(CONFIG, 0, 4, Uint8Array.of(1, 2, 3, 4)));
      peer.alive();
    },
  },
  {
    id: 'region-read.no-reply',
    basis: 'specification',
    says: 'A read with the No_reply bit is not answered.',
    check: context => {
      const peer = context.session();
      peer.tell(regionRead, accessPayload(CONFIG, 0, 4), { flags: HeaderFlag.noReply });
      peer.alive();
    },
  },
  {
    id: 'region-read.pipelined',
    basis: 'specification',
    says: 'Many reads may be under way; they are answered in order.',
    check: context => {
      const peer = context.session();
      const bytes = read(peer, CONFIG, 0, 64);
      const messages = Array.from({ length: 64 }, (_, i) => readMessage(CONFIG, i, 1, { id: 1000 + i }));
      peer.send(concat(...messages));
      for (let i = 0; i < 64; i++) equal(peer.reply(1000 + i, regionRead).payload[16], bytes[i], `byte ${i}`);
    },
  },
]);
