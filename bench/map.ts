/**
 * The price of mapping and unmapping 1 GiB in pages of 4 KiB, tables and all, beside plain stores of the words that this needs.
 * Compile the project and run the JavaScript.
 */
import { fileURLToPath } from 'node:url';
import { TableBuilder } from '../src/page-tables/table-builder.ts';
import { TableMemory } from '../src/page-tables/table-memory.ts';
import { vtdSecondStage } from '../src/page-tables/vtd-second-stage.ts';
import { type BenchResult, formatResult, result } from './result.ts';

const PAGES = 1 << 18;
const ROUNDS = 15;
const LEVELS = 4;
const READ_WRITE = 3;
/** What is claimed for each page, mapped or unmapped: as a floor, it must be met whole. */
const CLAIMED_NS = 40;
/** 5 GiB, so that no table is used from its start. */
const IOVA_HIGH = 1;
const IOVA_LOW = 1 << 30;
const FIRST_FRAME = 0x12345;

function nanoseconds(work: () => void): number {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / PAGES;
}

/** The words of all leaf entries, and nothing else; memory as fresh as the tables are. */
function plainStores(words: Int32Array): void {
  for (let page = 0; page < PAGES; page++) {
    const frame = FIRST_FRAME + page;
    words[page << 1] = (frame << 12) | READ_WRITE;
    words[(page << 1) | 1] = frame >>> 20;
  }
}

export function benchMap(): BenchResult[] {
  const format = vtdSecondStage({ hostAddressWidth: 46, largePages: { '2M': false, '1G': false } });
  const scattered = Int32Array.from({ length: PAGES }, (_, i) => Math.imul(i, 0x9e3779b1) & 0x3ffffff);
  const ours = { map: [] as number[], frames: [] as number[], find: [] as number[], unmap: [] as number[] };
  const floor = { store: [] as number[], clear: [] as number[] };
  for (let round = -3; round < ROUNDS; round++) {
    // Fresh every time: the first allocation of the tables is part of the price.
    const memory = new TableMemory();
    const builder = new TableBuilder(format, memory, LEVELS);
    const root = builder.createRoot();
    const map = nanoseconds(() => {
      if (!builder.map(root, IOVA_HIGH, IOVA_LOW, FIRST_FRAME, PAGES, READ_WRITE)) throw new Error('map');
    });
    const find = nanoseconds(() => {
      if (builder.firstMapped(root, 0, 0, PAGES) !== -1) throw new Error('find');
    });
    const unmap = nanoseconds(() => {
      if (builder.unmap(root, IOVA_HIGH, IOVA_LOW, PAGES, false) !== PAGES) throw new Error('unmap');
    });
    if (memory.pagesInUse !== 1) throw new Error('tables left over');
    const other = new TableBuilder(format, new TableMemory(), LEVELS);
    const otherRoot = other.createRoot();
    const frames = nanoseconds(() => {
      if (!other.mapFrames(otherRoot, IOVA_HIGH, IOVA_LOW, scattered, 0, PAGES, READ_WRITE)) throw new Error('map');
    });
    let words = new Int32Array(0);
    const store = nanoseconds(() => {
      words = new Int32Array(PAGES * 2);
      plainStores(words);
    });
    const clear = nanoseconds(() => {
      words.fill(0);
    });
    if (round < 0) continue;
    ours.map.push(map);
    ours.frames.push(frames);
    ours.find.push(find);
    ours.unmap.push(unmap);
    floor.store.push(store);
    floor.clear.push(clear);
  }
  const claimed = [CLAIMED_NS];
  return [
    result('map 1 GiB in 4 KiB pages, per page', 'ns', ours.map, claimed, 1),
    result('the same, beside plain stores', 'ns', ours.map, floor.store),
    result('map scattered frames, per page', 'ns', ours.frames, claimed, 1),
    result('unmap 1 GiB in 4 KiB pages, per page', 'ns', ours.unmap, claimed, 1),
    result('the same, beside plain clearing', 'ns', ours.unmap, floor.clear),
    result('find that 1 GiB is not mapped, per page', 'ns', ours.find, claimed, 1),
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const line of benchMap()) console.log(formatResult(line));
}
