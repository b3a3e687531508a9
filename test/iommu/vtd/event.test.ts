/** What a unit tells in events: translations, invalidations, faults, attachments, descriptors that change, resets. */
import { describe, expect, it } from 'vitest';
import { CONTEXTS_TOLD } from '../../../src/iommu/vtd/context-scan.ts';
import { EventClass } from '../../../src/trace/event-kinds.ts';
import { EventLog } from '../event-log.ts';
import { ATOMIC, Bench, type ContextFields, DOMAIN, Frame, Gcmd, READ, Reg, RID, WRITE } from './support.ts';

const PAGE = 4096;
const IOVA = 0x10_0000n;
const LARGE = 0x80n;

function bench(options = {}, context: ContextFields = {}, checks = true): { bench: Bench; events: EventLog } {
  const events = new EventLog();
  const it = new Bench(options, { checks, trace: events });
  it.setContext(RID, { domain: DOMAIN, ...context });
  it.enable().enableQueue();
  return { bench: it, events };
}

function run(b: Bench, iova: bigint, length: number, access = READ): boolean {
  return b.unit.translateRun(RID, Number(iova >> 32n), Number(BigInt.asIntN(32, iova)), access, length, b.out);
}

describe('translation events', () => {
  it('say where the answer came from', () => {
    const { bench: b, events } = bench({}, {}, false);
    b.map(IOVA, 40, 1n);
    b.translate(IOVA + 5n);
    b.translate(IOVA + 6n);
    b.command(Gcmd.te, false);
    b.translate(IOVA, WRITE);
    const fields = { requesterId: RID, access: READ, permissions: 1, shift: 12, frame: 40, domain: DOMAIN };
    expect(events.of('translation')).toEqual([
      { ...fields, source: 'walk', iova: IOVA + 5n },
      { ...fields, source: 'iotlb', iova: IOVA + 6n },
      { ...fields, source: 'untranslated', iova: IOVA, access: WRITE, permissions: 3, frame: 0x100, domain: -1 },
    ]);
  });

  it('say that requests passed through', () => {
    const { bench: b, events } = bench({}, { type: 2 }, false);
    b.translate(IOVA);
    expect(events.of('translation')).toMatchObject([{ source: 'passThrough', domain: DOMAIN, frame: 0x100 }]);
  });

  it('say that interrupt messages are not translated', () => {
    const { bench: b, events } = bench({}, {}, false);
    b.translate(0xfee0_0000n, WRITE);
    expect(events.of('translation')).toMatchObject([{ source: 'untranslated', domain: -1, frame: 0xfee00 }]);
  });

  it('are one for a run', () => {
    const { bench: b, events } = bench();
    for (let i = 0; i < 3; i++) b.map(IOVA + BigInt(i * PAGE), 40 + i);
    for (let i = 0; i < 3; i++) b.translate(IOVA + BigInt(i * PAGE));
    events.take();
    run(b, IOVA, 3 * PAGE);
    expect(events.take()).toMatchObject([{ kind: 'translation', fields: { source: 'iotlb', frame: 40 } }]);
  });

  it('do not take a hit after a fault for a walk', () => {
    const { bench: b, events } = bench({}, {}, false);
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.translate(IOVA + 0x1000n);
    b.translate(IOVA);
    expect(events.of('translation').map(({ source }) => source)).toEqual(['walk', 'iotlb']);
  });

  it('are not made where nobody wants them', () => {
    const { bench: b, events } = bench();
    events.mask = ~EventClass.translation;
    b.map(IOVA, 40);
    b.translate(IOVA);
    expect(events.of('translation')).toEqual([]);
  });
});

