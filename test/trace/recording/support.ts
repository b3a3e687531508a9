import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Packr } from 'msgpackr';
import { afterEach } from 'vitest';
import { type EventKindName, Kind } from '../../../src/trace/event-kinds.ts';
import { SLOT_BYTES, SLOT_WORDS } from '../../../src/trace/record-layout.ts';
import { newHeader } from '../../../src/trace/recording/format.ts';
import { RecordingReader } from '../../../src/trace/recording/reader.ts';
import { type RecordingSummary, RecordingWriter, type WriterOptions } from '../../../src/trace/recording/writer.ts';

const packr = new Packr({ useRecords: false });
const directories: string[] = [];
const readers: RecordingReader[] = [];

afterEach(() => {
  for (const reader of readers.splice(0)) reader.close();
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

/** A record as slots. */
export function record(kind: number, source: number, time: number, payload: readonly number[] = []): Int32Array {
  const slots = payload.length > 5 ? 2 : 1;
  const words = new Int32Array(slots * SLOT_WORDS);
  words[0] = kind | (slots << 8) | (source << 16);
  words[1] = payload[0] ?? 0;
  new Float64Array(words.buffer)[1] = time;
  words.set(payload.slice(1), 4);
  return words;
}

/** A text record as slots. */
export function text(kind: number, source: number, time: number, value: unknown): Int32Array {
  const bytes = packr.pack(value);
  const slots = Math.ceil((16 + bytes.length) / SLOT_BYTES);
  const words = new Int32Array(slots * SLOT_WORDS);
  words[0] = kind | (slots << 8) | (source << 16);
  words[1] = bytes.length;
  new Float64Array(words.buffer)[1] = time;
  new Uint8Array(words.buffer).set(bytes, 16);
  return words;
}

export function named(number: number, name: string, time = 0): Int32Array {
  return text(Kind.source, number, time, [number, name]);
}

export function note(source: number, time: number, kind: string, name: string, detail: object): Int32Array {
  return text(Kind.note, source, time, [kind, name, detail]);
}

/** A `dma.read` and the like. */
export function event(kind: EventKindName, source: number, time: number, ...payload: number[]): Int32Array {
  return record(Kind[kind], source, time, payload);
}

export function join32(...parts: readonly Int32Array[]): Int32Array {
  const words = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    words.set(part, at);
    at += part.length;
  }
  return words;
}

export const MACHINE = {
  iommu: { kind: 'vtd', cachingMode: false, compat: 'extended', checkStale: false },
  endpoints: [
    { kind: 'edu', id: 'edu0', requesterId: 0x100, options: {} },
    { kind: 'edu', id: 'edu1', requesterId: 0x200, options: {} },
  ],
};

export function scratch(name = 'a.viommu'): string {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-recording-'));
  directories.push(directory);
  return join(directory, name);
}

/** Writes batches into a file of its own, one `append` each. */
export async function write(
  batches: readonly Int32Array[],
  options: WriterOptions = {},
  machine: unknown = MACHINE,
): Promise<{ path: string; summary: RecordingSummary }> {
  const path = scratch();
  const writer = await RecordingWriter.create(path, newHeader(machine, {}, new Date(0)), options);
  for (const batch of batches) writer.append(batch);
  return { path, summary: await writer.close() };
}

export function open(path: string): RecordingReader {
  const reader = RecordingReader.open(path);
  readers.push(reader);
  return reader;
}

/** All words of all blocks, one behind the other. */
export function wordsOf(reader: RecordingReader, filter = {}): Int32Array {
  const parts: Int32Array[] = [];
  for (const { words } of reader.read(filter)) parts.push(words.slice());
  return join32(...parts);
}

/** Makes a copy of a file with its bytes changed. */
export function damaged(path: string, change: (bytes: Buffer) => Buffer): string {
  const copy = scratch();
  writeFileSync(copy, change(readFileSync(path)));
  return copy;
}
