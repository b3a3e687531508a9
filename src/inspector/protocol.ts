/**
 * What a client and the server say to each other, each message one binary WebSocket frame with one MessagePack object.
 * docs/remote-api.md tells it for those who write clients.
 */

import { NtStatus, ntStatusName } from '../iommu/dma-iommu/ntstatus.ts';
import type { Answer } from '../iommu/dma-iommu/operations.ts';

/** The WebSocket subprotocol; a change that older clients would not understand gets another number. */
export const SUBPROTOCOL = 'viommu.v1';
/** A second subprotocol offered with it may carry the token, for clients that cannot set headers (pages). */
export const TOKEN_SUBPROTOCOL_PREFIX = 'viommu.token.';

/** Another connection has taken over a lease of this one; the close code of RFC 6455, 7.4.1 for what breaks a rule. */
export const LEASE_TAKEN_OVER = 1008;
/** Farewells (RFC 6455, 7.4.1): of a side that ends or was refused. With any other code, or none, the connection is lost. */
const FAREWELLS: ReadonlySet<number> = new Set([1000, 1001, 1002, 1003, 1005, 1007, LEASE_TAKEN_OVER, 1009]);

/** The peer did not mean to end the connection. */
export function isLoss(closeCode: number): boolean {
  return !FAREWELLS.has(closeCode);
}

export const ErrorCode = {
  /** Not one MessagePack object within the limits, or without a usable id or operation. */
  malformed: 'malformed',
  unknownOperation: 'unknown-operation',
  unknownMachine: 'unknown-machine',
  /** The arguments have a wrong type, or are too long. */
  badArguments: 'bad-arguments',
  /** A limit of the server. */
  limit: 'limit',
  /** The machine could not be asked: it ended, or has nothing that could answer. */
  failed: 'failed',
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

export interface RemoteRequest {
  /** Chosen by the client, given back with the answer. */
  readonly id: number;
  /** May be missing where the server has one machine only. */
  readonly machine?: string | undefined;
  /** An operation of the interface, or one of `ServiceName`. */
  readonly operation: string;
  readonly args?: unknown;
}

/** What the server does besides the operations of the interface. */
export const serviceNames = [
  'machines',
  'watch',
  'lease',
  'resumeLease',
  'release',
  'describe',
  'interface',
  'probe',
  'statistics',
  'snapshot',
  'subscribe',
  'unsubscribe',
  'findings',
  'mappings',
  'record',
  'inject',
  'releaseInjection',
  'removeInjection',
  'injections',
  'inspect',
  'registers',
  'walk',
  'tlb',
  'queue',
  'pause',
  'step',
  'resume',
] as const;
export type ServiceName = (typeof serviceNames)[number];

/** An answer with the status' name, as it is sent. */
export type Named<T extends Answer> = T & { readonly statusName: string };

export interface RemoteFailure {
  /** null: it could not be read from the request. */
  readonly id: number | null;
  readonly error: { readonly code: ErrorCode; readonly message: string };
}

/** Sent when the client reads again after events were dropped, so that it knows even if nothing else happens. */
export const DROPPED_EVENT = 'subscription.dropped';

/** Carries records: `detail.words`, whole ones, in slots of 32 bytes (docs/recordings.md). */
export const RECORDS_EVENT = 'records';

/** Told with each new finding: `detail.finding`. */
export const FINDING_EVENT = 'finding';

/** The machine ended by itself or was stopped: `detail.reason`, `detail.stoppedByFinding`. What it found can still be asked. */
export const MACHINE_ENDED_EVENT = 'machine.ended';

/** The last of a subscription, whatever its kinds: the server has the machine no more. */
export const MACHINE_REMOVED_EVENT = 'machine.removed';

/** Of a subscription by `watch`: `detail.machines`, the names of all. */
export const MACHINES_EVENT = 'machines';

export interface RemoteEvent {
  /** The kind: that of a trace event, of a callback, `FINDING_EVENT`, `RECORDS_EVENT` or `DROPPED_EVENT`. */
  readonly event: string;
  readonly subscription: number;
  /** What the subscriber gave with its subscription. */
  readonly context?: unknown;
  readonly machine: string;
  readonly source: string;
  readonly detail: Readonly<Record<string, unknown>>;
  /** Events that this subscription lost so far, because the client did not read fast enough. */
  readonly dropped: number;
}

export function named<T extends Answer>(answer: T): Named<T> {
  return { ...answer, statusName: ntStatusName(answer.status) };
}

/** A service that did what it was asked. */
export function success<T extends object>(outputs: T): Named<T & Answer> {
  return named({ ...outputs, status: NtStatus.SUCCESS });
}

/** A request that got no answer but an error. */
export class RemoteError extends Error {
  override readonly name = 'RemoteError';

  constructor(
    readonly code: ErrorCode,
    message: string,
  ) {
    super(message);
  }
}
