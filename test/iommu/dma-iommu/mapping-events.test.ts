import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  EXACT_PIECES_MAX,
  MappingEvents,
  ROUGH_PIECE_PAGES,
  UNKNOWN_FRAME,
} from '../../../src/iommu/dma-iommu/mapping-events.ts';
import { DomainType } from '../../../src/iommu/dma-iommu/types.ts';
import { Kind, MappingSource } from '../../../src/trace/event-kinds.ts';
import { EventLog, type Fields } from './event-log.ts';
import { expectStatus, mdl, NIC, pfns, R, Rig, RW, range, W } from './support.ts';

function setUp() {
  const trace = new EventLog('mapping');
  return { trace, rig: new Rig({ trace, memoryBytes: 1 << 16 }) };
}

const piece = (domain: number, iova: bigint, frame: number, pages: number, permissions = RW): Fields => ({
  domain,
  iova,
  frame,
  pages,
  permissions,
  how: 'operation',
  shift: 12,
});

describe('MapLogicalRange and UnmapLogicalRange', () => {
  it('are told by pieces that are contiguous on both sides', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    rig.map(domain, 0x8000n, [5, 6, 7, 20, 30, 31], R);
    const pieces = [
      piece(domain, 0x8000n, 5, 3, R),
      piece(domain, 0xb000n, 20, 1, R),
      piece(domain, 0xc000n, 30, 2, R),
    ];
    expect(trace.take()).toEqual(pieces.map(fields => ({ kind: 'mapping.added', source: 'iommu', fields })));
    rig.unmap(domain, 0x8000n, 6);
    expect(trace.take()).toEqual(pieces.map(fields => ({ kind: 'mapping.removed', source: 'iommu', fields })));
  });

  it('tell a contiguous range of any length in one event', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    const pages = 1500;
    const physicalAddressToMap = range(0x12345000n, BigInt(pages) << 12n);
    rig.unit.mapLogicalRangeEx({ domain, permissions: W, physicalAddressToMap, explicitLogicalAddress: 0x1ff000n });
    expect(trace.fields('mapping.added')).toEqual([piece(domain, 0x1ff000n, 0x12345, pages, W)]);
    // The middle of it, over the border of a table.
    rig.unmap(domain, 0x200000n, 600);
    expect(trace.fields('mapping.removed')).toEqual([piece(domain, 0x200000n, 0x12346, 600, W)]);
    rig.unmap(domain, 0x1ff000n, 1);
    expect(trace.fields('mapping.removed')).toEqual([piece(domain, 0x1ff000n, 0x12345, 1, W)]);
  });

  it('tell of an unmap over several mappings what each of them allowed', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    rig.map(domain, 0x1000n, [5], R);
    rig.map(domain, 0x2000n, [6], W);
    trace.take();
    rig.unmap(domain, 0x1000n, 2);
    expect(trace.fields()).toEqual([piece(domain, 0x1000n, 5, 1, R), piece(domain, 0x2000n, 6, 1, W)]);
  });

  it('that are refused tell nothing', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    rig.map(domain, 0x1000n, [5]);
    trace.take();
    expectStatus(rig.map(domain, 0x1000n, [6]), 'IN_USE');
    expectStatus(rig.unmap(domain, 0x1000n, 2), 'NOT_FOUND');
    expect(trace.take()).toEqual([]);
  });

  it('with the most scattered of lists stay within a bounded number of events', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    const count = EXACT_PIECES_MAX + 3 * ROUGH_PIECE_PAGES;
    rig.map(
      domain,
      0n,
      Array.from({ length: count }, (_, i) => 3 * i),
    );
    const check = (events: readonly Fields[]) => {
      expect(events.length).toBe(EXACT_PIECES_MAX + 3);
      const exact = events.slice(0, EXACT_PIECES_MAX);
      expect(exact.every(({ frame, pages }, i) => frame === 3 * i && pages === 1)).toBe(true);
      const rough = events.slice(EXACT_PIECES_MAX);
      expect(rough.map(({ frame, pages }) => [frame, pages])).toEqual(
        rough.map(() => [UNKNOWN_FRAME, ROUGH_PIECE_PAGES]),
      );
      expect(rough[0]!.iova).toBe(BigInt(EXACT_PIECES_MAX) << 12n);
    };
    check(trace.fields('mapping.added'));
    rig.unmap(domain, 0n, count);
    check(trace.fields('mapping.removed'));
  });
});

