/**
 * Random drivers. One that invalidates as the specification asks is never told of a stale answer; of one that forgets to, each answer
 * that differs from the tables is told, and no other. What the caches may hold is a plain map here.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventLog } from '../event-log.ts';
import { Bench, DOMAIN, READ, RID, WRITE } from './support.ts';

const PAGE = 4096;
/** Pages on both sides of 2 MiB of addresses and of 4 GiB. */
const ADDRESSES = [
  0x1f_e000n,
  0x1f_f000n,
  0x20_0000n,
  0x20_1000n,
  0xffff_f000n,
  0x1_0000_0000n,
  0x1_0000_1000n,
] as const;
const NEIGHBOURS = 4;

interface Entry {
  readonly frame: number;
  readonly permissions: number;
}

const page = fc.nat(ADDRESSES.length - 1);
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('map' as const),
      page,
      frame: fc.integer({ min: 300, max: 303 }),
      permissions: fc.constantFrom(1, 2, 3, 3),
      flush: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('unmap' as const), page, flush: fc.boolean() }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant('dma' as const), page, access: fc.constantFrom(READ, WRITE) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('run' as const), access: fc.constantFrom(READ, WRITE) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('flushAll' as const), domain: fc.boolean() }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Driver {
  readonly events = new EventLog();
  readonly bench: Bench;
  readonly tables = new Map<number, Entry>();
  /** `undefined`: known to be absent. */
  readonly cached = new Map<number, Entry | undefined>();
  stale = 0;

  constructor(private readonly cachingMode: boolean) {
    this.bench = new Bench({ cachingMode, collapseFaults: true }, { checks: true, trace: this.events });
    this.bench.setContext(RID, { domain: DOMAIN });
    this.bench.enable().enableQueue();
  }

  /** `careful`: every change is followed by its invalidation, whatever the step says. */
  take(one: Step, careful: boolean): void {
    switch (one.do) {
      case 'map':
        this.tables.set(one.page, { frame: one.frame, permissions: one.permissions });
        this.bench.map(ADDRESSES[one.page]!, one.frame, BigInt(one.permissions));
        if (one.flush || careful) this.flush(one.page);
        break;
      case 'unmap':
        this.tables.delete(one.page);
        this.bench.unmap(ADDRESSES[one.page]!);
        if (one.flush || careful) this.flush(one.page);
        break;
      case 'dma':
        this.dma(one.page, one.access);
        break;
      case 'run':
        this.run(one.access);
        break;
      case 'flushAll':
        this.bench.submit(one.domain ? [(BigInt(DOMAIN) << 16n) | 0x22n, 0n] : [0x12n, 0n]);
        this.cached.clear();
    }
  }

  private flush(at: number): void {
    this.bench.submit([(BigInt(DOMAIN) << 16n) | 0x32n, ADDRESSES[at]!]);
    this.cached.delete(at);
  }

  /** What the tables allow, where they do. */
  private allowed(at: number, access: number): Entry | undefined {
    const entry = this.tables.get(at);
    return entry !== undefined && (entry.permissions & access) === access ? entry : undefined;
  }

  private dma(at: number, access: number): void {
    const fresh = this.allowed(at, access);
    const known = this.cached.get(at);
    let wanted: number | undefined;
    let what: string | undefined;
    if (this.cached.has(at) && known === undefined) {
      if (fresh !== undefined) what = 'notPresent';
    } else if (known !== undefined && (known.permissions & access) === access) {
      wanted = known.frame;
      if (fresh?.frame !== known.frame) what = 'iotlb';
    } else {
      // Not known, or known without the permission: the unit walks.
      this.cached.delete(at);
      wanted = fresh?.frame;
      if (fresh !== undefined) this.cached.set(at, fresh);
      else if (this.cachingMode && !this.tables.has(at)) this.cached.set(at, undefined);
    }
    this.events.log.length = 0;
    const found = this.bench.translate(ADDRESSES[at]!, access) ? this.bench.out.frame : undefined;
    expect(found).toBe(wanted);
    const told = this.events.of('stale');
    expect(told.map(({ what: kind, iova }) => [kind, iova])).toEqual(
      what === undefined ? [] : [[what, ADDRESSES[at]!]],
    );
    if (what === undefined) return;
    this.stale++;
    expect(told[0]).toMatchObject({
      access,
      usedFrame: wanted ?? 0,
      freshFrame: this.tables.get(at)?.frame ?? 0,
      freshPermissions: this.tables.get(at)?.permissions ?? 0,
    });
  }

  /** The first pages as one run, if they are: each is compared. */
  private run(access: number): void {
    const first = this.cached.get(0);
    if (first === undefined || (first.permissions & access) !== access) return;
    this.events.log.length = 0;
    this.bench.unit.translateRun(RID, 0, Number(ADDRESSES[0]), access, NEIGHBOURS * PAGE, this.bench.out);
    const pages = this.bench.out.bytes / PAGE;
    const wanted: bigint[] = [];
    for (let at = 0; at < pages; at++) {
      const known = this.cached.get(at);
      expect(known?.frame).toBe(first.frame + at);
      if (this.allowed(at, access)?.frame !== known?.frame) wanted.push(ADDRESSES[at]!);
    }
    this.stale += wanted.length;
    expect(this.events.of('stale').map(({ iova }) => iova)).toEqual(wanted);
  }
}

describe.each([false, true])('a driver, caching mode %s', cachingMode => {
  const steps = fc.array(step, { minLength: 20, maxLength: 120, size: 'max' });

  it('that invalidates every change is never told of a stale answer', () => {
    fc.assert(
      fc.property(steps, all => {
        const driver = new Driver(cachingMode);
        for (const one of all) driver.take(one, true);
        expect(driver.stale).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it('that forgets to is told of every stale answer, and of nothing else', () => {
    let stale = 0;
    fc.assert(
      fc.property(steps, all => {
        const driver = new Driver(cachingMode);
        for (const one of all) driver.take(one, false);
        stale += driver.stale;
      }),
      { numRuns: 120 },
    );
    // Else the property would say nothing.
    expect(stale).toBeGreaterThan(50);
  });
});
