/**
 * What the specification makes of a stream of bytes and descriptors, message by message: slow, plain, and apart from the server's
 * own code. Commands that it leaves open (those that are optional) may be answered in any form.
 */
import {
  CapabilityDefault,
  Command,
  DeviceInfo,
  DmaMap,
  DmaUnmap,
  HEADER_BYTES,
  HeaderFlag,
  IrqInfo,
  IrqSet,
  RegionAccess,
  RegionInfo,
  Version,
} from '../../src/vfio-user/spec.ts';
import { Errno, type Expectation, type FunctionFacts, type MappedRange } from './expectation.ts';
import type { DescriptorKind, FileDescription } from './steps.ts';

/** What the server announces and holds. */
export const MAX_TRANSFER = 1048576;
export const MAX_DESCRIPTORS = 16;
const LARGEST_MESSAGE = HEADER_BYTES + RegionAccess.bytes + MAX_TRANSFER;
const LONGEST_VERSION_DATA = 4096;
const ADDRESS_LIMIT = 1n << 43n;
const PAGE_MASK = 4095n;

const CARRIES_DESCRIPTORS: ReadonlySet<number> = new Set([Command.dmaMap, Command.deviceSetIrqs]);
/** What these do is open: they are optional. */
const OPEN: ReadonlySet<number> = new Set([
  Command.deviceGetRegionIoFds,
  Command.dirtyPages,
  Command.regionWriteMulti,
  Command.deviceFeature,
  Command.migrationDataRead,
  Command.migrationDataWrite,
]);

export interface Message {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly payload: DataView;
  readonly descriptors: readonly DescriptorKind[];
}

export class Reference {
  /** The handshake is done, as far as this can tell. */
  negotiated = false;
  /** The server must have ended the connection; whatever comes after means nothing. */
  closed = false;
  /** Of what was sent it cannot be told any more what is mapped. */
  uncertain = false;
  /** What the client takes in one message. */
  maxTransfer = 0;
  readonly mapped = new Map<bigint, MappedRange>();
  /** Told of each message in the order of the stream. */
  onMessage: ((expectation: Expectation) => void) | undefined;
  /** Of a reply: why it ends the connection, where it does. By default nobody asked. */
  judgeReply: (reply: Message) => string | undefined = () => 'reply to no request';

  private pending: Uint8Array = new Uint8Array(0);
  /** Descriptors that came together, and how many bytes of `pending` there are up to the last one that came with them. */
  private arrivals: { readonly descriptors: readonly DescriptorKind[]; end: number }[] = [];

  constructor(
    private readonly facts: FunctionFacts,
    private readonly files: readonly Pick<FileDescription, 'bytes'>[],
  ) {}

  /** Bytes of a message that is not whole yet. */
  get partial(): number {
    return this.pending.length;
  }

  push(bytes: Uint8Array, descriptors: readonly DescriptorKind[] = []): void {
    if (this.closed) return;
    const joined = new Uint8Array(this.pending.length + bytes.length);
    joined.set(this.pending);
    joined.set(bytes, this.pending.length);
    this.pending = joined;
    if (descriptors.length > 0) {
      this.arrivals.push({ descriptors, end: joined.length });
      if (this.arrivals.flatMap(one => one.descriptors).length > MAX_DESCRIPTORS) {
        this.close(0, 0, ['too many descriptors']);
        return;
      }
    }
    this.split();
  }

  private split(): void {
    while (!this.closed && this.pending.length >= HEADER_BYTES) {
      const view = new DataView(this.pending.buffer, this.pending.byteOffset, this.pending.length);
      const id = view.getUint16(0, true);
      const command = view.getUint16(2, true);
      const size = view.getUint32(4, true);
      const flags = view.getUint32(8, true);
      const type = flags & HeaderFlag.typeMask;
      if (size < HEADER_BYTES || size > LARGEST_MESSAGE) {
        this.close(id, command, ['message size out of range']);
        return;
      }
      if (type > HeaderFlag.typeReply) {
        this.close(id, command, ['unknown message type']);
        return;
      }
      if (this.pending.length < size) return;
      const payload = new DataView(view.buffer, view.byteOffset + HEADER_BYTES, size - HEADER_BYTES);
      const descriptors = this.arrivals.filter(({ end }) => end <= size).flatMap(one => one.descriptors);
      this.arrivals = this.arrivals.filter(({ end }) => end > size);
      this.pending = this.pending.subarray(size);
      for (const arrival of this.arrivals) arrival.end -= size;
      this.take({ id, command, flags, payload, descriptors });
    }
  }

