/** Mappings as walks and invalidations show them. */
import { describe, expect, it } from 'vitest';
import { EventLog } from '../event-log.ts';
import { Bench, DOMAIN, READ, RID } from './support.ts';

const PAGE = 4096;
const IOVA = 0x10_0000n;
const LARGE = 0x80n;

function bench(options = {}): { bench: Bench; events: EventLog } {
  const events = new EventLog();
  const it = new Bench(options, { checks: true, trace: events });
  it.setContext(RID, { domain: DOMAIN });
  it.enable().enableQueue();
  return { bench: it, events };
}

const flushPage = (iova: bigint, order = 0): [bigint, bigint] => [
  (BigInt(DOMAIN) << 16n) | 0x32n,
  iova | BigInt(order),
];
const flushDomain = (domain = DOMAIN): [bigint, bigint] => [(BigInt(domain) << 16n) | 0x22n, 0n];
const flushAll: [bigint, bigint] = [0x12n, 0n];
const changes = (events: EventLog) =>
  events.take('translation', 'attach', 'invalidation').map(({ kind, fields }) => [kind, fields.iova, fields.pages]);

describe('walks', () => {
  it('add what they find, once', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40, 1n);
    b.translate(IOVA + 0x10n);
    b.submit([0x12n, 0n]);
    b.translate(IOVA);
    expect(events.of('mapping.added')).toEqual([
      { domain: DOMAIN, iova: IOVA, frame: 40, pages: 1, permissions: 1, how: 'walk', shift: 12 },
    ]);
  });

  it('add large pages as one', () => {
    const { bench: b, events } = bench();
    b.setEntry(0x20_0000n, 2, (512n << 12n) | LARGE | 3n);
    b.translate(0x20_5000n);
    expect(events.of('mapping.added')).toMatchObject([{ iova: 0x20_0000n, frame: 512, pages: 512, shift: 21 }]);
  });

  it('change what was known otherwise', () => {
    const { bench: b, events } = bench({ cachingMode: false });
    b.map(IOVA, 40, 1n);
    b.translate(IOVA);
    b.map(IOVA, 41, 3n);
    b.translate(IOVA, 2);
    expect(events.of('mapping.changed')).toEqual([
      {
        domain: DOMAIN,
        iova: IOVA,
        frame: 41,
        pages: 1,
        permissions: 3,
        how: 'walk',
        shift: 12,
        oldFrame: 40,
        oldPermissions: 1,
      },
    ]);
  });
});

describe('a page-selective invalidation', () => {
  it('tells that a mapping is gone, after the invalidation itself', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.unmap(IOVA);
    events.take();
    b.submit(flushPage(IOVA));
    expect(events.take()).toMatchObject([
      { kind: 'invalidation' },
      { kind: 'mapping.removed', fields: { iova: IOVA, frame: 40, pages: 1, permissions: 3, how: 'invalidation' } },
    ]);
  });

  it('tells of its range only', () => {
    const { bench: b, events } = bench();
    for (let i = 0; i < 4; i++) b.map(IOVA + BigInt(i * PAGE), 40 + i);
    for (let i = 0; i < 4; i++) b.translate(IOVA + BigInt(i * PAGE));
    for (let i = 0; i < 4; i++) b.unmap(IOVA + BigInt(i * PAGE));
    events.take();
    b.submit(flushPage(IOVA + 0x2000n, 1));
    expect(changes(events)).toEqual([['mapping.removed', IOVA + 0x2000n, 2]]);
    b.submit(flushPage(IOVA));
    expect(changes(events)).toEqual([['mapping.removed', IOVA, 1]]);
  });

  it('tells that a mapping changed', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.map(IOVA, 41, 1n);
    b.submit(flushPage(IOVA));
    expect(events.of('mapping.changed')).toMatchObject([
      { how: 'invalidation', frame: 41, permissions: 1, oldFrame: 40, oldPermissions: 3 },
    ]);
  });

  it('tells of new mappings, neighbours as one', () => {
    const { bench: b, events } = bench({ cachingMode: true });
    b.map(IOVA, 40);
    b.translate(IOVA);
    for (const [i, frame, permissions] of [
      [1, 50, 3n],
      [2, 51, 3n],
      [3, 53, 3n],
      [4, 54, 1n],
      [6, 56, 1n],
    ] as const) {
      b.map(IOVA + BigInt(i * PAGE), frame, permissions);
    }
    events.take();
    b.submit(flushPage(IOVA, 3));
    expect(events.take().slice(1)).toMatchObject([
      { kind: 'mapping.added', fields: { iova: IOVA + 0x1000n, frame: 50, pages: 2, how: 'invalidation' } },
      { kind: 'mapping.added', fields: { iova: IOVA + 0x3000n, frame: 53, pages: 1 } },
      { kind: 'mapping.added', fields: { iova: IOVA + 0x4000n, frame: 54, pages: 1, permissions: 1 } },
      { kind: 'mapping.added', fields: { iova: IOVA + 0x6000n, frame: 56, pages: 1 } },
    ]);
  });

  it('tells of a large page of which it hits a part', () => {
    const { bench: b, events } = bench();
    b.setEntry(0x20_0000n, 2, (512n << 12n) | LARGE | 3n);
    b.translate(0x20_0000n);
    b.setEntry(0x20_0000n, 2, 0n);
    events.take();
    b.submit(flushPage(0x20_7000n));
    expect(changes(events)).toEqual([['mapping.removed', 0x20_0000n, 512]]);
  });

  it('tells that a large page was split', () => {
    const { bench: b, events } = bench();
    b.setEntry(0x20_0000n, 2, (512n << 12n) | LARGE | 3n);
    b.translate(0x20_0000n);
    b.setEntry(0x20_0000n, 2, 0n);
    b.map(0x20_7000n, 40);
    events.take();
    b.submit(flushPage(0x20_0000n, 9));
    expect(changes(events)).toEqual([
      ['mapping.removed', 0x20_0000n, 512],
      ['mapping.added', 0x20_7000n, 1],
    ]);
  });

  it('tells that small pages became a large one', () => {
    const { bench: b, events } = bench();
    for (const page of [0, 7]) {
      b.map(0x20_0000n + BigInt(page * PAGE), 40 + page);
      b.translate(0x20_0000n + BigInt(page * PAGE));
    }
    b.setEntry(0x20_0000n, 2, (512n << 12n) | LARGE | 3n);
    events.take();
    b.submit(flushPage(0x20_0000n, 9));
    expect(changes(events)).toEqual([
      ['mapping.removed', 0x20_0000n, 1],
      ['mapping.removed', 0x20_7000n, 1],
      ['mapping.added', 0x20_0000n, 512],
    ]);
  });

  it('says nothing of another domain', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.unmap(IOVA);
    events.take();
    b.submit([(9n << 16n) | 0x32n, IOVA]);
    expect(changes(events)).toEqual([]);
  });
});

