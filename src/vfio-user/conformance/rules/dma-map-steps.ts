/** What the rules of this section have in common. */
import { Command, HeaderFlag } from '../../spec.ts';
import type { Context } from '../context.ts';
import type { Peer } from '../peer.ts';
import { equal } from '../rule.ts';
import { concat, type MapFields, mapPayload, message, PAGE, unmapPayload } from '../wire.ts';

export const EEXIST = 17;
export const BASE = 0x100000n;
/** More than any server needs a name for, and few enough to try. */
export const MANY_MAPS = 1000;
/** Trying a larger table takes too long. */
export const TRIED_TABLE = 70000;

export function map(peer: Peer, fields: MapFields = {}, descriptors: readonly number[] = []): void {
  const { payload } = peer.succeed(Command.dmaMap, mapPayload(fields), { descriptors });
  equal(payload.length, 0, 'bytes of payload in the reply to DMA_MAP');
}

export function refuseMap(peer: Peer, fields: MapFields, why: string, descriptors: readonly number[] = []): number {
  const errno = peer.refuse(Command.dmaMap, mapPayload(fields), why, { descriptors });
  peer.alive();
  return errno;
}

export function overlap(context: Context, first: MapFields, second: MapFields, why: string): void {
  const peer = context.session();
  map(peer, first);
  equal(refuseMap(peer, second, why), EEXIST, 'errno');
}

/** Every other page from BASE on, so that no server can take neighbours for one. */
export function mapMany(peer: Peer, count: number): void {
  const GROUP = 500;
  for (let from = 0; from < count; from += GROUP) {
    const group = Math.min(GROUP, count - from);
    const messages = Array.from({ length: group }, (_, i) =>
      message(Command.dmaMap, mapPayload({ address: BASE + BigInt(from + i) * 2n * PAGE }), {
        flags: i === group - 1 ? 0 : HeaderFlag.noReply,
        id: 77,
      }),
    );
    peer.send(concat(...messages));
    const reply = peer.reply(77, Command.dmaMap);
    equal(reply.error, 0, `errno of region ${from + group - 1}`);
  }
  // The first and the last are really there.
  for (const i of [0, count - 1]) {
    const address = BASE + BigInt(i) * 2n * PAGE;
    peer.succeed(Command.dmaUnmap, unmapPayload({ address }));
    map(peer, { address });
  }
}
