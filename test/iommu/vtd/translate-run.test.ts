/** Runs of pages: the same answers, counts and faults as page by page, only in fewer calls. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TranslatedDmaPort } from '../../../src/iommu/dma-port.ts';
import { PageByPage } from '../../../src/iommu/translator.ts';
import { Bench, DOMAIN, READ, RID, WRITE } from './support.ts';

const PAGE = 4096;
const IOVA = 0x10_0000n;
const PAGE_SIZE = 0x80n;

function mappedBench(pages: readonly number[] = [], options = {}): Bench {
  const bench = new Bench(options);
  bench.setContext(RID, { domain: DOMAIN });
  pages.forEach((frame, i) => {
    bench.map(IOVA + BigInt(i * PAGE), frame);
  });
  return bench.enable();
}

/** `out.bytes` for so many bytes from the IOVA; undefined after a fault. */
function run(bench: Bench, iova: bigint, length: number, access: number = READ): number | undefined {
  const high = Number(BigInt.asIntN(32, iova >> 32n));
  const low = Number(BigInt.asIntN(32, iova));
  return bench.unit.translateRun(RID, high, low, access, length, bench.out) ? bench.out.bytes : undefined;
}

function warm(bench: Bench, pages: number): void {
  for (let i = 0; i < pages; i++) expect(bench.translate(IOVA + BigInt(i * PAGE))).toBe(true);
}

describe('a run', () => {
  it('goes over pages that the IOTLB has', () => {
    const bench = mappedBench([40, 41, 42, 43]);
    warm(bench, 4);
    expect(run(bench, IOVA + 0x123n, 3 * PAGE)).toBe(3 * PAGE);
    expect(bench.out.frame).toBe(40);
  });

  it('ends before a page that needs a walk', () => {
    const bench = mappedBench([40, 41, 42, 43]);
    warm(bench, 2);
    expect(run(bench, IOVA, 4 * PAGE)).toBe(2 * PAGE);
    expect(bench.unit.statistics.engine.misses).toBe(2);
  });

  it('ends before a page that lies elsewhere', () => {
    const bench = mappedBench([40, 41, 50, 51]);
    warm(bench, 4);
    expect(run(bench, IOVA, 4 * PAGE)).toBe(2 * PAGE);
  });

  it('ends before the same page again', () => {
    const bench = mappedBench([40, 40]);
    warm(bench, 2);
    expect(run(bench, IOVA, 2 * PAGE)).toBe(PAGE);
  });

  it('ends before a page that does not allow the access', () => {
    const bench = mappedBench([40, 41, 42]);
    bench.map(IOVA + 0x1000n, 41, 1n);
    warm(bench, 3);
    expect(run(bench, IOVA, 3 * PAGE)).toBe(3 * PAGE);
    expect(bench.translate(IOVA, WRITE)).toBe(true);
    expect(run(bench, IOVA, 3 * PAGE, WRITE)).toBe(PAGE);
  });

  it('ends before a page that is remembered as not present', () => {
    const bench = mappedBench([40, 0, 42], { cachingMode: true });
    bench.unmap(IOVA + 0x1000n);
    expect(bench.translate(IOVA)).toBe(true);
    expect(bench.translate(IOVA + 0x1000n)).toBe(false);
    expect(run(bench, IOVA, 3 * PAGE)).toBe(PAGE);
    expect(bench.unit.statistics.engine.notPresentHits).toBe(0);
  });

  it('goes from a large page to the small ones behind it', () => {
    const bench = new Bench();
    bench.setContext(RID);
    bench.setEntry(0n, 2, (512n << 12n) | PAGE_SIZE | 3n);
    bench.map(0x20_0000n, 1024);
    bench.enable();
    expect(bench.translate(0n)).toBe(true);
    expect(bench.translate(0x20_0000n)).toBe(true);
    expect(run(bench, 0x1f_f800n, 2 * PAGE)).toBe(0x800 + PAGE);
  });

  it('stops at 2^32', () => {
    const bench = mappedBench([]);
    bench.map(0xffff_f000n, 40);
    bench.map(0x1_0000_0000n, 41);
    expect(bench.translate(0xffff_f000n)).toBe(true);
    expect(bench.translate(0x1_0000_0000n)).toBe(true);
    expect(run(bench, 0xffff_f800n, PAGE)).toBe(0x800);
    expect(run(bench, 0x1_0000_0000n, PAGE)).toBe(PAGE);
  });

  it('counts every page', () => {
    const bench = mappedBench([40, 41, 42, 43]);
    warm(bench, 4);
    const { translations, contextHits, engine } = bench.unit.statistics;
    const hits = engine.hits;
    run(bench, IOVA + 0xff8n, 2 * PAGE);
    expect(bench.unit.statistics.translations - translations).toBe(3);
    expect(bench.unit.statistics.contextHits - contextHits).toBe(3);
    expect(bench.unit.statistics.engine.hits - hits).toBe(3);
  });
});

