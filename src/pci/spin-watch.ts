/**
 * Notices a guest that reads the same register again and again and never sees another value: a driver that waits for something
 * that does not come. Hardware answers it for ever and says nothing.
 */
import { Kind } from '../trace/event-kinds.ts';
import type { Events } from '../trace/events.ts';
import type { Clock } from './ports.ts';

/** A guest must read the register that often, and do nothing else with the function meanwhile, ... */
export const SPIN_READS = 20_000;
/** ... and for that long: no device here is busy for more than some milliseconds, however slow the guest's processor is. */
export const SPIN_MILLISECONDS = 2000;
/** The clock is asked once in so many reads (a power of two), because that costs more than all the rest. */
export const READS_PER_LOOK = 1024;

const LOOK_MASK = READS_PER_LOOK - 1;
const NANOSECONDS = 1e6;
const NOWHERE = -1;

/** Of one function. Tells each register once, until it reads as something else. */
export class SpinWatch {
  private place = NOWHERE;
  private offset = 0;
  private high = 0;
  private low = 0;
  private reads = 0;
  /** Nanoseconds, at the first look. */
  private since = 0;
  private toldPlace = NOWHERE;
  private toldOffset = 0;
  private toldHigh = 0;
  private toldLow = 0;

  constructor(
    private readonly events: Events,
    private readonly source: number,
    private readonly clock: Clock,
  ) {}

  /** The guest read a register of a BAR; `place` is region | width << 4, the value two int32 words. */
  read(place: number, offset: number, high: number, low: number): void {
    if (place === this.place && offset === this.offset && low === this.low && high === this.high) {
      this.reads++;
      if ((this.reads & LOOK_MASK) === 0) this.look();
      return;
    }
    this.begin(place, offset, high, low);
  }

  /** The guest did something else with the function. */
  other(): void {
    this.place = NOWHERE;
  }

  /** The function was reset, or its client came or went. */
  reset(): void {
    this.place = NOWHERE;
    this.toldPlace = NOWHERE;
  }

  private begin(place: number, offset: number, high: number, low: number): void {
    if (place === this.toldPlace && offset === this.toldOffset && (low !== this.toldLow || high !== this.toldHigh)) {
      this.toldPlace = NOWHERE;
    }
    this.place = place;
    this.offset = offset;
    this.high = high;
    this.low = low;
    this.reads = 1;
  }

  private look(): void {
    const { place, offset, high, low, reads } = this;
    // Any other value would have ended what was told.
    if (place === this.toldPlace && offset === this.toldOffset) return;
    const now = this.clock.now();
    if (reads === READS_PER_LOOK) this.since = now;
    const milliseconds = Math.floor((now - this.since) / NANOSECONDS);
    if (reads < SPIN_READS || milliseconds < SPIN_MILLISECONDS) return;
    this.toldPlace = place;
    this.toldOffset = offset;
    this.toldHigh = high;
    this.toldLow = low;
    this.events.emit(Kind['register.spin'], this.source, place, offset, low, reads, milliseconds);
  }
}