  private take(message: Message): void {
    const { id, command, flags, descriptors } = message;
    if ((flags & HeaderFlag.typeMask) === HeaderFlag.typeReply) {
      if (descriptors.length > 0) this.close(id, command, ['descriptors where none belong']);
      else {
        const reason = this.judgeReply(message);
        if (reason !== undefined) this.close(id, command, [reason]);
      }
      return;
    }
    if (!this.negotiated && command !== Command.version) {
      this.close(id, command, ['command before VERSION']);
      return;
    }
    const known = command >= Command.version && command <= Command.deviceReset;
    const open = OPEN.has(command);
    const isForClient = command === Command.dmaRead || command === Command.dmaWrite;
    if (known && !open && !isForClient && descriptors.length > 0 && !CARRIES_DESCRIPTORS.has(command)) {
      this.close(id, command, ['descriptors where none belong']);
      return;
    }
    const expected = this.expect(message);
    if (expected === undefined) return;
    this.onMessage?.({ id, command, silent: (flags & HeaderFlag.noReply) !== 0, ...expected });
  }

  private expect(message: Message): Omit<Expectation, 'id' | 'command' | 'silent'> | undefined {
    const { payload, descriptors } = message;
    switch (message.command) {
      case Command.version:
        return this.version(message);
      case Command.dmaMap:
        return this.uncertain ? {} : this.dmaMap(payload, descriptors);
      case Command.dmaUnmap:
        return this.uncertain ? {} : this.dmaUnmap(payload);
      case Command.deviceGetInfo:
        return this.deviceInfo(payload);
      case Command.deviceGetRegionInfo:
        return this.regionInfo(payload);
      case Command.deviceGetIrqInfo:
        return this.irqInfo(payload);
      case Command.deviceSetIrqs:
        return { errnos: [this.setIrqs(payload, descriptors)], check: empty };
      case Command.regionRead:
        return this.regionRead(payload);
      case Command.regionWrite:
        return this.regionWrite(payload);
      case Command.deviceReset:
        return { errnos: [0], check: empty };
    }
    if (OPEN.has(message.command)) {
      return descriptors.length > 0 ? { closes: ['descriptors where none belong'], mayGoOn: true } : {};
    }
    return { errnos: [Errno.ENOTSUP] };
  }

  private version({ id, command, payload }: Message): Omit<Expectation, 'id' | 'command' | 'silent'> | undefined {
    if (this.negotiated) {
      this.close(id, command, ['second VERSION']);
      return undefined;
    }
    const { verdict, maxTransfer } = judgeVersion(payload);
    if (verdict === 'bad') {
      this.close(id, command, ['handshake failed']);
      return undefined;
    }
    this.negotiated = true;
    this.maxTransfer = Math.min(maxTransfer, MAX_TRANSFER);
    const expected = { errnos: [0], check: checkVersion };
    return verdict === 'good' ? expected : { ...expected, closes: ['handshake failed'], mayGoOn: true };
  }