describe('invalidation events', () => {
  const domain = BigInt(DOMAIN) << 16n;
  const nothing = { iova: 0n, pages: 0, origin: 'queue', leafOnly: 0, requesterId: 0 };

  it.each([
    ['IOTLB global', [0x12n, 0n], { target: 'iotlb', scope: 'all', domain: -1 }],
    ['IOTLB by domain', [domain | 0x22n, 0n], { target: 'iotlb', scope: 'domain', domain: DOMAIN }],
    [
      'IOTLB by page',
      [domain | 0x32n, 0x7f_ffff_f000n],
      { target: 'iotlb', scope: 'range', domain: DOMAIN, iova: 0x7f_ffff_f000n, pages: 1 },
    ],
    [
      'IOTLB by pages, aligned, with the hint',
      [domain | 0x32n, 0xffff_f000n | 0x43n],
      { target: 'iotlb', scope: 'range', domain: DOMAIN, iova: 0xffff_8000n, pages: 8, leafOnly: 1 },
    ],
    [
      'IOTLB by as many pages as there may be',
      [domain | 0x32n, 0xffff_f000n | 18n],
      { target: 'iotlb', scope: 'range', domain: DOMAIN, iova: 0xc000_0000n, pages: 2 ** 18 },
    ],
    ['context global', [0x11n, 0n], { target: 'context', scope: 'all', domain: -1 }],
    ['context by domain', [domain | 0x21n, 0n], { target: 'context', scope: 'domain', domain: DOMAIN }],
    [
      'context by device',
      [domain | 0x31n | (BigInt(RID) << 32n), 0n],
      { target: 'context', scope: 'device', domain: DOMAIN, requesterId: RID },
    ],
  ] as const)('%s', (_name, descriptor, fields) => {
    const { bench: b, events } = bench();
    b.submit([descriptor[0], descriptor[1]]);
    expect(events.of('invalidation')).toEqual([{ ...nothing, ...fields }]);
  });

  it('tell of those by registers', () => {
    const { bench: b, events } = bench();
    b.command(Gcmd.qie, false);
    b.write64(Reg.iva, IOVA | 1n);
    b.write64(Reg.iotlb, (1n << 63n) | (3n << 60n) | (BigInt(DOMAIN) << 32n));
    b.jobs.run();
    b.write64(Reg.ccmd, (1n << 63n) | (1n << 61n));
    b.jobs.run();
    expect(events.of('invalidation')).toMatchObject([
      { origin: 'register', target: 'iotlb', scope: 'range', iova: IOVA, pages: 2, domain: DOMAIN },
      { origin: 'register', target: 'context', scope: 'all' },
    ]);
  });

  it('tell of waits as they complete', () => {
    const { bench: b, events } = bench();
    const status = BigInt(Frame.status) << 12n;
    b.submit([0x25n | (0x1234n << 32n), status + 8n], [0x15n, 0n], [0x25n, 1n << 30n]);
    expect(events.of('invalidation.wait')).toEqual([
      { written: 1, interrupt: 0, address: status + 8n, data: 0x1234 },
      { written: 0, interrupt: 1, address: 0n, data: 0 },
      { written: 0, interrupt: 0, address: 1n << 30n, data: 0 },
    ]);
  });
});

