import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COMPARES_MAX, KnownMappings, REMOTE_COMPARES_MAX, SCAN_LEAVES_MAX } from '../../src/iommu/known-mappings.ts';
import { vtdSecondStage } from '../../src/page-tables/vtd-second-stage.ts';
import { MappingSource } from '../../src/trace/event-kinds.ts';
import { EventLog } from './event-log.ts';
import { FakeMemory, MiB2, PS, RW, TableBuilder, words } from './support.ts';

const PAGE = 4096n;
const DOMAIN = 7;
const INVALIDATION = MappingSource.invalidation;

function world({ max, messagesOnly = false }: { max?: number; messagesOnly?: boolean } = {}) {
  const memory = new FakeMemory(256 * 4096, { messagesOnly });
  const builder = new TableBuilder(memory, 4);
  const events = new EventLog();
  const format = vtdSecondStage({ hostAddressWidth: 43, largePages: { '2M': true, '1G': true } });
  const known = new KnownMappings(events, events.sourceId('vtd'), format, memory, max);
  const tables = { rootFrame: builder.root, levels: 4 };
  const map = (page: number, frame: number, flags = RW) =>
    builder.set(BigInt(page) * PAGE, 1, (BigInt(frame) << 12n) | flags);
  const seen = (page: number, frame: number, permissions = 3) =>
    known.seen(DOMAIN, ...words(BigInt(page) * PAGE), 12, frame, permissions);
  return { memory, builder, events, known, tables, map, seen };
}

describe('what is known', () => {
  it('is bounded: beyond that none is taken in or told, and that is counted', () => {
    const { known, seen, events, map, tables } = world({ max: 8 });
    for (let page = 0; page < 8; page++) seen(page, 40 + page);
    expect([known.count, known.forgotten]).toEqual([6, 2]);
    expect(events.take()).toMatchObject(Array.from({ length: 6 }, (_, page) => ({ fields: { frame: 40 + page } })));
    for (let page = 0; page < 10; page++) if (page !== 2) map(page, 40 + page);
    known.compareDomain(DOMAIN, tables, INVALIDATION);
    expect(events.take()).toMatchObject([
      { kind: 'mapping.removed', fields: { iova: 2n * PAGE, pages: 1 } },
      { kind: 'mapping.added', fields: { iova: 6n * PAGE, pages: 1 } },
    ]);
    expect(known.count).toBe(6);
  });

  it('leaves a quarter of the room to other domains', () => {
    const { known, seen } = world({ max: 8 });
    for (let page = 0; page < 20; page++) seen(page, 40);
    for (let page = 0; page < 3; page++) known.seen(8, 0, page << 12, 12, 50, 3);
    expect([known.count, known.forgotten, known.ids()]).toEqual([8, 15, [DOMAIN, 8]]);
  });

  it('is forgotten by domain, and all together', () => {
    const { known, seen } = world();
    seen(0, 40);
    known.seen(8, 0, 0, 12, 50, 3);
    known.forget(DOMAIN);
    expect([known.count, known.ids()]).toEqual([1, [8]]);
    known.clear();
    expect([known.count, known.ids()]).toEqual([0, []]);
  });

  it('is not told again', () => {
    const { seen, events } = world();
    seen(5, 40);
    seen(5, 40);
    expect(events.log.length).toBe(1);
  });
});

describe('a comparison of a whole domain', () => {
  function many(count: number) {
    const all = world();
    for (let page = 0; page < count; page++) all.seen(page, 40 + page);
    all.events.take();
    return all;
  }

  it('is bounded, and the next ones come to the others', () => {
    const { known, events, tables } = many(COMPARES_MAX * 2 + 100);
    const removed = () => {
      known.compareDomain(DOMAIN, tables, INVALIDATION);
      return events.of('mapping.removed').reduce((sum, { pages }) => sum + Number(pages), 0);
    };
    expect(removed()).toBe(COMPARES_MAX);
    expect(removed()).toBe(COMPARES_MAX * 2);
    expect(removed()).toBe(COMPARES_MAX * 2 + 100);
    expect(known.count).toBe(0);
  });

  it('looks at all where the tables are about to go', () => {
    const { known, tables } = many(COMPARES_MAX * 2);
    known.compareKnown(DOMAIN, tables, MappingSource.detach);
    expect(known.count).toBe(0);
  });

  it('does not keep one address waiting that is asked for', () => {
    const { known, events, tables } = many(COMPARES_MAX * 3);
    known.compareAt(DOMAIN, tables, 0, 5 << 12, MappingSource.walk);
    expect(events.take()).toMatchObject([
      { kind: 'mapping.removed', fields: { iova: 5n * PAGE, pages: 1, how: 'walk' } },
    ]);
  });

  it('does not keep pages waiting that software names', () => {
    const { known, events, tables } = many(COMPARES_MAX * 3);
    known.comparePages(DOMAIN, tables, 0, 0, COMPARES_MAX * 2, INVALIDATION);
    expect(events.take()).toMatchObject([{ kind: 'mapping.removed', fields: { iova: 0n, pages: COMPARES_MAX * 2 } }]);
  });

  it('counts its work', () => {
    const { known, tables } = many(COMPARES_MAX * 3);
    const before = known.work;
    known.compareDomain(DOMAIN, tables, INVALIDATION);
    expect(known.work - before).toBeGreaterThanOrEqual(COMPARES_MAX);
  });
});

