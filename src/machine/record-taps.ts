/** The control thread's end of the ring: one reader of it, and any number of takers, each with the classes that it wants. */
import type { EventRingReader } from '../trace/event-ring.ts';

/** After a batch the ring is looked at again so soon, in milliseconds; sooner would wake this thread for every few records. */
const LOOK_AGAIN_MS = 5;

/** Whole records, in slots of 32 bytes; only good until the call returns. */
export type TakeRecords = (words: Int32Array) => void;

export interface RecordTap {
  /** Nothing is taken after this. */
  stop(): void;
}

interface Taker {
  readonly classes: number;
  readonly take: TakeRecords;
}

export class RecordTaps {
  private readonly takers = new Set<Taker>();
  private timer: NodeJS.Timeout | undefined;

  /** `want` tells the device thread which classes anybody wants; each call makes it name its sources again. */
  constructor(
    private readonly ring: EventRingReader,
    private readonly want: (classes: number) => void,
    /** Told of a taker that threw, which gets nothing more. */
    private readonly onError: (error: unknown) => void,
  ) {}

  /** A taker gets all that anybody wants: who wants less looks at the kinds. */
  add(classes: number, take: TakeRecords): RecordTap {
    const taker = { classes, take };
    this.takers.add(taker);
    this.want(this.classes);
    // So that the writer knows that somebody waits.
    this.wake();
    return {
      stop: () => {
        if (this.takers.delete(taker)) this.want(this.classes);
      },
    };
  }

  /** The writer says that there is something. */
  wake(): void {
    if (this.timer !== undefined) return;
    if (this.drain() === 0) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.wake();
    }, LOOK_AGAIN_MS);
  }

  /** Takes what is there now; returns how many slots. */
  drain(): number {
    return this.ring.drain(words => {
      for (const taker of this.takers) this.give(taker, words);
    });
  }

  close(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.drain();
    this.takers.clear();
  }

  /** One taker's mistake must not keep the records from the others, nor bring them again. */
  private give(taker: Taker, words: Int32Array): void {
    try {
      taker.take(words);
    } catch (error) {
      if (this.takers.delete(taker)) this.want(this.classes);
      this.onError(error);
    }
  }

  private get classes(): number {
    let mask = 0;
    for (const { classes } of this.takers) mask |= classes;
    return mask;
  }
}
