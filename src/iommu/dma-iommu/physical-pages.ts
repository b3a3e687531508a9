/** The three ways to describe physical memory, made into one. */
import { OPERATION_PAGES_MAX, PHYSICAL_FRAMES } from './limits.ts';
import type { PhysicalAddressToMap } from './types.ts';

const PAGE_BYTES = 4096n;

export interface PhysicalPages {
  readonly pages: number;
  /** The frame of the first page; all, where `frames` is missing, as they follow one another. */
  readonly first: number;
  readonly frames?: Int32Array;
}

/** undefined: not whole pages, no page at all, or beyond what a page frame can say. */
export function physicalPages(map: PhysicalAddressToMap): PhysicalPages | undefined {
  switch (map?.type) {
    case 'mdl':
      if (map.byteOffset !== 0 || map.byteCount !== map.pages?.length * Number(PAGE_BYTES)) return undefined;
      return listed(map.pages);
    case 'pfnArray':
      return listed(map.pages);
    case 'contiguousRange':
      return contiguous(map.base, map.size);
    default:
      return undefined;
  }
}

function listed(frames: Int32Array): PhysicalPages | undefined {
  if (!(frames instanceof Int32Array) || frames.length === 0) return undefined;
  // What is longer is refused by its length; nobody waits for it to be looked through.
  if (frames.length <= OPERATION_PAGES_MAX) for (const frame of frames) if (frame < 0) return undefined;
  return { pages: frames.length, first: frames[0]!, frames };
}

function contiguous(base: bigint, size: bigint): PhysicalPages | undefined {
  if (!isPageAligned(base) || !isPageAligned(size) || size === 0n) return undefined;
  const first = base / PAGE_BYTES;
  const pages = size / PAGE_BYTES;
  if (first + pages > BigInt(PHYSICAL_FRAMES)) return undefined;
  return { pages: Number(pages), first: Number(first) };
}

/** Whether it is a non-negative multiple of 4 KiB at all: callers may be remote. */
export function isPageAligned(value: unknown): value is bigint {
  return typeof value === 'bigint' && value >= 0n && value % PAGE_BYTES === 0n;
}

/** Runs of frames that follow one another: where each starts in the list, its first frame and its length. */
export function* runs({
  pages,
  first,
  frames,
}: PhysicalPages): Generator<{ from: number; first: number; pages: number }> {
  if (frames === undefined) {
    yield { from: 0, first, pages };
    return;
  }
  let from = 0;
  for (let i = 1; i <= frames.length; i++) {
    if (i < frames.length && frames[i] === frames[i - 1]! + 1) continue;
    yield { from, first: frames[from]!, pages: i - from };
    from = i;
  }
}
