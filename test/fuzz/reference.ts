/**
 * What the specification makes of a stream of bytes and descriptors, message by message: slow, plain, and apart from the server's
 * own code.
 */
import { Command, HEADER_BYTES, HeaderFlag, RegionAccess } from '../../src/vfio-user/spec.ts';
import { Errno, type Expectation, type FunctionFacts } from './expectation.ts';
import { empty } from './reference-checks.ts';
import { ReferenceMemory } from './reference-memory.ts';
import { ReferenceMigration } from './reference-migration.ts';
import {
  deviceInfo,
  irqInfo,
  MAX_TRANSFER,
  regionInfo,
  regionIoFds,
  regionRead,
  regionWrite,
  regionWriteMulti,
  setIrqs,
} from './reference-regions.ts';
import { checkVersion, judgeVersion } from './reference-version.ts';
import type { DescriptorKind, FileDescription } from './steps.ts';

/** What the server takes with one message. */
export const MAX_DESCRIPTORS = 16;
export const LARGEST_MESSAGE = HEADER_BYTES + RegionAccess.bytes + MAX_TRANSFER;

const CARRIES_DESCRIPTORS: ReadonlySet<number> = new Set([Command.dmaMap, Command.deviceSetIrqs]);
/** What the server has not, and so says nothing of their descriptors. */
const REFUSED: ReadonlySet<number> = new Set([Command.dmaRead, Command.dmaWrite, Command.dirtyPages]);

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
  /** What the client takes in one message. */
  maxTransfer = 0;
  /** What the server asks comes over a second stream. */
  twin = false;
  readonly memory: ReferenceMemory;
  /** Told of each message in the order of the stream. */
  onMessage: ((expectation: Expectation) => void) | undefined;
  /** Of a reply: why it ends the connection, where it does. By default nobody asked. */
  judgeReply: (reply: Message) => string | undefined = () => 'reply to no request';

  private readonly migration: ReferenceMigration;
  /** Descriptors of a message that was not whole when the last ones came. */
  private waiting = 0;
  private writeMultiple = false;
  /** That the client takes. */
  private descriptors = 0;
  private pending: Uint8Array = new Uint8Array(0);
  /** Descriptors that came together, and how many bytes of `pending` there are up to the last one that came with them. */
  private arrivals: { readonly descriptors: readonly DescriptorKind[]; end: number }[] = [];

  constructor(
    private readonly facts: FunctionFacts,
    files: readonly Pick<FileDescription, 'bytes'>[],
  ) {
    this.memory = new ReferenceMemory(files);
    this.migration = new ReferenceMigration(facts);
  }

  /** Everything was answered. */
  settle(): void {
    this.migration.settle();
  }

  /** Bytes of a message that is not whole yet. */
  get partial(): number {
    return this.pending.length;
  }

  push(bytes: Uint8Array, descriptors: readonly DescriptorKind[] = []): void {
    if (descriptors.length > 0 && this.waiting + descriptors.length > MAX_DESCRIPTORS) {
      // What has become whole since may be received together with these, and then they count as one.
      this.onMessage?.({ id: 0, command: 0, silent: true, closes: [], mayGoOn: true });
    }
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
    if (descriptors.length > 0) this.waiting = this.arrivals.flatMap(one => one.descriptors).length;
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
      else if (this.twin) this.close(id, command, ['reply on the wrong stream']);
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
    const known = command >= Command.version && command <= Command.migrationDataWrite && !REFUSED.has(command);
    if (known && descriptors.length > 0 && !CARRIES_DESCRIPTORS.has(command)) {
      this.close(id, command, ['descriptors where none belong']);
      return;
    }
    const expected = this.expect(message);
    if (expected === undefined) return;
    this.onMessage?.({ id, command, silent: (flags & HeaderFlag.noReply) !== 0, ...expected });
  }

  private expect(message: Message): Omit<Expectation, 'id' | 'command' | 'silent'> | undefined {
    const { payload, descriptors, flags } = message;
    const { facts, migration } = this;
    switch (message.command) {
      case Command.version:
        return this.version(message);
      case Command.dmaMap:
        return this.memory.map(payload, descriptors);
      case Command.dmaUnmap:
        return this.memory.unmap(payload);
      case Command.deviceGetInfo:
        return deviceInfo(facts, payload);
      case Command.deviceGetRegionInfo:
        return regionInfo(facts, payload, this.descriptors);
      case Command.deviceGetRegionIoFds:
        return regionIoFds(facts, payload, this.descriptors);
      case Command.deviceGetIrqInfo:
        return irqInfo(facts, payload);
      case Command.deviceSetIrqs:
        return { errnos: [setIrqs(facts, payload, descriptors)], check: empty };
      case Command.regionRead:
        return regionRead(facts, payload);
      case Command.regionWrite:
        return regionWrite(facts, payload);
      case Command.regionWriteMulti:
        return regionWriteMulti(facts, payload, this.writeMultiple);
      case Command.deviceReset:
        migration.reset();
        return { errnos: [0], check: empty };
      case Command.deviceFeature:
        return migration.feature(payload, (flags & HeaderFlag.noReply) !== 0);
      case Command.migrationDataRead:
        return migration.dataRead(payload);
      case Command.migrationDataWrite:
        return migration.dataWrite(payload);
    }
    return { errnos: [Errno.ENOTSUP] };
  }

  private version({ id, command, payload }: Message): Omit<Expectation, 'id' | 'command' | 'silent'> | undefined {
    if (this.negotiated) {
      this.close(id, command, ['second VERSION']);
      return undefined;
    }
    const { verdict, maxTransfer, writeMultiple, descriptors, twin } = judgeVersion(payload);
    if (verdict === 'bad') {
      this.close(id, command, ['handshake failed']);
      return undefined;
    }
    this.negotiated = true;
    this.writeMultiple = writeMultiple;
    this.maxTransfer = Math.min(maxTransfer, MAX_TRANSFER);
    this.descriptors = descriptors;
    this.twin = twin;
    const check = (reply: Uint8Array) => checkVersion(reply, twin);
    const expected = { errnos: [0], check, descriptors: twin ? 1 : 0 };
    return verdict === 'good' ? expected : { ...expected, closes: ['handshake failed'], mayGoOn: true };
  }

  private close(id: number, command: number, closes: readonly string[]): void {
    this.closed = true;
    this.onMessage?.({ id, command, silent: true, closes });
  }
}
