/** The links of one function to the server, one after the other: each QEMU that connects gets one. */
import { closeDescriptor } from '../posix/socket.ts';
import type { Detail } from '../vfio-user/connection.ts';
import { connectVfioUser, type VfioUserLink } from '../vfio-user/websocket/link.ts';

export type LinkNote = (kind: string, detail: Detail) => void;

export interface FunctionLinksOptions {
  /** Of the function. */
  readonly url: string;
  readonly token?: string | undefined;
  readonly ca?: string | Buffer | undefined;
  readonly graceMilliseconds?: number | undefined;
  readonly note: LinkNote;
}

export class FunctionLinks {
  /** Connections that were lost and made again. */
  reconnections = 0;
  private current: VfioUserLink | undefined;
  /** Waits for the end of the link before, which has the function until then. */
  private next: number | undefined;
  private running: Promise<void> | undefined;
  private closed = false;
  /** Calls off the connection that is being made. */
  private dialling = new AbortController();

  constructor(private readonly options: FunctionLinksOptions) {}

  /** There is a connection to the server now. */
  get connected(): boolean {
    return this.current?.state === 'open';
  }

  /** Links a stream with the messages profile on its other end to the server; owns it from here on. */
  link(stream: number): void {
    // There is one QEMU at a time: who waited has gone.
    this.callOff();
    this.next = stream;
    if (this.closed) this.drop();
    else this.running ??= this.runAll();
  }

  /** The last QEMU has gone: a connection that is being made for it is called off. One that is there ends with its stream. */
  callOff(): void {
    this.drop();
    this.dialling.abort();
  }

  /** A connection that is being made is called off. May be called again. */
  async close(): Promise<void> {
    this.closed = true;
    this.callOff();
    await this.current?.close();
    await this.running;
  }

  private drop(): void {
    if (this.next !== undefined) closeDescriptor(this.next);
    this.next = undefined;
  }

  private async runAll(): Promise<void> {
    for (let stream = this.next; stream !== undefined; stream = this.next) {
      this.next = undefined;
      await this.run(stream);
    }
    this.running = undefined;
  }

  private async run(stream: number): Promise<void> {
    const { url, token, ca, graceMilliseconds, note } = this.options;
    this.dialling = new AbortController();
    const { signal } = this.dialling;
    let link: VfioUserLink;
    try {
      link = await connectVfioUser({
        url,
        token,
        ca,
        graceMilliseconds,
        descriptor: stream,
        signal,
        note: (kind, detail) => {
          if (kind === 'link.resumed') this.reconnections++;
          note(kind, detail);
        },
      });
    } catch (error) {
      if (signal.aborted) return;
      note('link.failed', { reason: error instanceof Error ? error.message : String(error) });
      return;
    }
    this.current = link;
    note('link.opened', { url, grace: link.graceMilliseconds });
    if (this.closed) await link.close();
    await link.closed;
    this.current = undefined;
  }
}
