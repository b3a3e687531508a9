/** REGION_WRITE_MULTI where it was agreed on; what a server answers without that is in optional.ts. */
import { Command, HeaderFlag } from '../../spec.ts';
import { CONFIG, type Context, read, SCRATCH } from '../context.ts';
import type { Peer } from '../peer.ts';
import { equal, inSection, isTrue, notOffered, type Rule } from '../rule.ts';
import { concat, message, viewOf } from '../wire.ts';

const { regionWriteMulti } = Command;

export interface Write {
  readonly region: number;
  readonly offset: bigint;
  readonly count: number;
  readonly value: bigint;
}

/** A payload that says `count`, and holds these writes. */
export function multi(count: bigint, writes: readonly Write[]): Uint8Array {
  const head = new Uint8Array(8);
  viewOf(head).setBigUint64(0, count, true);
  const parts = writes.map(({ region, offset, count, value }) => {
    const part = new Uint8Array(24);
    const view = viewOf(part);
    view.setBigUint64(0, offset, true);
    view.setUint32(8, region, true);
    view.setUint32(12, count, true);
    view.setBigUint64(16, value, true);
    return part;
  });
  return concat(head, ...parts);
}

export function scratch(value: bigint): Write {
  return { region: CONFIG, offset: BigInt(SCRATCH), count: 1, value };
}

/** A session in which it was agreed on, with a register to write. */
export function agreed(context: Context): Peer {
  const proposal = { capabilities: { write_multiple: true } };
  if (context.negotiated(proposal).write_multiple !== true) notOffered('write_multiple');
  const peer = context.session(proposal);
  context.scratch(peer);
  return peer;
}

export const writeMultiAgreedRules: readonly Rule[] = inSection('VFIO_USER_REGION_WRITE_MULTI', [
  {
    id: 'write-multi.one',
    basis: 'specification',
    says: 'One write is done, and the reply counts it.',
    check: context => {
      const peer = agreed(context);
      const { payload } = peer.succeed(regionWriteMulti, multi(1n, [scratch(0x42n)]));
      equal(viewOf(payload).getBigUint64(0, true), 1n, 'wr_cnt');
      equal(read(peer, CONFIG, SCRATCH, 1)[0], 0x42, 'the register');
    },
  },
  {
    id: 'write-multi.reply',
    basis: 'specification',
    says: 'The payload of the reply is wr_cnt, 8 bytes.',
    check: context => {
      const { payload } = agreed(context).succeed(regionWriteMulti, multi(2n, [scratch(1n), scratch(2n)]));
      equal(payload.length, 8, 'bytes of payload');
      equal(viewOf(payload).getBigUint64(0, true), 2n, 'wr_cnt');
    },
  },
  {
    id: 'write-multi.order',
    basis: 'specification',
    says: 'Writes are done in order.',
    check: context => {
      const peer = agreed(context);
      peer.succeed(regionWriteMulti, multi(3n, [scratch(1n), scratch(2n), scratch(3n)]));
      equal(read(peer, CONFIG, SCRATCH, 1)[0], 3, 'the register');
    },
  },
  {
    id: 'write-multi.as-many-as-qemu',
    basis: 'specification',
    says: 'The 200 writes that QEMU puts together are taken.',
    check: context => {
      const peer = agreed(context);
      const writes = Array.from({ length: 200 }, (_, i) => scratch(BigInt(i)));
      equal(viewOf(peer.succeed(regionWriteMulti, multi(200n, writes)).payload).getBigUint64(0, true), 200n, 'wr_cnt');
      equal(read(peer, CONFIG, SCRATCH, 1)[0], 199, 'the register');
    },
  },
  {
    id: 'write-multi.posted',
    basis: 'specification',
    says: 'With No_reply there is no reply, and all is done before the reply to what comes behind.',
    check: context => {
      const peer = agreed(context);
      peer.send(message(regionWriteMulti, multi(2n, [scratch(1n), scratch(0x37n)]), { flags: HeaderFlag.noReply }));
      equal(read(peer, CONFIG, SCRATCH, 1)[0], 0x37, 'the register');
    },
  },
  {
    id: 'write-multi.nothing',
    basis: 'robustness',
    says: 'No writes at all are decided on.',
    check: context => {
      const peer = agreed(context);
      peer.ask(regionWriteMulti, multi(0n, []));
      peer.alive();
    },
  },
  {
    id: 'write-multi.too-wide',
    basis: 'specification',
    says: 'Each write has 8 bytes or less.',
    check: context => {
      const peer = agreed(context);
      peer.ask(regionWriteMulti, multi(1n, [{ ...scratch(0n), count: 9 }]));
      peer.alive();
    },
  },
  {
    id: 'write-multi.unknown-region',
    basis: 'specification',
    says: 'A write to a region that there is not is not counted.',
    check: context => {
      const peer = agreed(context);
      const { error, payload } = peer.ask(regionWriteMulti, multi(1n, [{ ...scratch(0n), region: 0xffff }]));
      isTrue(error !== 0 || payload.length === 0 || viewOf(payload).getBigUint64(0, true) === 0n, 'it counts as done');
      peer.alive();
    },
  },
  {
    id: 'write-multi.outside',
    basis: 'specification',
    says: 'A write beyond the end of its region is not counted.',
    check: context => {
      const peer = agreed(context);
      const outside = { ...scratch(0n), offset: (1n << 64n) - 1n };
      const { error, payload } = peer.ask(regionWriteMulti, multi(1n, [outside]));
      isTrue(error !== 0 || payload.length === 0 || viewOf(payload).getBigUint64(0, true) === 0n, 'it counts as done');
      peer.alive();
    },
  },
  {
    id: 'write-multi.cut',
    basis: 'specification',
    says: 'Fewer writes than wr_cnt says are refused.',
    check: context => {
      const peer = agreed(context);
      peer.refuse(regionWriteMulti, multi(2n, [scratch(1n)]), 'a write that did not come');
      peer.alive();
    },
  },
  {
    id: 'write-multi.count-largest',
    basis: 'specification',
    says: 'A wr_cnt of 2^64 - 1 is refused.',
    check: context => {
      const peer = agreed(context);
      peer.refuse(regionWriteMulti, multi((1n << 64n) - 1n, [scratch(1n)]), '2^64 - 1 writes');
      peer.alive();
    },
  },
  {
    id: 'write-multi.behind',
    basis: 'robustness',
    says: 'More writes than wr_cnt says are decided on.',
    check: context => {
      const peer = agreed(context);
      peer.ask(regionWriteMulti, multi(1n, [scratch(1n), scratch(2n)]));
      peer.alive();
    },
  },
  {
    id: 'write-multi.payload-short',
    basis: 'specification',
    says: 'A payload of 7 bytes is refused.',
    check: context => {
      const peer = agreed(context);
      peer.refuse(regionWriteMulti, multi(0n, []).subarray(0, 7), '7 bytes of payload');
      peer.alive();
    },
  },
]);