describe('fault events', () => {
  const entry = (table: number, index: number) => (BigInt(table) << 12n) + BigInt(index * 8);
  function tablesOf(b: Bench, iova: bigint): number[] {
    const tables = [b.tableRoot];
    for (let level = 4; level > 1; level--) {
      const at = Number((iova >> BigInt(12 + 9 * (level - 1))) & 511n) * 8;
      b.memory.load64(tables[tables.length - 1]!, at);
      tables.push((b.memory.high << 20) | (b.memory.low >>> 12));
    }
    return tables;
  }

  it('tell of a page that is not there', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    const [, , , leaf] = tablesOf(b, IOVA);
    b.translate(IOVA + 0x1004n, WRITE);
    expect(events.of('fault')).toEqual([
      {
        requesterId: RID,
        access: WRITE,
        outcome: 'recorded',
        cause: 'notPresent',
        iova: IOVA + 0x1004n,
        reason: 5,
        domain: DOMAIN,
        pasid: -1,
        level: 1,
        entry: 0n,
        entryAddress: entry(leaf!, 0x101),
        addressWidth: 48,
      },
    ]);
  });

  it('tell of an access that is not allowed, and of the entry', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40, 1n);
    b.translate(IOVA, WRITE);
    expect(events.of('fault')).toMatchObject([{ cause: 'denied', reason: 5, level: 1, entry: (40n << 12n) | 1n }]);
  });

  it('tell of both halves of an access that needs both', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40, 2n);
    b.translate(IOVA, ATOMIC);
    expect(events.of('fault')).toMatchObject([
      { cause: 'denied', reason: 6, access: ATOMIC, entry: (40n << 12n) | 2n },
    ]);
  });

  it('tell of reserved bits', () => {
    const { bench: b, events } = bench();
    const bad = (40n << 12n) | (1n << 51n) | 3n;
    b.setEntry(IOVA, 1, bad);
    b.translate(IOVA);
    expect(events.of('fault')).toMatchObject([{ cause: 'malformedEntry', reason: 0xc, level: 1, entry: bad }]);
  });

  it('tell of a table that is not in memory, by the entry that points to it', () => {
    const { bench: b, events } = bench();
    const bad = (0x12345n << 12n) | 3n;
    b.setEntry(IOVA, 2, bad);
    const [, , above] = tablesOf(b, IOVA);
    b.translate(IOVA);
    expect(events.of('fault')).toMatchObject([
      { cause: 'tableUnreachable', reason: 7, level: 2, entry: bad, entryAddress: entry(above!, 0) },
    ]);
  });

  it('tell of an address that is too wide, and how wide it may be', () => {
    const { bench: b, events } = bench({}, { width: 1 });
    b.translate(1n << 39n);
    expect(events.of('fault')).toMatchObject([
      { cause: 'addressTooWide', reason: 4, addressWidth: 39, domain: DOMAIN, iova: 1n << 39n },
    ]);
  });

  it('tell of the interrupt range, as an address and as a page', () => {
    const { bench: b, events } = bench();
    b.translate(0xfee0_0000n, READ);
    b.map(IOVA, 0xfee01);
    b.translate(IOVA);
    expect(events.of('fault')).toMatchObject([
      { cause: 'interruptRange', reason: 0xe, iova: 0xfee0_0000n },
      { cause: 'interruptRange', reason: 0xe, iova: IOVA },
    ]);
  });

  it('tell of a requester without a context entry', () => {
    const { bench: b, events } = bench();
    b.translate(IOVA, READ, RID + 3);
    expect(events.of('fault')).toMatchObject([
      {
        requesterId: RID + 3,
        cause: 'notAttached',
        reason: 2,
        domain: -1,
        level: 0,
        entry: 0n,
        entryAddress: (BigInt(Frame.context) << 12n) + 3n * 16n,
      },
    ]);
    b.translate(IOVA, READ, 0x500);
    expect(events.of('fault')[1]).toMatchObject({
      cause: 'notAttached',
      reason: 1,
      entryAddress: (BigInt(Frame.root) << 12n) + 5n * 16n,
    });
  });

  it('tell of a context entry that cannot be used', () => {
    const { bench: b, events } = bench({}, { type: 3 });
    b.translate(IOVA);
    const value = (BigInt(b.tableRoot) << 12n) | 0xdn;
    expect(events.of('fault')).toMatchObject([{ cause: 'malformedContext', reason: 3, entry: value, level: 0 }]);
  });

  it('tell of the root table mode', () => {
    const { bench: b, events } = bench();
    b.enable(1n);
    b.submit([0x11n, 0n]);
    b.translate(IOVA);
    expect(events.of('fault')).toMatchObject([{ cause: 'malformedContext', reason: 0x30 }]);
  });

  it('tell what became of them', () => {
    const { bench: b, events } = bench({ faultRecords: 1 });
    b.translate(IOVA);
    b.translate(IOVA);
    b.setContext(RID + 8, { fpd: true });
    b.translate(IOVA, READ, RID + 8);
    expect(events.of('fault').map(({ outcome }) => outcome)).toEqual(['recorded', 'overflowed', 'suppressed']);
    const collapsing = bench({ collapseFaults: true });
    collapsing.bench.translate(IOVA);
    collapsing.bench.translate(IOVA);
    expect(collapsing.events.of('fault').map(({ outcome }) => outcome)).toEqual(['recorded', 'collapsed']);
  });

  it('come after all else about them', () => {
    const { bench: b, events } = bench();
    b.translate(IOVA, READ, RID + 3);
    expect(events.log.at(-1)?.kind).toBe('fault');
  });

  it('tell of faults on purpose as of pages that are not there', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.unit.refuse(RID, 0, Number(IOVA), WRITE);
    expect(events.of('fault')).toMatchObject([{ cause: 'notPresent', reason: 5, domain: DOMAIN, iova: IOVA }]);
    expect(b.reason).toBe(5);
    expect(b.frameAt(IOVA)).toBe(40);
  });
});

