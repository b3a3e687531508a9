import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EventLoop } from '../../src/posix/event-loop.ts';
import type { Connection } from '../../src/vfio-user/connection.ts';
import { MessageSink } from '../../src/vfio-user/interrupt-sink.ts';
import { InterruptTable } from '../../src/vfio-user/interrupts.ts';
import { HEADER_BYTES, Interrupt, IrqSet, NO_TRIGGER } from '../../src/vfio-user/spec.ts';

const VECTORS = 4;
const SET = IrqSet.dataEventfd | IrqSet.actionTrigger;
const DISABLE = IrqSet.dataNone | IrqSet.actionTrigger;
const NO_BOOLS = new Uint8Array(0);

/** A connection whose output is full while somebody says so. */
class Wire {
  readonly sent: string[] = [];
  readonly outputView = new DataView(new ArrayBuffer(64));
  dispatching = false;
  full = false;
  onRoom: (() => void) | undefined;

  reserve(): number {
    return this.full ? -1 : 0;
  }

  commit(): void {
    const word = (at: number) => this.outputView.getUint32(HEADER_BYTES + at, true);
    this.sent.push(`${word(Interrupt.index)}.${word(Interrupt.vector)}`);
  }

  /** What waited goes out. */
  drain(): string[] {
    this.full = false;
    this.onRoom?.();
    return this.sent;
  }
}

describe('an interrupt that waits for a client without descriptors, which does not read', () => {
  let wire: Wire;
  let table: InterruptTable;
  let sink: MessageSink;
  let loop: EventLoop;

  beforeEach(() => {
    wire = new Wire();
    const flags = { eventfd: true, maskable: true, automasked: false, noresize: false };
    const interrupts = [
      { count: VECTORS, ...flags },
      { count: VECTORS, ...flags },
    ];
    loop = new EventLoop(error => {
      throw error;
    });
    sink = new MessageSink(wire as unknown as Connection, interrupts);
    const listener = { unmasked() {}, armed() {} };
    table = new InterruptTable({ interrupts, loop, listener, sink });
    set(0, 0, [0, 0, 0, 0]);
    set(1, 0, [0, 0, 0, 0]);
    wire.full = true;
    for (const vector of [0, 1, 2]) expect(table.trigger(1, vector)).toBe(true);
    expect(wire.sent).toEqual([]);
  });
  afterEach(() => loop.close());

  const set = (index: number, start: number, triggers: readonly number[]) =>
    expect(table.set(SET, index, start, triggers.length, NO_BOOLS, 0, triggers)).toBe(0);

  it('comes when there is room', () => {
    expect(wire.drain()).toEqual(['1.0', '1.1', '1.2']);
  });

  it('is void when its trigger is taken away', () => {
    set(1, 1, [NO_TRIGGER]);
    expect(wire.drain()).toEqual(['1.0', '1.2']);
  });

  it('is void when its triggers are taken away without naming any', () => {
    expect(table.set(SET, 1, 0, 2, NO_BOOLS, 0, [])).toBe(0);
    expect(wire.drain()).toEqual(['1.2']);
  });

  it('is void when its index is disabled, and does not come when that is enabled again', () => {
    expect(table.set(DISABLE, 1, 0, 0, NO_BOOLS, 0, [])).toBe(0);
    set(1, 0, [0, 0, 0, 0]);
    expect(wire.drain()).toEqual([]);
  });

  it('is not void when another index is disabled', () => {
    expect(table.set(DISABLE, 0, 0, 0, NO_BOOLS, 0, [])).toBe(0);
    expect(wire.drain()).toEqual(['1.0', '1.1', '1.2']);
  });

  it('is not lost when its trigger is set once more: a client does so with all when it adds one', () => {
    set(1, 0, [0, 0, 0, 0]);
    expect(wire.drain()).toEqual(['1.0', '1.1', '1.2']);
  });

  it('is not void where the message that would take its trigger away is refused', () => {
    expect(table.set(SET, 1, 0, 2, NO_BOOLS, 0, [NO_TRIGGER])).not.toBe(0);
    expect(wire.drain()).toEqual(['1.0', '1.1', '1.2']);
  });

  it('is counted right after it was void: the next ones come at once', () => {
    expect(table.set(DISABLE, 1, 0, 0, NO_BOOLS, 0, [])).toBe(0);
    wire.full = false;
    expect(table.trigger(0, 3)).toBe(true);
    expect(wire.sent).toEqual(['0.3']);
  });
});
