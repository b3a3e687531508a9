/**
 * The guest's memory as a vfio-user client announces it, region by region: mapped where that is safe and wanted, else reached
 * through its file, else through messages (vfio-user, VFIO_USER_DMA_MAP).
 */
import { SystemError } from '../posix/errors.ts';
import { appendsAlways } from '../posix/file-io.ts';
import { closeDescriptor } from '../posix/socket.ts';
import type { WindowPool } from '../posix/window-pool.ts';
import { EventClass, Kind } from '../trace/event-kinds.ts';
import { type Events, noEvents } from '../trace/events.ts';
import type { Trace } from '../trace/trace.ts';
import type { AnnouncedRegion, DmaRegions } from '../vfio-user/device-model.ts';
import { DirtyLog } from './dirty-log.ts';
import { FRAME_BYTES, FRAME_SHIFT, type MemoryBatch, MemoryStatus } from './guest-memory.ts';
import { PageFlag } from './page-flags.ts';
import { RegionBatch } from './region-batch.ts';
import { FileCheck, moveInFile } from './region-file.ts';
import { type Region, RegionTable } from './region-table.ts';
import type { RemoteMemory } from './remote-memory.ts';
import { WindowMap } from './window-map.ts';
import { DirectCounter, WindowedMemory } from './windowed-memory.ts';

export type { RemoteMemory } from './remote-memory.ts';

/** What a QEMU client asks for in its VERSION message (max_dma_maps). */
export const REGION_LIMIT = 65535;
/** Descriptors kept open for regions that cannot be mapped; a client must not use up the process's own. */
export const POSITIONED_REGION_LIMIT = 256;
/** 8 TiB: frames are non-negative int32. */
export const FRAME_LIMIT = 2 ** 31;
/** Writes here are interrupt messages (Intel SDM volume 3, "Message Address Register Format"): FEE00000h to FEEFFFFFh. */
export const INTERRUPT_FIRST_FRAME = 0xfee00;
export const INTERRUPT_FRAMES = 0x100;

/** Answers to `map` and `unmap`, Linux errno values. */
const ENOENT = 2;
const ENOMEM = 12;
const EEXIST = 17;
const EINVAL = 22;

const ADDRESS_LIMIT = FRAME_LIMIT * FRAME_BYTES;

export interface MemoryStatistics {
  readonly regions: number;
  readonly mappedBytes: number;
  /** Bytes copied out of and into mapped memory. */
  readonly directBytesRead: number;
  readonly directBytesWritten: number;
  /** Bytes through files, both ways. */
  readonly positionedBytes: number;
  /** Bytes through messages, both ways. */
  readonly messageBytes: number;
}

/** Why a region is not taken. */
interface Problem {
  readonly errno: number;
  readonly why: string;
}

export interface RegionMemoryOptions {
  /** Who notes events. */
  readonly name: string;
  readonly trace: Trace;
  readonly pool: WindowPool;
  /** REGION_LIMIT by default. */
  readonly maxRegions?: number;
}

