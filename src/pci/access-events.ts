/** Tells what the guest does with a function's registers: records for who wants each access, and the watch for endless polling. */
import { EventClass, Kind } from '../trace/event-kinds.ts';
import type { Events } from '../trace/events.ts';
import type { Clock } from './ports.ts';
import { SpinWatch } from './spin-watch.ts';

/** While none of these is wanted, accesses are nobody's business. */
export const ACCESS_CLASSES = EventClass.register | EventClass.fault;

const WIDTH_SHIFT = 4;

export class AccessEvents {
  readonly spin: SpinWatch;
  private low = 0;
  private high = 0;

  constructor(
    private readonly events: Events,
    private readonly source: number,
    clock: Clock,
  ) {
    this.spin = new SpinWatch(events, source, clock);
  }

  /** A BAR was read: `bytes[at, at + length)` is the answer. */
  readBar(bar: number, offset: number, bytes: Uint8Array, at: number, length: number): void {
    const width = this.load(bytes, at, length);
    const place = bar | (width << WIDTH_SHIFT);
    if (width === 0) this.spin.other();
    else this.spin.read(place, offset, this.high, this.low);
    this.tell(Kind['register.read'], place, offset);
  }

  /** Something else than a BAR was read. */
  readOther(region: number, offset: number, bytes: Uint8Array, at: number, length: number): void {
    this.spin.other();
    this.tell(Kind['register.read'], region | (this.load(bytes, at, length) << WIDTH_SHIFT), offset);
  }

  /** Any region is about to be written: what that causes is to come after it. */
  write(region: number, offset: number, bytes: Uint8Array, at: number, length: number): void {
    this.spin.other();
    this.tell(Kind['register.write'], region | (this.load(bytes, at, length) << WIDTH_SHIFT), offset);
  }

  private tell(kind: number, place: number, offset: number): void {
    if ((this.events.mask & EventClass.register) === 0) return;
    this.events.emit(kind, this.source, place, offset, this.high, this.low, 0);
  }

  /** Into `high` and `low`, and says how wide it is: 0, and no value, where it is no width of a register. */
  private load(bytes: Uint8Array, at: number, length: number): number {
    this.low = 0;
    this.high = 0;
    if (length > 8 || (length & (length - 1)) !== 0) return 0;
    for (let i = 0; i < length; i++) {
      if (i < 4) this.low |= bytes[at + i]! << (8 * i);
      else this.high |= bytes[at + i]! << (8 * (i - 4));
    }
    return length;
  }
}