describe('beside a fault of a requester without a context entry', () => {
  it('others that have one are told, once for each change', () => {
    const { bench: b, events } = bench();
    b.setContext(0x0210, { domain: 9 });
    b.translate(IOVA, READ, RID + 3);
    b.translate(IOVA, READ, RID + 3);
    expect(events.of('context.present')).toEqual([
      { requesterId: RID, for: RID + 3, domain: DOMAIN },
      // Both buses share a context table here.
      { requesterId: RID + 0x10, for: RID + 3, domain: 9 },
      { requesterId: 0x0200, for: RID + 3, domain: DOMAIN },
      { requesterId: 0x0210, for: RID + 3, domain: 9 },
    ]);
    b.submit([0x11n, 0n]);
    b.translate(IOVA, READ, RID + 3);
    expect(events.of('context.present').length).toBe(8);
  });

  it('no more than a limit are told', () => {
    const { bench: b, events } = bench();
    for (let i = 1; i < 20; i++) b.setContext(RID + i * 8);
    b.translate(IOVA, READ, RID + 3);
    expect(events.of('context.present').length).toBe(CONTEXTS_TOLD);
  });

  it('nobody is told where nobody is there', () => {
    const { bench: b, events } = bench({}, { present: false });
    b.translate(IOVA);
    expect(events.of('context.present')).toEqual([]);
    expect(events.of('fault').length).toBe(1);
  });
});

