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

  /** Forgets all objects, but not which handles were given out. */
  clear(): void {
    this.#objects.clear();
  }
}
