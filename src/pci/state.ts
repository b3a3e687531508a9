/**
 * What a function, its registers and the device behind them save of themselves, and how it is read back: the other side may have
 * made it, so nothing in it is believed.
 */

/** A state that cannot be taken over; the message says what is wrong with it. */
export class StateError extends Error {
  override readonly name = 'StateError';
}

/** What MessagePack carries, as far as states need it. */
export type StateValue =
  | number
  | boolean
  | string
  | Uint8Array
  | readonly StateValue[]
  | { readonly [name: string]: StateValue };

export interface Saveable {
  /** All that software can find out, but for caches that hardware may empty at any time. */
  save(): StateValue;
  /** Checks a whole state and changes nothing; what it returns takes the state over and cannot fail. Throws a StateError. */
  restore(state: unknown): () => void;
}

/** An object with exactly these members. Throws a StateError. */
export function stateFields<Name extends string>(
  value: unknown,
  what: string,
  names: readonly Name[],
): Record<Name, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) {
    throw new StateError(`${what} is not an object`);
  }
  const given = Object.keys(value);
  if (given.length !== names.length || !names.every(name => Object.hasOwn(value, name))) {
    throw new StateError(`${what} must have the members ${names.join(', ')}, not ${given.slice(0, 16).join(', ')}`);
  }
  return value as Record<Name, unknown>;
}

/** A whole number from `least` to `most`. Throws a StateError. */
export function stateNumber(value: unknown, what: string, least: number, most: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most) return value;
  throw new StateError(`${what} is not a whole number from ${least} to ${most}`);
}

export function stateFlag(value: unknown, what: string): boolean {
  if (typeof value === 'boolean') return value;
  throw new StateError(`${what} is neither true nor false`);
}

/** A list of at most so many elements. Throws a StateError. */
export function stateList(value: unknown, what: string, most: number): readonly unknown[] {
  if (!Array.isArray(value)) throw new StateError(`${what} is not a list`);
  if (value.length > most) throw new StateError(`${what} has more than ${most} elements`);
  return value;
}

/** Exactly so many bytes. Throws a StateError. */
export function stateBytes(value: unknown, what: string, length: number): Uint8Array {
  if (value instanceof Uint8Array && value.length === length) return value;
  throw new StateError(`${what} is not ${length} bytes`);
}

/** Exactly so many 32-bit words. Throws a StateError. */
export function stateWords(value: unknown, what: string, count: number): Int32Array {
  const words = new Int32Array(count);
  new Uint8Array(words.buffer).set(stateBytes(value, what, count * 4));
  return words;
}

/** A copy of the words, as `stateWords` reads them. */
export function savedWords(words: Int32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength).slice();
}

/** Names of `known`, none of them twice. Throws a StateError. */
export function stateNames<Name extends string>(value: unknown, what: string, known: readonly Name[]): Name[] {
  if (!Array.isArray(value) || value.length > known.length) throw new StateError(`${what} is not a list of names`);
  const names = value.map(one => {
    const name = known.find(candidate => candidate === one);
    if (name === undefined) throw new StateError(`${what} has an unknown name: one of ${known.join(', ')}`);
    return name;
  });
  if (new Set(names).size !== names.length) throw new StateError(`${what} names something twice`);
  return names;
}
