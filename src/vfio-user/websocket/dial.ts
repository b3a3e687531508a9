/** The client's handshake: a WebSocket whose server has said welcome. */
import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import { type LinkLimits, MAX_REFUSAL_BYTES } from './limits.ts';
import { parseControl, VFIO_USER_SUBPROTOCOL, type Welcome } from './protocol.ts';

/** No link could be made, or not again; the message says why. */
export class LinkError extends Error {
  override readonly name = 'LinkError';

  constructor(
    message: string,
    /** The server's HTTP status, where it refused. */
    readonly status?: number,
  ) {
    super(message);
  }

  /** Another attempt would end like this one. Gateways that miss their server answer with 502 to 504. */
  get final(): boolean {
    return this.status !== undefined && this.status < 500;
  }
}

export interface DialOptions {
  readonly url: string;
  readonly token?: string | undefined;
  /** Certificates in PEM that are trusted in place of the system's, for `wss:`. */
  readonly ca?: string | Buffer | undefined;
  readonly limits: LinkLimits;
}

export interface DialEvents {
  /** At once with the welcome: nothing that follows it is lost where this listens to the socket. */
  welcome(socket: WebSocket, transport: Duplex, welcome: Welcome): void;
  failed(error: LinkError): void;
}

/** Calls one of the events, once, unless the function that it returns is called before. Throws where the address is none. */
export function dial(
  { url, token, ca, limits }: DialOptions,
  query: Readonly<Record<string, string>>,
  milliseconds: number,
  events: DialEvents,
): () => void {
  const address = new URL(url);
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
    throw new LinkError('the token is empty, or has blanks, line ends or other characters that no token has');
  }
  address.search = new URLSearchParams(query).toString();
  const socket = new WebSocket(address.href, VFIO_USER_SUBPROTOCOL, {
    headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
    maxPayload: limits.maxMessage,
    perMessageDeflate: false,
    ...(ca === undefined ? {} : { ca }),
  });
  let transport: Duplex | undefined;
  let settled = false;
  const settle = () => {
    const first = !settled;
    settled = true;
    clearTimeout(timer);
    return first;
  };
  const fail = (message: string, status?: number) => {
    if (!settle()) return;
    socket.terminate();
    events.failed(new LinkError(message, status));
  };
  const timer = setTimeout(() => fail(`${url} does not answer (waited ${milliseconds} ms)`), milliseconds);
  // It stays: `terminate` itself ends in an error while the handshake is under way.
  socket.on('error', error => fail(`cannot connect to ${url}: ${error.message || String(error)}`));
  socket.on('close', (code, reason) => fail(`${url} closed the connection: ${reason.toString() || `code ${code}`}`));
  socket.once('upgrade', response => {
    transport = response.socket;
  });
  socket.once('unexpected-response', (_request, response) => {
    let body = '';
    response.setEncoding('utf8');
    response.on('data', (text: string) => {
      body = (body + text).slice(0, MAX_REFUSAL_BYTES);
    });
    const told = () => fail(`${url} refused: ${response.statusCode} ${body.trim()}`, response.statusCode);
    response.once('end', told);
    response.once('error', told);
  });
  socket.once('message', (data, isBinary) => {
    const message = isBinary ? undefined : parseControl(data.toString());
    if (message?.type === 'bye') fail(`${url} refused: ${message.reason}`);
    else if (message?.type !== 'welcome') fail(`${url} does not begin with a welcome`);
    else if (settle()) events.welcome(socket, transport!, message);
  });
  return () => {
    if (settle()) socket.terminate();
  };
}
