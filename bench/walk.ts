/**
 * The price of a page walk and of a TLB hit, beside the same in C over the same tables: 1 GiB of 4 KiB pages in random order.
 * Compile the project and run the JavaScript, needs gcc.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Iotlb } from '../src/iommu/iotlb.ts';
import { TranslationEngine } from '../src/iommu/translation-engine.ts';
import { Access, Translation } from '../src/iommu/translator.ts';
import { LocalMemory } from '../src/memory/local-memory.ts';
import { vtdSecondStage } from '../src/page-tables/vtd-second-stage.ts';
import { Walker, WalkStatus } from '../src/page-tables/walker.ts';
import { compileNative } from './native.ts';
import { type BenchResult, formatResult, result } from './result.ts';

const PAGES = 1 << 18;
const MEMORY_FRAMES = 1 << 14;
const ROUNDS = 7;
const LEVELS = 4;
const TLB_PAGES = 1024;
const DOMAIN = 7;
const READ_WRITE = 3n;

/** Random enough, and the same every time (xorshift). */
function randomNumbers(): (below: number) => number {
  let state = 0x2545f491;
  return below => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function shuffled(count: number, random: (below: number) => number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = random(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

/** Tables at random frames, as a guest has them after some time. */
function buildTables(memory: LocalMemory, random: (below: number) => number): number {
  const free = shuffled(MEMORY_FRAMES - 1, random);
  let next = 0;
  const table = () => free[next++]! + 1;
  const pointer = (frame: number) => (BigInt(frame) << 12n) | READ_WRITE;
  const root = table();
  const third = table();
  const second = table();
  memory.write64(root, 0, pointer(third));
  memory.write64(third, 0, pointer(second));
  const frames = shuffled(PAGES, random);
  for (let i = 0; i < PAGES / 512; i++) {
    const first = table();
    memory.write64(second, i * 8, pointer(first));
    for (let k = 0; k < 512; k++) memory.write64(first, k * 8, pointer(frames[i * 512 + k]!));
  }
  return root;
}

/** The second of two passes: the first brings code and data back after another program has run. */
function nanoseconds(work: () => void, count: number): number {
  work();
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / count;
}

export function benchWalk(): BenchResult[] {
  const random = randomNumbers();
  const memory = new LocalMemory(MEMORY_FRAMES * 4096);
  const root = buildTables(memory, random);
  const order = shuffled(PAGES, random);
  const format = vtdSecondStage({ hostAddressWidth: 39, largePages: { '2M': true, '1G': true } });
  const walker = new Walker(format, memory);
  const engine = new TranslationEngine(format, memory);
  const iotlb = new Iotlb(format, TLB_PAGES / 4, 4);
  const out = new Translation();
  for (let page = 0; page < TLB_PAGES; page++) iotlb.insert(DOMAIN, page >>> 20, page << 12, 12, page * 3, 3);

  let walkSum = 0;
  const walks = () => {
    let sum = 0;
    for (let i = 0; i < PAGES; i++) {
      const page = order[i]!;
      if (walker.walk(root, LEVELS, page >>> 20, page << 12, Access.read) !== WalkStatus.ok) throw new Error('walk');
      sum += walker.frame;
    }
    walkSum = sum;
  };
  /** Each walk's address depends on the walk before, as a device waits for a translation before it uses it. */
  let chainSum = 0;
  const chain = () => {
    let sum = 0;
    let frame = 0;
    for (let i = 0; i < PAGES; i++) {
      // Frames are below 2^30: this adds nothing, but only the processor finds that out, and only when it knows the frame.
      const page = order[i]! + (frame >>> 30);
      if (walker.walk(root, LEVELS, page >>> 20, page << 12, Access.read) !== WalkStatus.ok) throw new Error('walk');
      frame = walker.frame;
      sum += frame;
    }
    chainSum = sum;
  };
  let hitSum = 0;
  const lookups = () => {
    let sum = 0;
    for (let i = 0; i < PAGES; i++) {
      const page = order[i]! % TLB_PAGES;
      const entry = iotlb.find(DOMAIN, page >>> 20, page << 12);
      if (entry < 0) throw new Error('miss');
      sum += iotlb.frameAt(entry, page >>> 20, page << 12);
    }
    hitSum = sum;
  };
  const translations = (modulus: number) => () => {
    for (let i = 0; i < PAGES; i++) {
      const page = order[i]! % modulus;
      engine.translate(DOMAIN, root, LEVELS, page >>> 20, page << 12, Access.read, out);
    }
  };
  const hits = translations(TLB_PAGES);
  const misses = translations(PAGES);

  const folder = mkdtempSync(join(tmpdir(), 'viommu-bench-'));
  try {
    const program = compileNative('walk.c', folder);
    const image = join(folder, 'image');
    writeFileSync(image, Buffer.concat([memory.windows[0]!.bytes, new Uint8Array(order.buffer)]));

    const ours = {
      walk: [] as number[],
      chain: [] as number[],
      lookup: [] as number[],
      hit: [] as number[],
      miss: [] as number[],
    };
    const floor = { walk: [] as number[], chain: [] as number[], lookup: [] as number[] };
    for (let round = -2; round < ROUNDS; round++) {
      const walk = nanoseconds(walks, PAGES);
      const chained = nanoseconds(chain, PAGES);
      const lookup = nanoseconds(lookups, PAGES);
      const hit = nanoseconds(hits, PAGES);
      const miss = nanoseconds(misses, PAGES);
      const text = execFileSync(program, [image, String(root), String(PAGES)], { encoding: 'utf8' });
      const [cWalk, cWalkSum, cChain, cLookup, cLookupSum] = text.trim().split(' ').map(Number);
      if (cWalkSum !== walkSum || walkSum !== chainSum || cLookupSum !== hitSum)
        throw new Error('C and JavaScript do not agree on the result');
      if (round < 0) continue;
      ours.walk.push(walk);
      ours.chain.push(chained);
      ours.lookup.push(lookup);
      ours.hit.push(hit);
      ours.miss.push(miss);
      floor.walk.push(cWalk!);
      floor.chain.push(cChain!);
      floor.lookup.push(cLookup!);
    }
    return [
      result('four-level walk, random over 1 GiB', 'ns', ours.walk, floor.walk, 1 / 3),
      result('the same, each after the one before', 'ns', ours.chain, floor.chain, 1 / 3),
      result('IOTLB hit', 'ns', ours.lookup, floor.lookup),
      result('translation, IOTLB hit', 'ns', ours.hit, floor.lookup),
      result('translation, miss, walk and fill', 'ns', ours.miss, floor.walk),
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const line of benchWalk()) console.log(formatResult(line));
}
