/** An answer that the tables do not give any more, as its event tells it. */
import { FreshStatus, StaleWhat } from '../event-kinds.ts';
import type { Transfer } from './history-evidence.ts';
import { pageOf } from './pages.ts';

export interface StaleAnswer {
  readonly time: number;
  readonly source: string;
  readonly requesterId: number;
  readonly what: number;
  readonly fresh: number;
  readonly transfer: Transfer;
  /** The domain that the answer was for. */
  readonly domain: number;
  readonly usedFrame: number;
  readonly freshFrame: number;
  readonly usedPermissions: number;
  readonly freshPermissions: number;
  readonly freshDomain: number;
}

/** An answer that lets nothing through: the tables would by now. */
export function isRefusal({ what, usedPermissions }: StaleAnswer): boolean {
  return what === StaleWhat.notPresent || usedPermissions === 0;
}

export function isGone(fresh: number): boolean {
  return fresh === FreshStatus.notPresent || fresh === FreshStatus.detached;
}

export function readStale(source: string, time: number, payload: Int32Array): StaleAnswer {
  const first = payload[0]!;
  const permissions = payload[6]!;
  const transfer: Transfer = {
    page: pageOf(payload[1]!, payload[2]!),
    offset: payload[2]! & 0xfff,
    length: payload[7]! >>> 0,
    access: (first >>> 16) & 3,
    time,
  };
  return {
    time,
    source,
    requesterId: first & 0xffff,
    what: (first >>> 18) & 7,
    fresh: (first >>> 21) & 7,
    transfer,
    usedFrame: payload[3]!,
    domain: payload[4]!,
    freshFrame: payload[5]!,
    usedPermissions: permissions & 3,
    freshPermissions: (permissions >>> 2) & 3,
    freshDomain: payload[8]!,
  };
}
