/** The second stream of a client in twin-socket mode (vfio-user, section "VFIO_USER_VERSION"): our commands, and the replies to them. */
import type { EventLoop } from '../posix/event-loop.ts';
import { closeDescriptor, socketPair } from '../posix/socket.ts';
import { Connection, type Detail, type MessageHandler } from './connection.ts';
import type { Header } from './header.ts';
import type { Limits } from './limits.ts';
import { commandName, HeaderFlag } from './spec.ts';

export interface TwinSocketOptions {
  readonly loop: EventLoop;
  readonly limits: Limits;
  readonly reply: (header: Header, payload: number, length: number) => void;
  /** Not told where `close` is called. */
  readonly ended: (reason: string, detail: Detail) => void;
}

export class TwinSocket implements MessageHandler {
  readonly connection: Connection;
  private theirs: number;
  private isClosed = false;

  /** Throws a SystemError (EMFILE, ENOSPC). */
  constructor(private readonly options: TwinSocketOptions) {
    const [ours, theirs] = socketPair();
    this.theirs = theirs;
    try {
      this.connection = new Connection(ours, options.loop, options.limits, this);
    } catch (error) {
      closeDescriptor(theirs);
      throw error;
    }
  }

  /** What the client gets. Stays open until `handedOver`. */
  get clientEnd(): number {
    return this.theirs;
  }

  /** The client has its end by now: ours of it goes. May be called again. */
  handedOver(): void {
    if (this.theirs < 0) return;
    closeDescriptor(this.theirs);
    this.theirs = -1;
  }

  /** May be called again. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.handedOver();
    this.connection.close('the other stream ended');
  }

  replyRoom(): number {
    return 0;
  }

  message(header: Header, payload: number, length: number, descriptors: number[]): void {
    for (const descriptor of descriptors) closeDescriptor(descriptor);
    if (descriptors.length > 0 || header.type !== HeaderFlag.typeReply) {
      this.connection.close(descriptors.length > 0 ? 'descriptors where none belong' : 'a command from the client', {
        command: commandName(header.command),
      });
    } else {
      this.options.reply(header, payload, length);
    }
  }

  closed(reason: string, detail: Detail): void {
    if (!this.isClosed) this.options.ended(`twin socket: ${reason}`, detail);
  }
}
