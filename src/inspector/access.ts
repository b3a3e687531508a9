/** Who may connect: where the server listens, the token, and pages of other origins. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
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

/** A unix socket, which only its owner can reach. */
export interface ListenPath {
  /** Absolute. */
  readonly path: string;
}

export type ListenPlace = ListenAddress | ListenPath;

export function isPath(place: ListenPlace): place is ListenPath {
  return 'path' in place;
}

/** The socket's name where `unix` stands for a place. */
export const SERVER_SOCKET = 'server.sock';
const UNIX_PREFIX = 'unix:';

/** Parses `[HOST:]PORT`, `unix` (SERVER_SOCKET in the directory) or `unix:PATH`. Throws an `AccessError`. */
export function parsePlace(text: string, directory?: string): ListenPlace {
  if (text === 'unix') {
    if (directory === undefined) throw new AccessError("'unix' needs a directory: write unix:PATH");
    return { path: resolve(directory, SERVER_SOCKET) };
  }
  if (!text.startsWith(UNIX_PREFIX)) return parseListen(text);
  const path = text.slice(UNIX_PREFIX.length);
  if (path === '') throw new AccessError("'unix:' needs a path, e.g. unix:/run/viommu/server.sock");
  return { path: resolve(path) };
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

/** `ws://HOST:PORT`, or `wss://HOST:PORT`. */
export function webSocketUrl(host: string, port: number, scheme: 'ws' | 'wss' = 'ws'): string {
  return `${scheme}://${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

/** `ws+unix:PATH:/`, nothing in the path escaped. */
export function unixUrl(path: string): string {
  return `ws+unix:${path}:/`;
}

/** The socket's path of such a URL; undefined: it is of another kind. */
export function unixPathOf(url: string): string | undefined {
  return /^ws\+unix:(?:\/\/)?(\/.*?)(?::(?:\/[^:]*)?)?$/.exec(url)?.[1];
}

/** Letters, digits, - and _, so that it fits a header, a subprotocol's name and a file alike. */
export function newToken(): string {
  return randomBytes(TOKEN_BYTES).toString('base64url');
}

/** What fits a header, a subprotocol's name and a file alike. */
const TOKEN_PATTERN = /^[A-Za-z0-9_.~+-]{1,256}$/;

/** A token that was made elsewhere. Throws an `AccessError`. */
export function checkToken(token: string): string {
  if (TOKEN_PATTERN.test(token)) return token;
  throw new AccessError('a token is made of 1 to 256 letters, digits and - _ . ~ +');
}

export interface AccessRules {
  /** Undefined: none is needed. */
  readonly token: string | undefined;
  /** Origins whose pages may connect, besides the server's own. */
  readonly origins: readonly string[];
  /** The place is a file: whatever name a client says, it had the right to open it. */
  readonly isFile?: boolean;
}

export interface Refusal {
  readonly status: 400 | 401 | 403;
  readonly reason: string;
}

/** Why this handshake is refused; undefined: it is not. */
export function refusal(request: IncomingMessage, rules: AccessRules): Refusal | undefined {
  if (!subprotocols(request).includes(SUBPROTOCOL)) {
    return { status: 400, reason: `offer the subprotocol ${SUBPROTOCOL}` };
  }
  return clientRefusal(request, rules);
}

/** The same whatever subprotocol is spoken. */
export function clientRefusal(request: IncomingMessage, rules: AccessRules): Refusal | undefined {
  const misplaced = placeRefusal(request, rules);
  if (misplaced) return misplaced;
  const { token } = rules;
  if (token !== undefined && !givenTokens(request).some(given => isSame(given, token))) {
    return { status: 401, reason: 'a token is needed' };
  }
  return undefined;
}

/** Why a request of any kind is refused whatever its token: the name it came by, or the page that made it. */
export function placeRefusal(request: IncomingMessage, rules: AccessRules): Refusal | undefined {
  const host = hostOf(`http://${request.headers.host ?? ''}`);
  const name = host && unbracketed(host.hostname);
  // A page can make its own name point at this machine; then its requests carry that name, never an address.
  const isKnown = rules.token !== undefined || rules.isFile === true;
  if (!isKnown && (name === undefined || (name !== 'localhost' && isIP(name) === 0))) {
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

function givenTokens(request: IncomingMessage): string[] {
  const [, bearer] = /^Bearer\s+(\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
  const inProtocol = subprotocols(request)
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
