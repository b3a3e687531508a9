/**
 * The price of DMA through the IOMMU's TLB, beside a plain copy of the same bytes (`set` of a subarray).
 * Compile the project and run the JavaScript.
 */
import { fileURLToPath } from 'node:url';
import { TranslatedDmaPort } from '../src/iommu/dma-port.ts';
import { TranslationEngine } from '../src/iommu/translation-engine.ts';
import type { Translation, Translator } from '../src/iommu/translator.ts';
import { LocalMemory } from '../src/memory/local-memory.ts';
import { vtdSecondStage } from '../src/page-tables/vtd-second-stage.ts';
import { WalkStatus } from '../src/page-tables/walker.ts';
import { DmaStatus } from '../src/pci/ports.ts';
import { type BenchResult, formatResult, result } from './result.ts';

const ROUNDS = 9;
const MiB = 1 << 20;
const DATA = 16 * MiB;
/** As much as the IOTLB maps with pages of 4 KiB; it stays in the processor's caches. */
const SMALL_SPAN = 4 * MiB;
/** More than the caches hold, through pages of 2 MiB. */
const LARGE_SPAN = 64 * MiB;
const ROOT = 1;
const LEVELS = 3;
const RWPS = 0x83n;
const RW = 3n;

/** IOVA regions, each another way to the same data, or to the same pages in another order. */
const LARGE = 0;
const CONSECUTIVE = LARGE_SPAN;
const SCATTERED = LARGE_SPAN + SMALL_SPAN;
const PAGES = SMALL_SPAN >> 12;

class OneDomain implements Translator {
  private readonly engine: TranslationEngine;

  constructor(engine: TranslationEngine) {
    this.engine = engine;
  }

  translate(_requesterId: number, high: number, low: number, access: number, out: Translation): boolean {
    return this.engine.translate(1, ROOT, LEVELS, high, low, access, out) === WalkStatus.ok;
  }
}

function buildTables(memory: LocalMemory): void {
  const pointer = (frame: number) => (BigInt(frame) << 12n) | RW;
  memory.write64(ROOT, 0, pointer(2));
  for (let i = 0; i < LARGE_SPAN / (2 * MiB); i++) memory.write64(2, i * 8, BigInt(DATA + i * 2 * MiB) | RWPS);
  for (let i = 0; i < 4; i++) memory.write64(2, (LARGE_SPAN / (2 * MiB) + i) * 8, pointer(3 + i));
  for (let i = 0; i < PAGES; i++) {
    memory.write64(3 + (i >> 9), (i & 511) * 8, pointer((DATA >> 12) + i));
    memory.write64(5 + (i >> 9), (i & 511) * 8, pointer((DATA >> 12) + ((i * 37) % PAGES)));
  }
}

export function benchDma(): BenchResult[] {
  const memory = new LocalMemory(DATA + LARGE_SPAN);
  buildTables(memory);
  const format = vtdSecondStage({ hostAddressWidth: 39, largePages: { '2M': true, '1G': true } });
  const translator = new OneDomain(new TranslationEngine(format, memory));
  const port = new TranslatedDmaPort({ translator, memory, requesterId: 8, gate: { busMaster: true, generation: 0 } });
  const window = memory.windows[0]!.bytes;
  const buffer = new Uint8Array(65536);

  const small = { at: CONSECUTIVE, span: SMALL_SPAN };
  const large = { at: LARGE, span: LARGE_SPAN };
  const cases: { name: string; bytes: number; at: number; span: number; goal?: number }[] = [
    { name: '64 B, in cache', bytes: 64, ...small },
    { name: '4 KiB, in cache', bytes: 4096, ...small },
    { name: '4 KiB, from memory', bytes: 4096, goal: 0.8, ...large },
    { name: '64 KiB, 16 pages, in cache', bytes: 65536, ...small },
    { name: '64 KiB, 16 scattered pages, in cache', bytes: 65536, at: SCATTERED, span: SMALL_SPAN },
    { name: '64 KiB, 2 MiB pages, from memory', bytes: 65536, goal: 0.95, ...large },
  ];
  const samples = cases.map(() => ({
    read: [] as number[],
    write: [] as number[],
    out: [] as number[],
    in: [] as number[],
  }));

  const time = (count: number, work: (offset: number) => void, bytes: number, span: number): number => {
    const start = process.hrtime.bigint();
    for (let i = 0, offset = 0; i < count; i++) {
      work(offset);
      offset = (offset + bytes) & (span - 1);
    }
    return Number(process.hrtime.bigint() - start) / count;
  };

  for (let round = -2; round < ROUNDS; round++) {
    cases.forEach(({ bytes, at, span }, i) => {
      const count = Math.min(200_000, (256 * MiB) / bytes);
      const check = (status: DmaStatus) => {
        if (status !== DmaStatus.ok) throw new Error(`DMA ended with ${status}`);
      };
      const read = time(count, offset => check(port.read(0, at + offset, buffer, 0, bytes)), bytes, span);
      const out = time(
        count,
        offset => buffer.set(window.subarray(DATA + offset, DATA + offset + bytes), 0),
        bytes,
        span,
      );
      const write = time(count, offset => check(port.write(0, at + offset, buffer, 0, bytes)), bytes, span);
      const into = time(count, offset => window.set(buffer.subarray(0, bytes), DATA + offset), bytes, span);
      if (round < 0) return;
      samples[i]!.read.push(read);
      samples[i]!.out.push(out);
      samples[i]!.write.push(write);
      samples[i]!.in.push(into);
    });
  }
  return cases.flatMap(({ name, goal }, i) => [
    result(`DMA read, ${name}`, 'ns', samples[i]!.read, samples[i]!.out, goal),
    result(`DMA write, ${name}`, 'ns', samples[i]!.write, samples[i]!.in, goal),
  ]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const line of benchDma()) console.log(formatResult(line));
}
