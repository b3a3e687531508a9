/** What vfio-user over WebSocket says on the wire, beside the messages themselves: docs/websocket.md. */
import { MAX_CONTROL_CHARACTERS, MAX_NAME_CHARACTERS, MAX_REASON_CHARACTERS } from './limits.ts';

export const VFIO_USER_SUBPROTOCOL = 'vfio-user.v1';

/** RFC 6455, section 7.4.1. */
export const CloseCode = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  unsupportedData: 1003,
  invalidPayload: 1007,
  policyViolation: 1008,
  messageTooBig: 1009,
} as const;

const FINAL_CODES: ReadonlySet<number> = new Set(Object.values(CloseCode));

/** The peer closed on purpose: another connection would end like this one. */
export function isFinal(code: number): boolean {
  return FINAL_CODES.has(code);
}

/** The first message of the server on every connection. */
export interface Welcome {
  readonly type: 'welcome';
  /** 32 hexadecimal digits; a secret that resumes the session. */
  readonly session: string;
  /** Milliseconds that the session outlives its connection. */
  readonly grace: number;
  /** Binary frames of the client that the server has taken in this session. */
  readonly received: number;
  /** What either side may have under way. */
  readonly window: { readonly bytes: number; readonly frames: number };
}

/** So many binary frames of yours have been taken since the session began. */
export interface Ack {
  readonly type: 'ack';
  readonly received: number;
}

/** The session is over. */
export interface Bye {
  readonly type: 'bye';
  readonly reason: string;
}

export type Control = Welcome | Ack | Bye;

/** Undefined: no control message of this protocol. */
export function parseControl(text: string): Control | undefined {
  if (text.length > MAX_CONTROL_CHARACTERS) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { type, received, reason } = value as Record<string, unknown>;
  if (type === 'ack' && isCount(received)) return { type, received };
  if (type === 'bye') return { type, reason: typeof reason === 'string' ? clip(reason) : '' };
  return type === 'welcome' ? parseWelcome(value as Record<string, unknown>) : undefined;
}

function parseWelcome({ session, grace, received, window }: Record<string, unknown>): Welcome | undefined {
  if (typeof session !== 'string' || !isSessionId(session) || !isCount(grace) || !isCount(received)) return undefined;
  if (typeof window !== 'object' || window === null) return undefined;
  const { bytes, frames } = window as Record<string, unknown>;
  if (!isCount(bytes) || !isCount(frames)) return undefined;
  return { type: 'welcome', session, grace, received, window: { bytes, frames } };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

export function isSessionId(text: string): boolean {
  return /^[0-9a-f]{32}$/.test(text);
}

/** What fits a close frame, whatever its characters take in UTF-8. */
export function clip(reason: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they would garble a terminal
  const plain = reason.replace(/[\u0000-\u001f\u007f]+/g, ' ');
  let clipped = plain.slice(0, MAX_REASON_CHARACTERS);
  while (Buffer.byteLength(clipped) > MAX_REASON_CHARACTERS) clipped = clipped.slice(0, -1);
  return clipped;
}

export interface LinkTarget {
  readonly machine: string;
  /** The function's name, e.g. `iommu` or `edu0`. */
  readonly name: string;
}

const PREFIX = '/vfio-user/';

/** True for every path that is this protocol's, well-formed or not. */
export function isVfioUserPath(path: string): boolean {
  return path.startsWith(PREFIX);
}

/** What a path `/vfio-user/MACHINE/FUNCTION` names; undefined: it is none. */
export function parseTarget(path: string): LinkTarget | undefined {
  const [machine, name, ...rest] = isVfioUserPath(path) ? path.slice(PREFIX.length).split('/').map(decode) : [];
  if (!machine || !name || rest.length > 0) return undefined;
  return { machine, name };
}

function decode(part: string): string | undefined {
  try {
    const text = decodeURIComponent(part);
    return text.length <= MAX_NAME_CHARACTERS ? text : undefined;
  } catch (error) {
    if (error instanceof URIError) return undefined;
    throw error;
  }
}

/** Where a function of a server is reached: `server` as `ws://HOST:PORT`, `wss://HOST/PREFIX` or `ws+unix:/PATH.sock:/`. */
export function vfioUserUrl(server: string, { machine, name }: LinkTarget): string {
  const url = new URL(server);
  if (url.username !== '' || url.password !== '') {
    throw new Error('the address of a server has no user and no password: give a token');
  }
  for (const part of [machine, name]) {
    // They would be taken for steps in the path.
    if (part === '.' || part === '..') throw new Error(`'${part}' cannot name a machine or a function`);
  }
  let base = url.pathname.replace(/\/+$/, '');
  if (url.protocol === 'ws+unix:' && !base.includes(':')) base += ':';
  url.pathname = `${base}${PREFIX}${encodeURIComponent(machine)}/${encodeURIComponent(name)}`;
  url.search = '';
  url.hash = '';
  return url.href;
}