describe('attachments', () => {
  const flushContexts: [bigint, bigint] = [0x11n, 0n];
  const attach = { requesterId: RID, domain: DOMAIN, kind: 'translated', pasid: -1 };

  it('are told when an entry is seen first, not again', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.submit(flushContexts);
    b.translate(IOVA);
    expect(events.of('attach')).toEqual([attach]);
    expect(events.of('detach')).toEqual([]);
  });

  it('are told of pass-through', () => {
    const { bench: b, events } = bench({}, { type: 2 });
    b.translate(IOVA);
    expect(events.of('attach')).toEqual([{ ...attach, kind: 'passThrough' }]);
  });

  it('end where the entry is gone at an invalidation that covers it', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setContext(RID, { present: false });
    expect(events.of('detach')).toEqual([]);
    b.submit([(BigInt(DOMAIN) << 16n) | 0x31n | (BigInt(RID + 1) << 32n), 0n]);
    expect(events.of('detach')).toEqual([]);
    b.submit([(BigInt(DOMAIN) << 16n) | 0x31n | (BigInt(RID) << 32n), 0n]);
    expect(events.of('detach')).toEqual([{ requesterId: RID, domain: DOMAIN, pasid: -1 }]);
  });

  it('end where a fault shows that the entry is gone', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.submit(flushContexts);
    b.setContext(RID, { present: false });
    events.take();
    b.translate(IOVA);
    expect(events.take('context.present').map(({ kind }) => kind)).toEqual(['detach', 'fault']);
  });

  it('move from one domain to another', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setContext(RID, { domain: 9 });
    events.take();
    b.submit([(BigInt(DOMAIN) << 16n) | 0x21n, 0n]);
    expect(events.take()).toMatchObject([
      { kind: 'invalidation' },
      { kind: 'detach', fields: { domain: DOMAIN } },
      { kind: 'attach', fields: { domain: 9 } },
    ]);
  });

  it('of the last requester end after what is gone from the tables, and what is left is left', () => {
    const { bench: b, events } = bench();
    for (let i = 0; i < 3; i++) b.map(IOVA + BigInt(i * PAGE), 40 + i);
    for (let i = 0; i < 3; i++) b.translate(IOVA + BigInt(i * PAGE));
    b.unmap(IOVA);
    b.unmap(IOVA + 0x1000n);
    b.setContext(RID, { present: false });
    events.take();
    b.submit(flushContexts);
    expect(events.take()).toMatchObject([
      { kind: 'invalidation' },
      { kind: 'mapping.removed', fields: { how: 'detach', iova: IOVA, pages: 2, domain: DOMAIN } },
      { kind: 'detach', fields: { domain: DOMAIN } },
    ]);
    // Nothing of the domain is known any more.
    b.submit([(BigInt(DOMAIN) << 16n) | 0x22n, 0n]);
    expect(events.take().map(({ kind }) => kind)).toEqual(['invalidation']);
  });

  it('of others keep the domain', () => {
    const { bench: b, events } = bench();
    b.setContext(RID + 8);
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.translate(IOVA, READ, RID + 8);
    b.setContext(RID, { present: false });
    b.unmap(IOVA);
    b.submit(flushContexts);
    expect(events.of('mapping.removed')).toEqual([]);
    b.submit([(BigInt(DOMAIN) << 16n) | 0x32n, IOVA]);
    expect(events.of('mapping.removed')).toMatchObject([{ how: 'invalidation' }]);
  });
});

