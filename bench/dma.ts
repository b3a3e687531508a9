/**
 * The price of DMA through the IOMMU's TLB, beside a plain copy of the same bytes (`set` of a subarray); and what it costs more to
 * compare every translation with the tables, and to record every translation and transfer, beside DMA with nothing of that.
 * Compile the project and run the JavaScript.
 */
import { fileURLToPath } from 'node:url';
import { TranslatedDmaPort } from '../src/iommu/dma-port.ts';
import { VtdUnit } from '../src/iommu/vtd/unit.ts';
import { LocalMemory } from '../src/memory/local-memory.ts';
import { DmaStatus } from '../src/pci/ports.ts';
import type { RegisterAccess } from '../src/pci/registers.ts';
import { EventClass, Kind } from '../src/trace/event-kinds.ts';
import { allocateEventRing, EventRingReader, EventRingWriter } from '../src/trace/event-ring.ts';
import type { EventListener } from '../src/trace/events.ts';
import { silentTrace, type Trace } from '../src/trace/trace.ts';
import { Tracer } from '../src/trace/tracer.ts';
import { type BenchResult, formatResult, result } from './result.ts';

/** Many and short, so that the median is of rounds that nothing else on the machine interrupted. */
const ROUNDS = 60;
/** Before those, so that what is compiled late, and where memory is touched first, is not measured. */
const WARM_UP_ROUNDS = 12;
const MiB = 1 << 20;
const DATA = 16 * MiB;
/** Half of what the IOTLB maps with pages of 4 KiB; it stays in the processor's caches. */
const SMALL_SPAN = 2 * MiB;
/** Bytes in a round: the whole span, and no less than this, unless that takes too many transfers. */
const LEAST = 32 * MiB;
/** More than the caches hold, through pages of 2 MiB. */
const LARGE_SPAN = 64 * MiB;
/** Page frames of the tables. */
const ROOT_TABLE = 1;
const CONTEXT_TABLE = 2;
const TOP = 3;
const MIDDLE = 4;
const CONSECUTIVE_TABLES = 5;
const SCATTERED_TABLES = 7;
const REQUESTER_ID = 8;
const DOMAIN = 7n;
const THREE_LEVELS = 1n;
const PRESENT = 1n;
const READ_WRITE = 3n;
const LARGE_PAGE = 0x80n;
/** Registers and bits of the VT-d unit (11.4): RTADDR; GCMD with SRTP and TE. */
const ROOT_TABLE_ADDRESS = 0x20;
const GLOBAL_COMMAND = 0x18;
const SET_ROOT_TABLE = 1 << 30;
const ENABLE = 1 << 31;

/** IOVA regions, each another way to the same data, or to the same pages in another order. */
const LARGE = 0;
const CONSECUTIVE = LARGE_SPAN;
const SCATTERED = LARGE_SPAN + SMALL_SPAN;
const PAGES = SMALL_SPAN >> 12;

/** Where the scattered pages lie, by offset: never beside each other. */
function scattered(offset: number): number {
  return ((offset >> 12) * 37 * 4096) & (SMALL_SPAN - 1);
}

function buildTables(memory: LocalMemory): void {
  const at = (frame: number) => BigInt(frame) << 12n;
  memory.write64(ROOT_TABLE, 0, at(CONTEXT_TABLE) | PRESENT);
  memory.write64(CONTEXT_TABLE, REQUESTER_ID * 16, at(TOP) | PRESENT);
  memory.write64(CONTEXT_TABLE, REQUESTER_ID * 16 + 8, (DOMAIN << 8n) | THREE_LEVELS);
  memory.write64(TOP, 0, at(MIDDLE) | READ_WRITE);
  const largePages = LARGE_SPAN / (2 * MiB);
  for (let i = 0; i < largePages; i++) {
    memory.write64(MIDDLE, i * 8, BigInt(DATA + i * 2 * MiB) | LARGE_PAGE | READ_WRITE);
  }
  const tables = SMALL_SPAN / (2 * MiB);
  for (let i = 0; i < tables; i++) {
    memory.write64(MIDDLE, (largePages + i) * 8, at(CONSECUTIVE_TABLES + i) | READ_WRITE);
    memory.write64(MIDDLE, (largePages + tables + i) * 8, at(SCATTERED_TABLES + i) | READ_WRITE);
  }
  for (let i = 0; i < PAGES; i++) {
    const map = (table: number, page: number) =>
      memory.write64(table + (i >> 9), (i & 511) * 8, at((DATA >> 12) + page) | READ_WRITE);
    map(CONSECUTIVE_TABLES, i);
    map(SCATTERED_TABLES, scattered(i << 12) >> 12);
  }
}