describe('a fault', () => {
  it('is told after the mapping that is gone from its page, though no invalidation has come to it', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.map(IOVA + 0x1000n, 41);
    b.translate(IOVA);
    b.translate(IOVA + 0x1000n);
    b.submit([0x12n, 0n]);
    b.unmap(IOVA);
    b.unmap(IOVA + 0x1000n);
    events.take();
    expect(b.translate(IOVA)).toBe(false);
    expect(events.take('stale')).toMatchObject([
      { kind: 'mapping.removed', fields: { domain: DOMAIN, iova: IOVA, pages: 1, how: 'walk' } },
      { kind: 'fault', fields: { iova: IOVA, cause: 'notPresent' } },
    ]);
  });

  it('tells of no mapping that is still there', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40, 1n);
    b.translate(IOVA);
    events.take();
    expect(b.translate(IOVA, 2)).toBe(false);
    expect(events.of('mapping.removed')).toEqual([]);
    expect(events.of('fault').length).toBe(1);
  });
});

describe('invalidations of a domain, and of all', () => {
  it.each([
    ['domain', flushDomain()],
    ['all', flushAll],
  ] as const)('tell what came and went: %s', (_name, descriptor) => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.map(1n << 40n, 41);
    b.translate(IOVA);
    b.translate(1n << 40n);
    b.unmap(IOVA);
    b.map((1n << 40n) + 0x1000n, 60);
    events.take();
    b.submit([descriptor[0], descriptor[1]]);
    expect(changes(events)).toEqual([
      ['mapping.removed', IOVA, 1],
      ['mapping.added', (1n << 40n) + 0x1000n, 1],
    ]);
    b.submit([descriptor[0], descriptor[1]]);
    expect(changes(events)).toEqual([]);
  });

  it('go through every domain that somebody is attached to', () => {
    const { bench: b, events } = bench();
    const other = b.newTable();
    b.setContext(RID + 8, { domain: 9, table: other });
    b.setEntry(IOVA, 1, (50n << 12n) | 3n, 4, other);
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.translate(IOVA, READ, RID + 8);
    b.unmap(IOVA);
    b.setEntry(IOVA, 1, 0n, 4, other);
    events.take();
    b.submit(flushAll);
    expect(events.take().slice(1)).toMatchObject([
      { kind: 'mapping.removed', fields: { domain: DOMAIN, frame: 40 } },
      { kind: 'mapping.removed', fields: { domain: 9, frame: 50 } },
    ]);
  });
});