describe('the interrupt range', () => {
  it('ends a run of IOVAs', () => {
    const bench = mappedBench([]);
    bench.setEntry(0xfec0_0000n, 2, (512n << 12n) | PAGE_SIZE | 3n);
    bench.setEntry(0xfee0_0000n, 2, (1024n << 12n) | PAGE_SIZE | 3n);
    expect(bench.translate(0xfef0_0000n)).toBe(true);
    expect(run(bench, 0xfedf_f000n, 4 * PAGE)).toBe(PAGE);
    expect(run(bench, 0xfee0_0000n, PAGE)).toBeUndefined();
    expect(bench.reason).toBe(0xe);
  });

  it('ends a run of frames, within a large page too', () => {
    const bench = mappedBench([]);
    bench.setEntry(0n, 3, (0xc0000n << 12n) | PAGE_SIZE | 3n);
    const before = 0x3edf_f000n;
    expect(run(bench, before, 4 * PAGE)).toBe(PAGE);
    expect(bench.out.frame).toBe(0xfedff);
    expect(run(bench, before + 0x1000n, 4 * PAGE)).toBeUndefined();
    expect(bench.reason).toBe(0xe);
  });

  it('does not shorten what starts behind it', () => {
    const bench = mappedBench([]);
    bench.setEntry(0n, 3, (0xc0000n << 12n) | PAGE_SIZE | 3n);
    expect(run(bench, 0x3ef0_0000n, 4 * PAGE)).toBe(4 * PAGE);
  });

  it('ends a pass-through run', () => {
    const bench = new Bench();
    bench.setContext(RID, { type: 2 });
    bench.enable();
    expect(run(bench, 0xfedf_e000n, 4 * PAGE)).toBe(2 * PAGE);
    expect(run(bench, 0xfee0_0000n, 4 * PAGE)).toBeUndefined();
  });
});

describe('what is not translated', () => {
  it('goes through as a run when it passes through, each page counted', () => {
    const bench = new Bench();
    bench.setContext(RID, { type: 2 });
    bench.enable();
    expect(run(bench, 0x1800n, 3 * PAGE)).toBe(3 * PAGE);
    expect(bench.unit.statistics).toMatchObject({ passThrough: 4, translations: 4, contextHits: 3, contextMisses: 1 });
  });

  it('goes through as a run while translation is off, each page counted', () => {
    const bench = new Bench();
    expect(run(bench, 0x1800n, 3 * PAGE)).toBe(3 * PAGE);
    expect(bench.unit.statistics.untranslated).toBe(4);
  });
});

describe('invalidation', () => {
  it('of a page in the middle ends the run there', () => {
    const bench = mappedBench([40, 41, 42, 43]).enableQueue();
    warm(bench, 4);
    bench.unmap(IOVA + 0x2000n);
    expect(run(bench, IOVA, 4 * PAGE)).toBe(4 * PAGE);
    // IOTLB invalidation, page-selective: domain, address, one page.
    bench.submit([(BigInt(DOMAIN) << 16n) | 0x32n, IOVA + 0x2000n]);
    expect(run(bench, IOVA, 4 * PAGE)).toBe(2 * PAGE);
  });
});

describe('random mappings and transfers', () => {
  const step = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ page: fc.nat(15), frame: fc.integer({ min: 300, max: 316 }), access: fc.nat(3) }),
    },
    { weight: 3, arbitrary: fc.record({ write: fc.boolean(), at: fc.nat(15 * PAGE), length: fc.nat(5 * PAGE) }) },
    { weight: 1, arbitrary: fc.record({ invalidate: fc.nat(15), order: fc.nat(3) }) },
  );

  it('answer, count, fault and move as page by page', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 10, maxLength: 60 }), fc.boolean(), (steps, cachingMode) => {
        const worlds = [true, false].map(byRun => {
          const bench = mappedBench([], { cachingMode, collapseFaults: true }).enableQueue();
          for (let i = 300 * PAGE; i < 317 * PAGE; i += 8) bench.memory.windows[0]!.bytes[i] = i >> 12;
          const gate = { busMaster: true, generation: 0 };
          const translator = byRun ? bench.unit : new PageByPage(bench.unit);
          const { memory } = bench;
          return { bench, port: new TranslatedDmaPort({ translator, memory, requesterId: RID, gate }) };
        });
        for (const one of steps) {
          const seen = worlds.map(({ bench, port }) => {
            if ('frame' in one) {
              bench.map(IOVA + BigInt(one.page * PAGE), one.frame, BigInt(one.access));
              return '';
            }
            if ('invalidate' in one) {
              const address = IOVA + BigInt(one.invalidate * PAGE);
              bench.submit([(BigInt(DOMAIN) << 16n) | 0x32n, address | BigInt(one.order)]);
              return '';
            }
            const buffer = new Uint8Array(one.length).map((_, i) => (one.write ? i ^ 0x5a : 0));
            const low = Number(IOVA) + one.at;
            const status = one.write
              ? port.write(0, low, buffer, 0, one.length)
              : port.read(0, low, buffer, 0, one.length);
            bench.clearRecord(0);
            return `${status} ${Buffer.from(buffer).toString('base64')} ${JSON.stringify(bench.record(0).address, bigint)}`;
          });
          expect(seen[0]).toBe(seen[1]);
        }
        const [byRun, byPage] = worlds as [(typeof worlds)[0], (typeof worlds)[0]];
        expect(byRun.bench.unit.statistics).toEqual(byPage.bench.unit.statistics);
        expect(byRun.port.counters).toEqual(byPage.port.counters);
        const bytes = worlds.map(({ bench }) => bench.memory.windows[0]!.bytes);
        expect(Buffer.compare(bytes[0]!, bytes[1]!)).toBe(0);
      }),
      { numRuns: 40 },
    );
  });
});

function bigint(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
