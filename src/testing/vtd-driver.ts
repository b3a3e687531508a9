/**
 * A small driver of a VT-d unit in legacy mode, for tests without a kernel: a root table, one context table per bus, four-level tables,
 * the invalidation queue. It does what a right driver does; what a wrong one leaves out can be left out.
 *
 * Sections are those of Intel's Virtualization Technology for Directed I/O specification.
 */
import type { GuestFunction } from './guest-function.ts';
import { type GuestRam, PAGE_BYTES } from './guest-memory.ts';

/** Registers (11.4), in BAR 0. */
const Register = { cap: 0x08, gcmd: 0x18, gsts: 0x1c, rtaddr: 0x20, iqt: 0x88, iqa: 0x90 } as const;
const Command = { translation: 2 ** 31, setRoot: 2 ** 30, queue: 2 ** 26 } as const;
/** Of GSTS: which bits are switches, to be kept when another one is set (11.4.4.1). */
const SWITCHES = 0x96ffffff;

const BAR = 0;
const LEVELS = 4;
const PAGE = BigInt(PAGE_BYTES);
/** Context entry (9.3): four levels. */
const ADDRESS_WIDTH = 2n;
const PRESENT = 1n;
const READ_WRITE = 3n;
const ADDRESS_BITS = 0xffffffffff000n;

const QUEUE_ENTRIES = 256;
const DESCRIPTOR_BYTES = 16;
const DescriptorType = { context: 1n, iotlb: 2n, wait: 5n } as const;
/** Context-cache and IOTLB invalidation descriptors (6.5.2.1, 6.5.2.3), bits 5:4. */
const Granularity = { domain: 2n << 4n, page: 3n << 4n, device: 3n << 4n } as const;
const DRAIN = 3n << 6n;
const STATUS_WRITE = 1n << 5n;
const STATUS_BYTES = 4n;
const TIMEOUT_MS = 5000;
const STATUS_LOOKS = 1000;
/** Descriptors of one unmapping: they must fit into the queue beside what waits there. */
const BLOCKS_AT_ONCE = 32;

export type Permission = 'read' | 'write' | 'read-write';
const PERMISSIONS: Readonly<Record<Permission, bigint>> = { read: 1n, write: 2n, 'read-write': 3n };

export interface VtdDomain {
  readonly id: number;
  /** Guest-physical address of its top table. */
  readonly table: bigint;
}

/** A wait descriptor that has been queued. */
export interface Completion {
  /** The unit has said that everything before it is complete. */
  readonly done: boolean;
}

export class VtdDriver {
  private readonly root: bigint;
  private readonly queue: bigint;
  /** A word for each wait descriptor: the unit writes it when it gets there. */
  private readonly status: bigint;
  private readonly contexts = new Map<number, bigint>();
  private readonly pageSelective: boolean;
  /** Of an invalidation of pages: so many address bits at most may be left out. */
  private readonly largestMask: number;
  private nextDomain = 1;
  private tail = 0;
  private waits = 0;

  constructor(
    private readonly unit: GuestFunction,
    private readonly memory: GuestRam,
  ) {
    this.root = memory.allocate();
    this.queue = memory.allocate();
    this.status = memory.allocate();
    const capabilities = unit.read64(BAR, Register.cap);
    this.pageSelective = ((capabilities >> 39n) & 1n) !== 0n;
    this.largestMask = Number((capabilities >> 48n) & 0x3fn);
    unit.write64(BAR, Register.rtaddr, this.root);
    this.command(Command.setRoot);
    unit.write64(BAR, Register.iqt, 0n);
    unit.write64(BAR, Register.iqa, this.queue);
    this.command(Command.queue);
    this.command(Command.translation);
  }

  createDomain(id = this.nextDomain): VtdDomain {
    this.nextDomain = Math.max(this.nextDomain, id) + 1;
    return { id, table: this.memory.allocate() };
  }

  /** Lets a device (an address such as 01:00.0) use a domain's mappings, and those of no other. */
  async attach(device: string, domain: VtdDomain): Promise<void> {
    const requesterId = requesterIdOf(device);
    const entry = this.contextEntry(requesterId);
    this.memory.write64(entry + 8n, (BigInt(domain.id) << 8n) | ADDRESS_WIDTH);
    this.memory.write64(entry, domain.table | PRESENT);
    await this.flushContext(requesterId, domain);
  }

  async detach(device: string, domain: VtdDomain): Promise<void> {
    const requesterId = requesterIdOf(device);
    this.memory.write64(this.contextEntry(requesterId), 0n);
    await this.flushContext(requesterId, domain);
    await this.flush(domain);
  }

  /** Whole pages, from `iova` on to `address` on. Nothing needs to be flushed for it. */
  map(domain: VtdDomain, iova: bigint, address: bigint, pages = 1, permission: Permission = 'read-write'): void {
    for (let page = 0n; page < BigInt(pages); page++) {
      const entry = this.entryAddress(domain, iova + page * PAGE);
      this.memory.write64(entry, (address + page * PAGE) | PERMISSIONS[permission]);
    }
  }

  async unmap(domain: VtdDomain, iova: bigint, pages = 1): Promise<void> {
    this.clear(domain, iova, pages);
    await this.completed(this.queuePageFlush(domain, iova, pages));
  }

  /** What is wrong to do alone: takes the pages out of the tables and leaves the IOTLB as it is. */
  clear(domain: VtdDomain, iova: bigint, pages = 1): void {
    for (let page = 0n; page < BigInt(pages); page++)
      this.memory.write64(this.entryAddress(domain, iova + page * PAGE), 0n);
  }

