/**
 * A machine that is not there: what it does is made up, but as a VT-d unit with two busy devices would do it. Everything follows from
 * a seed and from the time that it is given, so that two of them do the same.
 */

import { EventClass, type EventClassName, type EventKindName, Kind } from '../../../src/trace/event-kinds.ts';
import { standardDecoder } from '../../../src/trace/record-fields.ts';
import type { Finding } from '../../../src/trace/sanitizer/finding.ts';
import { fakeFindings } from './fake-findings.ts';
import { RecordWriter } from './record-writer.ts';

export const IOMMU = 1;
export const DEVICES = [
  { name: 'edu0', source: 2, requesterId: 0x0100, domain: 1 },
  { name: 'edu1', source: 3, requesterId: 0x0200, domain: 2 },
] as const;
export type FakeDevice = (typeof DEVICES)[number];

export interface FakeMapping {
  readonly domain: number;
  readonly page: number;
  readonly pages: number;
  readonly frame: number;
  readonly permissions: number;
  readonly since: number;
}

const PAGE = 2 ** 12;
const TLB_HITS = 0.94;
const SOURCES = ['', 'iommu', 'edu0', 'edu1'];
const high = (page: number) => Math.floor(page / 2 ** 20) | 0;
const low = (page: number, offset = 0) => ((page % 2 ** 20) * PAGE + offset) | 0;

export class FakeMachine {
  readonly findings: Finding[] = fakeFindings();
  readonly mappings: FakeMapping[] = [];
  readonly counters = {
    hits: 0,
    misses: 0,
    iotlbPages: 0,
    iotlbDomain: 1,
    contextDevice: 2,
    waits: 0,
    faults: new Array<number>(32).fill(0),
    registers: [0, 0, 0],
    devices: DEVICES.map(() => ({ reads: 0, writes: 0, bytesRead: 0, bytesWritten: 0, failed: 0 })),
  };
  /** Nanoseconds. */
  time = 1_000_000_000;
  isPaused = false;
  /** `EventClass` bits that are recorded. */
  classes = 0;
  queueTail = 0x40;
  private readonly writer = new RecordWriter();
  private debt = 0;
  private operations = 0;

  constructor(
    /** DMA transfers a second. */
    readonly rate: number,
    private seed = 1,
  ) {
    this.lay();
  }

  /** Pseudo-random, below 1 (a linear congruential generator with the constants of Numerical Recipes). */
  random(): number {
    this.seed = (Math.imul(this.seed, 1664525) + 1013904223) | 0;
    return (this.seed >>> 0) / 2 ** 32;
  }

  /** Goes on by so many nanoseconds. */
  advance(nanoseconds: number): void {
    if (this.isPaused) {
      this.time += nanoseconds;
      return;
    }
    this.debt += (nanoseconds / 1e9) * this.rate;
    const count = Math.floor(this.debt);
    this.debt -= count;
    for (let n = 0; n < count; n++) {
      this.time += nanoseconds / count;
      this.operate();
    }
    if (count === 0) this.time += nanoseconds;
  }

  /** What a driver and its device do about one transfer. */
  operate(): void {
    const n = this.operations++;
    const index = this.random() < 0.7 ? 0 : 1;
    const device = DEVICES[index]!;
    if (n % 8 === 0) this.register(device, true, 0x98, 1);
    if (n % 97 === 0) this.remap(device);
    if (n % 1999 === 1998) this.refuse(device);
    else this.transfer(device, index);
    if (n % 8 === 7) this.interrupt(device);
  }

  register(device: FakeDevice, isWrite: boolean, offset: number, value: number): void {
    this.counters.registers[device.source - 1]!++;
    this.emit(isWrite ? 'register.write' : 'register.read', device.source, 0 | (8 << 4), offset, 0, value);
  }

  /** The sources' names, as they come with every new recording. */
  nameSources(): void {
    SOURCES.forEach((name, number) => {
      if (number > 0) this.writer.text('source', 0, this.time, [number, name]);
    });
  }

  note(kind: string, source: string, detail: object): void {
    if ((this.classes & EventClass.note) !== 0) this.writer.text('note', 1, this.time, [kind, source, detail]);
  }

  takeRecords(): Int32Array {
    return this.writer.take();
  }

  /** Who is attached to what, as records. */
  announce(): void {
    for (const { requesterId, domain } of DEVICES) this.emit('attach', IOMMU, requesterId, domain, 0, -1);
  }

