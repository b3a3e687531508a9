/**
 * An event that the unit reports by an interrupt message: the fault event (7.3) and the invalidation completion event
 * (6.5.2.10) share this logic of mask and pending bit.
 */
import type { FieldHandle } from '../../pci/registers.ts';
import { address64 } from '../address64.ts';
import type { VtdCore } from './core.ts';
import { SingleJob } from './single-job.ts';

export class EventInterrupt {
  private readonly mask: FieldHandle;
  private readonly pending: FieldHandle;
  private readonly data: number;
  private readonly low: number;
  private readonly high: number;
  private readonly job: SingleJob;

  /** `prefix` is FE or IE, the start of the names of the event's four registers. */
  constructor(
    private readonly core: VtdCore,
    private readonly prefix: 'FE' | 'IE',
    private readonly sent: () => void,
  ) {
    const { registers } = core;
    this.job = new SingleJob(core, prefix === 'FE' ? 'faultEvent' : 'completionEvent');
    this.mask = registers.field(`${prefix}CTL`, 'IM');
    this.pending = registers.field(`${prefix}CTL`, 'IP');
    this.data = registers.offset(`${prefix}DATA`) >>> 2;
    this.low = registers.offset(`${prefix}ADDR`) >>> 2;
    this.high = registers.offset(`${prefix}UADDR`) >>> 2;
  }

  /** A new interrupt condition: call only where none was waiting for software. */
  raise(): void {
    this.core.registers.set(this.pending, 1);
    this.deliver();
  }

  /** Software wrote the control register: what was held back by the mask goes out. */
  controlWritten(): void {
    this.deliver();
  }

  /** Software has dealt with every condition: a message still held back is no longer needed. */
  serviced(): void {
    this.core.registers.set(this.pending, 0);
  }

  private deliver(): void {
    if (this.due()) this.job.schedule(() => this.send());
  }

  private due(): boolean {
    const { registers } = this.core;
    return registers.get(this.pending) === 1 && registers.get(this.mask) === 0;
  }

  private send(): void {
    // Between the condition and this job, software may have masked the event or dealt with it.
    if (!this.due()) return;
    const { registers, messages } = this.core;
    registers.set(this.pending, 0);
    const high = registers.words[this.high];
    const low = registers.words[this.low];
    const data = registers.words[this.data];
    this.sent();
    if (!messages.send(high, low, data)) {
      this.core.note('vtd.interruptLost', { event: this.prefix, address: address64(high, low), data: data >>> 0 });
    }
  }
}
