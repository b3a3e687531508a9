/** The steps of a walk through page tables, read once more for people, and what caches say beside them. */
import { FRAME_SHIFT, type GuestMemory, MemoryStatus } from '../memory/guest-memory.ts';
import type { PageTableFormat } from '../page-tables/format.ts';
import { Walker, WalkStatus } from '../page-tables/walker.ts';
import { address64 } from './address64.ts';
import { InspectedEntry } from './entry-fields.ts';
import type { IommuInspection, WalkAnswer, WalkOutcome, WalkStep } from './inspection.ts';
import { NOT_PRESENT } from './iotlb.ts';
import type { TranslationEngine } from './translation-engine.ts';
import { Translation } from './translator.ts';

/** Bits of an address's upper word that a frame number has no room for. */
const UNADDRESSABLE = ~0x7ff;
const READ_WRITE = 3;

/** One set of tables, and where an engine keeps what it knows of them. */
export interface InspectedTables {
  readonly format: PageTableFormat;
  readonly memory: GuestMemory;
  readonly engine: TranslationEngine;
  /** The domain's name in the caches. */
  readonly tag: number;
  readonly rootFrame: number;
  readonly levels: number;
}

/** What one walk, or a cache, leads to. */
export interface Reached {
  readonly status: WalkOutcome;
  /** 4 KiB frame of the address; 0 where it leads nowhere. */
  readonly frame: number;
  readonly shift: number;
  readonly permissions: number;
}

/** Sets no accessed or dirty bits. */
export function walkTables(
  { format, memory, rootFrame, levels }: InspectedTables,
  high: number,
  low: number,
): { readonly reached: Reached; readonly steps: WalkStep[] } {
  const walker = new Walker(format, memory, false);
  const status = walker.walk(rootFrame, levels, high, low, 0);
  const { frame, shift } = walker;
  const permissions = status === WalkStatus.ok ? permissionsOf(walker, rootFrame, levels, high, low) : 0;
  const reached = { status: outcomeOf(status, permissions), frame, shift, permissions };
  if (status === WalkStatus.tooWide) return { reached, steps: [] };
  return { reached, steps: stepsOf(walker, format, memory, high, low) };
}

/** That a page is not marked as written yet does not forbid a write. */
function permissionsOf(walker: Walker, rootFrame: number, levels: number, high: number, low: number): number {
  const { permissions } = walker;
  if (walker.format.dirty === undefined || (permissions & 2) !== 0) return permissions;
  const { frame, shift } = walker;
  const writable = walker.walk(rootFrame, levels, high, low, 2) === WalkStatus.ok;
  walker.walk(rootFrame, levels, high, low, 0);
  return writable && walker.frame === frame && walker.shift === shift ? permissions | 2 : permissions;
}

function outcomeOf(status: WalkStatus, permissions: number): WalkOutcome {
  switch (status) {
    case WalkStatus.ok:
      return permissions === 0 ? 'no permission' : 'mapped';
    case WalkStatus.notPresent:
    case WalkStatus.tooWide:
      return 'not present';
    case WalkStatus.denied:
    case WalkStatus.accessFlag:
      return 'no permission';
    default:
      return 'malformed';
  }
}

export function stepsOf(
  walker: Walker,
  format: PageTableFormat,
  memory: GuestMemory,
  high: number,
  low: number,
): WalkStep[] {
  const { visited, startLevel, level: last } = walker;
  const steps: WalkStep[] = [];
  for (let level = startLevel; level >= last; level--) {
    const index = indexOf(format, level, high, low);
    const frame = visited[level << 1]! + (index >>> 9);
    const offset = (index & 511) << 3;
    const address = (BigInt(frame) << BigInt(FRAME_SHIFT)) | BigInt(offset);
    const what = `level ${level}`;
    if (memory.load64(frame, offset) !== MemoryStatus.ok) {
      steps.push({ what, address, words: [], fields: [], present: false });
      break;
    }
    const word = address64(memory.high, memory.low);
    const entry = new InspectedEntry(format, level, word);
    steps.push({ what, address, words: [word], fields: entry.fields, present: entry.present });
  }
  return steps;
}

function indexOf({ granuleShift, bitsPerLevel }: PageTableFormat, level: number, high: number, low: number): number {
  const shift = granuleShift + bitsPerLevel * (level - 1);
  return Number(BigInt.asUintN(bitsPerLevel, address64(high, low) >> BigInt(shift)));
}

/** What the caches of the engine hold beside a walk. */
export function compareCaches(
  { engine, format, memory, tag, rootFrame, levels }: InspectedTables,
  high: number,
  low: number,
  fresh: Reached,
): Pick<WalkAnswer, 'cached' | 'agrees'> {
  const out = new Translation();
  const walker = new Walker(format, memory, false);
  const { status, source } = engine.peek(tag, rootFrame, levels, high, low, 0, walker, out);
  if (source === 'iotlb') {
    if (status !== WalkStatus.ok) {
      const shift = format.granuleShift;
      return { cached: { address: 0n, shift, permissions: NOT_PRESENT }, agrees: fresh.status !== 'mapped' };
    }
    const { frame, shift, permissions } = out;
    return { cached: { address: addressOf(frame, low), shift, permissions }, agrees: agreesWith(fresh, out) };
  }
  if (source === 'walk') return { agrees: true };
  // A table that a cache knows the way to may be another one than the tables lead to.
  const mapped = status === WalkStatus.ok && out.permissions !== 0;
  return { agrees: mapped ? agreesWith(fresh, out) : fresh.status !== 'mapped' };
}

/** Fewer permissions than the tables give are never stale: a request that needs more walks again. */
function agreesWith(fresh: Reached, { frame, permissions }: Translation): boolean {
  return fresh.status === 'mapped' && fresh.frame === frame && (permissions & ~fresh.permissions) === 0;
}

/** The answer where no tables are looked at: an address leads to itself, as far as there can be memory. */
export function untouched(status: 'pass-through' | 'untranslated', high: number, low: number): WalkAnswer {
  const reached = { status, frame: (high << 20) | (low >>> FRAME_SHIFT), shift: FRAME_SHIFT, permissions: READ_WRITE };
  const leads = (high & UNADDRESSABLE) === 0;
  return { steps: [], status, ...(leads ? found(reached, low) : {}), agrees: true };
}

/** The same IOMMU where requests may pass before it: what `bypasses` is true of is not translated. */
export function withBypass(
  inner: IommuInspection,
  bypasses: (requesterId: number, pasid: number | undefined) => boolean,
): IommuInspection {
  return {
    walk(requesterId, pasid, iova) {
      if (!bypasses(requesterId, pasid)) return inner.walk(requesterId, pasid, iova);
      return untouched('untranslated', Number(BigInt.asIntN(32, iova >> 32n)), Number(BigInt.asIntN(32, iova)));
    },
    tlb: limit => inner.tlb(limit),
  };
}

/** The byte that an address leads to, by the 4 KiB frame that holds it. */
export function addressOf(frame: number, low: number): bigint {
  return (BigInt(frame) << BigInt(FRAME_SHIFT)) | BigInt(low & 0xfff);
}

/** What a walk says, as an answer has it. */
export function found({ status, frame, shift, permissions }: Reached, low: number): Partial<WalkAnswer> {
  const leads = status === 'mapped' || status === 'pass-through' || status === 'untranslated';
  return leads ? { address: addressOf(frame, low), shift, permissions } : {};
}
