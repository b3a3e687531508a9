/** One table for handles of every kind, so that a handle of one kind never passes for another. */
import { HANDLE_MAX, OBJECTS_MAX } from './limits.ts';

export class HandleTable {
  readonly #objects = new Map<number, object>();
  #last = 0;

  get size(): number {
    return this.#objects.size;
  }

  /** The object's new handle; 0 if there are too many. */
  add(object: object): number {
    if (this.#objects.size >= OBJECTS_MAX) return 0;
    do {
      this.#last = this.#last >= HANDLE_MAX ? 1 : this.#last + 1;
    } while (this.#objects.has(this.#last));
    this.#objects.set(this.#last, object);
    return this.#last;
  }

  /** The last handle that was given out. */
  get last(): number {
    return this.#last;
  }

  /** An object of a saved state; the caller has seen to it that there is room, and that no other has this handle. */
  put(handle: number, object: object): void {
    this.#objects.set(handle, object);
  }

  /** Those that a saved state has are put: which one it gave out last. */
  resume(last: number): void {
    this.#last = last;
  }

  find<T extends object>(handle: number, kind: abstract new (...args: never[]) => T): T | undefined {
    const object = this.#objects.get(handle);
    return object instanceof kind ? object : undefined;
  }

  remove(handle: number): void {
    this.#objects.delete(handle);
  }

  /** Those of one kind, in the order in which they were made. */
  *all<T extends object>(kind: abstract new (...args: never[]) => T): Generator<T> {
    for (const object of this.#objects.values()) if (object instanceof kind) yield object;
  }

  /** Of every kind, by handle, in the order in which they were made. */
  entries(): Iterable<[number, object]> {
    return this.#objects;
  }

  /** Forgets all objects, but not which handles were given out. */
  clear(): void {
    this.#objects.clear();
  }
}
