/** What the rules of this section have in common. */
import { Command, commandName } from '../../spec.ts';
import { type Context, PROPOSAL } from '../context.ts';
import { dmaRequest, EduDriver, MEMORY, MessageMemory } from '../edu-driver.ts';
import type { Peer, Received } from '../peer.ts';
import { equal, equalBytes } from '../rule.ts';
import { mapPayload, PAGE, pattern } from '../wire.ts';

export const SIZE = 16 * 4096;
const { dmaRead } = Command;
export const EIO = 5;
/** Bytes of the page behind the one that the first transfer uses. */
export const OTHER = MEMORY + 8n * PAGE;

export interface Setup {
  readonly edu: EduDriver;
  readonly memory: MessageMemory;
}

/** A device, and 64 KiB of memory that messages reach. */
export function setup(context: Context, { proposal = PROPOSAL as object, flags = 3 } = {}): Setup {
  const edu = EduDriver.open(context, proposal);
  const memory = new MessageMemory(edu.peer, MEMORY, SIZE);
  edu.peer.succeed(Command.dmaMap, mapPayload({ address: MEMORY, size: BigInt(SIZE), flags }));
  return { edu, memory };
}

/** The requests of one kind, in their order. */
export function requests(peer: Peer, command: number): Received[] {
  return peer.requests.filter(one => one.command === command);
}

/** They cover the range exactly, without a hole or an overlap, in any order. */
export function covers(all: readonly Received[], address: bigint, count: number): void {
  const pieces = all.map(dmaRequest).sort((one, other) => (one.address < other.address ? -1 : 1));
  let end = address;
  for (const piece of pieces) {
    equal(piece.address, end, 'address of the next piece');
    end += BigInt(piece.count);
  }
  equal(end - address, BigInt(count), 'bytes in all');
}

/** From memory into the device and back to another place. */
export function roundTrip({ edu, memory }: Setup, from: bigint, to: bigint, count: number): void {
  const bytes = pattern(count, 3);
  memory.bytes.set(bytes, memory.at(from));
  edu.fetch(from, count);
  edu.store(to, count);
  equalBytes(memory.bytes.slice(memory.at(to), memory.at(to) + count), bytes, 'what came back');
}

/** The reply is wrong; what becomes of the connection is open, but the server goes on. */
export function survives(context: Context, command: number, reply: (peer: Peer, request: Received) => void): void {
  const { edu } = setup(context);
  const { peer } = edu;
  let wrong = false;
  const serve = peer.onRequest;
  peer.onRequest = request => {
    if (wrong || request.command !== command) {
      serve(request);
      return;
    }
    wrong = true;
    reply(peer, request);
  };
  // A server may ask before it answers the write that made it ask, and then has no answer for a client that is gone.
  if (command === dmaRead) edu.orderFetch(MEMORY, 64);
  else edu.orderStore(MEMORY, 64);
  peer.until(() => wrong, `${commandName(command)} of the device`);
  peer.close();
  context.serves();
}
