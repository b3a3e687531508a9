import { describe, expect, it } from 'vitest';
import { PciFunction } from '../../src/pci/function.ts';
import { SPIN_MILLISECONDS, SPIN_READS } from '../../src/pci/spin-watch.ts';
import { EventClass } from '../../src/trace/event-kinds.ts';
import { full, MemoryHandler, noRegions, readConfig, writeConfig } from './fakes.ts';
import { RecordedEvents } from './recorded-events.ts';

/** A function whose clock goes on with each read of its registers. */
function polled(mask: number = EventClass.fault) {
  const trace = new RecordedEvents(mask);
  const clock = { nanoseconds: 0, asked: 0 };
  const now = () => {
    clock.asked++;
    return clock.nanoseconds;
  };
  const pci = new PciFunction({ name: 'fn', definition: full, dma: noRegions, trace, clock: { now } });
  const handler = new MemoryHandler(0x1000);
  pci.setHandler(0, handler);
  const target = new Uint8Array(8);
  const spin = (reads: number, microseconds: number, offset = 0, width = 4) => {
    for (let i = 0; i < reads; i++) {
      pci.read(0, offset, target, 0, width);
      clock.nanoseconds += microseconds * 1000;
    }
  };
  handler.bytes.fill(0xa5);
  return { trace, pci, handler, clock, spin };
}

/** Often enough, and for longer than is allowed. */
const LONG = 2 * SPIN_READS;
const SLOWLY = (2 * SPIN_MILLISECONDS * 1000) / SPIN_READS;

describe('SpinWatch', () => {
  it('tells of a register that is read again and again, once', () => {
    const { trace, spin } = polled();
    spin(LONG, SLOWLY, 0x20);
    spin(LONG, SLOWLY, 0x20);
    expect(trace.recorded).toHaveLength(1);
    expect(trace.recorded[0]).toMatchObject({ kind: 'register.spin', source: 'fn', region: 0, width: 4 });
    expect(trace.recorded[0]).toMatchObject({ offset: '0x20', value: '0xa5a5a5a5' });
    expect(Number(trace.recorded[0]!.reads)).toBeGreaterThanOrEqual(SPIN_READS);
    expect(Number(trace.recorded[0]!.milliseconds)).toBeGreaterThanOrEqual(SPIN_MILLISECONDS);
  });

  it('allows many reads in a short time', () => {
    const { trace, spin } = polled();
    // 200,000 in a second.
    spin(10 * SPIN_READS, 5);
    expect(trace.recorded).toEqual([]);
  });

  it('allows few reads in a long time', () => {
    const { trace, spin } = polled();
    spin(SPIN_READS - 1, 60_000_000);
    expect(trace.recorded).toEqual([]);
  });

  it('allows a driver that waits for a job of some milliseconds, again and again', () => {
    const { trace, pci, handler, spin } = polled();
    for (let job = 0; job < 500; job++) {
      pci.write(0, 0x98, new Uint8Array([1, 0, 0, 0]), 0, 4);
      handler.bytes[0] = 1;
      spin(200, 50);
      handler.bytes[0] = 0;
      spin(1, 50);
    }
    expect(trace.recorded).toEqual([]);
  });

  it.each([
    ['a write', ({ pci }: ReturnType<typeof polled>) => pci.write(0, 0x40, new Uint8Array(4), 0, 4)],
    ['a read elsewhere', ({ spin }: ReturnType<typeof polled>) => spin(1, 0, 0x44)],
    ['a read of another width', ({ spin }: ReturnType<typeof polled>) => spin(1, 0, 0, 8)],
    ['a bulk read', ({ pci }: ReturnType<typeof polled>) => pci.read(0, 0, new Uint8Array(64), 0, 64)],
    ['a configuration read', ({ pci }: ReturnType<typeof polled>) => readConfig(pci, 0, 4)],
    ['a configuration write', ({ pci }: ReturnType<typeof polled>) => writeConfig(pci, 0x0c, 1, 1)],
    ['a reset', ({ pci }: ReturnType<typeof polled>) => pci.reset()],
  ])('starts over after %s', (_what, something) => {
    const watched = polled();
    for (let i = 0; i < 10; i++) {
      watched.spin(SPIN_READS / 2, SLOWLY);
      something(watched);
    }
    expect(watched.trace.recorded).toEqual([]);
  });

  it('tells the same register once more after it read as something else', () => {
    const { trace, handler, spin } = polled();
    spin(LONG, SLOWLY);
    handler.bytes[0] = 0;
    spin(1, SLOWLY);
    handler.bytes[0] = 0xa5;
    spin(LONG, SLOWLY);
    expect(trace.recorded.map(event => event.value)).toEqual(['0xa5a5a5a5', '0xa5a5a5a5']);
  });

  it('does not repeat itself when the guest did something else in between', () => {
    const { trace, spin } = polled();
    spin(LONG, SLOWLY);
    spin(1, 0, 0x40);
    spin(LONG, SLOWLY);
    expect(trace.recorded).toHaveLength(1);
  });

  it('tells of another register too', () => {
    const { trace, spin } = polled();
    spin(LONG, SLOWLY, 0);
    spin(LONG, SLOWLY, 8, 8);
    expect(trace.recorded.map(event => [event.offset, event.width])).toEqual([
      ['0x0', 4],
      ['0x8', 8],
    ]);
  });

  it('sees a change in the upper half of 8 bytes', () => {
    const { trace, handler, spin } = polled();
    for (let i = 0; i < 10; i++) {
      handler.bytes[7] = i;
      spin(SPIN_READS / 2, SLOWLY, 0, 8);
    }
    expect(trace.recorded).toEqual([]);
  });

  it('asks the clock seldom', () => {
    const { clock, spin } = polled();
    spin(SPIN_READS, 0);
    expect(clock.asked).toBeLessThan(SPIN_READS / 1000);
  });

  it('does nothing while nobody wants to know', () => {
    const { trace, clock, spin } = polled(~EventClass.fault & ~EventClass.register);
    spin(LONG, SLOWLY);
    expect(trace.emitted).toBe(0);
    expect(clock.asked).toBe(0);
  });
});
