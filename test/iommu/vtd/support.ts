/** A VT-d unit on a bench: memory, jobs that run when told, interrupt messages that are kept, and what a driver does with it. */
import { Access, Translation } from '../../../src/iommu/translator.ts';
import type { VtdOptions } from '../../../src/iommu/vtd/capabilities.ts';
import { VtdUnit } from '../../../src/iommu/vtd/unit.ts';
import type { MemoryStatus } from '../../../src/memory/guest-memory.ts';
import { LocalMemory } from '../../../src/memory/local-memory.ts';
import type { RegisterAccess } from '../../../src/pci/registers.ts';
import { type Trace, TraceLog } from '../../../src/trace/trace.ts';

export const FRAMES = 512;

/** Where the bench puts things, as page frames. */
export const Frame = { root: 1, context: 2, queue: 8, status: 20, tables: 32, data: 256 } as const;

/** 01:00.0 */
export const RID = 0x0100;
export const DOMAIN = 7;

export const Gcmd = { te: 2 ** 31, srtp: 2 ** 30, qie: 2 ** 26 } as const;
export const Gsts = { tes: 2 ** 31, rtps: 2 ** 30, qies: 2 ** 26 } as const;

export const Reg = {
  ver: 0x00,
  cap: 0x08,
  ecap: 0x10,
  gcmd: 0x18,
  gsts: 0x1c,
  rtaddr: 0x20,
  ccmd: 0x28,
  fsts: 0x34,
  fectl: 0x38,
  fedata: 0x3c,
  feaddr: 0x40,
  feuaddr: 0x44,
  iqh: 0x80,
  iqt: 0x88,
  iqa: 0x90,
  ics: 0x9c,
  iectl: 0xa0,
  iedata: 0xa4,
  ieaddr: 0xa8,
  ieuaddr: 0xac,
  iqercd: 0xb0,
  iva: 0x100,
  iotlb: 0x108,
  frcd: 0x220,
} as const;

export const MASK = 2 ** 31;
export const PENDING = 2 ** 30;
export const READ = Access.read;
export const WRITE = Access.write;
export const ATOMIC = READ | WRITE;

/** Memory that can call back while it is waited for, as memory reached by messages does. */
export class SlowMemory extends LocalMemory {
  during: () => void = () => {};

  override load64(frame: number, offset: number): MemoryStatus {
    this.during();
    return super.load64(frame, offset);
  }

  override store32(frame: number, offset: number, value: number): MemoryStatus {
    this.during();
    return super.store32(frame, offset, value);
  }
}

export class JobList {
  private readonly waiting: (() => void)[] = [];

  push(job: () => void): void {
    this.waiting.push(job);
  }

  get length(): number {
    return this.waiting.length;
  }

  /** One job; false where there is none. */
  step(): boolean {
    const job = this.waiting.shift();
    job?.();
    return job !== undefined;
  }

  /** All jobs, those that they cause included. Returns how many. */
  run(): number {
    let count = 0;
    while (this.step()) count++;
    return count;
  }
}

export interface Message {
  readonly address: bigint;
  readonly data: number;
}

export interface ContextFields {
  readonly present?: boolean;
  readonly fpd?: boolean;
  readonly type?: number;
  /** Page frame of the page table. */
  readonly table?: number;
  /** 1: three levels, 2: four, 3: five. */
  readonly width?: number;
  readonly domain?: number;
  /** Added to the entry's words, for reserved bits. */
  readonly extraLow?: bigint;
  readonly extraHigh?: bigint;
}

export class Bench {
  readonly memory = new SlowMemory(FRAMES * 4096);
  readonly trace = new TraceLog();
  readonly jobs = new JobList();
  readonly messages: Message[] = [];
  readonly unit: VtdUnit;
  readonly out = new Translation();
  private readonly access: RegisterAccess = { offset: 0, width: 4, low: 0, high: 0 };
  private nextTable: number = Frame.tables;
  private tail = 0;

  constructor(options: Partial<VtdOptions> = {}, more: { checks?: boolean; trace?: Trace } = {}) {
    this.unit = new VtdUnit({
      name: 'vtd',
      memory: this.memory,
      messages: {
        send: (high, low, data) => {
          this.messages.push({ address: (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0), data: data >>> 0 });
          return true;
        },
      },
      jobs: this.jobs,
      trace: this.trace,
      options,
      ...more,
    });
  }

