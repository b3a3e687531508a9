/** Answers from caches that are out of date are told; answers that are right, or allow less than the tables, are not. */
import { describe, expect, it } from 'vitest';
import { REMOTE_CHECK_INTERVAL, STALE_EVENTS_PER_RUN } from '../../../src/iommu/vtd/stale-check.ts';
import { EventClass, Kind } from '../../../src/trace/event-kinds.ts';
import { EventLog } from '../event-log.ts';
import { ATOMIC, Bench, type ContextFields, DOMAIN, Frame, Gcmd, READ, Reg, RID, WRITE } from './support.ts';

const PAGE = 4096;
const IOVA = 0x10_0000n;
const LARGE = 0x80n;

function bench(options = {}, context: ContextFields = {}): { bench: Bench; events: EventLog } {
  const events = new EventLog();
  const it = new Bench(options, { checks: true, trace: events });
  it.setContext(RID, { domain: DOMAIN, ...context });
  it.enable().enableQueue();
  return { bench: it, events };
}

function run(b: Bench, iova: bigint, length: number, access = READ): boolean {
  return b.unit.translateRun(RID, Number(iova >> 32n), Number(BigInt.asIntN(32, iova)), access, length, b.out);
}

const flushPage = (iova: bigint, order = 0, leafOnly = false): [bigint, bigint] => [
  (BigInt(DOMAIN) << 16n) | 0x32n,
  iova | BigInt(order) | (leafOnly ? 0x40n : 0n),
];
const flushContexts: [bigint, bigint] = [0x11n, 0n];

describe('the IOTLB', () => {
  it('is not told while it says what the tables say', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    for (let i = 0; i < 5; i++) expect(b.translate(IOVA + BigInt(i * 8), i % 2 ? READ : WRITE)).toBe(true);
    expect(events.of('stale')).toEqual([]);
  });

  it('is stale after an unmap without invalidation', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.unmap(IOVA);
    expect(b.frameAt(IOVA + 0x123n)).toBe(40);
    expect(events.of('stale')).toEqual([
      {
        requesterId: RID,
        access: READ,
        what: 'iotlb',
        fresh: 'notPresent',
        iova: IOVA + 0x123n,
        usedFrame: 40,
        domain: DOMAIN,
        freshFrame: 0,
        usedPermissions: 3,
        freshPermissions: 0,
        shift: 12,
        length: 1,
        freshDomain: DOMAIN,
      },
    ]);
  });

  it('is stale each time until the invalidation', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.map(IOVA, 41);
    b.translate(IOVA);
    b.translate(IOVA);
    expect(events.of('stale')).toMatchObject([
      { fresh: 'mapped', usedFrame: 40, freshFrame: 41 },
      { fresh: 'mapped', usedFrame: 40, freshFrame: 41 },
    ]);
    b.submit(flushPage(IOVA));
    expect(b.frameAt(IOVA)).toBe(41);
    expect(events.of('stale').length).toBe(2);
  });

  it('is stale for the access that the tables no longer allow, not for the other', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.map(IOVA, 40, 1n);
    expect(b.translate(IOVA, READ)).toBe(true);
    expect(events.of('stale')).toEqual([]);
    expect(b.translate(IOVA, WRITE)).toBe(true);
    expect(events.of('stale')).toMatchObject([{ what: 'iotlb', fresh: 'denied', access: WRITE, freshPermissions: 1 }]);
  });

  it('may allow less than the tables', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40, 1n);
    b.translate(IOVA);
    b.map(IOVA, 40, 3n);
    expect(b.translate(IOVA, READ)).toBe(true);
    expect(b.translate(IOVA, WRITE)).toBe(true);
    expect(events.of('stale')).toEqual([]);
  });

  it('may know a page as part of a larger one that was split into the same', () => {
    const { bench: b, events } = bench();
    b.setEntry(0n, 2, (512n << 12n) | LARGE | 3n);
    expect(b.frameAt(0x5000n)).toBe(517);
    b.setEntry(0n, 2, 0n);
    for (let i = 0; i < 512; i++) b.map(BigInt(i * PAGE), 512 + i);
    expect(b.frameAt(0x5000n)).toBe(517);
    expect(events.of('stale')).toEqual([]);
  });

  it('is stale where an entry became malformed', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setEntry(IOVA, 1, (40n << 12n) | (1n << 51n) | 3n);
    expect(b.translate(IOVA)).toBe(true);
    expect(events.of('stale')).toMatchObject([{ fresh: 'malformed' }]);
  });

  it('is stale where a table above the page is gone', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setEntry(IOVA, 3, 0n);
    expect(b.translate(IOVA)).toBe(true);
    expect(events.of('stale')).toMatchObject([{ what: 'iotlb', fresh: 'notPresent' }]);
  });

  it('is stale in large pages, and above 4 GiB', () => {
    const { bench: b, events } = bench();
    const high = 0x7f_ffe0_0000n;
    b.setEntry(high, 2, (512n << 12n) | LARGE | 3n);
    b.translate(high + 0x1000n);
    b.translate(high + 0x1000n);
    expect(events.of('stale')).toEqual([]);
    b.setEntry(high, 2, (1024n << 12n) | LARGE | 3n);
    b.translate(high + 0x1000n);
    expect(events.of('stale')).toMatchObject([{ usedFrame: 513, freshFrame: 1025, shift: 21, iova: high + 0x1000n }]);
  });

  it('is compared for each requester of the domain', () => {
    const { bench: b, events } = bench();
    b.setContext(RID + 8);
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.translate(IOVA, READ, RID + 8);
    expect(events.of('stale')).toEqual([]);
    b.unmap(IOVA);
    b.translate(IOVA, READ, RID + 8);
    expect(events.of('stale')).toMatchObject([{ requesterId: RID + 8 }]);
  });
});

