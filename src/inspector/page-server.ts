/** Serves the inspector's page beside the remote API. It holds no secret, so that it may be loaded without the token that the API wants. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { TLSSocket } from 'node:tls';
import { placeRefusal } from './access.ts';
import type { PlainHandler } from './listener.ts';
import type { PageFile } from './page-files.ts';

const YEAR_SECONDS = 31_536_000;

/** Nothing of a host name but what can be in a header's value. */
const PLAIN_HOST = /^[\w.:[\]-]+$/;

export function pageHandler(files: ReadonlyMap<string, PageFile>): PlainHandler {
  return (request, response, rules) => {
    // Whatever a body is for, it is not for a page.
    request.resume();
    const headers = strictHeaders(request);
    const refused = placeRefusal(request, rules);
    if (refused) {
      say(request, response, refused.status, headers, refused.reason);
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      say(request, response, 405, { ...headers, Allow: 'GET, HEAD' }, 'only GET and HEAD');
    } else {
      const file = files.get(pathOf(request));
      if (file === undefined) say(request, response, 404, headers, 'there is no such page');
      else send(request, response, 200, { ...headers, ...fileHeaders(file) }, file.bytes);
    }
  };
}

/** The path as it was sent, without its query: what it might mean otherwise is nobody's business. */
function pathOf({ url = '' }: IncomingMessage): string {
  const [path = ''] = url.split(/[?#]/, 1);
  return path;
}

function fileHeaders({ type, hashed }: PageFile): OutgoingHttpHeaders {
  return {
    'Content-Type': type,
    'Cache-Control': hashed ? `public, max-age=${YEAR_SECONDS}, immutable` : 'no-store',
  };
}

function strictHeaders({ headers: { host = '' }, socket }: IncomingMessage): OutgoingHttpHeaders {
  const scheme = socket instanceof TLSSocket ? 'wss' : 'ws';
  // Not every browser takes WebSockets of the same place for 'self'.
  const connect = PLAIN_HOST.test(host) ? `'self' ${scheme}://${host}` : "'self'";
  const policy = [
    "default-src 'self'",
    `connect-src ${connect}`,
    "object-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ];
  return {
    'Content-Security-Policy': policy.join('; '),
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
    'Cross-Origin-Resource-Policy': 'same-origin',
  };
}

function say(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  headers: OutgoingHttpHeaders,
  words: string,
): void {
  const plain = { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store' };
  send(request, response, status, { ...headers, ...plain }, Buffer.from(`${words}\n`));
}

function send(
  { method }: IncomingMessage,
  response: ServerResponse,
  status: number,
  headers: OutgoingHttpHeaders,
  bytes: Buffer,
): void {
  response.writeHead(status, { ...headers, 'Content-Length': bytes.length });
  response.end(method === 'HEAD' ? undefined : bytes);
}
