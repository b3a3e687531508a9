/** A client as docs/websocket.md describes it, which does nothing by itself: for what a well-behaved one would never send. */
import { WebSocket } from 'ws';
import { VFIO_USER_SUBPROTOCOL, type Welcome } from '../../../src/vfio-user/websocket/protocol.ts';

export interface RawClient {
  readonly socket: WebSocket;
  readonly welcome: Welcome;
  readonly frames: Buffer[];
  readonly controls: Record<string, unknown>[];
  readonly closed: Promise<{ code: number; reason: string }>;
  /** Resolves when it is true; looked at after whatever comes. */
  until(condition: () => boolean): Promise<void>;
  send(value: object): void;
}

/** Rejects with `STATUS BODY` where the handshake is refused. */
export function rawClient(
  url: string,
  { query = '', protocols = [VFIO_USER_SUBPROTOCOL], autoPong = true } = {},
): Promise<RawClient> {
  const socket = new WebSocket(`${url}${query}`, protocols, { perMessageDeflate: false, autoPong });
  const frames: Buffer[] = [];
  const controls: Record<string, unknown>[] = [];
  let watchers: (() => void)[] = [];
  const wake = () => {
    const awake = watchers;
    watchers = [];
    for (const watcher of awake) watcher();
  };
  const closed = new Promise<{ code: number; reason: string }>(resolve => {
    socket.once('close', (code, reason) => {
      resolve({ code, reason: reason.toString() });
      wake();
    });
  });
  return new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.once('unexpected-response', (_request, response) => {
      let body = '';
      response.on('data', chunk => {
        body += chunk;
      });
      response.once('end', () => {
        reject(new Error(`${response.statusCode} ${body.trim()}`));
        socket.terminate();
      });
    });
    socket.on('message', (data, isBinary) => {
      if (isBinary) frames.push(data as Buffer);
      else {
        const control = JSON.parse(data.toString()) as Record<string, unknown>;
        if (control.type === 'welcome') {
          resolve({
            socket,
            welcome: control as unknown as Welcome,
            frames,
            controls,
            closed,
            until: async condition => {
              while (!condition()) await new Promise<void>(again => watchers.push(again));
            },
            send: value => socket.send(JSON.stringify(value)),
          });
        } else controls.push(control);
      }
      wake();
    });
  });
}
