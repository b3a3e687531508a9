/** What QEMU sends: commands for the server, most of them as they are, and answers to DMA that only QEMU could do. */
import { closeDescriptor } from '../posix/socket.ts';
import type { Detail, MessageHandler } from '../vfio-user/connection.ts';
import type { Header } from '../vfio-user/header.ts';
import { Command, commandName, HEADER_BYTES, HeaderFlag } from '../vfio-user/spec.ts';
import { isPosted, NO_ROOM, passOn } from './pass-on.ts';
import type { Relay } from './relay.ts';
import { setIrqs } from './set-irqs.ts';
import { dmaMap, dmaUnmap, version } from './special-commands.ts';

// The hot path's own names: the compiler folds constants of this file, and loads those of others each time.
const REPLY = HeaderFlag.typeReply;
const REGION_READ = Command.regionRead;
const REGION_WRITE = Command.regionWrite;
/** What a refusal of ours takes. */
const REFUSAL_BYTES = HEADER_BYTES;

/** Owns the descriptors. Passes the command on, or refuses it. */
export type SpecialCommand = (
  relay: Relay,
  header: Header,
  payload: number,
  length: number,
  descriptors: readonly number[],
) => void;

const special: ReadonlyMap<number, SpecialCommand> = new Map([
  [Command.version, version],
  [Command.dmaMap, dmaMap],
  [Command.dmaUnmap, dmaUnmap],
  [Command.deviceSetIrqs, setIrqs],
]);

export class QemuSide implements MessageHandler {
  /** Something waits for the server: for room, or for an answer. */
  held = false;

  constructor(private readonly relay: Relay) {}

  replyRoom(header: Header): number {
    if (header.type === REPLY) return 0;
    if (!this.mustWait(header.command)) return REFUSAL_BYTES;
    this.held = true;
    return NO_ROOM;
  }

  message(header: Header, payload: number, length: number, descriptors: number[]): void {
    const { relay } = this;
    const { command, type } = header;
    relay.counters.messagesFromQemu++;
    const serve = command === REGION_READ || command === REGION_WRITE ? undefined : special.get(command);
    if (descriptors.length > 0 && (serve === undefined || type === REPLY)) {
      for (const descriptor of descriptors) closeDescriptor(descriptor);
      relay.end('QEMU sent descriptors where none belong', { command: commandName(command) });
    } else if (type === REPLY) relay.clientMemory.reply(header, payload, length);
    else if (!isPosted(header) && relay.requests.isOut(header.id)) {
      for (const descriptor of descriptors) closeDescriptor(descriptor);
      relay.end('QEMU used an id again before its answer', { id: header.id, command: commandName(command) });
    } else if (serve !== undefined) serve(relay, header, payload, length, descriptors);
    else {
      if (!isPosted(header)) relay.requests.add(header.id, command);
      passOn(relay.qemu, payload, length, relay.server);
    }
  }

  closed(reason: string, detail: Detail): void {
    this.relay.end(reason, detail);
  }

  /**
   * A command goes out only where nothing waits to go out, so that the answers to the server's own DMA always find room: else two
   * sides that do not read because they cannot write could wait for each other.
   */
  private mustWait(command: number): boolean {
    const { server, requests } = this.relay;
    if (!server.drained) return true;
    // The memory may be where another region is until the server has let that go.
    if (command === Command.dmaMap) return requests.unsettled(Command.dmaUnmap) > 0;
    return command === Command.deviceSetIrqs && requests.unsettled(command) > 0;
  }
}
