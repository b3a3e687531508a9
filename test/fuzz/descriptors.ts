/** The descriptors that a fuzzed client passes: guest memory, and what is no memory at all. */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createEventFd, isEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd, writeAt } from '../../src/posix/memfd.ts';
import { closeDescriptor, socketPair } from '../../src/posix/socket.ts';
import { contentOf } from './content.ts';
import { type DescriptorKind, EVENTFDS, type FileDescription, type OtherDescriptor } from './steps.ts';

const FULL = 0xfffffffffffffffen;

/** What files hold, by what determines it: it takes longer to draw than an episode to be done. */
const drawn = new Map<string, Uint8Array>();
const MOST_DRAWN = 32;
const MOST_KEPT = 64;
/** No episode changes them. */
let lasting: Readonly<Record<LastingDescriptor, number>> | undefined;

type LastingDescriptor = Exclude<OtherDescriptor, 'full-eventfd'>;

/** Of one episode. */
export class Descriptors {
  /** As long as they are by now. */
  readonly files: { bytes: number }[];
  /** What the files held at first. */
  readonly contents: readonly Uint8Array[];
  private readonly memory: readonly number[];
  private readonly readOnly: readonly number[];
  private readonly eventfds: readonly number[];
  private readonly others: Readonly<Record<OtherDescriptor, number>>;
  private readonly kept: number[] = [];

  constructor(files: readonly FileDescription[]) {
    this.files = files.map(({ bytes }) => ({ bytes }));
    this.contents = files.map(drawnContent);
    this.memory = files.map(({ bytes, sealing }, index) => {
      const fd = createMemfd('viommu-fuzz', bytes, { seal: sealing === 'sealed', sealable: sealing !== 'unsealable' });
      writeAt(fd, this.contents[index]!, 0, bytes, 0);
      return fd;
    });
    this.readOnly = this.memory.map(fd => openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY));
    this.eventfds = Array.from({ length: EVENTFDS }, createEventFd);
    lasting ??= openLasting();
    this.others = { ...lasting, 'full-eventfd': openFullEventFd() };
  }

  find(kind: DescriptorKind): number {
    if (kind.is === 'file') return this.memory[kind.file]!;
    if (kind.is === 'read-only') return this.readOnly[kind.file]!;
    return kind.is === 'eventfd' ? this.eventfds[kind.number]! : this.others[kind.is];
  }

  /** What is read by messages: the first two files side by side, over and over. */
  contentAt(address: bigint, count: number): Uint8Array {
    const [tables, commands] = this.contents as readonly [Uint8Array, Uint8Array];
    const bytes = new Uint8Array(count);
    const span = tables.length + commands.length;
    let at = Number(address % BigInt(span));
    for (let done = 0; done < count; ) {
      const [source, from] = at < tables.length ? [tables, at] : [commands, at - tables.length];
      const piece = source.subarray(from, from + count - done);
      bytes.set(piece, done);
      done += piece.length;
      at = (at + piece.length) % span;
    }
    return bytes;
  }

  /** A file that somebody has sealed stays as it is. */
  shrink(file: number, bytes: number): void {
    try {
      ftruncateSync(this.memory[file]!, bytes);
      this.files[file]!.bytes = bytes;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    }
  }

  write(file: number, at: number, bytes: Uint8Array): void {
    if (at + bytes.length <= this.files[file]!.bytes) writeAt(this.memory[file]!, bytes, 0, bytes.length, at);
  }

  restore(file: number): void {
    const content = this.contents[file]!;
    this.write(file, 0, content);
  }

  /** One of this side's, and one that a server has given and that has outlived its connection. */
  signal(number: number): void {
    signalEventFd(this.eventfds[number]!);
    const kept = this.kept[number % this.kept.length];
    if (kept !== undefined && isEventFd(kept)) signalEventFd(kept);
  }

  /** Descriptors of a connection that is gone: they stay open for a while. */
  keep(descriptors: readonly number[]): void {
    this.kept.push(...descriptors);
    for (const old of this.kept.splice(0, Math.max(0, this.kept.length - MOST_KEPT))) closeDescriptor(old);
  }

  close(): void {
    const own = [...this.memory, ...this.eventfds, ...this.readOnly, this.others['full-eventfd']];
    for (const fd of [...own, ...this.kept.splice(0)]) {
      closeDescriptor(fd);
    }
  }
}

function drawnContent(file: FileDescription): Uint8Array {
  const key = `${file.content} ${file.seed} ${file.bytes}`;
  let content = drawn.get(key);
  if (content === undefined) {
    if (drawn.size >= MOST_DRAWN) drawn.clear();
    content = contentOf(file);
    drawn.set(key, content);
  }
  return content;
}

function openFullEventFd(): number {
  const full = createEventFd();
  writeSync(full, new Uint8Array(BigUint64Array.of(FULL).buffer));
  return full;
}

function openLasting(): Record<LastingDescriptor, number> {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-fuzz-'));
  try {
    const fifo = join(directory, 'pipe');
    const made = spawnSync('mkfifo', [fifo]);
    if (made.status !== 0) throw new Error(`cannot make a pipe: ${made.error?.message ?? made.stderr.toString()}`);
    const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    const pipeEnd = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
    closeSync(reader);
    const [socket, other] = socketPair();
    const [socketEnd, gone] = socketPair();
    closeDescriptor(gone);
    closeDescriptor(other);
    return {
      pipe: openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK),
      'pipe-end': pipeEnd,
      directory: openSync('/', constants.O_RDONLY | constants.O_DIRECTORY),
      null: openSync('/dev/null', constants.O_RDWR),
      zero: openSync('/dev/zero', constants.O_RDWR),
      socket,
      'socket-end': socketEnd,
      // Nobody may write to it: that would be to this program.
      'memory-of-process': openSync('/proc/self/mem', constants.O_RDONLY),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