/** A VT-d unit that a driver has switched on: root table, context table, three levels. */
function remappingUnit(memory: LocalMemory, trace: Trace = silentTrace, checks = false): VtdUnit {
  const jobs = {
    push() {
      throw new Error('nothing here queues work');
    },
  };
  const messages = {
    send() {
      throw new Error('nothing here interrupts');
    },
  };
  const unit = new VtdUnit({ name: 'vtd', memory, messages, jobs, trace, checks });
  const write = (offset: number, low: number) => {
    const access: RegisterAccess = { offset, width: 4, low, high: 0 };
    unit.write(access);
  };
  write(ROOT_TABLE_ADDRESS, ROOT_TABLE << 12);
  write(GLOBAL_COMMAND, SET_ROOT_TABLE);
  write(GLOBAL_COMMAND, ENABLE);
  return unit;
}

export function benchDma(): BenchResult[] {
  const memory = new LocalMemory(DATA + LARGE_SPAN);
  buildTables(memory);
  const unit = remappingUnit(memory);
  const gate = { busMaster: true, generation: 0 };
  const port = new TranslatedDmaPort({ translator: unit, memory, requesterId: REQUESTER_ID, gate });
  const window = memory.windows[0]!.bytes;
  const buffer = new Uint8Array(65536);

  const small = { at: CONSECUTIVE, span: SMALL_SPAN };
  const large = { at: LARGE, span: LARGE_SPAN };
  const cases: { name: string; bytes: number; at: number; span: number; goal?: number }[] = [
    { name: '64 B, in cache', bytes: 64, ...small },
    { name: '4 KiB, in cache', bytes: 4096, goal: 0.8, ...small },
    { name: '4 KiB, from memory', bytes: 4096, goal: 0.8, ...large },
    { name: '64 KiB, 16 pages, in cache', bytes: 65536, ...small },
    { name: '64 KiB, 16 scattered pages, in cache', bytes: 65536, at: SCATTERED, span: SMALL_SPAN },
    { name: '64 KiB, 2 MiB pages, in cache', bytes: 65536, goal: 0.95, at: LARGE, span: SMALL_SPAN },
    { name: '64 KiB, 2 MiB pages, from memory', bytes: 65536, goal: 0.95, ...large },
  ];
  const check = (status: DmaStatus) => {
    if (status !== DmaStatus.ok) throw new Error(`DMA ended with ${status}`);
  };
  const pass = (work: (offset: number) => void, bytes: number, span: number, count: number): void => {
    for (let i = 0, offset = 0; i < count; i++) {
      work(offset);
      offset = (offset + bytes) & (span - 1);
    }
  };
  /** Behind an untimed pass, which brings back into all caches, the IOTLB too, what others have pushed out. */
  const time = (work: (offset: number) => void, bytes: number, span: number): number => {
    pass(work, bytes, span, span / bytes);
    const count = Math.min(65536, Math.max(span, LEAST) / bytes);
    const { misses } = unit.statistics.engine;
    const start = process.hrtime.bigint();
    pass(work, bytes, span, count);
    const took = Number(process.hrtime.bigint() - start) / count;
    if (unit.statistics.engine.misses !== misses) throw new Error('not all translations were hits');
    return took;
  };

  /** Two and two that do the same: through the IOMMU, and plainly over the same addresses in the same order. */
  const measured = cases.map(({ name, bytes, at, span, goal }) => {
    const read = (offset: number) => check(port.read(0, at + offset, buffer, 0, bytes));
    const write = (offset: number) => check(port.write(0, at + offset, buffer, 0, bytes));
    let out = (offset: number) => buffer.set(window.subarray(DATA + offset, DATA + offset + bytes), 0);
    let into = (offset: number) => window.set(buffer.subarray(0, bytes), DATA + offset);
    if (at === SCATTERED) {
      out = offset => {
        for (let i = 0; i < bytes; i += 4096) {
          const from = DATA + scattered(offset + i);
          buffer.set(window.subarray(from, from + 4096), i);
        }
      };
      into = offset => {
        for (let i = 0; i < bytes; i += 4096) window.set(buffer.subarray(i, i + 4096), DATA + scattered(offset + i));
      };
    }
    const task = (work: (offset: number) => void) => ({ work, bytes, span, times: [] as number[] });
    return { name, goal, read: task(read), out: task(out), write: task(write), into: task(into) };
  });

  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    for (const { read, out, write, into } of measured) {
      const tasks = [read, out, write, into];
      // What comes first finds the caches as something else left them: in turn ours and the plain copy.
      if (round % 2 !== 0) tasks.reverse();
      for (const { work, bytes, span, times } of tasks) {
        const took = time(work, bytes, span);
        if (round >= 0) times.push(took);
      }
    }
  }
  return measured.flatMap(({ name, goal, read, out, write, into }) => [
    result(`DMA read, ${name}`, 'ns', read.times, out.times, goal),
    result(`DMA write, ${name}`, 'ns', write.times, into.times, goal),
  ]);
}