describe('identity mappings', () => {
  it('are told where they are', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    rig.unit.mapIdentityRange({ domain, permissions: R, mdl: mdl(40, 41, 50) });
    const pieces = [piece(domain, 0x28000n, 40, 2, R), piece(domain, 0x32000n, 50, 1, R)];
    expect(trace.fields('mapping.added')).toEqual(pieces);
    rig.unit.unmapIdentityRange({ domain, mdl: mdl(40, 41, 50) });
    expect(trace.fields('mapping.removed')).toEqual(pieces);
  });

  it('are not told where they fail half-way', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    rig.map(domain, 0x32000n, [1]);
    trace.take();
    const physicalAddressToMap = pfns(40, 50);
    expectStatus(rig.unit.mapIdentityRangeEx({ domain, permissions: R, physicalAddressToMap }), 'IN_USE');
    expect(trace.take()).toEqual([]);
  });

  it('of a PassThrough domain change nothing, and so are not told', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain(DomainType.PassThrough);
    expectStatus(rig.unit.mapIdentityRange({ domain, permissions: R, mdl: mdl(4) }), 'SUCCESS');
    expect(trace.take()).toEqual([]);
  });
});

describe('reserved ranges', () => {
  it('are told piece by piece as their segments come and go', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    const { token } = rig.unit.reserveLogicalAddressRange({ domain, size: 0x4000n, explicitLogicalAddress: 0x10000n });
    expect(trace.take()).toEqual([]);
    const { mappedSegment } = rig.unit.mapReservedLogicalRange({
      token: token!,
      offset: 0x1000n,
      permissions: W,
      physicalAddressToMap: pfns(7, 8),
    });
    expect(trace.fields('mapping.added')).toEqual([piece(domain, 0x11000n, 7, 2, W)]);
    rig.unit.unmapReservedLogicalRange({ mappedSegment: mappedSegment! });
    expect(trace.fields('mapping.removed')).toEqual([piece(domain, 0x11000n, 7, 2, W)]);
  });

  it('that CreateDomainEx maps are told, holes are not', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain(DomainType.Translate, [
      { base: 0x9000n, numberOfPages: 2, shouldMap: true },
      { base: 0x20000n, numberOfPages: 1, shouldMap: false },
    ]);
    expect(trace.fields('mapping.added')).toEqual([piece(domain, 0x9000n, 9, 2)]);
  });

  it('of a domain that is refused are not told', () => {
    const { rig, trace } = setUp();
    const overlapping = [
      { base: 0x9000n, numberOfPages: 2, shouldMap: true },
      { base: 0xa000n, numberOfPages: 1, shouldMap: true },
    ];
    const answer = rig.unit.createDomainEx({ domainType: DomainType.Translate, reservedRegions: overlapping });
    expectStatus(answer, 'INVALID_PARAMETER_4');
    expect(trace.take()).toEqual([]);
  });
});

