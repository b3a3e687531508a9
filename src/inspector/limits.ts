/** Every limit of the remote API. */
import { defaultLinkLimits, type LinkLimits } from '../vfio-user/websocket/limits.ts';

/** Of one request: room for a list of `MAX_PAGE_FRAMES` integers, 5 bytes each. */
export const MAX_REQUEST_BYTES = 6 * 1024 * 1024;
/** Of one answer or event, as far as a client takes it. */
export const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

/** What one message may be made of. */
export interface MessageLimits {
  /** Lists and objects within each other. */
  readonly nesting: number;
  /** Values of any kind. */
  readonly values: number;
  /** Lists and objects; each costs far more memory than its byte on the wire. */
  readonly containers: number;
}

/** The longest list of page frames, and what else may be with it. */
export const requestLimits: MessageLimits = { nesting: 16, values: (1 << 20) + (1 << 16), containers: 4096 };
/** Snapshots list what there is, so answers may be long. */
export const answerLimits: MessageLimits = { nesting: 16, values: 1 << 24, containers: 1 << 21 };

/** How either side of a connection finds out that the other is gone without a word. */
export type Pulse = Pick<LinkLimits, 'keepAliveMilliseconds' | 'silentIntervals'>;

/** As for links of vfio-user: where one of them is noticed to be lost, the other is too. */
export const leasePulse: Pulse = defaultLinkLimits;
/** How long a lease may outlive its connection, in milliseconds: no longer than the links to the machine's functions. */
export const MAX_LEASE_GRACE_MILLISECONDS = defaultLinkLimits.maxGraceMilliseconds;
/** What a client asks for is not taken for a mistake up to here. Milliseconds. */
export const MAX_GRACE_ASKED = 3_600_000;

/** How a client comes back to its lease. Milliseconds. */
export interface RedialLimits {
  /** For one attempt; three times as long as the first connection took, where that is more. */
  readonly redialMilliseconds: number;
  /** The first pause between two attempts; it doubles up to the last. */
  readonly redialPauseMilliseconds: number;
  readonly maxRedialPauseMilliseconds: number;
}

export const defaultRedialLimits: RedialLimits = defaultLinkLimits;

export interface RemoteLimits {
  /** Clients at once; more are refused with 503. */
  readonly connections: number;
  /** Connections at once that speak vfio-user; who serves them has limits of its own. */
  readonly vfioUserConnections: number;
  /** Requests of one client under way; beyond that its socket is not read from. */
  readonly requestsInFlight: number;
  /** Bytes that wait for one client; beyond that no further request of it is begun. */
  readonly answerBytesWaiting: number;
  /** Bytes that wait for one client; beyond that its events are dropped and counted. */
  readonly eventBytesWaiting: number;
  readonly subscriptions: number;
  /** Between pings; a client that has not answered one when the next is due is dropped. */
  readonly keepAliveMilliseconds: number;
  /** Of connections that hold a lease with a grace time: their loss must be noticed within it. */
  readonly leasePulse: Pulse;
  /** How long a client may take over its farewell when the server stops, or when another connection takes its lease. */
  readonly closeMilliseconds: number;
}

export const defaultLimits: RemoteLimits = {
  connections: 64,
  vfioUserConnections: 512,
  requestsInFlight: 256,
  answerBytesWaiting: 16 * 1024 * 1024,
  eventBytesWaiting: 1024 * 1024,
  subscriptions: 64,
  keepAliveMilliseconds: 30_000,
  leasePulse,
  closeMilliseconds: 2_000,
};

/** Within which every device thread must answer for a server to be well. */
export const HEALTH_MILLISECONDS = 2_000;
/** How long a client may take over its TLS handshake. */
export const TLS_HANDSHAKE_MILLISECONDS = 10_000;

/** Machines that clients may have leased at once, unless the server says otherwise, and at most. */
export const LEASED_MACHINES = 16;
export const LEASED_MACHINES_MAX = 64;
/** Released machines of which the answer is kept for its client's grace time. */
export const RELEASES_REMEMBERED = 64;
/** Characters of a sanitizer's policy. */
export const MAX_POLICY_CHARACTERS = 4096;

/** Patterns of one subscription. */
export const MAX_KINDS = 32;
export const MAX_KIND_CHARACTERS = 64;
export const MAX_MACHINE_CHARACTERS = 64;
export const MAX_LEASE_ID_CHARACTERS = 64;
/** Characters of what a client sent that an error message repeats. */
export const MAX_QUOTED_CHARACTERS = 64;
