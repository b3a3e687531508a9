import { describe, expect, it } from 'vitest';
import { PastMappings } from '../../../src/inspector/page/store/past-mappings.ts';
import type { EventKindName } from '../../../src/trace/event-kinds.ts';
import { RecordCursor } from '../../../src/trace/record-cursor.ts';
import { batchOf, type SampleRecord, slotsOf } from '../../trace/records.ts';

const DOMAIN = 2;

function mapping(
  kind: EventKindName,
  time: number,
  page: number,
  pages = 1,
  frame = 0x100,
  domain = DOMAIN,
): SampleRecord {
  const [high, low] = [Math.floor(page / 2 ** 20), (page << 12) | 0];
  return { kind, time, payload: [domain, high, low, frame, pages, 3] };
}

function feed(past: PastMappings, ...records: readonly SampleRecord[]): PastMappings {
  const cursor = new RecordCursor();
  cursor.load(batchOf(...records.map(slotsOf)));
  while (cursor.next()) past.record(cursor);
  return past;
}

const pagesOf = (past: PastMappings) => past.of(DOMAIN).map(({ page, pages }) => [page, pages]);

describe('mappings of a recorded file', () => {
  it('are known with what they lead to, beyond 32 bits too', () => {
    const past = feed(new PastMappings(), mapping('mapping.added', 5, 0xfffff_fffff, 2, 0x30));
    expect(past.of(DOMAIN)).toEqual([
      { domain: DOMAIN, page: 0xfffff_fffff, pages: 2, frame: 0x30, permissions: 3, since: 5 },
    ]);
    expect(past.domainNumbers).toEqual([DOMAIN]);
    expect(past.of(3)).toEqual([]);
  });

  it('stay when they are gone, and say until when they were there', () => {
    const past = feed(new PastMappings(), mapping('mapping.added', 5, 1), mapping('mapping.removed', 9, 1));
    expect(past.of(DOMAIN)).toMatchObject([{ page: 1, since: 5, until: 9 }]);
  });

  it('go together where a whole range goes', () => {
    const added = [1, 2, 3].map(page => mapping('mapping.added', page, page));
    for (const pages of [2, 1 << 20]) {
      const past = feed(new PastMappings(), ...added, mapping('mapping.removed', 9, 2, pages));
      expect(past.of(DOMAIN).map(({ until }) => until)).toEqual([undefined, 9, 9]);
    }
  });

  it('are there again where one follows at the same place', () => {
    const records = [
      mapping('mapping.added', 5, 1),
      mapping('mapping.removed', 6, 1),
      mapping('mapping.added', 7, 1, 1, 8),
    ];
    const [one, ...others] = feed(new PastMappings(), ...records).of(DOMAIN);
    expect(others).toEqual([]);
    expect(one).toMatchObject({ since: 7, frame: 8 });
    expect(one).not.toHaveProperty('until');
  });

  it('do not lie over each other: the newer one is shown', () => {
    const large = mapping('mapping.added', 5, 0x200, 0x200);
    const small = [0x200, 0x210].map(page => mapping('mapping.added', 6, page + 1));
    expect(pagesOf(feed(new PastMappings(), large, ...small))).toEqual([
      [0x201, 1],
      [0x211, 1],
    ]);
    expect(pagesOf(feed(new PastMappings(), ...small, { ...large, time: 7 }))).toEqual([[0x200, 0x200]]);
  });

  it('are bounded in number', () => {
    const past = feed(new PastMappings(2), ...[1, 2, 3, 1].map(page => mapping('mapping.added', page, page)));
    expect(past.beyond).toBe(1);
    expect(pagesOf(past)).toEqual([
      [1, 1],
      [2, 1],
    ]);
    past.clear();
    expect(past.of(DOMAIN)).toEqual([]);
    expect(past.domainNumbers).toEqual([]);
  });
});
