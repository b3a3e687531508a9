/** A WebSocket handshake that is answered with an HTTP status and a sentence. */
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';

export interface LinkRefusal {
  readonly status: 400 | 404 | 409 | 410 | 503 | 504;
  readonly reason: string;
}

export function refuseUpgrade(socket: Duplex, { status, reason }: LinkRefusal): void {
  const body = `${reason}\n`;
  const headers = ['Connection: close', 'Content-Type: text/plain', `Content-Length: ${Buffer.byteLength(body)}`];
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${headers.join('\r\n')}\r\n\r\n${body}`);
}