  /** Invalidates the IOTLB for a domain, and waits until that is complete. */
  async flush(domain: VtdDomain): Promise<void> {
    await this.completed(this.queueFlush(domain));
  }

  /** The same without waiting. */
  queueFlush(domain: VtdDomain): Completion {
    this.submit(DescriptorType.iotlb | Granularity.domain | DRAIN | (BigInt(domain.id) << 16n), 0n);
    return this.queueWait();
  }

  /** The same for these pages only, where the unit can do that (11.4.2: PSI, MAMV). */
  queuePageFlush(domain: VtdDomain, iova: bigint, pages = 1): Completion {
    const blocks = this.pageSelective ? alignedBlocks(iova / PAGE, pages, this.largestMask) : undefined;
    if (blocks === undefined) return this.queueFlush(domain);
    for (const { page, mask } of blocks) {
      const what = DescriptorType.iotlb | Granularity.page | DRAIN | (BigInt(domain.id) << 16n);
      this.submit(what, (page * PAGE) | BigInt(mask));
    }
    return this.queueWait();
  }

  /** Rejects where the unit does not say in time that it is done. */
  async completed(completion: Completion, timeoutMs = TIMEOUT_MS): Promise<void> {
    const end = performance.now() + timeoutMs;
    while (!completion.done) {
      if (performance.now() > end) throw new Error(`the VT-d unit completed no invalidation within ${timeoutMs} ms`);
      await new Promise(resolve => setTimeout(resolve, 1));
    }
  }

  private async flushContext(requesterId: number, domain: VtdDomain): Promise<void> {
    this.submit(
      DescriptorType.context | Granularity.device | (BigInt(domain.id) << 16n) | (BigInt(requesterId) << 32n),
      0n,
    );
    await this.completed(this.queueWait());
  }

  private queueWait(): Completion {
    const { memory } = this;
    const place = this.status + BigInt(this.waits % (PAGE_BYTES / 4)) * STATUS_BYTES;
    this.waits++;
    const value = this.waits;
    this.submit(DescriptorType.wait | STATUS_WRITE | (BigInt(value) << 32n), place);
    return {
      get done() {
        return memory.read32(place) === value;
      },
    };
  }

  private submit(low: bigint, high: bigint): void {
    const at = this.queue + BigInt(this.tail * DESCRIPTOR_BYTES);
    this.memory.write64(at, low);
    this.memory.write64(at + 8n, high);
    this.tail = (this.tail + 1) % QUEUE_ENTRIES;
    this.unit.write64(BAR, Register.iqt, BigInt(this.tail * DESCRIPTOR_BYTES));
  }

  /** Each command has a bit at its own place in the status that says when it is done (11.4.4.2). */
  private command(bit: number): void {
    const status = this.unit.read32(BAR, Register.gsts) & SWITCHES;
    this.unit.write32(BAR, Register.gcmd, (status | bit) >>> 0);
    for (let look = 0; (this.unit.read32(BAR, Register.gsts) & bit) === 0; look++) {
      if (look === STATUS_LOOKS) throw new Error('the VT-d unit does not do what its command register says');
    }
  }

  private contextEntry(requesterId: number): bigint {
    const bus = requesterId >>> 8;
    let table = this.contexts.get(bus);
    if (table === undefined) {
      table = this.memory.allocate();
      this.contexts.set(bus, table);
      this.memory.write64(this.root + BigInt(bus * 16), table | PRESENT);
    }
    return table + BigInt((requesterId & 0xff) * 16);
  }

  /** Of the page's entry in the last level; makes the tables above. */
  private entryAddress(domain: VtdDomain, iova: bigint): bigint {
    let { table } = domain;
    for (let level = LEVELS; level > 1; level--) {
      const entry = entryIn(table, iova, level);
      const next = this.memory.read64(entry) & ADDRESS_BITS;
      if (next === 0n) {
        table = this.memory.allocate();
        this.memory.write64(entry, table | READ_WRITE);
      } else table = next;
    }
    return entryIn(table, iova, 1);
  }
}

function requesterIdOf(address: string): number {
  const match = /^([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/.exec(address);
  if (match === null) throw new Error(`'${address}' is not an address such as 01:00.0`);
  return (Number.parseInt(match[1]!, 16) << 8) | ((Number.parseInt(match[2]!, 16) & 31) << 3) | Number(match[3]);
}

/** Pages as blocks of 2^mask, each at a multiple of its size. Undefined: there would be so many that a domain is sooner flushed. */
function alignedBlocks(
  first: bigint,
  pages: number,
  largestMask: number,
): { readonly page: bigint; readonly mask: number }[] | undefined {
  const blocks: { page: bigint; mask: number }[] = [];
  for (let page = first, left = pages; left > 0; ) {
    let mask = 0;
    while (mask < largestMask && 2 ** (mask + 1) <= left && page % 2n ** BigInt(mask + 1) === 0n) mask++;
    blocks.push({ page, mask });
    if (blocks.length > BLOCKS_AT_ONCE) return undefined;
    page += 2n ** BigInt(mask);
    left -= 2 ** mask;
  }
  return blocks;
}

function entryIn(table: bigint, iova: bigint, level: number): bigint {
  return table + ((iova >> BigInt(12 + 9 * (level - 1))) & 0x1ffn) * 8n;
}
