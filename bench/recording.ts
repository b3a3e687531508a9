/**
 * A recording of ten million events: how long it takes to write, to find its faults, to find all that happened at an address, and to
 * explain what went wrong. Each beside the reading of as many bytes from the same file. Commands run as processes of their own, as a
 * user runs them.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describeMachine } from '../src/machine/description.ts';
import { EventClass, FaultCause, Kind, MappingSource } from '../src/trace/event-kinds.ts';
import { allocateEventRing, EventRingReader, EventRingWriter } from '../src/trace/event-ring.ts';
import { newHeader } from '../src/trace/recording/format.ts';
import { RecordingWriter } from '../src/trace/recording/writer.ts';
import { silentTrace } from '../src/trace/trace.ts';
import { Tracer } from '../src/trace/tracer.ts';
import { type BenchResult, result } from './result.ts';

const EVENTS = 10_000_000;
/** Of one buffer's life: mapped, used so often, unmapped, flushed. */
const TRANSFERS = 23;
const EVENTS_OF_A_LIFE = 2 * TRANSFERS + 4;
const LIVES = EVENTS / EVENTS_OF_A_LIFE;
/** One transfer in so many lives comes too late. */
const LIVES_TO_A_MISTAKE = 10_000;
const RID = 0x0100;
const DOMAIN = 2;
const IOVAS = 4096;
const FIRST_IOVA = 0x1000_0000;
const BYTES_AT_ONCE = 1 << 20;
/** Lives between two looks of the ring's reader. */
const LIVES_TO_A_DRAIN = 256;

async function write(path: string): Promise<void> {
  const ring = allocateEventRing();
  const reader = new EventRingReader(ring);
  // A microsecond and a half for each event.
  let now = 0;
  const clock = () => {
    now += 1500;
    return now;
  };
  const tracer = new Tracer({ forward: silentTrace, ring: new EventRingWriter(ring, () => {}), now: clock });
  const machine = describeMachine('vtd', ['edu@01:00.0']);
  const writer = await RecordingWriter.create(path, newHeader(machine));
  tracer.classes =
    EventClass.translation | EventClass.dma | EventClass.mapping | EventClass.invalidation | EventClass.fault;
  const iommu = tracer.sourceId('iommu');
  const edu = tracer.sourceId('edu0');
  const drain = async () => {
    tracer.publish();
    while (reader.drain((words, slots) => writer.append(words, slots)) > 0);
    await writer.settled();
  };
  for (let life = 0; life < LIVES; life++) {
    const low = FIRST_IOVA + (life % IOVAS) * 4096;
    const frame = 0x20000 + (life % IOVAS);
    const mapping = (kind: number, how: number) =>
      tracer.emitLong(kind, iommu, DOMAIN, 0, low, frame, 1, 3 | (how << 8) | (12 << 16), 0, 0, 0, 0, 0, 0, 0);
    mapping(Kind['mapping.added'], MappingSource.walk);
    for (let transfer = 0; transfer < TRANSFERS; transfer++) {
      tracer.emit(Kind.translation, iommu, RID | (2 << 16) | (2 << 18) | (3 << 20) | (12 << 22), 0, low, frame, DOMAIN);
      tracer.emitAlso(Kind['dma.write'], edu, RID, 0, low, 4096, -1);
    }
    tracer.emit(Kind.invalidation, iommu, DOMAIN, 0, low, 1, 2 << 4);
    mapping(Kind['mapping.removed'], MappingSource.invalidation);
    if (life % LIVES_TO_A_MISTAKE === LIVES_TO_A_MISTAKE - 1) {
      const refused = RID | (2 << 16) | (FaultCause.notPresent << 22);
      tracer.emitLong(Kind.fault, iommu, refused, 0, low, 5, DOMAIN, -1, 1, 0, 0, 0, 0, 0, 0);
      tracer.emit(Kind['dma.failed'], edu, RID | (1 << 16) | (1 << 20), 0, low, 64, -1);
    } else tracer.emit(Kind['invalidation.wait'], iommu, 1, 0, 0x1000, 1, 0);
    if (life % LIVES_TO_A_DRAIN === 0) await drain();
  }
  await drain();
  if (reader.lost > 0) throw new Error(`${reader.lost} records were lost`);
  const { records } = await writer.close();
  if (records < EVENTS) throw new Error(`${records} records are in the file, not ${EVENTS}`);
}

function readAll(path: string): void {
  const file = openSync(path, 'r');
  const buffer = new Uint8Array(BYTES_AT_ONCE);
  while (readSync(file, buffer) > 0);
  closeSync(file);
}

function viommu(...args: string[]): string {
  const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`viommu ${args.join(' ')} ended with ${status}: ${stderr}`);
  return stdout;
}

async function milliseconds(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

export async function benchRecording(): Promise<BenchResult[]> {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-bench-'));
  const path = join(directory, 'run.viommu');
  try {
    const written = await milliseconds(() => write(path));
    const floor = [await milliseconds(() => readAll(path)), await milliseconds(() => readAll(path))];
    const faults = await milliseconds(() => viommu('trace', path, '--class', 'fault', '--json'));
    const page = await milliseconds(() => viommu('trace', path, '--iova', '0x10001000', '--kind', 'mapping.removed'));
    let explanation = '';
    const explained = await milliseconds(() => {
      explanation = viommu('explain', path, 'F1');
    });
    if (!explanation.includes('use-after-unmap')) throw new Error(`this explains nothing:\n${explanation}`);
    const row = (name: string, time: number) => result(`10 million events: ${name}`, 'ms', [time], floor);
    return [
      row('written', written),
      row('trace --class fault', faults),
      row('trace --iova', page),
      row('explain F1', explained),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
