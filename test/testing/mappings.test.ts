import { describe, expect, it } from 'vitest';
import { formatMappings, sortMappings } from '../../src/testing/mappings.ts';
import type { LiveMapping } from '../../src/trace/sanitizer/sanitizer.ts';

const READ = 1;
const BOTH = 3;

function mapping(domain: number, page: bigint, frame: number, pages = 1, permissions = BOTH): LiveMapping {
  return { domain, iova: page << 12n, pages, frame, permissions, since: Math.random(), how: 'walk' };
}

describe('sortMappings', () => {
  it('goes by domain, then by address, without changing what it was given', () => {
    const given = [mapping(2, 1n, 0), mapping(1, 1n << 40n, 1), mapping(1, 3n, 2), mapping(10, 0n, 3)];
    expect(sortMappings(given).map(({ frame }) => frame)).toEqual([2, 1, 0, 3]);
    expect(given.map(({ frame }) => frame)).toEqual([0, 1, 2, 3]);
  });
});

describe('formatMappings', () => {
  it('says nothing of nothing', () => {
    expect(formatMappings([])).toBe('');
  });

  it('has a line for each range, by domain', () => {
    const mappings = [mapping(2, 0x10n, 7, 2, READ), mapping(1, 0xfffffn, 1), mapping(1, 0x100000n, 9, 1, 2)];
    expect(formatMappings(mappings)).toBe(
      [
        'domain 1',
        '  0xfffff000-0xffffffff read-write -> 0x1000',
        '  0x100000000-0x100000fff write -> 0x9000',
        'domain 2',
        '  0x10000-0x11fff read -> 0x7000',
      ].join('\n'),
    );
  });

  it('does not tell how a range was made up', () => {
    const whole = [mapping(1, 1n, 5, 4)];
    const pieces = [mapping(1, 3n, 7, 2), mapping(1, 1n, 5), mapping(1, 2n, 6)];
    expect(formatMappings(pieces)).toBe(formatMappings(whole));
    expect(formatMappings(whole)).toBe('domain 1\n  0x1000-0x4fff read-write -> 0x5000');
  });

  it.each([
    ['lie elsewhere in memory', mapping(1, 2n, 9)],
    ['allow something else', mapping(1, 2n, 6, 1, READ)],
    ['belong to another domain', mapping(2, 2n, 6)],
    ['leave a page between them', mapping(1, 3n, 7)],
  ])('keeps ranges apart that %s', (_why, second) => {
    expect(formatMappings([mapping(1, 1n, 5), second]).match(/read/g)).toHaveLength(2);
  });

  it('can leave out where they lead to', () => {
    const mappings = [mapping(1, 1n, 5), mapping(1, 2n, 99), mapping(1, 3n, -1, 2)];
    expect(formatMappings(mappings, { addresses: false })).toBe('domain 1\n  0x1000-0x4fff read-write');
  });

  it('knows pages that are scattered', () => {
    const mappings = [mapping(1, 1n, -1, 2), mapping(1, 3n, -1), mapping(1, 4n, 5)];
    expect(formatMappings(mappings)).toBe(
      ['domain 1', '  0x1000-0x3fff read-write -> scattered pages', '  0x4000-0x4fff read-write -> 0x5000'].join('\n'),
    );
  });
});
