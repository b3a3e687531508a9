/** One fuzzed connection: sends what it is told in the pieces it is told, and holds all that comes back against the reference. */

import type { EventLoop } from '../../src/posix/event-loop.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { Header } from '../../src/vfio-user/header.ts';
import { Command, commandName, DmaAccess, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { type Asked, answersTo } from './answers.ts';
import type { Expectation, MappedRange } from './expectation.ts';
import { FuzzFailure } from './failure.ts';
import { Offered, type OfferedUse } from './offered.ts';
import { PeerStream } from './peer-stream.ts';
import type { Random } from './random.ts';
import type { Message, Reference } from './reference.ts';
import { TwinReference } from './reference-twin.ts';
import type { AnswerWay, DescriptorKind } from './steps.ts';

const ERRNO_LIMIT = 4096;
/** Interrupt messages go here whatever is mapped. */
const INTERRUPTS = { address: 0xfee00000n, end: 0xfef00000n } as const;

export interface PeerOptions {
  readonly name: string;
  readonly loop: EventLoop;
  readonly fd: number;
  readonly reference: Reference;
  readonly random: Random;
  /** Memory that is reached by messages. */
  readonly memory: (address: bigint, count: number) => Uint8Array;
  readonly failed: (failure: FuzzFailure) => void;
  /** Gets what the server had given, when the connection is gone. */
  readonly keep: (descriptors: readonly number[]) => void;
}

/** The stream of what the server asks, where it has one of its own. */
interface Twin {
  readonly stream: PeerStream;
  readonly reference: TwinReference;
}

export class Peer {
  readonly reference: Reference;
  way: AnswerWay = 'right';
  /** The server closed the connection. */
  ended = false;
  /** Why it may have been closed; empty where any reason is good. Once it has ended. */
  reasons: readonly string[] = [];
  replies = 0;
  requests = 0;
  /** Requests that came over a second stream. */
  twinRequests = 0;
  /** Descriptors that the server has given. */
  given = 0;
  private readonly stream: PeerStream;
  private twin: Twin | undefined;
  /** What comes over the second stream may be older than what comes over the first. */
  private twinLags = false;
  private readonly offered = new Offered();
  private readonly expected: Expectation[] = [];
  private readonly asked = new Map<number, Asked>();
  private readonly late: { readonly id: number; readonly asked: Asked }[] = [];
  /** Taken away, which the server may not have come to yet. */
  private leaving: MappedRange[] = [];
  private isClosed = false;

  constructor(private readonly options: PeerOptions) {
    const { name, fd, loop, reference, failed } = options;
    this.reference = reference;
    this.stream = new PeerStream({
      name,
      loop,
      fd,
      failed,
      came: () => this.twin?.stream.drain(),
      message: (header, payload, descriptors) => this.take(header, payload, descriptors),
      ended: () => this.end(),
    });
    reference.onMessage = expectation => {
      this.expected.push(expectation);
      if (expectation.gone !== undefined) this.leaving.push(...expectation.gone);
    };
    reference.judgeReply = reply => this.judgeReply(reply);
  }

  /** Nothing is left to be sent or to be answered, and the connection has ended where it has to. */
  get settled(): boolean {
    if (this.ended || this.isClosed) return true;
    return (
      this.sent &&
      !this.reference.closed &&
      !this.mustEnd &&
      this.expected.every(({ silent, later }) => silent || later === true)
    );
  }

  /** Nor is any work under way of which it will be told. */
  get idle(): boolean {
    return this.ended || this.isClosed || (this.settled && this.expected.every(({ silent }) => silent));
  }

  /** What it is asked it answers at once. */
  get attentive(): boolean {
    if (this.ended || this.isClosed) return true;
    const { twin } = this;
    if (twin !== undefined && (!twin.stream.reading || twin.reference.partial > 0 || this.mustEnd)) return false;
    return this.stream.reading && this.asked.size === 0 && this.reference.partial === 0 && this.sent;
  }

  /** What is waited for, in words. */
  get awaited(): string {
    if (this.mustEnd) return `the end of the connection (${this.twin!.reference.reasons.join(', ')})`;
    const open = this.expected.find(({ silent, closes }) => !silent || closes !== undefined);
    if (open === undefined) return 'room for what is to be sent';
    const what = `${commandName(open.command)} with id ${open.id}`;
    return open.closes === undefined
      ? `the reply to ${what}`
      : `the end of the connection (${open.closes.join(', ')}) by ${what}`;
  }

  send(
    bytes: Uint8Array,
    kinds: readonly DescriptorKind[],
    descriptors: readonly number[],
    cuts: readonly number[] = [],
    joined = false,
  ): void {
    if (this.ended || this.isClosed) return;
    let from = 0;
    for (const to of [...cuts, bytes.length]) {
      if (to <= from || to > bytes.length) continue;
      const isFirst = from === 0;
      const part = bytes.subarray(from, to);
      this.reference.push(part, isFirst ? kinds : []);
      const alone = cuts.length > 0 || descriptors.length > 0;
      this.stream.send(part, isFirst ? descriptors : [], alone, true);
      from = to;
    }
    if (!joined) this.flush();
  }

  /** On the second stream; nothing where there is none. */
  sendTwin(bytes: Uint8Array, kinds: readonly DescriptorKind[], descriptors: readonly number[], joined = false): void {
    const { twin } = this;
    if (twin === undefined || this.ended || this.isClosed || twin.stream.over) return;
    twin.reference.push(bytes, kinds);
    twin.stream.send(bytes, descriptors, descriptors.length > 0, joined);
  }

  readTwin(reading: boolean): void {
    if (this.twin === undefined) return;
    this.twin.stream.reading = reading;
    this.twinLags = true;
  }

  endTwin(): void {
    this.twin?.reference.end();
    this.twin?.stream.close();
  }

  use(how: OfferedUse, number: number, at: number, bytes: Uint8Array): void {
    if (!this.isClosed) this.offered.use(how, number, at, bytes);
  }

  /** Both streams. */
  read(reading: boolean): void {
    this.stream.reading = reading;
    if (reading && this.twin?.stream.reading === false) this.twin.stream.reading = true;
  }

  /** Answers what was to be answered late. */
  answerLate(): void {
    for (const { id, asked } of this.late.splice(0)) this.answer(id, asked, 'right');
  }

  flush(): void {
    this.stream.flush();
    this.twin?.stream.flush();
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.stream.close();
    this.twin?.stream.close();
    this.options.keep(this.offered.leave());
  }

  private get sent(): boolean {
    return this.stream.sent && (this.twin === undefined || this.twin.stream.over || this.twin.stream.sent);
  }

  /** The second stream has ended, or has had what it must not have. */
  private get mustEnd(): boolean {
    return this.twin !== undefined && (this.twin.stream.over || this.twin.reference.reasons.length > 0);
  }

  private take(header: Header, payload: Uint8Array, descriptors: readonly number[]): void {
    const { id, command, flags, error } = header;
    const type = flags & HeaderFlag.typeMask;
    this.given += descriptors.length;
    if (type === HeaderFlag.typeCommand) {
      if (descriptors.length > 0) this.failWith(descriptors, `a ${commandName(command)} with descriptors`);
      if (this.twin !== undefined) this.fail(`a ${commandName(command)} on the first stream`);
      this.takeRequest(header, payload);
      return;
    }
    this.replies++;
    const name = commandName(command);
    const expectation = this.next(id, command, name);
    const isFailed = flags === (HeaderFlag.typeReply | HeaderFlag.error);
    if (!isFailed && flags !== HeaderFlag.typeReply)
      this.fail(`the reply to ${name} has flags 0x${flags.toString(16)}`);
    if (isFailed && (error === 0 || error >= ERRNO_LIMIT)) this.fail(`the reply to ${name} fails with errno ${error}`);
    if (!isFailed && error !== 0) this.fail(`the reply to ${name} succeeds with errno ${error}`);
    if (isFailed && payload.length > 0) this.fail(`the error reply to ${name} carries ${payload.length} bytes`);
    const { errnos, check, gone } = expectation;
    const wanted = isFailed ? 0 : (expectation.descriptors ?? 0);
    if (descriptors.length !== wanted) {
      this.failWith(descriptors, `the reply to ${name} carries ${descriptors.length} descriptors, not ${wanted}`);
    }
    if (command === Command.version) this.openTwin(descriptors);
    else this.offered.take(command, descriptors);
    if (errnos !== undefined && !errnos.includes(error)) {
      this.fail(`${name} with id ${id} is answered with errno ${error}, not ${errnos.join(' or ')}`);
    }
    const problem = isFailed ? undefined : check?.(payload);
    if (problem !== undefined) this.fail(`the reply to ${name} with id ${id}: ${problem}`);
    if (gone !== undefined) this.leave(gone);
  }

  private openTwin([fd]: readonly number[]): void {
    if (fd === undefined) return;
    const { name, loop, failed } = this.options;
    const reference = new TwinReference(reply => this.judgeReply(reply));
    const stream = new PeerStream({
      name,
      loop,
      fd,
      failed,
      message: (header, payload, descriptors) => {
        const what = `a ${commandName(header.command)} on the second stream`;
        if (descriptors.length > 0) this.failWith(descriptors, `${what} with descriptors`);
        if ((header.flags & HeaderFlag.typeMask) !== HeaderFlag.typeCommand) this.fail(`${what} that is no command`);
        this.twinRequests++;
        this.takeRequest(header, payload);
      },
      ended: () => {},
    });
    this.twin = { stream, reference };
  }

  private leave(gone: readonly MappedRange[]): void {
    if (!this.twinLags) this.leaving = this.leaving.filter(range => !gone.includes(range));
  }

  /** What this is the reply to. What had to be done before it without an answer has been done. */
  private next(id: number, command: number, name: string): Expectation {
    const { expected } = this;
    for (let i = 0; i < expected.length; ) {
      const one = expected[i]!;
      if (one.silent) {
        this.confirm(one);
        expected.splice(i, 1);
      } else if (one.id === id && one.command === command) {
        expected.splice(i, 1);
        return one;
      } else if (one.later === true) {
        i++;
      } else {
        this.fail(`a reply to ${name} with id ${id}, where ${commandName(one.command)} with id ${one.id} is next`);
      }
    }
    this.fail(`a reply to ${name} with id ${id} that nobody waits for`);
  }

  private confirm({ closes, mayGoOn, gone, command, id }: Expectation): void {
    if (closes !== undefined && mayGoOn !== true) {
      this.fail(
        `went on after ${commandName(command)} with id ${id}, which should have ended it: ${closes.join(', ')}`,
      );
    }
    if (gone !== undefined) this.leave(gone);
  }

  private end(): void {
    this.ended = true;
    const byTwin = this.twin?.reference.reasons ?? [];
    const causes = this.expected.flatMap(({ closes }) => (closes === undefined ? [] : [closes]));
    // Which of two streams was read first is the server's own affair.
    if (byTwin.length > 0) {
      this.reasons = causes.some(({ length }) => length === 0) ? [] : [...byTwin, ...causes.flat()];
      return;
    }
    if (causes.length === 0) this.fail(`closed the connection for no reason; awaited was ${this.awaited}`);
    this.reasons = causes.some(({ length }) => length === 0) ? [] : causes[0]!;
  }

  private takeRequest({ id, command, flags }: Header, payload: Uint8Array): void {
    this.requests++;
    const name = commandName(command);
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    if (command !== Command.dmaRead && command !== Command.dmaWrite) this.fail(`asked for ${name}`);
    if (flags !== HeaderFlag.typeCommand) this.fail(`a ${name} with flags 0x${flags.toString(16)}`);
    if (this.asked.has(id)) this.fail(`a ${name} with id ${id}, which is not answered yet`);
    if (!this.reference.negotiated) this.fail(`a ${name} before the handshake`);
    if (payload.length < DmaAccess.bytes) this.fail(`a ${name} of ${payload.length} bytes`);
    const address = view.getBigUint64(DmaAccess.address, true);
    const wideCount = view.getBigUint64(DmaAccess.count, true);
    const count = Number(wideCount);
    const where = `0x${address.toString(16)}, ${wideCount} bytes`;
    const data = command === Command.dmaWrite ? count : 0;
    if (count < 1 || count > this.reference.maxTransfer) this.fail(`a ${name} of ${where}: out of range`);
    if (payload.length !== DmaAccess.bytes + data)
      this.fail(`a ${name} of ${where} with ${payload.length} bytes of payload`);
    if (!this.isAllowed(command, address, wideCount)) this.fail(`a ${name} of ${where}, which is not mapped for it`);
    const asked = { command, address, count };
    this.asked.set(id, asked);
    this.answer(id, asked, this.way);
  }

  private isAllowed(command: number, address: bigint, count: bigint): boolean {
    const { reference } = this;
    const writing = command === Command.dmaWrite;
    const holds = (range: MappedRange) =>
      (writing ? range.writable : range.readable) &&
      address >= range.address &&
      address + count <= range.address + range.size;
    if (reference.memory.isGuess) return true;
    for (const range of reference.memory.mapped.values()) if (holds(range)) return true;
    if (this.leaving.some(holds)) return true;
    return writing && address >= INTERRUPTS.address && address + count <= INTERRUPTS.end;
  }

  private answer(id: number, asked: Asked, way: AnswerWay): void {
    if (way === 'late') this.late.push({ id, asked });
    for (const bytes of answersTo(id, asked, way, this.options)) {
      if (this.twin === undefined) this.send(bytes, [], [], [], true);
      else this.sendTwin(bytes, [], [], true);
    }
  }

  /** Called by the reference for each reply of ours, as the server sees it in the stream. */
  private judgeReply({ id, command, flags, payload }: Message): string | undefined {
    const asked = this.asked.get(id);
    if (asked === undefined) return 'reply to no request';
    this.asked.delete(id);
    if (asked.command !== command) return 'reply to another command';
    if ((flags & HeaderFlag.error) !== 0) return undefined;
    if (payload.byteLength !== DmaAccess.bytes + (command === Command.dmaRead ? asked.count : 0)) {
      return 'DMA reply in another layout';
    }
    const same =
      payload.getBigUint64(DmaAccess.address, true) === asked.address &&
      payload.getBigUint64(DmaAccess.count, true) === BigInt(asked.count);
    return same ? undefined : 'DMA reply repeats another address or count';
  }

  private failWith(descriptors: readonly number[], what: string): never {
    descriptors.forEach(closeDescriptor);
    this.fail(what);
  }

  private fail(what: string): never {
    throw new FuzzFailure(what, this.options.name);
  }
}
