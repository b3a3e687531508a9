/** Every bound of vfio-user over WebSocket, in one place. Both ends have one. */
import { largestMessage, defaultLimits as messageLimits } from '../limits.ts';

export interface LinkLimits {
  /** Bytes of one message, which is one binary frame. */
  readonly maxMessage: number;
  /**
   * Bytes and frames that one side may have sent beyond what the other has acknowledged. The server tells them in its
   * welcome; each side keeps so much for a retransmission, and takes so much ahead of its local stream. At least `maxMessage`.
   */
  readonly windowBytes: number;
  readonly windowFrames: number;
  /** What a client takes of a window that a server names. */
  readonly maxWindowBytes: number;
  readonly maxWindowFrames: number;
  /** Frames, bytes and milliseconds after which what was received is acknowledged, whichever comes first. */
  readonly ackFrames: number;
  readonly ackBytes: number;
  readonly ackMilliseconds: number;
  /** Between pings. */
  readonly keepAliveMilliseconds: number;
  /** Intervals between pings without one byte from the peer, after which the connection counts as lost. */
  readonly silentIntervals: number;
  /**
   * Milliseconds that a session outlives its connection, where the client does not say. QEMU gives an access up after 5
   * seconds (`x-msg-timeout`).
   */
  readonly graceMilliseconds: number;
  /** The longest grace that a server agrees to; DMA that waits for its answer must outlast it (`dmaTimeout`). */
  readonly maxGraceMilliseconds: number;
  /** Sessions that one server keeps, with a connection or without. */
  readonly maxSessions: number;
  /** How long the server waits for the stream to a function. */
  readonly openMilliseconds: number;
  /** How long the server lets a client wait for the end of a session whose client is away; longer ones it is told of at once. */
  readonly successorMilliseconds: number;
  /** How long the client waits for a connection and its welcome. */
  readonly dialMilliseconds: number;
  /** The same after a loss; three times as long as the first dial took, where that is more. */
  readonly redialMilliseconds: number;
  /** The first pause between two redials; it doubles up to the last. */
  readonly redialPauseMilliseconds: number;
  readonly maxRedialPauseMilliseconds: number;
  /** How long an end of the local stream waits for the acknowledgement of what came before it. */
  readonly lingerMilliseconds: number;
  /** How long the peer may take over its part of a closing handshake. */
  readonly closeMilliseconds: number;
  /** Bytes of acknowledgements and pongs that wait, beyond a window, for a peer that does not read. */
  readonly maxControlBacklog: number;
}

export const defaultLinkLimits: LinkLimits = {
  maxMessage: largestMessage(messageLimits),
  windowBytes: 4 * 1024 * 1024,
  windowFrames: 4096,
  maxWindowBytes: 64 * 1024 * 1024,
  maxWindowFrames: 65536,
  ackFrames: 256,
  ackBytes: 512 * 1024,
  ackMilliseconds: 10,
  keepAliveMilliseconds: 1000,
  silentIntervals: 3,
  graceMilliseconds: 4000,
  maxGraceMilliseconds: 25_000,
  maxSessions: 128,
  openMilliseconds: 10_000,
  successorMilliseconds: 5000,
  dialMilliseconds: 15_000,
  redialMilliseconds: 1500,
  redialPauseMilliseconds: 50,
  maxRedialPauseMilliseconds: 500,
  lingerMilliseconds: 2000,
  closeMilliseconds: 2000,
  maxControlBacklog: 256 * 1024,
};

/** Characters of a control message (a text frame). */
export const MAX_CONTROL_CHARACTERS = 1024;
/** Characters of a reason that is told to the peer. A close frame has room for 123 bytes (RFC 6455, section 5.5). */
export const MAX_REASON_CHARACTERS = 120;
/** Bytes of the body of a refusal that is repeated in an error. */
export const MAX_REFUSAL_BYTES = 1024;
/** Characters of a machine's or function's name in a URL, decoded. */
export const MAX_NAME_CHARACTERS = 128;