describe('each entry on the way', () => {
  /** Puts the word with that bit turned where `level` has its entry of the IOVA. */
  function turn(b: Bench, level: number, bit: bigint): void {
    let table = b.tableRoot;
    for (let at = 4; at > level; at--) {
      b.memory.load64(table, Number((IOVA >> BigInt(12 + 9 * (at - 1))) & 511n) * 8);
      table = (b.memory.high << 20) | (b.memory.low >>> 12);
    }
    const offset = Number((IOVA >> BigInt(12 + 9 * (level - 1))) & 511n) * 8;
    b.memory.load64(table, offset);
    const value = (BigInt(b.memory.high >>> 0) << 32n) | BigInt(b.memory.low >>> 0);
    b.memory.write64(table, offset, value ^ bit);
  }

  it.each([
    ['root entry, lower half', (b: Bench) => b.setRoot(RID >>> 8, (BigInt(Frame.context) << 12n) | 3n), 'context'],
    ['root entry, upper half', (b: Bench) => b.setRoot(RID >>> 8, (BigInt(Frame.context) << 12n) | 1n, 1n), 'context'],
    ['context entry, lower half', (b: Bench) => b.setContext(RID, { extraLow: 1n << 50n }), 'context'],
    ['context entry, upper half', (b: Bench) => b.setContext(RID, { extraHigh: 1n << 63n }), 'context'],
    ...[4, 3, 2, 1].flatMap(level =>
      [0n, 1n, 13n, 40n, 51n].map(
        bit => [`bit ${bit} of level ${level}`, (b: Bench) => turn(b, level, 1n << bit), 'iotlb'] as const,
      ),
    ),
  ] as const)('counts: %s', (_name, change, what) => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA, WRITE);
    b.translate(IOVA, WRITE);
    change(b);
    expect(b.translate(IOVA, ATOMIC)).toBe(true);
    expect(events.of('stale')).toMatchObject([{ what }]);
  });

  it.each([4, 3, 2, 1])('does not count in bits that mean nothing: level %d', level => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.translate(IOVA);
    turn(b, level, 1n << 60n);
    expect(b.translate(IOVA)).toBe(true);
    expect(b.translate(IOVA)).toBe(true);
    expect(events.of('stale')).toEqual([]);
  });

  it('counts where tables lie in windows of their own', () => {
    const { bench: b, events } = bench();
    const buffer = new ArrayBuffer(4 * PAGE);
    const words = new Int32Array(buffer);
    b.memory.windows.push({ bytes: new Uint8Array(buffer), words });
    const second = 1n << 18n;
    // Level 2 in the other gibibyte, the table of pages too.
    b.setEntry(IOVA, 3, (second << 12n) | 3n);
    words[1] = 0;
    words[0] = Number(BigInt.asIntN(32, ((second + 1n) << 12n) | 3n));
    const leaf = 1024 + 0x100 * 2;
    words[leaf] = (40 << 12) | 3;
    for (let i = 0; i < 3; i++) expect(b.frameAt(IOVA)).toBe(40);
    expect(events.of('stale')).toEqual([]);
    words[leaf] = (41 << 12) | 3;
    b.translate(IOVA);
    words[leaf] = (40 << 12) | 3;
    b.translate(IOVA);
    // Not zero, which would mean that the window does not show it.
    words[0] = 4;
    b.translate(IOVA);
    expect(events.of('stale')).toMatchObject([{ freshFrame: 41 }, { fresh: 'notPresent' }]);
  });
});

