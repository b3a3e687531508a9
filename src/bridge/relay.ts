/**
 * One QEMU, from its connection to its end: a unix socket with descriptors on one side, a stream with the messages profile of
 * vfio-user towards the server on the other. Memory and eventfds stay here; everything else is passed on.
 */
import type { EventLoop } from '../posix/event-loop.ts';
import { closeDescriptor } from '../posix/socket.ts';
import type { Trace } from '../trace/trace.ts';
import { Connection, type Detail } from '../vfio-user/connection.ts';
import type { Header } from '../vfio-user/header.ts';
import { type Limits, largestMessage, streamLimits } from '../vfio-user/limits.ts';
import { commandName } from '../vfio-user/spec.ts';
import { type Capabilities, clientDataTransfer } from '../vfio-user/version.ts';
import { ClientDma } from './client-dma.ts';
import type { RelayCounters } from './counters.ts';
import { DmaDesk } from './dma-desk.ts';
import { type Change, EventFdBindings } from './eventfd-bindings.ts';
import type { GuestRegions } from './guest-regions.ts';
import { answerError, isPosted } from './pass-on.ts';
import { QemuMemory } from './qemu-memory.ts';
import { QemuSide } from './qemu-side.ts';
import { Requests } from './requests.ts';
import { ServerSide } from './server-side.ts';
import { sendAction } from './set-irqs.ts';

export interface RelayOptions {
  /** Who notes events: the function. */
  readonly name: string;
  readonly loop: EventLoop;
  readonly trace: Trace;
  readonly limits: Limits;
  /** Empty; and again when the relay has ended. */
  readonly memory: GuestRegions;
  readonly counters: RelayCounters;
  /** Both connections are closed and everything of QEMU's is let go. */
  readonly ended: () => void;
}

/** What QEMU said in its VERSION. */
export interface BridgedProposal {
  readonly capabilities: Capabilities;
  /** Bytes of its version data, NUL included. */
  readonly dataBytes: number;
}

export class Relay {
  readonly qemu: Connection;
  readonly server: Connection;
  readonly limits: Limits;
  readonly memory: GuestRegions;
  readonly counters: RelayCounters;
  readonly requests = new Requests();
  readonly eventfds: EventFdBindings;
  readonly desk: DmaDesk;
  /** What waits for its turn. */
  readonly client: ClientDma;
  /** Memory that only QEMU reaches. */
  readonly clientMemory: QemuMemory;
  proposal: BridgedProposal | undefined;
  /** Eventfds that come back where the server refuses their successors. */
  unsettled: Change | undefined;
  private readonly fromQemu: QemuSide;
  private readonly fromServer: ServerSide;
  private isEnded = false;

  /** Owns both descriptors from here on. Throws a SystemError where the loop can't watch them. */
  constructor(
    qemu: number,
    server: number,
    private readonly options: RelayOptions,
  ) {
    const { name, loop, trace, limits, memory, counters } = options;
    this.limits = limits;
    this.memory = memory;
    this.counters = counters;
    this.fromQemu = new QemuSide(this);
    this.fromServer = new ServerSide(this);
    try {
      this.qemu = new Connection(qemu, loop, limits, this.fromQemu);
    } catch (error) {
      closeDescriptor(server);
      throw error;
    }
    try {
      // A command of QEMU may stand before the answers to all the DMA that a server has under way.
      const maxQueuedBytes = limits.maxQueuedBytes + largestMessage(limits);
      this.server = new Connection(server, loop, { ...streamLimits(limits), maxQueuedBytes }, this.fromServer);
    } catch (error) {
      this.isEnded = true;
      this.qemu.close('the other side cannot be watched');
      throw error;
    }
    this.eventfds = new EventFdBindings({
      loop,
      acted: (action, index, vector) => sendAction(this, action, index, vector),
    });
    const note = (kind: string, detail: Detail) => this.note(kind, detail);
    this.clientMemory = new QemuMemory({ loop, qemu: this.qemu, limits, note });
    this.client = new ClientDma({
      loop,
      server: this.server,
      memory: this.clientMemory,
      maxWaitMilliseconds: limits.streamDmaTimeout,
      here: (request, target) => this.desk.serveLater(request, target),
      interrupt: (index, vector) => this.fromServer.raise(index, vector),
      hung: () => this.end('QEMU does not answer DMA'),
      done: ({ command, count }, errno) => {
        counters.dmaThroughClient++;
        if (errno !== 0) this.note('dma.refused', { command: commandName(command), count, errno, by: 'QEMU' });
      },
    });
    this.desk = new DmaDesk({ name, trace, server: this.server, memory, client: this.client, limits, counters });
    this.qemu.onRoom = () => {
      this.clientMemory.hasRoom();
      this.wakeServer();
    };
    this.server.onRoom = () => {
      this.client.hasRoom();
      this.eventfds.retry();
      this.wakeQemu();
    };
    this.note('client.connected', {});
  }

  get ended(): boolean {
    return this.isEnded;
  }

  /** The handshake is done. */
  agreed(): void {
    const capabilities = this.proposal?.capabilities ?? {};
    this.clientMemory.maxTransfer = Math.min(
      clientDataTransfer({ minor: 0, capabilities }),
      this.limits.maxDataTransfer,
    );
  }

  note(kind: string, detail: Detail): void {
    this.options.trace.note(kind, this.options.name, detail);
  }

  /** Answers a command of QEMU here; the server does not hear of it. Closes the descriptors. */
  refuse(header: Header, errno: number, descriptors: readonly number[]): void {
    for (const descriptor of descriptors) closeDescriptor(descriptor);
    this.counters.refused++;
    this.note('message.refused', { command: commandName(header.command), errno, posted: isPosted(header) });
    answerError(this.qemu, header, errno);
  }

  /** What QEMU sent and what had to wait may go on. */
  wakeQemu(): void {
    if (!this.fromQemu.held || this.qemu.dispatching) return;
    this.fromQemu.held = false;
    wake(this.qemu);
  }

  /** Ends both connections. May be called again, and from within a message. */
  end(reason: string, detail: Detail = {}): void {
    if (this.isEnded) return;
    this.isEnded = true;
    const { counters, qemu, server } = this;
    counters.bytesFromQemu += qemu.bytesReceived;
    counters.bytesFromServer += server.bytesReceived;
    this.note('client.closed', { reason, ...detail });
    this.client.close();
    qemu.close(reason);
    server.close(reason);
    this.clientMemory.abandon();
    this.memory.unmapAll();
    if (this.unsettled !== undefined) this.eventfds.confirm(this.unsettled);
    this.eventfds.close();
    this.options.ended();
  }

  private wakeServer(): void {
    if (!this.fromServer.held || this.server.dispatching) return;
    this.fromServer.held = false;
    wake(this.server);
  }
}

/** A connection looks at what it holds back when it goes on. */
function wake(connection: Connection): void {
  connection.pause();
  connection.resume();
}
