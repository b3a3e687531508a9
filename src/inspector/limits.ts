/** Every limit of the remote API. */

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
  /** How long a client may take over its farewell when the server stops. */
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
  closeMilliseconds: 2_000,
};

/** Within which every device thread must answer for a server to be well. */
export const HEALTH_MILLISECONDS = 2_000;
/** How long a client may take over its TLS handshake. */
export const TLS_HANDSHAKE_MILLISECONDS = 10_000;

/** Machines that clients may have leased at once, unless the server says otherwise, and at most. */
export const LEASED_MACHINES = 16;
export const LEASED_MACHINES_MAX = 64;
/** Characters of a sanitizer's policy. */
export const MAX_POLICY_CHARACTERS = 4096;

/** Patterns of one subscription. */
export const MAX_KINDS = 32;
export const MAX_KIND_CHARACTERS = 64;
export const MAX_MACHINE_CHARACTERS = 64;
/** Characters of what a client sent that an error message repeats. */
export const MAX_QUOTED_CHARACTERS = 64;
