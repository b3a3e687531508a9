/** What the rules of this section have in common. */
import { Command, IrqSet } from '../../spec.ts';
import { type Context, PROPOSAL } from '../context.ts';
import type { Peer } from '../peer.ts';
import { equal } from '../rule.ts';
import { message, versionPayload, words } from '../wire.ts';

export const INFO = words(16, 0, 0, 0);
export const TRIGGER_BY_EVENTFD = IrqSet.dataEventfd | IrqSet.actionTrigger;

export function infoMessage(id: number): Uint8Array {
  return message(Command.deviceGetInfo, INFO, { id });
}

/** The message is sent in two pieces, the second one after the server has had time to take the first. */
export function inTwo(context: Context, at: number): void {
  const peer = context.session();
  const bytes = infoMessage(31);
  peer.send(bytes.subarray(0, at));
  // Another connection is served, or refused, in between: the server has been at its sockets.
  knock(context);
  peer.send(bytes.subarray(at));
  answersInfo(peer, 31);
  // Nothing of the message is left to be taken for the next one.
  peer.alive();
}

export function answersInfo(peer: Peer, id: number): void {
  equal(peer.reply(id, Command.deviceGetInfo).error, 0, `errno of message ${id}`);
}

export function knock(context: Context): void {
  const other = context.connectSecond();
  if (other === undefined) return;
  other.send(message(Command.version, versionPayload(PROPOSAL)));
  context.target.loop.waitUntil(() => other.ended, 20);
  other.close();
}

/** The server has noticed that a client is gone. */
export function next(context: Context): Peer {
  const peer = context.session();
  peer.alive();
  return peer;
}