  // Registers

  read32(offset: number): number {
    return Number(this.readAny(offset, 4));
  }

  read64(offset: number): bigint {
    return this.readAny(offset, 8);
  }

  write32(offset: number, value: number): void {
    this.writeAny(offset, 4, BigInt(value));
  }

  write64(offset: number, value: bigint): void {
    this.writeAny(offset, 8, value);
  }

  readAny(offset: number, width: number): bigint {
    Object.assign(this.access, { offset, width, low: 0x5a5a5a5a, high: 0x5a5a5a5a });
    this.unit.read(this.access);
    const low = BigInt(this.access.low >>> 0);
    return width === 8 ? (BigInt(this.access.high >>> 0) << 32n) | low : low;
  }

  writeAny(offset: number, width: number, value: bigint): void {
    const low = Number(BigInt.asIntN(32, value));
    const high = Number(BigInt.asIntN(32, value >> 32n));
    Object.assign(this.access, { offset, width, low, high });
    this.unit.write(this.access);
  }

  /** Changes one switch or one-shot of GCMD, as 11.4.4.1 asks software to. */
  command(bit: number, on = true): void {
    const status = BigInt(this.read32(Reg.gsts)) & 0x96ffffffn;
    const value = on ? status | BigInt(bit) : status & ~BigInt(bit);
    this.write32(Reg.gcmd, Number(value));
  }

  // Tables

  setRoot(bus: number, low: bigint, high = 0n): void {
    this.memory.write64(Frame.root, bus * 16, low);
    this.memory.write64(Frame.root, bus * 16 + 8, high);
  }

  setContext(requesterId: number, fields: ContextFields = {}): void {
    const { present = true, fpd = false, type = 0, table = this.tableRoot, width = 2, domain = DOMAIN } = fields;
    const low =
      (BigInt(table) << 12n) | (BigInt(type) << 2n) | (fpd ? 2n : 0n) | (present ? 1n : 0n) | (fields.extraLow ?? 0n);
    const high = (BigInt(domain) << 8n) | BigInt(width) | (fields.extraHigh ?? 0n);
    this.memory.write64(Frame.context, (requesterId & 0xff) * 16, low);
    this.memory.write64(Frame.context, (requesterId & 0xff) * 16 + 8, high);
    this.setRoot(requesterId >>> 8, (BigInt(Frame.context) << 12n) | 1n);
  }

  readonly tableRoot = this.newTable();

  newTable(): number {
    return this.nextTable++;
  }

  /** Writes an entry of `level` (1: page) on the way of the IOVA, making the tables above it. */
  setEntry(iova: bigint, level: number, entry: bigint, levels = 4, root = this.tableRoot): void {
    let table = root;
    for (let at = levels; at > level; at--) {
      const offset = Number((iova >> BigInt(12 + 9 * (at - 1))) & 0x1ffn) * 8;
      if (this.memory.load64(table, offset) !== 0) throw new Error('no table there');
      const next = (this.memory.high << 20) | (this.memory.low >>> 12);
      if (next === 0) {
        const fresh = this.newTable();
        this.memory.write64(table, offset, (BigInt(fresh) << 12n) | 3n);
        table = fresh;
      } else table = next;
    }
    this.memory.write64(table, Number((iova >> BigInt(12 + 9 * (level - 1))) & 0x1ffn) * 8, entry);
  }

  map(iova: bigint, frame: number, permissions = 3n): void {
    this.setEntry(iova, 1, (BigInt(frame) << 12n) | permissions);
  }

  unmap(iova: bigint): void {
    this.setEntry(iova, 1, 0n);
  }

  /** Root table set, translation on; interrupts unmasked with recognisable messages. */
  enable(mode = 0n): this {
    this.write64(Reg.rtaddr, (BigInt(Frame.root) << 12n) | (mode << 10n));
    this.command(Gcmd.srtp);
    this.command(Gcmd.te);
    return this;
  }

  unmaskFaults(): this {
    this.write32(Reg.fedata, 0x21);
    this.write32(Reg.feaddr, 0xfee00000);
    this.write32(Reg.feuaddr, 0);
    this.write32(Reg.fectl, 0);
    return this;
  }

  unmaskCompletions(): this {
    this.write32(Reg.iedata, 0x42);
    this.write32(Reg.ieaddr, 0xfee01000);
    this.write32(Reg.ieuaddr, 3);
    this.write32(Reg.iectl, 0);
    return this;
  }