export class RegionMemory extends WindowedMemory implements DmaRegions {
  /** Where memory without a descriptor is reached; undefined while no client is connected. */
  remote: RemoteMemory | undefined;
  readonly log = new DirtyLog(FRAME_LIMIT * FRAME_BYTES, active => {
    this.#logging = active ? PageFlag.logged : 0;
    for (const one of this.#table.all()) this.flags.fill(one.firstFrame, one.frames, one.flags | this.#logging);
  });

  readonly #name: string;
  readonly #trace: Trace;
  readonly #events: Events;
  readonly #source: number;
  readonly #maxRegions: number;
  readonly #table = new RegionTable();
  readonly #windowMap: WindowMap;
  readonly #fileCheck = new FileCheck();
  readonly #interrupts: Region = newRegion(INTERRUPT_FIRST_FRAME, INTERRUPT_FRAMES, false, true, 0);
  readonly #batch = new RegionBatch({
    memory: this,
    flagsAt: frame => this.flags.at(frame),
    find: frame => this.#table.find(frame),
    writes: (frame, offset, length) => {
      if ((this.flags.at(frame) & PageFlag.logged) !== 0) this.logWrite(frame, offset, length);
    },
    count: bytes => {
      this.#messageBytes += bytes;
    },
    failed: (remote, frame, writing, errno) => {
      const region = this.#table.find(frame);
      if (region !== undefined) return this.#messageFailed(region, remote, frame, writing, errno);
      return this.remote === remote ? MemoryStatus.unmapped : MemoryStatus.failed;
    },
  });
  /** What the flags of all pages have besides: `PageFlag.logged` or nothing. */
  #logging = 0;
  #positionedRegions = 0;
  #remoteRegions = 0;
  #mappedBytes = 0;
  #positionedBytes = 0;
  #messageBytes = 0;

  constructor(options: RegionMemoryOptions) {
    super();
    this.#name = options.name;
    this.#trace = options.trace;
    this.#events = options.trace.records ?? noEvents;
    this.#source = this.#events.sourceId(options.name);
    this.#maxRegions = options.maxRegions ?? REGION_LIMIT;
    this.#windowMap = new WindowMap(options.pool, this.windows);
  }

  get batch(): MemoryBatch | undefined {
    return this.#remoteRegions > 0 ? this.#batch : undefined;
  }

  /** A snapshot. */
  get statistics(): MemoryStatistics {
    return {
      regions: this.#table.size,
      mappedBytes: this.#mappedBytes,
      directBytesRead: this.counters[DirectCounter.read]!,
      directBytesWritten: this.counters[DirectCounter.written]!,
      positionedBytes: this.#positionedBytes,
      messageBytes: this.#messageBytes,
    };
  }

  /**
   * EINVAL: not whole pages, empty, beyond 8 TiB, not within the file, or a file that cannot be used in the way that is asked for;
   * EEXIST: overlaps a region; ENOMEM: too many.
   * Owns the descriptor from here on.
   */
  map(announced: AnnouncedRegion): number {
    const { descriptor } = announced;
    let kept = false;
    try {
      const problem = this.#check(announced);
      if (problem !== undefined) return this.#refuse('memory.map-refused', problem, announced.address, announced.size);
      const region = newRegion(
        announced.address / FRAME_BYTES,
        announced.size / FRAME_BYTES,
        announced.readable,
        announced.writable,
        descriptor < 0 ? 0 : announced.offset,
      );
      const kind = descriptor < 0 ? PageFlag.remote : this.#place(region, announced);
      if (kind === PageFlag.positioned) {
        kept = true;
        region.descriptor = descriptor;
        this.#positionedRegions++;
      }
      region.flags |= kind;
      if (kind === PageFlag.remote) this.#remoteRegions++;
      this.#table.add(region);
      this.flags.fill(region.firstFrame, region.frames, region.flags | this.#logging);
      this.generation++;
      this.#tell(Kind['memory.added'], region);
      return 0;
    } finally {
      // A mapping keeps its file.
      if (descriptor >= 0 && !kept) closeDescriptor(descriptor);
    }
  }

  /** ENOENT: no region starts there; EINVAL: it has another size. */
  unmap(address: number, size: number): number {
    // With a fraction where the address lies within a page.
    const frame = address / FRAME_BYTES;
    const region = frame < FRAME_LIMIT ? this.#table.find(frame) : undefined;
    if (region === undefined || region.firstFrame !== frame) {
      return this.#refuse('memory.unmap-refused', { errno: ENOENT, why: 'no region starts there' }, address, size);
    }
    if (region.frames * FRAME_BYTES !== size) {
      return this.#refuse('memory.unmap-refused', { errno: EINVAL, why: 'the region has another size' }, address, size);
    }
    this.#table.remove(region);
    this.flags.fill(region.firstFrame, region.frames, 0);
    this.generation++;
    this.#drop(region);
    if ((region.flags & PageFlag.mapped) !== 0) this.#windowMap.clear(region.firstFrame, region.frames);
    this.#tell(Kind['memory.removed'], region);
    return 0;
  }

  /** Every region goes, and every window back to the pool: whoever kept one now sees somebody else's memory in it. */
  unmapAll(): void {
    for (const region of this.#table.all()) {
      this.#drop(region);
      this.#tell(Kind['memory.removed'], region);
    }
    this.#table.clear();
    this.flags.clear();
    this.generation++;
    this.#windowMap.release();
    this.#interrupts.failure = '';
  }

  protected override logWrite(frame: number, offset: number, length: number): void {
    this.log.mark(frame, offset, length);
  }

  /** As `unmapAll`; to be called before the memory is forgotten. */
  dispose(): void {
    this.unmapAll();
    this.remote = undefined;
  }

  protected override transferElsewhere(
    writing: boolean,
    flags: number,
    frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): MemoryStatus {
    const region = flags !== 0 ? this.#table.find(frame) : writing ? this.#interruptsAt(frame) : undefined;
    if (region === undefined) return MemoryStatus.unmapped;
    if ((region.flags & (writing ? PageFlag.writable : PageFlag.readable)) === 0) return MemoryStatus.denied;
    const inRegion = (frame - region.firstFrame) * FRAME_BYTES + offset;
    const moved = Math.min(length, region.frames * FRAME_BYTES - inRegion);
    const status =
      region.descriptor >= 0
        ? this.#transferInFile(region, writing, inRegion, buffer, at, moved)
        : this.#transferByMessage(region, writing, frame, offset, buffer, at, moved);
    // Only now: while a message is out, others may come by here.
    this.moved = moved;
    return status;
  }

  #check(region: AnnouncedRegion): Problem | undefined {
    const { address, size, descriptor, access } = region;
    const frame = address / FRAME_BYTES;
    const frames = size / FRAME_BYTES;
    if (size <= 0) return { errno: EINVAL, why: 'empty' };
    if (Math.floor(frame) !== frame || Math.floor(frames) !== frames) return { errno: EINVAL, why: 'not whole pages' };
    if (address < 0 || address + size > ADDRESS_LIMIT) return { errno: EINVAL, why: 'beyond 8 TiB' };
    if (this.#table.size >= this.#maxRegions) return { errno: ENOMEM, why: `more than ${this.#maxRegions} regions` };
    if (this.#table.overlaps(frame, frames)) return { errno: EEXIST, why: 'overlaps a region' };
    if (descriptor < 0) return undefined;
    if (access === 'fileIo' && this.#positionedRegions >= POSITIONED_REGION_LIMIT) {
      return { errno: ENOMEM, why: `more than ${POSITIONED_REGION_LIMIT} regions by file I/O` };
    }
    const why = this.#fileCheck.problem(region);
    return why === undefined ? undefined : { errno: EINVAL, why };
  }

  /** How the region's pages are reached, with the file in the windows where they are mapped. */
  #place(region: Region, announced: AnnouncedRegion): number {
    const { descriptor, access } = announced;
    if (access === 'fileIo') return PageFlag.positioned;
    if (!region.readable || !this.#fileCheck.cannotShrink(announced)) {
      // Windows are read without a check, so what must not be read is not put there.
      const why = region.readable ? 'file could shrink' : 'not readable';
      const isPositioned = !region.writable || !appendsAlways(descriptor);
      if (isPositioned && this.#positionedRegions < POSITIONED_REGION_LIMIT) {
        this.#notMapped(region, why, 'file');
        return PageFlag.positioned;
      }
      this.#notMapped(region, why, 'messages');
      return PageFlag.remote;
    }
    try {
      this.#windowMap.map(region.firstFrame, region.frames, descriptor, region.fileOffset, region.writable);
    } catch (error) {
      // Huge pages that do not align, a descriptor opened for reading, a process at its limits. Files on hugetlbfs have
      // no positioned writes, so messages are what is left.
      if (!(error instanceof SystemError)) throw error;
      this.#notMapped(region, error.message, 'messages');
      return PageFlag.remote;
    }
    this.#mappedBytes += region.frames * FRAME_BYTES;
    return PageFlag.mapped;
  }

  #notMapped({ firstFrame, frames }: Region, why: string, instead: 'file' | 'messages'): void {
    const address = BigInt(firstFrame) << BigInt(FRAME_SHIFT);
    this.#trace.note('memory.not-mapped', this.#name, { address, bytes: frames * FRAME_BYTES, why, instead });
  }

  /** What a region holds besides its place in the windows. */
  #drop(region: Region): void {
    if ((region.flags & PageFlag.mapped) !== 0) this.#mappedBytes -= region.frames * FRAME_BYTES;
    if ((region.flags & PageFlag.remote) !== 0) this.#remoteRegions--;
    if (region.descriptor >= 0) {
      closeDescriptor(region.descriptor);
      region.descriptor = -1;
      this.#positionedRegions--;
    }
  }

  #interruptsAt(frame: number): Region | undefined {
    return (frame - INTERRUPT_FIRST_FRAME) >>> 0 < INTERRUPT_FRAMES ? this.#interrupts : undefined;
  }

  #transferInFile(
    region: Region,
    writing: boolean,
    inRegion: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): MemoryStatus {
    const why = moveInFile(writing, region.descriptor, region.fileOffset + inRegion, buffer, at, length);
    if (why !== '') return this.#fail(region, writing, why);
    region.failure = '';
    this.#positionedBytes += length;
    return MemoryStatus.ok;
  }

  #transferByMessage(
    region: Region,
    writing: boolean,
    frame: number,
    offset: number,
    buffer: Uint8Array,
    at: number,
    length: number,
  ): MemoryStatus {
    const { remote } = this;
    if (remote === undefined) return this.#fail(region, writing, 'no client');
    const errno = writing
      ? remote.dmaWrite(frame, offset, buffer, at, length)
      : remote.dmaRead(frame, offset, buffer, at, length);
    if (errno !== 0) return this.#messageFailed(region, remote, frame, writing, errno);
    region.failure = '';
    this.#messageBytes += length;
    return MemoryStatus.ok;
  }

  #messageFailed(region: Region, remote: RemoteMemory, frame: number, writing: boolean, errno: number): MemoryStatus {
    const isThere = region === this.#interrupts || this.#table.find(frame) === region;
    // The client took it away while it was waited for.
    if (!isThere && this.remote === remote) return MemoryStatus.unmapped;
    return this.#fail(region, writing, `the client answered errno ${errno}`);
  }

  #fail(region: Region, writing: boolean, why: string): MemoryStatus {
    if (region.failure !== why) {
      region.failure = why;
      const address = BigInt(region.firstFrame) << BigInt(FRAME_SHIFT);
      this.#trace.note('memory.failed', this.#name, { region: address, access: writing ? 'write' : 'read', why });
    }
    return MemoryStatus.failed;
  }

  #tell(kind: number, region: Region): void {
    if ((this.#events.mask & EventClass.connection) === 0) return;
    const { firstFrame, frames, writable, flags } = region;
    const how = (writable ? 1 : 0) | ((flags & PageFlag.mapped) !== 0 ? 2 : 0);
    // A frame number is the address shifted: 20 of its bits are in the lower word.
    this.#events.emit(kind, this.#source, how, firstFrame >>> 20, firstFrame << 12, frames >>> 20, frames << 12);
  }

  #refuse(kind: string, problem: Problem, address: number, size: number): number {
    this.#trace.note(kind, this.#name, {
      address: BigInt(address),
      size: BigInt(size),
      errno: problem.errno,
      why: problem.why,
    });
    return problem.errno;
  }
}

function newRegion(
  firstFrame: number,
  frames: number,
  readable: boolean,
  writable: boolean,
  fileOffset: number,
): Region {
  const flags = (readable ? PageFlag.readable : 0) | (writable ? PageFlag.writable : 0);
  return { firstFrame, frames, readable, writable, flags, descriptor: -1, fileOffset, failure: '' };
}