describe('runs of pages', () => {
  function warm(pages: number) {
    const all = bench();
    for (let i = 0; i < pages; i++) {
      all.bench.map(IOVA + BigInt(i * PAGE), 40 + i);
      all.bench.translate(IOVA + BigInt(i * PAGE));
    }
    return all;
  }

  it('have each page compared', () => {
    const { bench: b, events } = warm(5);
    expect(run(b, IOVA + 0x800n, 4 * PAGE)).toBe(true);
    expect(events.of('stale')).toEqual([]);
    b.unmap(IOVA + 0x1000n);
    b.map(IOVA + 0x3000n, 99);
    expect(run(b, IOVA + 0x800n, 4 * PAGE)).toBe(true);
    expect(b.out.bytes).toBe(4 * PAGE);
    expect(events.of('stale')).toMatchObject([
      { iova: IOVA + 0x1000n, usedFrame: 41, length: PAGE, fresh: 'notPresent' },
      { iova: IOVA + 0x3000n, usedFrame: 43, length: PAGE, freshFrame: 99 },
    ]);
  });

  it('tell how many bytes of a page they use', () => {
    const { bench: b, events } = warm(2);
    b.unmap(IOVA);
    b.unmap(IOVA + 0x1000n);
    run(b, IOVA + 0xff0n, 0x30);
    expect(events.of('stale')).toMatchObject([
      { iova: IOVA + 0xff0n, length: 0x10 },
      { iova: IOVA + 0x1000n, length: 0x20 },
    ]);
  });

  it('are told of up to a limit', () => {
    const pages = STALE_EVENTS_PER_RUN + 8;
    const { bench: b, events } = warm(pages);
    for (let i = 0; i < pages; i++) b.unmap(IOVA + BigInt(i * PAGE));
    run(b, IOVA, pages * PAGE);
    expect(events.of('stale').length).toBe(STALE_EVENTS_PER_RUN);
  });

  it('go on over 2 MiB of addresses', () => {
    const { bench: b, events } = bench();
    for (const [iova, frame] of [
      [0x1f_f000n, 40],
      [0x20_0000n, 41],
    ] as const) {
      b.map(iova, frame);
      b.translate(iova);
    }
    run(b, 0x1f_f000n, 2 * PAGE);
    expect(b.out.bytes).toBe(2 * PAGE);
    expect(events.of('stale')).toEqual([]);
    b.unmap(0x20_0000n);
    run(b, 0x1f_f000n, 2 * PAGE);
    expect(events.of('stale')).toMatchObject([{ iova: 0x20_0000n, usedFrame: 41 }]);
  });
});