describe('attachments that are found in the context tables', () => {
  const flushContexts: [bigint, bigint] = [0x11n, 0n];
  const OTHER = RID + 8;

  it('keep the domain where one leaves and another did no DMA yet', () => {
    const { bench: b, events } = bench();
    b.setContext(OTHER);
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setContext(RID, { present: false });
    events.take();
    b.submit(flushContexts);
    expect(events.take('context.present')).toMatchObject([
      { kind: 'invalidation' },
      // Before the detach: the domain has a user all the time.
      { kind: 'attach', fields: { requesterId: OTHER, domain: DOMAIN, kind: 'translated' } },
      { kind: 'detach', fields: { requesterId: RID, domain: DOMAIN } },
    ]);
    b.unmap(IOVA);
    b.submit([(BigInt(DOMAIN) << 16n) | 0x32n, IOVA]);
    expect(events.of('mapping.removed')).toMatchObject([{ how: 'invalidation' }]);
    b.setContext(OTHER, { present: false });
    events.take();
    b.submit(flushContexts);
    expect(events.of('detach')).toMatchObject([{ requesterId: OTHER }]);
  });

  it.each<[string, ContextFields]>([
    ['of another domain', { domain: DOMAIN + 1 }],
    ['with other tables', { table: Frame.data }],
    ['that pass through', { type: 2 }],
  ])('do not keep the domain if they are those %s', (_name, fields) => {
    const { bench: b, events } = bench();
    b.setContext(OTHER, fields);
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setContext(RID, { present: false });
    events.take();
    b.submit(flushContexts);
    const kinds = events.take('context.present').map(({ kind, fields: { requesterId } }) => [kind, requesterId]);
    expect(kinds.slice(1)).toEqual([
      ['detach', RID],
      ['attach', OTHER],
    ]);
  });

  it.each<[string, bigint, number]>([
    ['all', 0x11n, 2],
    ['its domain', (BigInt(DOMAIN) << 16n) | 0x21n, 1],
    ['the requester', (BigInt(OTHER) << 32n) | (BigInt(DOMAIN) << 16n) | 0x31n, 1],
    ['the requester and its neighbours', (BigInt(OTHER + 1) << 32n) | (3n << 48n) | 0x31n, 1],
  ])('are known at an invalidation of %s, before any DMA', (_name, descriptor, count) => {
    const { bench: b, events } = bench();
    b.setContext(RID, { domain: 9, table: Frame.data });
    b.setContext(OTHER);
    b.map(IOVA, 40);
    events.take();
    b.submit([descriptor, 0n]);
    b.submit([descriptor, 0n]);
    const attached = events.of('attach');
    expect(attached).toContainEqual({ requesterId: OTHER, domain: DOMAIN, kind: 'translated', pasid: -1 });
    expect(attached.length).toBe(count);
    events.take();
    b.submit([(BigInt(DOMAIN) << 16n) | 0x22n, 0n]);
    expect(events.of('mapping.added')).toMatchObject([{ iova: IOVA, frame: 40, how: 'invalidation' }]);
  });

  it('are not looked for before there is a root table', () => {
    const events = new EventLog();
    const b = new Bench({}, { checks: true, trace: events });
    b.setContext(RID);
    b.enableQueue();
    b.submit(flushContexts);
    expect(events.of('attach')).toEqual([]);
  });

  it.each<[string, ContextFields]>([
    ['that cannot be used', { type: 3 }],
    ['with reserved bits', { extraLow: 1n << 4n }],
    ['that are not present', { present: false }],
  ])('are not those %s', (_name, fields) => {
    const { bench: b, events } = bench();
    b.setContext(OTHER, fields);
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setContext(RID, { present: false });
    events.take();
    b.submit(flushContexts);
    expect(events.of('attach')).toEqual([]);
    expect(events.of('detach').length).toBe(1);
  });

  it('are looked for only where somebody hears of attachments', () => {
    const { bench: b, events } = bench();
    b.setContext(OTHER);
    b.translate(IOVA);
    events.mask = ~EventClass.attach;
    b.setContext(RID, { present: false });
    b.submit(flushContexts);
    b.translate(IOVA);
    events.mask = -1;
    b.setContext(OTHER, { present: false });
    events.take();
    b.submit(flushContexts);
    expect(events.of('detach')).toEqual([]);
  });
});

describe('a context entry that cannot be used any more', () => {
  const flushContexts: [bigint, bigint] = [0x11n, 0n];
  const attach = { requesterId: RID, domain: DOMAIN, pasid: -1 };

  it.each<[string, ContextFields]>([
    ['reserved bits', { extraLow: 1n << 4n }],
    ['a type that there is not', { type: 3 }],
    ['a width that there is not', { width: 5 }],
  ])('is told as a faulty attachment, once, and as a good one when it is mended: %s', (_name, fields) => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.setContext(RID, fields);
    events.take();
    b.submit(flushContexts);
    b.translate(IOVA);
    b.submit(flushContexts);
    expect(events.of('attach')).toEqual([{ ...attach, kind: 'faulty' }]);
    expect(events.of('detach')).toEqual([]);
    b.setContext(RID);
    events.take();
    b.submit(flushContexts);
    b.submit(flushContexts);
    expect(events.of('attach')).toEqual([{ ...attach, kind: 'translated' }]);
    expect(events.of('mapping.removed')).toEqual([]);
  });

  it('keeps the mappings, until it is gone', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.map(IOVA + 0x1000n, 41);
    b.translate(IOVA);
    b.translate(IOVA + 0x1000n);
    b.setContext(RID, { type: 3 });
    b.submit(flushContexts);
    b.unmap(IOVA);
    b.submit([(BigInt(DOMAIN) << 16n) | 0x22n, 0n]);
    expect(events.of('mapping.removed')).toMatchObject([{ iova: IOVA, pages: 1, how: 'invalidation' }]);
    b.setContext(RID, { present: false });
    events.take();
    b.submit(flushContexts);
    expect(events.of('detach').length).toBe(1);
  });

  it('is told as a detach where requests passed through', () => {
    const { bench: b, events } = bench({}, { type: 2 });
    b.translate(IOVA);
    b.setContext(RID, { type: 3 });
    events.take();
    b.submit(flushContexts);
    expect(events.of('detach').length).toBe(1);
    expect(events.of('attach')).toEqual([]);
  });

  it('is not told where it never was good', () => {
    const { bench: b, events } = bench({}, { type: 3 });
    b.translate(IOVA);
    b.submit(flushContexts);
    expect(events.take().map(({ kind }) => kind)).toEqual(['fault', 'invalidation']);
  });
});

