/** What the rules of this section have in common. */
import { Command } from '../../spec.ts';
import type { Context } from '../context.ts';
import { isTrue, skip } from '../rule.ts';
import { message, versionPayload } from '../wire.ts';

export type Options = Parameters<typeof versionPayload>[1];

/** The handshake succeeds, and a command is served after it. Returns the payload of the reply. */
export function accepts(context: Context, proposal: object | string | undefined, options?: Options): Uint8Array {
  const peer = context.connect();
  const { payload } = peer.succeed(Command.version, versionPayload(proposal, options));
  peer.alive();
  return payload;
}

/** The handshake fails, by an error or by the end of the connection. */
export function rejects(context: Context, payload: Uint8Array, what: string): void {
  const peer = context.connect();
  peer.send(message(Command.version, payload));
  isTrue(peer.outcome(what) !== 'answered', `the handshake succeeded with ${what}`);
}

/** Either is right, but one of them must come. */
export function decides(context: Context, payload: Uint8Array, what: string): void {
  const peer = context.connect();
  peer.send(message(Command.version, payload));
  peer.outcome(what);
}

/** The command is not done before the handshake. */
export function needsHandshake(context: Context, command: number, payload: Uint8Array): void {
  const peer = context.connect();
  peer.send(message(command, payload));
  isTrue(peer.outcome('a command before VERSION') !== 'answered', 'a command before VERSION was done');
}

export function number(context: Context, name: string): number {
  const value = context.negotiated()[name];
  if (value === undefined) skip(`the reply does not name ${name}`);
  isTrue(typeof value === 'number' && Number.isSafeInteger(value), `${name} is not a whole number`);
  return value;
}