  // Translation

  translate(iova: bigint, access: number = READ, requesterId = RID): boolean {
    const high = Number(BigInt.asIntN(32, iova >> 32n));
    return this.unit.translate(requesterId, high, Number(BigInt.asIntN(32, iova)), access, this.out);
  }

  /** The frame that a read of the IOVA reaches, or undefined. */
  frameAt(iova: bigint, requesterId = RID): number | undefined {
    return this.translate(iova, READ, requesterId) ? this.out.frame : undefined;
  }

  // Faults

  record(index = 0) {
    const low = this.read64(Reg.frcd + index * 16);
    const high = this.read64(Reg.frcd + index * 16 + 8);
    return {
      address: low,
      source: Number(high & 0xffffn),
      type2: Number((high >> 28n) & 1n),
      reason: Number((high >> 32n) & 0xffn),
      type1: Number((high >> 62n) & 1n),
      valid: high >> 63n === 1n,
    };
  }

  clearRecord(index: number): void {
    this.write32(Reg.frcd + index * 16 + 12, MASK);
  }

  /** Reason of the only fault recorded so far. */
  get reason(): number {
    const { valid, reason } = this.record(0);
    if (!valid) throw new Error('no fault recorded');
    return reason;
  }

  // Invalidation queue

  enableQueue(size = 0): this {
    this.write64(Reg.iqt, 0n);
    this.write64(Reg.iqa, (BigInt(Frame.queue) << 12n) | BigInt(size));
    this.command(Gcmd.qie);
    this.jobs.run();
    this.tail = 0;
    return this;
  }

  /** Writes the descriptors behind the last ones, without telling the unit. */
  enqueue(...descriptors: readonly Descriptor[]): this {
    const bytes = 4096 << (this.read32(Reg.iqa) & 7);
    for (const [low, high] of descriptors) {
      this.memory.write64(Frame.queue + (this.tail >>> 12), this.tail & 0xfff, low);
      this.memory.write64(Frame.queue + (this.tail >>> 12), (this.tail & 0xfff) + 8, high);
      this.tail = (this.tail + 16) % bytes;
    }
    return this;
  }

  ring(): void {
    this.write64(Reg.iqt, BigInt(this.tail));
  }

  /** Enqueues, rings and lets everything happen. */
  submit(...descriptors: readonly Descriptor[]): void {
    this.enqueue(...descriptors).ring();
    this.jobs.run();
  }

  get head(): number {
    return Number(this.read64(Reg.iqh));
  }

  get queueError(): number | undefined {
    return this.read32(Reg.fsts) & 0x10 ? this.read32(Reg.iqercd) & 0xf : undefined;
  }

  /** The status word that wait descriptors write, by index. */
  status(index = 0): number {
    this.memory.load64(Frame.status, (index >>> 1) * 8);
    return index & 1 ? this.memory.high : this.memory.low;
  }
}

export type Descriptor = readonly [low: bigint, high: bigint];

export const Granularity = { reserved: 0n, global: 1n, domain: 2n, selective: 3n } as const;

export function contextInvalidate(granularity: bigint, domain = DOMAIN, source = RID, functionMask = 0): Descriptor {
  const low = (BigInt(functionMask) << 48n) | (BigInt(source) << 32n) | (BigInt(domain) << 16n);
  return [low | (granularity << 4n) | 1n, 0n];
}

export function iotlbInvalidate(granularity: bigint, domain = DOMAIN, iova = 0n, mask = 0, hint = false): Descriptor {
  return [(BigInt(domain) << 16n) | (granularity << 4n) | 2n, iova | (hint ? 0x40n : 0n) | BigInt(mask)];
}

/** Writes `data` to status word `index`. */
export function waitStatus(data: number, index = 0): Descriptor {
  return [(BigInt(data) << 32n) | 0x20n | 5n, (BigInt(Frame.status) << 12n) | BigInt(index * 4)];
}

export const waitInterrupt: Descriptor = [0x10n | 5n, 0n];

/** One requester with one page mapped: IOVA 0x10000 to frame `Frame.data`. */
export const IOVA = 0x10000n;

export function mappedBench(options: Partial<VtdOptions> = {}): Bench {
  const bench = new Bench(options);
  bench.setContext(RID);
  bench.map(IOVA, Frame.data);
  return bench.enable();
}