describe('a domain that gets other tables', () => {
  it('loses the mappings that these do not have', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.map(IOVA + 0x1000n, 41);
    b.translate(IOVA);
    b.translate(IOVA + 0x1000n);
    const table = b.newTable();
    b.setEntry(IOVA, 1, (40n << 12n) | 3n, 4, table);
    b.setContext(RID, { table });
    events.take();
    b.submit([0x11n, 0n]);
    expect(events.take()).toMatchObject([
      { kind: 'invalidation' },
      { kind: 'attach', fields: { domain: DOMAIN } },
      { kind: 'mapping.removed', fields: { iova: IOVA + 0x1000n, pages: 1, how: 'invalidation' } },
    ]);
  });

  it('keeps them as long as another one uses the old tables', () => {
    const { bench: b, events } = bench();
    b.setContext(RID + 8);
    b.map(IOVA, 40);
    b.translate(IOVA);
    b.translate(IOVA, READ, RID + 8);
    b.setContext(RID, { table: b.newTable() });
    events.take();
    b.submit([0x11n, 0n]);
    expect(events.of('mapping.removed')).toEqual([]);
  });
});

describe('other requesters with a context entry', () => {
  it('are told before a detach', () => {
    const { bench: b, events } = bench();
    b.translate(IOVA);
    b.setContext(RID + 1, { domain: 9 });
    b.setContext(RID, { present: false });
    events.take();
    b.submit([0x11n, 0n]);
    expect(events.take()).toMatchObject([
      { kind: 'invalidation' },
      { kind: 'context.present', fields: { requesterId: RID + 1, for: RID, domain: 9 } },
      { kind: 'detach', fields: { requesterId: RID } },
      { kind: 'attach', fields: { requesterId: RID + 1, domain: 9 } },
    ]);
  });
});

describe('a page table that contains itself', () => {
  const INDEX = 5n;
  const LOOP = (INDEX << 39n) | (INDEX << 30n) | (INDEX << 21n) | (INDEX << 12n);
  const loops = (b: Bench) => b.setEntry(LOOP, 4, (BigInt(b.tableRoot) << 12n) | 3n);

  it('is told, though the walk ends well', () => {
    const { bench: b, events } = bench();
    loops(b);
    expect(b.frameAt(LOOP + 8n)).toBe(b.tableRoot);
    const table = BigInt(b.tableRoot) << 12n;
    expect(events.of('table.loop')).toEqual([
      { requesterId: RID, level: 3, ancestorLevel: 4, iova: LOOP + 8n, domain: DOMAIN, table },
    ]);
    // From the IOTLB there is no walk to look at.
    b.translate(LOOP + 16n);
    expect(events.of('table.loop').length).toBe(1);
  });

  it('is told where the walk ends in a fault, before it', () => {
    const { bench: b, events } = bench();
    loops(b);
    b.translate((INDEX << 39n) | 0x1000n);
    expect(events.take().map(({ kind }) => kind)).toEqual(['attach', 'table.loop', 'fault']);
  });

  it('is told of a table deep below, though the walk begins in the middle', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    // A new table of level 1 below the one of level 2: the root once more.
    b.setEntry(IOVA + 0x20_0000n, 2, (BigInt(b.tableRoot) << 12n) | 3n);
    b.map(LOOP, 41);
    b.translate(IOVA + 0x20_0000n + (INDEX << 12n));
    expect(events.of('table.loop')).toMatchObject([{ level: 1, ancestorLevel: 4 }]);
  });

  it('is not seen in ordinary tables, one of which is a page as well', () => {
    const { bench: b, events } = bench();
    for (let i = 0n; i < 8n; i++) b.map(IOVA + (i << 12n) + (i << 30n), 40);
    b.map(IOVA, b.tableRoot);
    for (let i = 0n; i < 8n; i++) b.translate(IOVA + (i << 12n) + (i << 30n));
    expect(events.of('table.loop')).toEqual([]);
    expect(events.of('fault')).toEqual([]);
  });

  it('is not looked for without checks', () => {
    const { bench: b, events } = bench({}, {}, false);
    loops(b);
    b.translate(LOOP);
    expect(events.of('table.loop')).toEqual([]);
  });
});

