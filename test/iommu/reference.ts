/**
 * Second-stage translation written plainly from VT-d 4.1, sections 3.7 and 9.8, with BigInt and without any of the project's code:
 * what the walker and the engine are held against. `values` says what a table entry may hold, so that it answers both what the tables
 * say now and everything that caches may still say.
 */
import { FRAME_BYTES } from '../../src/memory/guest-memory.ts';

export interface ReferenceOptions {
  readonly hostAddressWidth: number;
  readonly largePages: { readonly '2M': boolean; readonly '1G': boolean };
  readonly snoop?: boolean;
}

export type ReferenceStatus = 'ok' | 'notPresent' | 'denied' | 'badPointer' | 'reserved' | 'tooWide';

export interface ReferenceResult {
  readonly status: ReferenceStatus;
  /** Of the 4 KiB page asked for. */
  readonly frame?: number;
  readonly shift?: number;
  readonly permissions?: number;
}

/** What an entry may hold where it points to a table, and where the walk ends at it. `undefined`: there is no memory. */
export interface EntryValues {
  pointers(address: bigint): readonly (bigint | undefined)[];
  ends(address: bigint): readonly (bigint | undefined)[];
}

const bitsSet = (value: bigint, last: number, first: number): boolean =>
  last >= first && ((value >> BigInt(first)) & ((1n << BigInt(last - first + 1)) - 1n)) !== 0n;

export function possibleResults(
  values: EntryValues,
  options: ReferenceOptions,
  rootFrame: number,
  levels: number,
  iova: bigint,
  access: number,
): ReferenceResult[] {
  if (iova >> BigInt(12 + 9 * levels) !== 0n) return [{ status: 'tooWide' }];
  const results: ReferenceResult[] = [];
  const needed = BigInt(access);

  const descend = (tableAddress: bigint, level: number, permissions: bigint): void => {
    const shift = 12 + 9 * (level - 1);
    const address = tableAddress + ((iova >> BigInt(shift)) & 511n) * 8n;

    const judge = (entry: bigint | undefined): ReferenceStatus | 'leaf' | 'table' => {
      if (entry === undefined) return 'badPointer';
      if ((entry & 3n) === 0n) return 'notPresent';
      if ((entry & needed) !== needed) return 'denied';
      const pageSize = bitsSet(entry, 7, 7);
      if (level >= 4 && pageSize) return 'reserved';
      if (level === 3 && pageSize && !options.largePages['1G']) return 'reserved';
      if (level === 2 && pageSize && !options.largePages['2M']) return 'reserved';
      const leaf = level === 1 || pageSize;
      if (bitsSet(entry, 51, options.hostAddressWidth)) return 'reserved';
      if (bitsSet(entry, 62, 62)) return 'reserved';
      if (bitsSet(entry, 11, 11) && !(leaf && options.snoop)) return 'reserved';
      if (leaf && bitsSet(entry, shift - 1, 12)) return 'reserved';
      // Not of the specification: this implementation addresses 8 TiB of guest memory.
      if (bitsSet(entry, 51, 43)) return 'badPointer';
      return leaf ? 'leaf' : 'table';
    };

    for (const entry of values.ends(address)) {
      const judged = judge(entry);
      if (judged === 'table') continue;
      if (judged !== 'leaf') {
        results.push({ status: judged });
        continue;
      }
      const base = entry! & 0xffffffffff000n;
      const within = iova & ((1n << BigInt(shift)) - 1n);
      results.push({
        status: 'ok',
        frame: Number((base | within) >> 12n),
        shift,
        permissions: Number(permissions & entry! & 3n),
      });
    }
    for (const entry of values.pointers(address)) {
      if (judge(entry) === 'table') descend(entry! & 0xffffffffff000n, level - 1, permissions & entry!);
    }
  };

  descend(BigInt(rootFrame) * BigInt(FRAME_BYTES), levels, 3n);
  return results;
}

/** What the tables say now. */
export function referenceWalk(
  word: (address: bigint) => bigint | undefined,
  options: ReferenceOptions,
  rootFrame: number,
  levels: number,
  iova: bigint,
  access: number,
): ReferenceResult {
  const now = { pointers: (address: bigint) => [word(address)], ends: (address: bigint) => [word(address)] };
  const results = possibleResults(now, options, rootFrame, levels, iova, access);
  if (results.length !== 1) throw new Error(`${results.length} answers from one state of the tables`);
  return results[0]!;
}
