import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DirtyLog } from '../../src/memory/dirty-log.ts';

const PAGE = 4096;
const CHUNK = 2 * 1024 * 1024;
const MOST = 2 ** 43;

function bits(bitmap: Uint8Array): number[] {
  const set: number[] = [];
  for (let bit = 0; bit < bitmap.length * 8; bit++) if ((bitmap[bit >> 3]! >> (bit % 8)) & 1) set.push(bit);
  return set;
}

/** The numbers of the pages, counted from `address` on, that are told as written. */
function told(log: DirtyLog, address: number, length: number, pageSize = PAGE): number[] {
  const bitmap = new Uint8Array(Math.ceil(length / pageSize / 64) * 8);
  log.report(BigInt(address), BigInt(length), BigInt(pageSize), bitmap);
  return bits(bitmap);
}

function started(ranges: readonly [address: number, length: number][] = [], maxChunks?: number): DirtyLog {
  const log = new DirtyLog(MOST, () => {}, maxChunks);
  log.start(ranges.map(([address, length]) => ({ address: BigInt(address), length: BigInt(length) })));
  return log;
}

describe('a log of written pages', () => {
  it('says when it is to be fed, and when no longer', () => {
    const switched: boolean[] = [];
    const log = new DirtyLog(MOST, active => switched.push(active));
    expect(log.active).toBe(false);
    log.start([]);
    expect(log.active).toBe(true);
    log.stop();
    expect(log.active).toBe(false);
    // Not once more.
    log.stop();
    expect(switched).toEqual([true, false]);
  });

  it.each([
    ['a byte', 3, 17, 1, [3]],
    ['the last byte of a page', 3, 4095, 1, [3]],
    ['two bytes on two pages', 3, 4095, 2, [3, 4]],
    ['a whole page', 3, 0, 4096, [3]],
    ['a page and a byte', 3, 0, 4097, [3, 4]],
    ['an offset beyond the frame', 3, 8192, 1, [5]],
    ['nothing', 3, 0, 0, []],
    ['two chunks', 511, 0, 8192, [511, 512]],
  ])('marks the pages of %s', (_what, frame, offset, length, pages) => {
    const log = started();
    log.mark(frame, offset, length);
    expect(told(log, 0, 2 * CHUNK)).toEqual(pages);
  });

  it('forgets what it has told', () => {
    const log = started();
    log.mark(1, 0, 1);
    expect(told(log, 0, CHUNK)).toEqual([1]);
    expect(told(log, 0, CHUNK)).toEqual([]);
    log.mark(1, 0, 1);
    expect(told(log, 0, CHUNK)).toEqual([1]);
  });

  it('keeps what lies outside of the range that was asked for', () => {
    const log = started();
    log.mark(1, 0, 1);
    log.mark(9, 0, 1);
    expect(told(log, 8 * PAGE, 4 * PAGE)).toEqual([1]);
    expect(told(log, 0, CHUNK)).toEqual([1]);
  });

  it('tells a page again of which only a part was asked for', () => {
    const log = started();
    log.mark(1, 0, 1);
    expect(told(log, PAGE, 2048, 1024)).toEqual([0, 1]);
    expect(told(log, 0, 4 * PAGE)).toEqual([1]);
    expect(told(log, 0, 4 * PAGE)).toEqual([]);
  });

  it.each([
    [512, [8, 9, 10, 11, 12, 13, 14, 15]],
    [1024, [4, 5, 6, 7]],
    [8192, [0]],
    [65_536, [0]],
  ])('tells pages of %i bytes', (size, pages) => {
    const log = started();
    log.mark(1, 0, 1);
    expect(told(log, 0, 4 * 65_536, size)).toEqual(pages);
  });

  it('tells only of the ranges that it was started with', () => {
    const log = started([
      [2 * PAGE, 2 * PAGE],
      [7 * PAGE, PAGE],
    ]);
    log.mark(0, 0, 10 * PAGE);
    expect(told(log, 0, 16 * PAGE)).toEqual([2, 3, 7]);
  });

  it('takes ranges in any order, that overlap or touch', () => {
    const log = started([
      [7 * PAGE, PAGE],
      [2 * PAGE, 4 * PAGE],
      [3 * PAGE, PAGE],
      [8 * PAGE, PAGE],
      [7 * PAGE, PAGE],
    ]);
    log.mark(0, 0, 12 * PAGE);
    expect(told(log, 0, 16 * PAGE)).toEqual([2, 3, 4, 5, 7, 8]);
  });

  it('says only once that it is to be fed, though it is started again', () => {
    const switched: boolean[] = [];
    const log = new DirtyLog(MOST, active => switched.push(active));
    log.start([]);
    log.start([]);
    expect(switched).toEqual([true]);
  });

  it('begins anew when it is started again, with other ranges', () => {
    const log = started([[0, 4 * PAGE]]);
    log.mark(1, 0, 1);
    log.start([{ address: BigInt(8 * PAGE), length: BigInt(PAGE) }]);
    log.mark(8, 0, 1);
    log.mark(2, 0, 1);
    expect(told(log, 0, 16 * PAGE)).toEqual([8]);
  });

  it('knows nothing after a stop', () => {
    const log = started();
    log.mark(1, 0, 1);
    log.stop();
    log.start([]);
    expect(told(log, 0, CHUNK)).toEqual([]);
  });

  it('finds nothing beyond the addresses that there are', () => {
    const log = started();
    log.mark(2 ** 31 - 1, 0, 1);
    expect(told(log, MOST - PAGE, 2 * PAGE)).toEqual([0]);
    expect(told(log, MOST, 2 * PAGE)).toEqual([]);
    const bitmap = new Uint8Array(8);
    log.report(2n ** 64n - 8192n, 8192n, 4096n, bitmap);
    expect(bits(bitmap)).toEqual([]);
  });
});