  private dmaMap(payload: DataView, descriptors: readonly DescriptorKind[]) {
    if (payload.byteLength < DmaMap.bytes) return { errnos: [Errno.EINVAL] };
    const flags = payload.getUint32(DmaMap.flags, true);
    const offset = payload.getBigUint64(DmaMap.offset, true);
    const address = payload.getBigUint64(DmaMap.address, true);
    const size = payload.getBigUint64(DmaMap.size, true);
    if (flags > 3 && (flags & ~0xf) === 0) {
      // Newer flags: whether they are known is open.
      this.uncertain = true;
      return {};
    }
    const isBad =
      payload.getUint32(DmaMap.argsz, true) < DmaMap.bytes ||
      flags === 0 ||
      flags > 3 ||
      descriptors.length > 1 ||
      size === 0n ||
      ((address | size) & PAGE_MASK) !== 0n ||
      address + size > ADDRESS_LIMIT ||
      offset + size > 1n << 64n ||
      (descriptors.length === 1 && !this.canBeMemory(descriptors[0]!, offset, size));
    const overlaps = [...this.mapped.values()].some(
      one => address < one.address + one.size && one.address < address + size,
    );
    if (isBad) return { errnos: overlaps ? [Errno.EINVAL, Errno.EEXIST] : [Errno.EINVAL] };
    if (overlaps) return { errnos: [Errno.EEXIST] };
    this.mapped.set(address, { address, size, readable: (flags & 1) !== 0, writable: (flags & 2) !== 0 });
    return { errnos: [0], check: empty };
  }

  private canBeMemory(descriptor: DescriptorKind, offset: bigint, size: bigint): boolean {
    if ((offset & PAGE_MASK) !== 0n || offset + size > BigInt(Number.MAX_SAFE_INTEGER)) return false;
    switch (descriptor.is) {
      case 'file':
      case 'read-only':
        return offset + size <= BigInt(this.files[descriptor.file]!.bytes);
      case 'null':
      case 'zero':
        return true;
      default:
        return false;
    }
  }

  private dmaUnmap(payload: DataView): Omit<Expectation, 'id' | 'command' | 'silent'> {
    if (payload.byteLength < DmaUnmap.bytes) return { errnos: [Errno.EINVAL] };
    const flags = payload.getUint32(DmaUnmap.flags, true);
    const address = payload.getBigUint64(DmaUnmap.address, true);
    const size = payload.getBigUint64(DmaUnmap.size, true);
    if (payload.getUint32(DmaUnmap.argsz, true) < DmaUnmap.bytes) return { errnos: [Errno.EINVAL] };
    if ((flags & DmaUnmap.getDirtyBitmap) !== 0) {
      // Optional, and a success takes the range away.
      this.uncertain = true;
      return {};
    }
    if ((flags & ~DmaUnmap.all) !== 0) return { errnos: [Errno.EINVAL] };
    if ((flags & DmaUnmap.all) !== 0) {
      if (address !== 0n || size !== 0n) return { errnos: [Errno.EINVAL] };
      const gone = [...this.mapped.values()];
      this.mapped.clear();
      return { errnos: [0], check: reply => repeats(reply, payload, 4, DmaUnmap.bytes), gone };
    }
    const range = this.mapped.get(address);
    if (range === undefined) return { errnos: [Errno.ENOENT] };
    if (range.size !== size) return { errnos: [Errno.EINVAL] };
    this.mapped.delete(address);
    return { errnos: [0], check: reply => repeats(reply, payload, 4, DmaUnmap.bytes), gone: [range] };
  }

  private deviceInfo(payload: DataView) {
    if (payload.byteLength < DeviceInfo.bytes || payload.getUint32(0, true) < DeviceInfo.bytes) {
      return { errnos: [Errno.EINVAL] };
    }
    const { regions, interrupts } = this.facts;
    return {
      errnos: [0],
      check: (reply: Uint8Array) =>
        fields(reply, DeviceInfo.bytes, [
          [DeviceInfo.regions, regions.length],
          [DeviceInfo.irqs, interrupts.length],
        ]),
    };
  }

  private regionInfo(payload: DataView) {
    if (payload.byteLength < RegionInfo.bytes) return { errnos: [Errno.EINVAL] };
    const index = payload.getUint32(RegionInfo.index, true);
    const region = this.facts.regions[index];
    if (payload.getUint32(0, true) < RegionInfo.bytes || region === undefined) return { errnos: [Errno.EINVAL] };
    return {
      errnos: [0],
      check: (reply: Uint8Array) =>
        fields(reply, RegionInfo.bytes, [
          [RegionInfo.index, index],
          [RegionInfo.size, region.size],
          [RegionInfo.flags, region.flags],
        ]),
    };
  }