describe('DeleteDomain', () => {
  it('takes what is mapped with it, and notes what somebody has forgotten', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain(DomainType.Translate, [{ base: 0x9000n, numberOfPages: 2, shouldMap: true }]);
    rig.map(domain, 0x1000n, [5, 9]);
    rig.map(domain, 0x4000n, [6]);
    trace.take();
    rig.unit.deleteDomain({ domain });
    expect(trace.fields('mapping.removed')).toEqual([
      piece(domain, 0x1000n, 5, 1),
      piece(domain, 0x2000n, 9, 1),
      piece(domain, 0x4000n, 6, 1),
      piece(domain, 0x9000n, 9, 2),
    ]);
    expect(trace.details('dma-iommu.mappingsLeft')).toEqual([{ domain, mappings: 2, pages: 3 }]);
  });

  it('of a domain with nothing but its reserved regions is in order', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain(DomainType.Translate, [{ base: 0x9000n, numberOfPages: 2, shouldMap: true }]);
    rig.unit.deleteDomain({ domain });
    expect(trace.details('dma-iommu.mappingsLeft')).toEqual([]);
  });
});

it('without anybody who wants them, mappings cost no look at the tables', () => {
  const trace = new EventLog('attach');
  const rig = new Rig({ trace });
  const domain = rig.domain();
  rig.attach(domain);
  rig.map(domain, 0x1000n, [5]);
  rig.unmap(domain, 0x1000n, 1);
  expect(trace.take().map(({ kind }) => kind)).toEqual(['attach']);
  expect(rig.dma(NIC, 0x1000n)).toBeUndefined();
});

it('events say of every page where it led, whatever is mapped and unmapped', () => {
  const operation = fc.record({
    map: fc.boolean(),
    page: fc.integer({ min: 0, max: 40 }),
    frames: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 8 }),
    permissions: fc.constantFrom(R, W, RW),
  });
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 30 }), operations => {
      const { rig, trace } = setUp();
      const domain = rig.domain();
      rig.attach(domain);
      const known = new Map<number, { frame: number; permissions: number }>();
      for (const { map, page, frames, permissions } of operations) {
        if (map) rig.map(domain, BigInt(page) << 12n, frames, permissions);
        else rig.unmap(domain, BigInt(page) << 12n, frames.length);
        for (const { kind, fields } of trace.take()) {
          const first = Number((fields.iova as bigint) >> 12n);
          for (let i = 0; i < (fields.pages as number); i++) {
            const mapping = { frame: (fields.frame as number) + i, permissions: fields.permissions as number };
            if (kind === 'mapping.added') {
              expect(known.has(first + i)).toBe(false);
              known.set(first + i, mapping);
            } else {
              expect(known.get(first + i)).toEqual(mapping);
              known.delete(first + i);
            }
          }
        }
        for (let at = 0; at < 50; at++) {
          const { translated, frame, permissions: allowed } = rig.probe(NIC, BigInt(at) << 12n, 0);
          expect(known.get(at)).toEqual(translated ? { frame, permissions: allowed } : undefined);
        }
      }
    }),
    { numRuns: 60 },
  );
});

describe('stretches', () => {
  const added = Kind['mapping.added'];

  it('of different permissions or page sizes are never joined', () => {
    const trace = new EventLog('mapping');
    const events = new MappingEvents(trace, trace.sourceId('iommu'));
    events.begin(added, 7, MappingSource.walk);
    events.add(10, 20, 1, R, 12);
    events.add(11, 21, 1, RW, 12);
    events.add(512, 512, 512, RW, 21);
    events.add(1024, 1024, 1, RW, 12);
    events.end();
    expect(trace.fields().map(({ pages, permissions, shift, how }) => [pages, permissions, shift, how])).toEqual([
      [1, R, 12, 'walk'],
      [1, RW, 12, 'walk'],
      [512, RW, 21, 'walk'],
      [1, RW, 12, 'walk'],
    ]);
  });

  it('have at most so many pages that their number is an int32', () => {
    const trace = new EventLog('mapping');
    const events = new MappingEvents(trace, trace.sourceId('iommu'));
    events.begin(added, 7, MappingSource.operation);
    events.add(0, 0, 2 ** 30 + 5, R, 12);
    events.end();
    expect(trace.fields().map(({ iova, frame, pages }) => [iova, frame, pages])).toEqual([
      [0n, 0, 2 ** 30],
      [1n << 42n, 2 ** 30, 5],
    ]);
  });
});
