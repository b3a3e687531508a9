/**
 * How rooms say what happens. A room asks `mask` whether anybody wants a class before it puts an event together, so that what is off
 * costs one load and one test.
 */

/** Payload words are int32; what each means, and how many a kind has, `event-kinds.ts` says. */
export interface Events {
  /** `EventClass` bits that somebody wants now. */
  readonly mask: number;
  /**
   * Has `listener` called after each round of the device thread: within one, nothing that software sends is heard. False: nobody tells
   * of rounds here, and it will not be called.
   */
  onRound(listener: () => void): boolean;
  /** The number of a source (a function, a unit) in records; the same name gets the same number. Not for the hot path. */
  sourceId(name: string): number;
  /** Records an event of a kind with up to five payload words. */
  emit(kind: number, source: number, p0: number, p1: number, p2: number, p3: number, p4: number): void;
  /** The same at the time of the event emitted last: reading the clock costs more than all the rest. */
  emitAlso(kind: number, source: number, p0: number, p1: number, p2: number, p3: number, p4: number): void;
  /** The same with up to thirteen. */
  emitLong(
    kind: number,
    source: number,
    p0: number,
    p1: number,
    p2: number,
    p3: number,
    p4: number,
    p5: number,
    p6: number,
    p7: number,
    p8: number,
    p9: number,
    p10: number,
    p11: number,
    p12: number,
  ): void;
}

/** Hears every event that is emitted while its class is in `wants`, at the moment it happens, on the thread where it happens. */
export interface EventListener {
  /** `EventClass` bits. */
  readonly wants: number;
  /** `payload` is reused for all events: read it before returning. `time` in nanoseconds, monotonic, as a double. */
  event(kind: number, source: string, time: number, payload: Int32Array): void;
  note(kind: string, source: string, time: number, detail: Readonly<Record<string, unknown>>): void;
}

/** Nobody wants anything. */
export const noEvents: Events = {
  mask: 0,
  onRound: () => false,
  sourceId: () => 0,
  emit() {},
  emitAlso() {},
  emitLong() {},
};
