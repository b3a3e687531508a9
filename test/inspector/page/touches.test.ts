import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_PAGES_OF_TRANSFER, Touches } from '../../../src/inspector/page/store/touches.ts';
import { RecordCursor } from '../../../src/trace/record-cursor.ts';
import type { SampleRecord } from '../../trace/records.ts';
import { batchOf, slotsOf } from '../../trace/records.ts';

function feed(touches: Touches, ...records: readonly SampleRecord[]): void {
  const cursor = new RecordCursor();
  cursor.load(batchOf(...records.map(slotsOf)));
  while (cursor.next()) touches.record(cursor);
}

const dma = (kind: 'dma.read' | 'dma.write', rid: number, address: number, length: number, time = 1, pasid = -1) => ({
  kind,
  time,
  payload: [rid, 0, address | 0, length, pasid],
});
const attach = (rid: number, domain: number, pasid = -1): SampleRecord => ({
  kind: 'attach',
  payload: [rid, domain, 0, pasid],
});

describe('touched pages', () => {
  it('are those from the first to the last byte of a transfer', () => {
    const touches = new Touches();
    feed(touches, attach(0x100, 1), dma('dma.read', 0x100, 0x1fff, 2, 7));
    expect([...touches.domain(1)!.sorted()]).toEqual([1, 2]);
    expect(touches.touch(1, 1)).toEqual({ page: 1, reads: 1, writes: 0, failures: 0, last: 7, requesterIds: [0x100] });
  });

  it('count reads, writes and failures apart, and who it was', () => {
    const touches = new Touches();
    feed(
      touches,
      attach(0x100, 1),
      attach(0x200, 1),
      dma('dma.read', 0x100, 0x1000, 4),
      dma('dma.write', 0x200, 0x1000, 4),
      { kind: 'dma.failed', time: 9, payload: [0x200 | (1 << 16), 0, 0x1000, 8192, -1] },
    );
    const touch = { page: 1, reads: 1, writes: 1, failures: 1, last: 9, requesterIds: [0x100, 0x200] };
    expect(touches.touch(1, 1)).toEqual(touch);
    expect(touches.touch(1, 2)).toBeUndefined();
  });

  it('are of the domain that the device is attached to at that time', () => {
    const touches = new Touches();
    feed(
      touches,
      attach(0x100, 1),
      dma('dma.read', 0x100, 0x1000, 4),
      attach(0x100, 2),
      dma('dma.read', 0x100, 0x2000, 4),
    );
    expect([...touches.domain(1)!.sorted()]).toEqual([1]);
    expect([...touches.domain(2)!.sorted()]).toEqual([2]);
  });

  it('wait for their domain where it is told later', () => {
    const touches = new Touches();
    feed(touches, dma('dma.read', 0x100, 0x1000, 4), dma('dma.write', 0x200, 0x1000, 4));
    expect(touches.domain(1)).toBeUndefined();
    touches.attached(0x100, 1);
    touches.attached(0x200, 1);
    expect(touches.touch(1, 1)).toMatchObject({ reads: 1, writes: 1, requesterIds: [0x100, 0x200] });
  });

  it('are not told apart with a PASID, but counted', () => {
    const touches = new Touches();
    feed(touches, attach(0x100, 1), attach(0x100, 9, 3), dma('dma.read', 0x100, 0x1000, 4, 1, 3));
    expect(touches.domain(1)).toBeUndefined();
    expect(touches).toMatchObject({ transfers: 1, beyond: 1 });
  });

  it('are bounded, in all and for one transfer', () => {
    const touches = new Touches(2);
    feed(touches, attach(0x100, 1), dma('dma.read', 0x100, 0, 3 * 4096));
    expect(touches.domain(1)!.size).toBe(2);
    expect(touches.beyond).toBe(1);
    const whole = new Touches();
    feed(whole, attach(0x100, 1), dma('dma.read', 0x100, 0, 0x7fffffff));
    expect(whole.domain(1)!.size).toBe(MAX_PAGES_OF_TRANSFER);
    expect(whole.beyond).toBe(524288 - MAX_PAGES_OF_TRANSFER);
  });

  it('stay within the bound when they move to their domain', () => {
    const touches = new Touches(3);
    feed(touches, attach(0x200, 1), dma('dma.read', 0x200, 0, 8192), dma('dma.read', 0x100, 0x8000, 4096));
    touches.attached(0x100, 1);
    feed(touches, dma('dma.read', 0x100, 0x20000, 4096));
    expect([...touches.domain(1)!.sorted()]).toEqual([0, 1, 8]);
    expect(touches.beyond).toBe(1);
  });

  it('are counted as a plain map would count them', () => {
    const transfer = fc.record({
      write: fc.boolean(),
      address: fc.integer({ min: 0, max: 40 * 4096 }),
      length: fc.integer({ min: 1, max: 5 * 4096 }),
    });
    fc.assert(
      fc.property(fc.array(transfer, { maxLength: 60 }), transfers => {
        const touches = new Touches();
        touches.attached(0x100, 1);
        const slow = new Map<number, { reads: number; writes: number }>();
        for (const { write, address, length } of transfers) {
          feed(touches, dma(write ? 'dma.write' : 'dma.read', 0x100, address, length));
          for (let page = address >> 12; page <= (address + length - 1) >> 12; page++) {
            const counts = slow.get(page) ?? { reads: 0, writes: 0 };
            counts[write ? 'writes' : 'reads']++;
            slow.set(page, counts);
          }
        }
        const seen: (readonly [number, { reads: number; writes: number }])[] = [];
        touches.domain(1)?.within(0, 100, (page, reads, writes) => seen.push([page, { reads, writes }]));
        expect(seen).toEqual([...slow].sort(([one], [other]) => one - other));
      }),
    );
  });
});