  private lay(): void {
    for (let n = 0; n < 24; n++) this.map(1, 0xfffff - n * 3 - (n > 12 ? 9000 : 0), 1 + (n % 3), 1 + (n % 3));
    this.map(1, 0x8000, 512, 3);
    this.map(1, 0x12_0000, 64, 1);
    for (let n = 0; n < 12; n++) this.map(2, 0xfffff - n * 2, 1, 3);
    this.map(2, 0xfe000, 256, 2);
    this.map(2, 0x40_0000, 2048, 3);
  }

  private map(domain: number, page: number, pages: number, permissions: number): void {
    const frame = 0x10000 + Math.floor(this.random() * 0x40000);
    this.mappings.push({ domain, page, pages, frame, permissions, since: this.time });
    this.emit('mapping.added', IOMMU, domain, high(page), low(page), frame, pages, permissions | (1 << 8) | (12 << 16));
  }

  private remap(device: FakeDevice): void {
    const of = this.mappings.filter(one => one.domain === device.domain && one.pages <= 3);
    const old = of[Math.floor(this.random() * of.length)];
    if (old === undefined) return;
    this.mappings.splice(this.mappings.indexOf(old), 1);
    const { domain, page, pages, frame, permissions } = old;
    this.emit(
      'mapping.removed',
      IOMMU,
      domain,
      high(page),
      low(page),
      frame,
      pages,
      permissions | (2 << 8) | (12 << 16),
    );
    this.emit('invalidation', IOMMU, domain, high(page), low(page), pages, 0 | (2 << 4) | (1 << 12));
    this.emit('invalidation.wait', IOMMU, 1, 0, 0x7c1000, this.operations);
    this.counters.iotlbPages++;
    this.counters.waits++;
    this.queueTail = (this.queueTail + 32) & 0xfff;
    this.map(domain, page, pages, permissions);
  }

  private transfer(device: FakeDevice, index: number): void {
    const of = this.mappings.filter(one => one.domain === device.domain);
    // Some pages are much busier than others.
    const mapping = of[Math.floor(this.random() ** 3 * of.length)]!;
    const page = mapping.page + Math.floor(this.random() * mapping.pages);
    const isWrite = mapping.permissions === 2 || (mapping.permissions === 3 && this.random() < 0.5);
    const offset = Math.floor(this.random() * 48) * 64;
    const length = 64 * (1 + Math.floor(this.random() * 16));
    const isHit = this.random() < TLB_HITS;
    if (isHit) this.counters.hits++;
    else this.counters.misses++;
    const access = isWrite ? 2 : 1;
    const word =
      device.requesterId | (access << 16) | ((isHit ? 2 : 3) << 18) | (mapping.permissions << 20) | (12 << 22);
    const frame = mapping.frame + page - mapping.page;
    this.emit('translation', IOMMU, word, high(page), low(page, offset), frame, device.domain);
    this.emit(
      isWrite ? 'dma.write' : 'dma.read',
      device.source,
      device.requesterId,
      high(page),
      low(page, offset),
      length,
      -1,
    );
    const counters = this.counters.devices[index]!;
    if (isWrite) {
      counters.writes++;
      counters.bytesWritten += length;
    } else {
      counters.reads++;
      counters.bytesRead += length;
    }
  }

  private refuse(device: FakeDevice): void {
    const page = 0x5680 + Math.floor(this.random() * 4);
    const { requesterId, domain, source } = device;
    this.emit(
      'fault',
      IOMMU,
      requesterId | (2 << 16),
      high(page),
      low(page, 0x40),
      5,
      domain,
      -1,
      1,
      0,
      0,
      0,
      0x7d2000,
      48,
    );
    this.emit('dma.failed', source, requesterId | (1 << 16) | (1 << 20), high(page), low(page, 0x40), 64, -1);
    this.emit('interrupt', IOMMU, 1, 0);
    this.counters.faults[5]!++;
    this.counters.devices[source - 2]!.failed++;
    this.findings[0] = { ...this.findings[0]!, count: this.findings[0]!.count + 1, last: this.time };
  }

  private interrupt(device: FakeDevice): void {
    this.emit('interrupt', device.source, 1, 0);
    this.register(device, false, 0x24, 0x100);
    this.register(device, true, 0x64, 0x100);
  }

  private emit(kind: EventKindName, source: number, ...payload: number[]): void {
    const name = standardDecoder.kind(Kind[kind])!.class as EventClassName;
    if ((this.classes & EventClass[name]) !== 0) this.writer.add(kind, source, this.time, ...payload);
  }
}