describe('a log with more chunks than it may have', () => {
  it('has every page written, whatever it knew, until it is started again', () => {
    const log = started([], 2);
    for (const chunk of [0, 5, 9]) log.mark(chunk * 512, 0, 1);
    const every = Array.from({ length: 8 }, (_, page) => page);
    expect(told(log, 100 * CHUNK, 8 * PAGE)).toEqual(every);
    // A report does not make it any wiser.
    expect(told(log, 100 * CHUNK, 8 * PAGE)).toEqual(every);
    log.start([]);
    expect(told(log, 0, CHUNK)).toEqual([]);
  });

  it('still keeps to its ranges', () => {
    const log = started([[2 * PAGE, PAGE]], 1);
    log.mark(0, 0, 1);
    log.mark(512, 0, 1);
    expect(told(log, 0, 8 * PAGE)).toEqual([2]);
  });

  it('has room again for what was told and forgotten', () => {
    const log = started([], 1);
    for (let chunk = 0; chunk < 10; chunk++) {
      log.mark(chunk * 512 + chunk, 0, 1);
      expect(told(log, chunk * CHUNK, CHUNK)).toEqual([chunk]);
    }
  });
});

it('a log tells what a set of pages would', () => {
  const PAGES = 2048;
  const mark = fc.record({ frame: fc.nat(PAGES - 9), offset: fc.nat(5000), length: fc.nat(20_000) });
  const report = fc.record({ from: fc.nat(PAGES - 1), pages: fc.integer({ min: 1, max: PAGES }), order: fc.nat(4) });
  const spans = fc.array(fc.record({ from: fc.nat(PAGES - 1), pages: fc.integer({ min: 1, max: 600 }) }), {
    maxLength: 3,
  });
  fc.assert(
    fc.property(spans, fc.array(fc.oneof(mark, mark, report), { maxLength: 40 }), (ranges, steps) => {
      const log = started(ranges.map(({ from, pages }) => [from * PAGE, pages * PAGE]));
      const written = new Set<number>();
      const logged = (page: number) =>
        ranges.length === 0 || ranges.some(({ from, pages }) => page >= from && page < from + pages);
      for (const step of steps) {
        if ('frame' in step) {
          log.mark(step.frame, step.offset, step.length);
          const first = step.frame * PAGE + step.offset;
          for (let at = first; at < first + step.length; at++) written.add(Math.floor(at / PAGE));
          continue;
        }
        const unit = 2 ** step.order;
        const expected = new Set<number>();
        for (const page of [...written]) {
          if (page < step.from || page >= step.from + step.pages) continue;
          written.delete(page);
          if (logged(page)) expected.add(Math.floor((page - step.from) / unit));
        }
        const found = told(log, step.from * PAGE, step.pages * PAGE, unit * PAGE);
        expect(found).toEqual([...expected].sort((a, b) => a - b));
      }
    }),
    { numRuns: 100 },
  );
});

it('a log with few chunks tells what a set of pages would, in any unit, from any address, until it has too many', () => {
  const CHUNKS = 3;
  const PAGES = 6 * 512;
  const mark = fc.record({ frame: fc.nat(PAGES - 9), offset: fc.nat(8191), length: fc.nat(9000) });
  const report = fc.record({
    from: fc.nat(PAGES * PAGE - 1),
    length: fc.oneof(fc.integer({ min: 1, max: 3 * PAGE }), fc.integer({ min: 1, max: PAGES * PAGE })),
    order: fc.integer({ min: 9, max: 22 }),
  });
  const again = fc.constant('start');
  const step = fc.oneof(
    { weight: 8, arbitrary: mark },
    { weight: 8, arbitrary: report },
    { weight: 1, arbitrary: again },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), steps => {
      const log = started([], CHUNKS);
      const written = new Set<number>();
      let all = false;
      const chunks = () => new Set([...written].map(page => page >> 9));
      for (const one of steps) {
        if (typeof one === 'string') {
          log.start([]);
          written.clear();
          all = false;
        } else if ('frame' in one) {
          log.mark(one.frame, one.offset, one.length);
          const first = one.frame * PAGE + one.offset;
          const last = Math.floor((first + one.length - 1) / PAGE);
          for (let page = Math.floor(first / PAGE); one.length > 0 && page <= last; page++) {
            if (!chunks().has(page >> 9) && chunks().size === CHUNKS) all = true;
            written.add(page);
          }
        } else {
          const unit = 2 ** one.order;
          const end = one.from + one.length;
          const expected: number[] = [];
          for (let bit = 0; one.from + bit * unit < end; bit++) {
            const start = one.from + bit * unit;
            const last = Math.floor((Math.min(start + unit, end) - 1) / PAGE);
            let isWritten = all;
            for (let page = Math.floor(start / PAGE); page <= last; page++) isWritten ||= written.has(page);
            if (isWritten) expected.push(bit);
          }
          expect(told(log, one.from, one.length, unit)).toEqual(expected);
          if (all) continue;
          for (const page of [...written]) {
            if (page * PAGE >= one.from && (page + 1) * PAGE <= end) written.delete(page);
          }
        }
      }
    }),
    { numRuns: 150 },
  );
});
