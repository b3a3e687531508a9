/** What is wrong with the payload of a success. */

export function isOneBit(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}

export function empty(reply: Uint8Array): string | undefined {
  return reply.length === 0 ? undefined : `a payload of ${reply.length} bytes where none belongs`;
}

/** The reply says in [from, end) what the request did, and is `size` bytes long. */
export function repeats(
  reply: Uint8Array,
  request: DataView,
  from: number,
  end: number,
  size = end,
): string | undefined {
  if (reply.length !== size) return `a payload of ${reply.length} bytes, not ${size}`;
  for (let at = from; at < end; at++) {
    if (reply[at] !== request.getUint8(at)) return `byte ${at} of the payload is not the request's`;
  }
  return undefined;
}

/** At least `bytes`, with these words; sizes are in the first word. */
export function fields(
  reply: Uint8Array,
  bytes: number,
  expected: readonly (readonly [at: number, value: number])[],
): string | undefined {
  if (reply.length < bytes) return `a payload of ${reply.length} bytes, less than ${bytes}`;
  const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
  if (view.getUint32(0, true) < bytes) return `argsz ${view.getUint32(0, true)}, less than ${bytes}`;
  for (const [at, value] of expected) {
    const said = view.getUint32(at, true);
    if (said !== value) return `${said} at offset ${at} of the payload, not ${value}`;
  }
  return undefined;
}

/** As `fields`, and just so long. */
export function exactly(
  reply: Uint8Array,
  bytes: number,
  expected: readonly (readonly [at: number, value: number])[],
): string | undefined {
  return reply.length === bytes ? fields(reply, bytes, expected) : `a payload of ${reply.length} bytes, not ${bytes}`;
}

export function isPowerOfTwo(value: bigint): boolean {
  return value > 0n && (value & (value - 1n)) === 0n;
}