describe('the context cache', () => {
  it('is stale where the entry names another domain', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setContext(RID, { domain: 9 });
    b.translate(IOVA);
    expect(events.of('stale')).toMatchObject([{ what: 'context', domain: DOMAIN, freshDomain: 9, fresh: 'mapped' }]);
    b.submit(flushContexts);
    b.translate(IOVA);
    expect(events.of('stale').length).toBe(1);
  });

  it('is stale where the entry names other tables', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setContext(RID, { table: b.newTable() });
    b.translate(IOVA);
    expect(events.of('stale')).toMatchObject([{ what: 'context', fresh: 'notPresent' }]);
  });

  it('is stale where the entry or the root entry is gone', () => {
    for (const gone of [(b: Bench) => b.setContext(RID, { present: false }), (b: Bench) => b.setRoot(RID >>> 8, 0n)]) {
      const { bench: b, events } = bench();
      b.map(IOVA, 40);
      b.translate(IOVA);
      gone(b);
      b.translate(IOVA);
      expect(events.of('stale')).toMatchObject([{ what: 'context', fresh: 'detached', freshDomain: -1 }]);
    }
  });

  it('is stale where requests pass through no longer, and not before', () => {
    const { bench: b, events } = bench({}, { type: 2 });
    expect(b.translate(IOVA)).toBe(true);
    expect(run(b, IOVA, 5 * PAGE)).toBe(true);
    expect(events.of('stale')).toEqual([]);
    b.setContext(RID, { type: 0 });
    b.translate(IOVA);
    expect(events.of('stale')).toMatchObject([{ what: 'context', fresh: 'notPresent', usedFrame: 0x100 }]);
  });

  it('that remembers an unusable entry is stale once that is good', () => {
    const { bench: b, events } = bench({ cachingMode: true }, { present: false });
    b.map(IOVA, 40);
    expect(b.translate(IOVA)).toBe(false);
    expect(events.of('stale')).toEqual([]);
    b.setContext(RID);
    events.take();
    expect(b.translate(IOVA)).toBe(false);
    expect(events.log.map(({ kind }) => kind).filter(kind => kind !== 'context.present')).toEqual(['stale', 'fault']);
    expect(events.of('stale')).toMatchObject([{ what: 'context', fresh: 'mapped', freshFrame: 40 }]);
  });
});

describe('the paging-structure cache', () => {
  it('is stale where a walk through it ends elsewhere', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.map(IOVA + 0x1000n, 41);
    b.translate(IOVA);
    // Another table of pages, with other pages.
    b.setEntry(IOVA, 2, 0n);
    b.map(IOVA + 0x1000n, 51);
    b.submit(flushPage(IOVA, 1, true));
    expect(b.frameAt(IOVA + 0x1000n)).toBe(41);
    expect(events.of('stale')).toMatchObject([{ what: 'pagingStructure', usedFrame: 41, freshFrame: 51 }]);
  });

  it('is stale where a walk through it finds nothing, and one from the root does', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setEntry(IOVA, 2, 0n);
    b.map(IOVA + 0x1000n, 51);
    events.take();
    expect(b.translate(IOVA + 0x1000n)).toBe(false);
    expect(events.take()).toMatchObject([
      { kind: 'stale', fields: { what: 'pagingStructure', fresh: 'mapped', freshFrame: 51, usedPermissions: 0 } },
      { kind: 'fault', fields: { cause: 'notPresent' } },
    ]);
  });
});

describe('what was found not present', () => {
  it('is stale in caching mode once it is mapped', () => {
    const { bench: b, events } = bench({ cachingMode: true });
    b.map(IOVA + 0x1000n, 40);
    expect(b.translate(IOVA)).toBe(false);
    expect(b.translate(IOVA)).toBe(false);
    expect(events.of('stale')).toEqual([]);
    b.map(IOVA, 41);
    events.take();
    expect(b.translate(IOVA, WRITE)).toBe(false);
    expect(events.take()).toMatchObject([
      { kind: 'stale', fields: { what: 'notPresent', fresh: 'mapped', freshFrame: 41, access: WRITE } },
      { kind: 'fault' },
    ]);
    b.submit(flushPage(IOVA));
    events.take();
    expect(b.frameAt(IOVA)).toBe(41);
    expect(events.of('stale')).toEqual([]);
  });
});