  private irqInfo(payload: DataView) {
    if (payload.byteLength < IrqInfo.bytes) return { errnos: [Errno.EINVAL] };
    const index = payload.getUint32(IrqInfo.index, true);
    const interrupt = this.facts.interrupts[index];
    if (payload.getUint32(0, true) < IrqInfo.bytes || interrupt === undefined) return { errnos: [Errno.EINVAL] };
    return {
      errnos: [0],
      check: (reply: Uint8Array) =>
        fields(reply, IrqInfo.bytes, [
          [IrqInfo.index, index],
          [IrqInfo.flags, interrupt.flags],
          [IrqInfo.count, interrupt.count],
        ]),
    };
  }

  private setIrqs(payload: DataView, descriptors: readonly DescriptorKind[]): number {
    if (payload.byteLength < IrqSet.bytes) return Errno.EINVAL;
    const flags = payload.getUint32(IrqSet.flags, true);
    const start = payload.getUint32(IrqSet.start, true);
    const count = payload.getUint32(IrqSet.count, true);
    const needed = IrqSet.bytes + ((flags & IrqSet.dataBool) !== 0 ? count : 0);
    if (payload.getUint32(IrqSet.argsz, true) < needed || payload.byteLength < needed) return Errno.EINVAL;
    const interrupt = this.facts.interrupts[payload.getUint32(IrqSet.index, true)];
    const data = flags & IrqSet.dataMask;
    const action = flags & IrqSet.actionsMask;
    if (interrupt === undefined || flags >>> 6 !== 0 || !isOneBit(data) || !isOneBit(action)) return Errno.EINVAL;
    if (data !== IrqSet.dataEventfd && descriptors.length > 0) return Errno.EINVAL;
    if (count === 0) {
      return data === IrqSet.dataNone && action === IrqSet.actionTrigger && start === 0 ? 0 : Errno.EINVAL;
    }
    if (start + count > interrupt.count) return Errno.EINVAL;
    if (action !== IrqSet.actionTrigger && (interrupt.flags & IrqInfo.maskable) === 0) return Errno.EINVAL;
    if (data !== IrqSet.dataEventfd) return 0;
    if ((interrupt.flags & IrqInfo.eventfd) === 0) return Errno.EINVAL;
    if (descriptors.length !== 0 && descriptors.length !== count) return Errno.EINVAL;
    return descriptors.every(({ is }) => is === 'eventfd' || is === 'full-eventfd') ? 0 : Errno.EINVAL;
  }

  private regionRead(payload: DataView) {
    const access = this.access(payload, RegionInfo.read);
    if (access === undefined) return { errnos: [Errno.EINVAL] };
    return {
      errnos: [0],
      check: (reply: Uint8Array) => repeats(reply, payload, 0, RegionAccess.bytes, RegionAccess.bytes + access.count),
    };
  }

  private regionWrite(payload: DataView) {
    const access = this.access(payload, RegionInfo.write);
    if (access === undefined || access.count !== payload.byteLength - RegionAccess.bytes) {
      return { errnos: [Errno.EINVAL] };
    }
    return { errnos: [0], check: (reply: Uint8Array) => repeats(reply, payload, 0, RegionAccess.bytes) };
  }

  /** Undefined: it is not allowed. */
  private access(payload: DataView, needed: number): { readonly count: number } | undefined {
    if (payload.byteLength < RegionAccess.bytes) return undefined;
    const offset = payload.getBigUint64(RegionAccess.offset, true);
    const count = payload.getUint32(RegionAccess.count, true);
    const region = this.facts.regions[payload.getUint32(RegionAccess.region, true)];
    if (region === undefined || (region.flags & needed) === 0 || count > MAX_TRANSFER) return undefined;
    return offset + BigInt(count) <= BigInt(region.size) ? { count } : undefined;
  }

