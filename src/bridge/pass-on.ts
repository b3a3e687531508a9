/** Messages from one connection to the other, and short ones of our own. */
import type { Connection } from '../vfio-user/connection.ts';
import { type Header, writeHeader } from '../vfio-user/header.ts';
import { HEADER_BYTES, HeaderFlag } from '../vfio-user/spec.ts';

/** `replyRoom` of a message that has to wait: no output is so large. */
export const NO_ROOM = 0x7fffffff;
/** Below this a loop is faster than `set` with a view of its own. */
const LOOP_COPY_BYTES = 64;

export function copyBytes(source: Uint8Array, from: number, target: Uint8Array, to: number, length: number): void {
  if (length > LOOP_COPY_BYTES) target.set(source.subarray(from, from + length), to);
  else for (let i = 0; i < length; i++) target[to + i] = source[from + i]!;
}

/** The message whose payload stands at `payload` in the input of `from`, as it is. There must be room. */
export function passOn(from: Connection, payload: number, length: number, to: Connection): void {
  const size = HEADER_BYTES + length;
  const at = to.reserve(size);
  if (at < 0) return;
  copyBytes(from.input, payload - HEADER_BYTES, to.output, at, size);
  to.commit(size);
}

/** An answer without a payload, unless nobody waits for one. There must be room. */
export function answerError(connection: Connection, header: Header, errno: number): void {
  if ((header.flags & HeaderFlag.noReply) !== 0) return;
  sendError(connection, header.id, header.command, errno);
}

export function sendError(connection: Connection, id: number, command: number, errno: number): void {
  const at = connection.reserve(HEADER_BYTES);
  if (at < 0) return;
  const flags = HeaderFlag.typeReply | HeaderFlag.error;
  writeHeader(connection.outputView, at, id, command, HEADER_BYTES, flags, errno);
  connection.commit(HEADER_BYTES);
}

export function isPosted(header: Header): boolean {
  return (header.flags & HeaderFlag.noReply) !== 0;
}