describe('nothing is compared', () => {
  it('while translation is off', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.command(Gcmd.te, false);
    b.unmap(IOVA);
    expect(b.frameAt(IOVA)).toBe(0x100);
    expect(events.of('stale')).toEqual([]);
    b.command(Gcmd.te);
    b.translate(IOVA);
    expect(events.of('stale').length).toBe(1);
  });

  it('of writes to the interrupt range', () => {
    const { bench: b, events } = bench();
    b.setEntry(0xfec0_0000n, 2, (512n << 12n) | LARGE | 3n);
    expect(b.translate(0xfee0_0000n, WRITE)).toBe(true);
    expect(events.of('stale')).toEqual([]);
  });

  it('without checks', () => {
    const events = new EventLog();
    const b = new Bench({}, { trace: events });
    b.setContext(RID);
    b.map(IOVA, 40);
    b.enable();
    b.translate(IOVA);
    b.unmap(IOVA);
    b.translate(IOVA);
    expect(events.of('stale')).toEqual([]);
  });

  it('where nobody wants to know', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    events.mask = EventClass.note;
    b.unmap(IOVA);
    b.translate(IOVA);
    expect(events.of('stale')).toEqual([]);
  });
});

describe('a root table pointer that was set anew', () => {
  it('is what a fresh walk goes by', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.translate(IOVA);
    b.write64(Reg.rtaddr, BigInt(Frame.root + 10) << 12n);
    b.command(Gcmd.srtp);
    b.translate(IOVA);
    expect(events.of('stale')).toMatchObject([{ what: 'context', fresh: 'detached' }]);
  });
});

describe('tables that change right after a walk from the root', () => {
  it('make nothing stale: nothing was remembered too long', () => {
    class Racing extends EventLog {
      onMapping: () => void = () => {};
      override emitLong(kind: number, source: number, ...words: number[]): void {
        super.emitLong(kind, source, ...words);
        if (kind === Kind['mapping.added']) this.onMapping();
      }
    }
    const events = new Racing();
    const b = new Bench({}, { checks: true, trace: events });
    b.setContext(RID);
    b.map(IOVA, 40);
    b.enable();
    events.onMapping = () => b.unmap(IOVA);
    expect(b.frameAt(IOVA)).toBe(40);
    expect(events.of('stale')).toEqual([]);
    // From now on it is.
    expect(b.frameAt(IOVA)).toBe(40);
    expect(events.of('stale')).toMatchObject([{ what: 'iotlb' }]);
  });
});

describe('a torn read', () => {
  it('is looked at again before it is told', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.translate(IOVA);
    b.unmap(IOVA);
    // Software is at writing the entry: it is there again before the second look.
    let loads = 0;
    b.memory.during = () => {
      if (++loads === 6) b.map(IOVA, 40);
    };
    b.translate(IOVA);
    expect(loads).toBeGreaterThan(6);
    expect(events.of('stale')).toEqual([]);
  });
});

describe('tables that are reached by messages', () => {
  it('are compared once in so many answers', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    const windows = b.memory.windows.splice(0);
    b.memory.load64 = (frame, offset) => {
      const { words } = windows[0]!;
      b.memory.low = words[(frame << 10) + (offset >> 2)]!;
      b.memory.high = words[(frame << 10) + (offset >> 2) + 1]!;
      return 0;
    };
    b.memory.generation++;
    const words = windows[0]!.words;
    b.unit.reset();
    b.enable();
    b.translate(IOVA);
    const at = (Frame.tables + 3) * 1024 + 0x100 * 2;
    expect(words[at]! >>> 12).toBe(40);
    words[at] = 0;
    words[at + 1] = 0;
    const rounds = 3;
    for (let i = 0; i < rounds * REMOTE_CHECK_INTERVAL; i++) expect(b.translate(IOVA)).toBe(true);
    expect(events.of('stale').length).toBe(rounds);
  });
});
