/** A fault and the failed transfer that follows it, as their events tell them. */
import type { Evidence } from './finding.ts';
import type { Transfer } from './history-evidence.ts';
import { triedText } from './history-evidence.ts';
import { pageOf } from './pages.ts';
import type { World } from './world.ts';

/** Another requester that has a context entry. */
export interface OtherContext {
  readonly requesterId: number;
  /** The one whose fault it is told beside. */
  readonly beside: number;
  readonly domain: number;
}

export interface Fault {
  readonly time: number;
  readonly source: string;
  readonly requesterId: number;
  /** 1 read, 2 write. */
  readonly access: number;
  /** `FaultCause`. */
  readonly cause: number;
  readonly page: number;
  readonly offset: number;
  /** The IOMMU's own number. */
  readonly reason: number;
  /** -1: not known, or none. */
  readonly domain: number;
  /** -1: none. */
  readonly pasid: number;
  readonly level: number;
  readonly entryHigh: number;
  readonly entryLow: number;
  readonly entryAddressHigh: number;
  readonly entryAddressLow: number;
  /** Bits. */
  readonly addressWidth: number;
  readonly others: readonly OtherContext[];
}

/** The request of a fault, as the failed transfer tells it, or as far as the fault itself does. */
export interface RefusedRequest {
  readonly fault: Fault;
  readonly transfer: Transfer;
  /** The domain it went through; -1: none, or not known. */
  readonly domain: number;
}

export function readFault(source: string, time: number, payload: Int32Array, others: readonly OtherContext[]): Fault {
  const first = payload[0]!;
  return {
    time,
    source,
    requesterId: first & 0xffff,
    access: (first >>> 16) & 3,
    cause: (first >>> 22) & 0x3f,
    page: pageOf(payload[1]!, payload[2]!),
    offset: payload[2]! & 0xfff,
    reason: payload[3]! >>> 0,
    domain: payload[4]!,
    pasid: payload[5]!,
    level: payload[6]! >>> 0,
    entryHigh: payload[7]!,
    entryLow: payload[8]!,
    entryAddressHigh: payload[9]!,
    entryAddressLow: payload[10]!,
    addressWidth: payload[11]! >>> 0,
    others,
  };
}

/** What remains to be said where no failed transfer follows. */
export function transferOf({ page, offset, access, time }: Fault): Transfer {
  return { page, offset, length: 0, access, time };
}

export function refusedEvidence(world: World, { fault, transfer }: RefusedRequest): Evidence {
  const reason = fault.reason === 0 ? '' : ` (fault reason 0x${fault.reason.toString(16)})`;
  return {
    time: fault.time,
    kind: 'fault',
    source: fault.source,
    text: `${triedText(world, fault.requesterId, transfer, fault.pasid)} and was refused${reason}`,
  };
}
