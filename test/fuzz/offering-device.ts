/**
 * A device for tests: an inner one, and around it what no other device here offers. Its memory is mapped by clients, who write to it while
 * it is read; its work is a list in that memory, of copies between guest memory and its own, each with an interrupt.
 */
import { MemoryStatus } from '../../src/memory/guest-memory.ts';
import type { RegionMemory } from '../../src/memory/region-memory.ts';
import type { PciFunction } from '../../src/pci/function.ts';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { type MappedWindow, WINDOW_BYTES, type WindowPool } from '../../src/posix/window-pool.ts';
import {
  type ClientPort,
  type DeviceMigration,
  type DeviceModel,
  type DmaRegions,
  Errno,
  type InterruptDescription,
  type RegionDescription,
} from '../../src/vfio-user/device-model.ts';
import {
  DOORBELL_REGION,
  ENTRIES,
  ENTRY_BYTES,
  FIRST_OFFERED_INTERRUPT,
  OFFERED_FILE_BYTES,
  type OfferedRegion,
  offeredInterrupts,
  offers,
  WORK_REGION,
} from './offers.ts';

/** Of the bytes of one copy. */
const COUNT_MASK = 0x1fff;
const FRAME_MASK = 0x7fffffff;
const WRITES = 0x80000000;

export interface OfferingDeviceOptions {
  readonly pci: PciFunction;
  /** Guest memory as the client of `pci` maps it. */
  readonly memory: RegionMemory;
  readonly pool: WindowPool;
  readonly push: (job: () => void) => void;
}

/** What was done, since it was made. */
export interface OfferingCounts {
  /** Writes by which it was told that there is work. */
  doorbells: number;
  copies: number;
  failedCopies: number;
  interrupts: number;
}

export class OfferingDevice implements DeviceModel {
  readonly regions: readonly RegionDescription[];
  readonly interrupts: readonly InterruptDescription[];
  readonly dma: DmaRegions;
  readonly migration: DeviceMigration;
  readonly counts: OfferingCounts = { doorbells: 0, copies: 0, failedCopies: 0, interrupts: 0 };
  private readonly file: number;
  private readonly window: MappedWindow;
  private client: ClientPort | undefined;
  /** Grows when what is under way must end. */
  private life = 0;
  private isQueued = false;
  private isStopped = false;

  constructor(private readonly options: OfferingDeviceOptions) {
    const { pci, pool } = options;
    this.file = createMemfd('viommu-fuzz-device', OFFERED_FILE_BYTES, { seal: true });
    this.window = pool.acquire();
    this.window.mapFile(0, OFFERED_FILE_BYTES, this.file, 0, true);
    this.regions = pci.regions.map((region, index) => this.describe(region, offers[index]));
    this.interrupts = [...pci.interrupts.slice(0, FIRST_OFFERED_INTERRUPT), ...offeredInterrupts];
    this.dma = pci.dma;
    this.migration = this.migrationOf(pci.migration!);
  }

  read(region: number, offset: number, target: Uint8Array, at: number, length: number): number {
    const place = this.placeOf(region);
    if (place < 0) return this.options.pci.read(region, offset, target, at, length);
    target.set(this.window.bytes.subarray(place + offset, place + offset + length), at);
    return Errno.ok;
  }

  write(region: number, offset: number, source: Uint8Array, at: number, length: number): number {
    if (region === DOORBELL_REGION) {
      this.ring();
      return Errno.ok;
    }
    const place = this.placeOf(region);
    if (place < 0) return this.options.pci.write(region, offset, source, at, length);
    this.window.bytes.set(source.subarray(at, at + length), place + offset);
    return Errno.ok;
  }

  unmasked(index: number, vector: number): void {
    if (index < FIRST_OFFERED_INTERRUPT) this.options.pci.unmasked(index, vector);
    else this.client?.trigger(index, vector);
  }

  armed(index: number): void {
    if (index < FIRST_OFFERED_INTERRUPT) this.options.pci.armed(index);
  }

  reset(): void {
    this.life++;
    this.options.pci.reset();
  }

  connected(client: ClientPort): void {
    this.client = client;
    this.options.pci.connected(client);
  }

  disconnected(): void {
    this.client = undefined;
    this.life++;
    this.options.pci.disconnected();
  }

  close(): void {
    this.options.pool.release(this.window);
    closeDescriptor(this.file);
  }

  private describe(inner: RegionDescription, offered: OfferedRegion | undefined): RegionDescription {
    if (offered === undefined) return inner;
    const { size, memory, ioEventFds } = offered;
    return {
      ...(size === 0 ? inner : { size, readable: true, writable: true }),
      ...(memory === undefined ? {} : { mapping: { descriptor: this.file, ...memory } }),
      ...(ioEventFds === undefined ? {} : { ioEventFds }),
    };
  }

  private migrationOf(inner: DeviceMigration): DeviceMigration {
    return {
      stop: stopped => {
        this.isStopped = true;
        inner.stop(stopped);
      },
      run: () => {
        this.isStopped = false;
        inner.run();
      },
      save: () => inner.save(),
      restore: state => inner.restore(state),
    };
  }

  /** Where a region's memory lies in the window; -1 where it has none. */
  private placeOf(region: number): number {
    return region === DOORBELL_REGION
      ? WINDOW_BYTES - this.regions[region]!.size
      : (offers[region]?.memory?.offset ?? -1);
  }

  private ring(): void {
    this.counts.doorbells++;
    if (this.isQueued) return;
    this.isQueued = true;
    const { life } = this;
    this.options.push(() => {
      this.isQueued = false;
      for (let entry = 0; entry < ENTRIES && life === this.life && !this.isStopped; entry++) this.work(entry);
    });
  }

  /**
   * One entry of the list: a page of guest memory and the direction in the first word, the place in that page, the bytes, where in the
   * device's memory, and the vector. Each word is read once: the client may change it meanwhile.
   */
  private work(entry: number): void {
    const { pci, memory } = this.options;
    const { bytes, words } = this.window;
    const at = (offers[WORK_REGION]!.memory!.offset + entry * ENTRY_BYTES) >> 2;
    const page = words[at]!;
    const place = words[at + 1]!;
    const own = words[at + 2]!;
    const vector = words[at + 3]!;
    if (page === 0 || !pci.busMaster) return;
    const count = (place >>> 12) & COUNT_MASK;
    const where = Math.min(own >>> 0, OFFERED_FILE_BYTES - count);
    const frame = page & FRAME_MASK;
    const status =
      (page & WRITES) !== 0
        ? memory.write(frame, place & 0xfff, bytes, where, count)
        : memory.read(frame, place & 0xfff, bytes, where, count);
    if (status === MemoryStatus.ok) this.counts.copies++;
    else this.counts.failedCopies++;
    const index = FIRST_OFFERED_INTERRUPT + ((vector >>> 16) % offeredInterrupts.length);
    if (
      this.client?.trigger(index, (vector & 0xffff) % (offeredInterrupts[index - FIRST_OFFERED_INTERRUPT]!.count + 1))
    ) {
      this.counts.interrupts++;
    }
  }
}
