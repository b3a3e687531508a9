/** Finds the blocks of a file without (a usable) index. */
import { decodeBlockHead, type PlacedHead } from './block.ts';
import type { FileWindow } from './file-window.ts';
import { BLOCK_MARK, type BlockEntry, type Damage, MAX_DAMAGE, MAX_HEAD_BYTES, RecordingError } from './format.ts';
import { MessagePackError, mapAt, viewOf } from './messagepack.ts';

/** Heads without many new names fit in here. */
const FIRST_WINDOW = 4096;
const SEARCH_WINDOW = 256 * 1024;

export interface Scanned {
  readonly blocks: BlockEntry[];
  readonly sources: Map<number, string>;
  readonly damage: Damage[];
  /** Behind the last block. */
  end: number;
}

/** The head of the block at an offset. Throws a `RecordingError`; `at` in it is for the caller to add. */
export function readBlockHead(file: FileWindow, offset: number): PlacedHead {
  for (let most = FIRST_WINDOW; ; most *= 16) {
    const head = decodeBlockHead(viewOf(file.bytes(offset, most)));
    if (head !== 'more') return head;
    if (offset + most >= file.size) throw new RecordingError('the block is cut off');
    if (most >= MAX_HEAD_BYTES) throw new RecordingError(`the block's head is longer than ${MAX_HEAD_BYTES} bytes`);
  }
}

/** Goes from block to block; behind a damaged place it looks for the next one. */
export function scanBlocks(file: FileWindow, start: number): Scanned {
  const found: Scanned = { blocks: [], sources: new Map(), damage: [], end: start };
  let offset = start;
  while (offset < file.size) {
    try {
      offset = takeBlock(file, offset, found);
    } catch (error) {
      if (!(error instanceof RecordingError)) throw error;
      if (isIndex(file, offset)) break;
      if (found.damage.length < MAX_DAMAGE) found.damage.push({ offset, message: error.message });
      offset = findMark(file, offset + 1);
    }
  }
  return found;
}

/**
 * Looks for blocks that were written since, behind the last one. Returns true where the index is there: no more will come. What is not
 * whole yet, or damaged, ends it.
 */
export function scanMore(file: FileWindow, found: Scanned): boolean {
  file.refresh();
  while (found.end < file.size) {
    try {
      takeBlock(file, found.end, found);
    } catch (error) {
      if (!(error instanceof RecordingError)) throw error;
      return isIndex(file, found.end);
    }
  }
  return false;
}

/** Adds the block at an offset, and returns where it ends. Throws a `RecordingError`. */
function takeBlock(file: FileWindow, offset: number, found: Scanned): number {
  const head = readBlockHead(file, offset);
  const bytes = head.dataAt + head.dataBytes;
  if (offset + bytes > file.size) throw new RecordingError('the block is cut off');
  const { first, last, records, classes } = head;
  found.blocks.push({ offset, bytes, first, last, records, classes, domains: undefined });
  for (const [number, name] of head.sources) found.sources.set(number, name);
  found.end = offset + bytes;
  return found.end;
}

/** The index is a map, too, but none of a block: its first key is another one. */
function isIndex(file: FileWindow, offset: number): boolean {
  const source = viewOf(file.bytes(offset, 64));
  try {
    const { start } = mapAt(source, 0);
    return Buffer.from(source.bytes.subarray(start, start + 6)).toString('latin1') === '\xa5index';
  } catch (error) {
    if (error instanceof MessagePackError) return false;
    throw error;
  }
}

/** Where the next block may begin; the size of the file: nowhere. */
function findMark(file: FileWindow, from: number): number {
  for (let offset = from; offset < file.size; offset += SEARCH_WINDOW) {
    // Windows overlap, so that a mark at a border is found.
    const at = file.bytes(offset, SEARCH_WINDOW + BLOCK_MARK.length - 1).indexOf(BLOCK_MARK);
    if (at >= 0) return offset + at;
  }
  return file.size;
}