/** What the sanitizer listens to; nothing of it happens while all goes well. */
function listener(): EventListener {
  const { mapping, attach, invalidation, fault, connection } = EventClass;
  const unexpected = (kind: number | string) => {
    throw new Error(`event ${kind} while all goes well`);
  };
  return {
    wants: mapping | attach | invalidation | fault | connection,
    event(kind, _source, _time, payload) {
      if (kind !== Kind.attach && kind !== Kind['mapping.added']) unexpected(`${kind}: ${payload}`);
    },
    note() {},
  };
}

/** Of the speed of DMA that nobody watches: off may cost 2 %, checks 10 %, and recording everything as much again as the DMA. */
const WATCHED_GOALS = { again: 0.98, checks: 0.91, everything: 0.5 } as const;
const WATCHED_TRANSFERS = 8192;

/** DMA of 4 KiB in cache: nobody watches, the same again, with checks, and with every translation and transfer recorded. */
export function benchWatchedDma(): BenchResult[] {
  const ring = allocateEventRing();
  const reader = new EventRingReader(ring);
  const recording = new Tracer({
    forward: silentTrace,
    ring: new EventRingWriter(ring, () => {}),
    listener: listener(),
    rounds: true,
  });
  recording.classes = EventClass.translation | EventClass.dma | EventClass.fault;
  // Many transfers of a device come in one round of the thread.
  const watching = new Tracer({ forward: silentTrace, listener: listener(), rounds: true });
  /** Tells of no rounds, so that each transfer counts as the first of one. */
  const alone = new Tracer({ forward: silentTrace, listener: listener() });
  const idle = new Tracer({ forward: silentTrace });

  const memory = new LocalMemory(DATA + LARGE_SPAN);
  buildTables(memory);
  const variant = (trace: Trace, checks: boolean) => {
    const unit = remappingUnit(memory, trace, checks);
    const gate = { busMaster: true, generation: 0 };
    const port = new TranslatedDmaPort({
      translator: unit,
      memory,
      requesterId: REQUESTER_ID,
      gate,
      trace,
      name: 'edu0',
    });
    return { unit, port, reads: [] as number[], writes: [] as number[] };
  };
  const off = variant(silentTrace, false);
  const again = variant(idle, false);
  const checks = variant(watching, true);
  const single = variant(alone, true);
  const everything = variant(recording, true);
  const all = [off, again, checks, single, everything];
  const buffer = new Uint8Array(4096);
  const pass = ({ port }: (typeof all)[0], write: boolean, count: number) => {
    for (let i = 0, offset = 0; i < count; i++) {
      const low = CONSECUTIVE + offset;
      const status = write ? port.write(0, low, buffer, 0, 4096) : port.read(0, low, buffer, 0, 4096);
      if (status !== DmaStatus.ok) throw new Error(`DMA ended with ${status}`);
      offset = (offset + 4096) & (SMALL_SPAN - 1);
    }
  };
  const drain = () => {
    recording.publish();
    while (reader.drain(() => {}) > 0);
  };
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    for (const write of [false, true]) {
      for (let i = 0; i < all.length; i++) {
        const one = all[(i + round + WARM_UP_ROUNDS) % all.length]!;
        pass(one, write, PAGES);
        drain();
        const start = process.hrtime.bigint();
        pass(one, write, WATCHED_TRANSFERS);
        const took = Number(process.hrtime.bigint() - start) / WATCHED_TRANSFERS;
        drain();
        if (round >= 0) (write ? one.writes : one.reads).push(took);
      }
    }
  }
  if (reader.lost !== 0) throw new Error(`${reader.lost} records were lost`);
  return (['reads', 'writes'] as const).flatMap(way => [
    result(`DMA ${way}, 4 KiB, nobody watches`, 'ns', again[way], off[way], WATCHED_GOALS.again),
    result(`DMA ${way}, 4 KiB, checked`, 'ns', checks[way], off[way], WATCHED_GOALS.checks),
    result(`DMA ${way}, 4 KiB, checked, one each round`, 'ns', single[way], off[way]),
    result(`DMA ${way}, 4 KiB, all recorded`, 'ns', everything[way], off[way], WATCHED_GOALS.everything),
  ]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const line of [...benchDma(), ...benchWatchedDma()]) console.log(formatResult(line));
}
