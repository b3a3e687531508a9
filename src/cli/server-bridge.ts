/** What brings a server that is only reached by an address to a QEMU of this process. */
import { Bridge } from '../bridge/bridge.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { LinkWatch } from './link-watch.ts';
import type { ServerUrl } from './server-place.ts';

/** Events that come before anybody listens. */
const MAX_EARLY_EVENTS = 100;

export interface ServerBridge {
  /** For QEMU, by function name. */
  readonly sockets: Readonly<Record<string, string>>;
  /** Why QEMU has lost a device by it; never rejects. */
  readonly ended: Promise<string>;
  onEvent(listener: (event: TraceEvent) => void): void;
  close(): Promise<void>;
}

export async function bridgeTo(
  place: ServerUrl,
  directory: string,
  machine: string,
  functions: readonly string[],
): Promise<ServerBridge> {
  const { url, token, ca, graceMilliseconds } = place;
  const early: TraceEvent[] = [];
  let listener = (event: TraceEvent) => {
    if (early.length < MAX_EARLY_EVENTS) early.push(event);
  };
  const links = new LinkWatch();
  const onEvent = (event: TraceEvent) => {
    links.hear(event);
    listener(event);
  };
  const bridge = await Bridge.start({ directory, url, machine, functions, token, ca, graceMilliseconds, onEvent });
  return {
    sockets: bridge.sockets,
    ended: Promise.race([bridge.ended, links.dead]),
    onEvent(next) {
      listener = next;
      for (const event of early.splice(0)) next(event);
    },
    close: () => bridge.close(),
  };
}