describe('a descriptor that changes while it is read', () => {
  const domain = BigInt(DOMAIN) << 16n;

  it('is told, and carried out as it was read first', () => {
    const { bench: b, events } = bench();
    b.enqueue([domain | 0x32n, IOVA]);
    let loads = 0;
    // The first half is read; then it changes.
    b.memory.during = () => {
      if (++loads === 2) b.memory.write64(Frame.queue, 0, domain | 0x22n);
    };
    b.ring();
    b.jobs.run();
    expect(events.of('descriptor.changed')).toEqual([
      { address: BigInt(Frame.queue) << 12n, offset: 0, bytes: 16, before: domain | 0x32n, after: domain | 0x22n },
    ]);
    expect(events.of('invalidation')).toMatchObject([{ scope: 'range', iova: IOVA }]);
  });

  it('is told of its other half', () => {
    const { bench: b, events } = bench();
    b.enqueue([domain | 0x22n, 0n], [domain | 0x32n, IOVA]);
    const { compareDescriptor } = { compareDescriptor: b.memory.load64.bind(b.memory) };
    let loads = 0;
    b.memory.load64 = (frame, offset) => {
      const status = compareDescriptor(frame, offset);
      if (++loads === 4) {
        const { low, high } = b.memory;
        b.memory.write64(Frame.queue, 24, IOVA + 0x1000n);
        b.memory.low = low;
        b.memory.high = high;
      }
      return status;
    };
    b.ring();
    b.jobs.run();
    expect(events.of('descriptor.changed')).toMatchObject([
      { address: (BigInt(Frame.queue) << 12n) + 16n, offset: 8, before: IOVA, after: IOVA + 0x1000n },
    ]);
  });

  it('is not told where nothing changes, nor without checks', () => {
    for (const checks of [true, false]) {
      const { bench: b, events } = bench({}, {}, checks);
      b.enqueue([domain | 0x32n, IOVA]);
      if (!checks) b.memory.during = () => b.memory.write64(Frame.queue, 0, domain | 0x22n);
      b.ring();
      b.jobs.run();
      expect(events.of('descriptor.changed')).toEqual([]);
    }
  });
});

describe('a reset', () => {
  it('is told, and all is forgotten', () => {
    const { bench: b, events } = bench();
    b.map(IOVA, 40);
    b.translate(IOVA);
    events.take();
    b.unit.reset();
    expect(events.take()).toEqual([{ kind: 'reset', fields: { what: 'iommu' } }]);
    b.enable().enableQueue();
    b.translate(IOVA);
    expect(events.take('translation').map(({ kind }) => kind)).toEqual(['attach', 'mapping.added']);
  });
});

describe('the whole of it', () => {
  it('has the unit as its source', () => {
    const { bench: b, events } = bench();
    b.setEntry(0n, 2, (512n << 12n) | LARGE | 3n);
    b.translate(0n);
    b.translate(IOVA, READ, RID + 1);
    b.submit([0x12n, 0n]);
    expect(new Set(events.log.map(({ source }) => source))).toEqual(new Set(['vtd']));
  });
});
