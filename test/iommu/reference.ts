/**
 * Translation written plainly from the specifications, with BigInt and without any of the project's code: what the walker and the engine
 * are held against. What an entry of each format means is in reference-formats.ts. `values` says what a table entry may hold, so that
 * it answers both what the tables say now and everything that caches may still say.
 */

export type ReferenceStatus =
  | 'ok'
  | 'notPresent'
  | 'denied'
  | 'badPointer'
  | 'reserved'
  | 'tooWide'
  | 'accessFlag'
  | 'addressSize';

export interface ReferenceResult {
  readonly status: ReferenceStatus;
  /** Of the 4 KiB page asked for. */
  readonly frame?: number;
  readonly shift?: number;
  readonly permissions?: number;
}

export interface ReferenceFormat {
  /** log2 of the smallest page. */
  readonly granuleShift: number;
  /** Bits of the address that each level uses. */
  readonly indexBits: number;
  inputWidth(levels: number): number;
  /** Addresses in entries end below this bit. */
  readonly addressEnd: number;
  /** What one entry is to a walk for that access; levels count from 1. */
  judge(entry: bigint, level: number, access: number): ReferenceStatus | 'leaf' | 'table';
  /** `Access` bits, given the entries that led to the leaf, the leaf, and the access that is made. */
  permissions(tables: readonly bigint[], leaf: bigint, access: number): number;
}

/** What an entry may hold where it points to a table, and where the walk ends at it. `undefined`: there is no memory. */
export interface EntryValues {
  pointers(address: bigint): readonly (bigint | undefined)[];
  ends(address: bigint): readonly (bigint | undefined)[];
}

const FRAME_BYTES = 4096n;

export function possibleResults(
  values: EntryValues,
  format: ReferenceFormat,
  rootFrame: number,
  levels: number,
  iova: bigint,
  access: number,
): ReferenceResult[] {
  if (iova >> BigInt(format.inputWidth(levels)) !== 0n) return [{ status: 'tooWide' }];
  const results: ReferenceResult[] = [];
  const addressOf = (entry: bigint) => entry & ((1n << BigInt(format.addressEnd)) - 1n);

  const descend = (tableAddress: bigint, level: number, tables: readonly bigint[]): void => {
    const shift = format.granuleShift + format.indexBits * (level - 1);
    const index = (iova >> BigInt(shift)) & ((1n << BigInt(format.indexBits)) - 1n);
    const address = tableAddress + index * 8n;

    const judge = (entry: bigint | undefined): ReferenceStatus | 'leaf' | 'table' => {
      if (entry === undefined) return 'badPointer';
      const judged = format.judge(entry, level, access);
      // Not of any specification: this implementation addresses 8 TiB of guest memory.
      const far = addressOf(entry) >> 43n !== 0n;
      return far && (judged === 'leaf' || judged === 'table' || judged === 'accessFlag') ? 'badPointer' : judged;
    };
    const base = (entry: bigint, size: number) => (addressOf(entry) >> BigInt(size)) << BigInt(size);

    for (const entry of values.ends(address)) {
      const judged = judge(entry);
      if (judged === 'table') continue;
      if (judged !== 'leaf') {
        results.push({ status: judged });
        continue;
      }
      const permissions = format.permissions(tables, entry!, access);
      if ((permissions & access) !== access) {
        results.push({ status: 'denied' });
        continue;
      }
      const within = iova & ((1n << BigInt(shift)) - 1n);
      results.push({ status: 'ok', frame: Number((base(entry!, shift) | within) / FRAME_BYTES), shift, permissions });
    }
    for (const entry of values.pointers(address)) {
      if (judge(entry) === 'table') descend(base(entry!, format.granuleShift), level - 1, [...tables, entry!]);
    }
  };

  descend(BigInt(rootFrame) * FRAME_BYTES, levels, []);
  return results;
}

/** What the tables say now. */
export function referenceWalk(
  word: (address: bigint) => bigint | undefined,
  format: ReferenceFormat,
  rootFrame: number,
  levels: number,
  iova: bigint,
  access: number,
): ReferenceResult {
  const now = { pointers: (address: bigint) => [word(address)], ends: (address: bigint) => [word(address)] };
  const results = possibleResults(now, format, rootFrame, levels, iova, access);
  if (results.length !== 1) throw new Error(`${results.length} answers from one state of the tables`);
  return results[0]!;
}