  private close(id: number, command: number, closes: readonly string[]): void {
    this.closed = true;
    this.onMessage?.({ id, command, silent: true, closes });
  }
}

/** Good, bad, or a matter of how much is asked of fields that nobody needs. */
function judgeVersion(payload: DataView): { verdict: 'good' | 'bad' | 'open'; maxTransfer: number } {
  const maxTransfer: number = CapabilityDefault.maxDataXferSize;
  const bad = { verdict: 'bad', maxTransfer } as const;
  if (payload.byteLength < Version.bytes || payload.getUint16(Version.majorAt, true) !== Version.major) return bad;
  const data = new Uint8Array(payload.buffer, payload.byteOffset + Version.bytes, payload.byteLength - Version.bytes);
  if (data.length === 0) return { verdict: 'good', maxTransfer };
  if (data.length > LONGEST_VERSION_DATA || data.indexOf(0) !== data.length - 1) return bad;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(data.subarray(0, -1));
    const top = JSON.parse(text) as Record<string, unknown> | null;
    if (typeof top !== 'object' || top === null || Array.isArray(top)) return bad;
    const { capabilities = {} } = top as { capabilities?: Record<string, unknown> };
    const asked = capabilities?.max_data_xfer_size;
    const isNumber = typeof asked === 'number' && Number.isSafeInteger(asked) && asked > 0;
    return { verdict: text === GOOD_VERSION ? 'good' : 'open', maxTransfer: isNumber ? asked : maxTransfer };
  } catch {
    return bad;
  }
}

/** As QEMU proposes. */
export const GOOD_VERSION = JSON.stringify({
  capabilities: {
    pgsizes: 4096,
    max_msg_fds: 16,
    max_dma_maps: 65535,
    max_data_xfer_size: 1048576,
    migration: { max_bitmap_size: 268435456, pgsize: 4096 },
    write_multiple: true,
  },
});

function checkVersion(reply: Uint8Array): string | undefined {
  if (reply.length < Version.bytes) return `${reply.length} bytes`;
  const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
  if (view.getUint16(Version.majorAt, true) !== 0 || view.getUint16(Version.minorAt, true) !== 0)
    return 'another version';
  const data = reply.subarray(Version.bytes);
  if (data.length === 0) return undefined;
  if (data.indexOf(0) !== data.length - 1) return 'version data that does not end with its NUL';
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data.subarray(0, -1)));
    return undefined;
  } catch (error) {
    return `version data that is no JSON: ${(error as Error).message}`;
  }
}

function isOneBit(value: number): boolean {
  return value !== 0 && (value & (value - 1)) === 0;
}

function empty(reply: Uint8Array): string | undefined {
  return reply.length === 0 ? undefined : `a payload of ${reply.length} bytes where none belongs`;
}

/** The reply says in [from, end) what the request did, and is `size` bytes long. */
function repeats(reply: Uint8Array, request: DataView, from: number, end: number, size = end): string | undefined {
  if (reply.length !== size) return `a payload of ${reply.length} bytes, not ${size}`;
  for (let at = from; at < end; at++) {
    if (reply[at] !== request.getUint8(at)) return `byte ${at} of the payload is not the request's`;
  }
  return undefined;
}

/** At least `bytes`, with these words; sizes are in the first word. */
function fields(
  reply: Uint8Array,
  bytes: number,
  expected: readonly (readonly [at: number, value: number])[],
): string | undefined {
  if (reply.length < bytes) return `a payload of ${reply.length} bytes, less than ${bytes}`;
  const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
  if (view.getUint32(0, true) < bytes) return `argsz ${view.getUint32(0, true)}, less than ${bytes}`;
  for (const [at, value] of expected) {
    const said = view.getUint32(at, true);
    if (said !== value) return `${said} at offset ${at} of the payload, not ${value}`;
  }
  return undefined;
}
