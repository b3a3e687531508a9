/** Who may connect: where the server listens, the token, and pages of other origins. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { SUBPROTOCOL, TOKEN_SUBPROTOCOL_PREFIX } from './protocol.ts';

export const DEFAULT_HOST = '127.0.0.1';
const TOKEN_BYTES = 32;
const PORT_MAX = 65535;

/** A place to listen at, or a rule of access, that cannot be; the message says what to write instead. */
export class AccessError extends Error {
  override readonly name = 'AccessError';
}

export interface ListenAddress {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

/** Parses `[HOST:]PORT`; an IPv6 address stands in brackets. */
export function parseListen(text: string): ListenAddress {
  const [, bracketed, plain, digits = ''] = /^(?:\[([^\]]+)\]:|([^:]+):)?([0-9]{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === '' || port > PORT_MAX || (bracketed !== undefined && isIP(bracketed) !== 6)) {
    throw new AccessError(`'${text}' is not [HOST:]PORT, e.g. 8123, 127.0.0.1:8123 or [::1]:8123`);
  }
  return { host: bracketed ?? plain ?? DEFAULT_HOST, port };
}

/** For host names as in a URL's: an IPv6 address may stand in brackets. */
export function isLoopback(host: string): boolean {
  const bare = unbracketed(host);
  return bare === 'localhost' || bare === '::1' || (isIP(bare) === 4 && bare.startsWith('127.'));
}

/** `ws://HOST:PORT`. */
export function webSocketUrl(host: string, port: number): string {
  return `ws://${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

/** Letters, digits, - and _, so that it fits a header, a subprotocol's name and a file alike. */
export function newToken(): string {
  return randomBytes(TOKEN_BYTES).toString('base64url');
}

export interface AccessRules {
  /** Undefined: none is needed. */
  readonly token: string | undefined;
  /** Origins whose pages may connect, besides the server's own. */
  readonly origins: readonly string[];
}

export interface Refusal {
  readonly status: 400 | 401 | 403;
  readonly reason: string;
}

/** Why this handshake is refused; undefined: it is not. */
export function refusal(request: IncomingMessage, rules: AccessRules): Refusal | undefined {
  const offered = subprotocols(request);
  if (!offered.includes(SUBPROTOCOL)) return { status: 400, reason: `offer the subprotocol ${SUBPROTOCOL}` };
  const misplaced = placeRefusal(request, rules);
  if (misplaced) return misplaced;
  if (rules.token !== undefined && !givenTokens(request, offered).some(given => isSame(given, rules.token!))) {
    return { status: 401, reason: 'a token is needed' };
  }
  return undefined;
}

/** Why a request of any kind is refused whatever its token: the name it came by, or the page that made it. */
export function placeRefusal(request: IncomingMessage, rules: AccessRules): Refusal | undefined {
  const host = hostOf(`http://${request.headers.host ?? ''}`);
  const name = host && unbracketed(host.hostname);
  // A page can make its own name point at this machine; then its requests carry that name, never an address.
  if (rules.token === undefined && (name === undefined || (name !== 'localhost' && isIP(name) === 0))) {
    return { status: 403, reason: 'connect by address, or by the name localhost' };
  }
  const { origin } = request.headers;
  const own = host !== undefined && origin !== undefined && hostOf(origin)?.host === host.host;
  if (origin !== undefined && !own && !rules.origins.includes(origin)) {
    return { status: 403, reason: 'pages of this origin may not connect' };
  }
  return undefined;
}

function subprotocols(request: IncomingMessage): string[] {
  return (request.headers['sec-websocket-protocol'] ?? '').split(',').map(one => one.trim());
}

function givenTokens(request: IncomingMessage, offered: readonly string[]): string[] {
  const [, bearer] = /^Bearer\s+(\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
  const inProtocol = offered
    .filter(one => one.startsWith(TOKEN_SUBPROTOCOL_PREFIX))
    .map(one => one.slice(TOKEN_SUBPROTOCOL_PREFIX.length));
  return bearer === undefined ? inProtocol : [bearer, ...inProtocol];
}

/** Takes as long for a token that is nearly right. */
function isSame(given: string, token: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}

function hostOf(url: string): URL | undefined {
  return URL.canParse(url) ? new URL(url) : undefined;
}

function unbracketed(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