describe('a search for new mappings', () => {
  it('is bounded, and goes on the next time', () => {
    const { known, events, builder, tables } = world();
    const all = SCAN_LEAVES_MAX + 512;
    for (let page = 0; page < all; page += 512) {
      const table = builder.table(BigInt(page) * PAGE, 1);
      for (let i = 0; i < 512; i++) builder.memory.write64(table, i * 8, (BigInt(page + i) << 12n) | RW);
    }
    const found = () => events.take().map(({ fields }) => [fields.iova, fields.pages]);
    known.compareDomain(DOMAIN, tables, INVALIDATION);
    expect(found()).toEqual([[0n, SCAN_LEAVES_MAX]]);
    known.compareDomain(DOMAIN, tables, INVALIDATION);
    expect(found()).toEqual([[BigInt(SCAN_LEAVES_MAX) * PAGE, 512]]);
    known.compareDomain(DOMAIN, tables, INVALIDATION);
    expect(found()).toEqual([]);
  });

  it('passes over entries that are no good', () => {
    const { known, events, builder, tables, map } = world();
    map(3, 40, RW | (1n << 51n));
    builder.set(MiB2, 2, PS | RW | (1n << 12n));
    builder.set(2n * MiB2, 2, (0x7fffffn << 12n) | RW);
    map(4, 41);
    known.compareDomain(DOMAIN, tables, INVALIDATION);
    expect(events.take()).toMatchObject([{ kind: 'mapping.added', fields: { iova: 4n * PAGE, pages: 1 } }]);
  });

  it('ends in tables that lead to themselves', () => {
    const { known, events, memory, builder, tables } = world();
    for (let i = 0; i < 512; i++) memory.write64(builder.root, i * 8, (BigInt(builder.root) << 12n) | RW);
    known.compareDomain(DOMAIN, tables, INVALIDATION);
    expect(known.count).toBe(SCAN_LEAVES_MAX);
    expect(events.of('mapping.added').length).toBe(SCAN_LEAVES_MAX);
  });
});

describe('in memory that is reached by messages', () => {
  it('known mappings are compared, up to a limit, and nothing is searched for', () => {
    const { known, seen, events, map, memory, tables } = world({ messagesOnly: true });
    for (let page = 0; page < 100; page++) seen(page, 40 + page);
    map(200, 41);
    events.take();
    const before = memory.loads.length;
    known.compareDomain(DOMAIN, tables, INVALIDATION);
    expect(events.take()).toMatchObject([{ kind: 'mapping.removed', fields: { pages: REMOTE_COMPARES_MAX } }]);
    // Each that differs is looked at again, through four tables.
    expect(memory.loads.length - before).toBe(REMOTE_COMPARES_MAX * 2 * 4);
  });
});

describe('random tables', () => {
  const write = fc.record({
    page: fc.constantFrom(0, 1, 2, 3, 510, 511, 512, 513, 1024),
    frame: fc.integer({ min: 300, max: 306 }),
    permissions: fc.nat(3),
  });
  const large = fc.record({ large: fc.nat(2), frame: fc.nat(2) });
  const flush = fc.record({ first: fc.nat(1030), pages: fc.constantFrom(1, 2, 8, 512, 4096) });

  it('are known after an invalidation of all as they are', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(write, write, write, large, flush), { maxLength: 60 }), steps => {
        const { known, events, builder, tables, map, memory } = world();
        for (const one of steps) {
          if ('first' in one) known.comparePages(DOMAIN, tables, 0, one.first << 12, one.pages, INVALIDATION);
          else if ('large' in one) {
            // Whatever table was there is lost to it; the next small page makes a new one.
            builder.set(BigInt(one.large) * MiB2, 2, (BigInt(512 * one.frame) << 12n) | PS | RW);
          } else {
            const at = BigInt(one.page) * PAGE;
            const entry = memory.word(BigInt(builder.table(at, 2) * 4096 + TableBuilder.offset(at, 2)));
            if (entry !== undefined && (entry & PS) !== 0n) builder.set(at, 2, 0n);
            map(one.page, one.frame, BigInt(one.permissions));
          }
        }
        known.compareDomain(DOMAIN, tables, INVALIDATION);
        const shadow = new Map<bigint, bigint>();
        for (const { kind, fields } of events.take()) {
          const { iova, pages, frame, permissions } = fields as Record<string, bigint | number>;
          for (let i = 0n; i < BigInt(pages!); i++) {
            const page = BigInt(iova!) / PAGE + i;
            if (kind === 'mapping.added') expect(shadow.has(page)).toBe(false);
            else expect(shadow.has(page)).toBe(true);
            if (kind === 'mapping.removed') shadow.delete(page);
            else shadow.set(page, (BigInt(frame!) + i) * 4n + BigInt(permissions!));
          }
        }
        const actual = new Map<bigint, bigint>();
        for (let page = 0n; page < 1536n; page++) {
          let table = builder.root;
          for (let level = 4; level >= 1; level--) {
            const entry = memory.word(BigInt(table * 4096 + TableBuilder.offset(page * PAGE, level)))!;
            if ((entry & 3n) === 0n) break;
            table = Number((entry >> 12n) & 0xffffffffffn);
            if (level === 2 && (entry & PS) !== 0n) {
              actual.set(page, (BigInt(table) + (page % 512n)) * 4n + (entry & 3n));
              break;
            }
            if (level === 1) actual.set(page, BigInt(table) * 4n + (entry & 3n));
          }
        }
        expect([...shadow].sort()).toEqual([...actual].sort());
      }),
      { numRuns: 100 },
    );
  });
});
