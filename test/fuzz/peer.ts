/** One fuzzed connection: sends what it is told in the pieces it is told, and holds all that comes back against the reference. */

import { SystemError } from '../../src/posix/errors.ts';
import { type EventLoop, PollEvents, type Watch } from '../../src/posix/event-loop.ts';
import { closeDescriptor, StreamSocket } from '../../src/posix/socket.ts';
import { Header } from '../../src/vfio-user/header.ts';
import { Command, commandName, DmaAccess, HEADER_BYTES, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { type Asked, answersTo } from './answers.ts';
import type { Expectation, MappedRange } from './expectation.ts';
import { FuzzFailure } from './failure.ts';
import type { Random } from './random.ts';
import type { Message, Reference } from './reference.ts';
import { MAX_TRANSFER } from './reference-regions.ts';
import type { AnswerWay, DescriptorKind } from './steps.ts';

const BUFFER_BYTES = 1 << 18;
const DESCRIPTORS = 64;
const LARGEST_MESSAGE = MAX_TRANSFER + 65536;
const ERRNO_LIMIT = 4096;
/** What may wait to share a send. */
const OUTBOX_PIECES = 64;
/** Interrupt messages go here whatever is mapped. */
const INTERRUPTS = { address: 0xfee00000n, end: 0xfef00000n } as const;

interface Piece {
  readonly bytes: Uint8Array;
  readonly descriptors: readonly number[];
  /** Not together with others in one send. */
  readonly alone: boolean;
  sent: number;
}

export interface PeerOptions {
  readonly name: string;
  readonly loop: EventLoop;
  readonly fd: number;
  readonly reference: Reference;
  readonly random: Random;
  /** Memory that is reached by messages. */
  readonly memory: (address: bigint, count: number) => Uint8Array;
  readonly failed: (failure: FuzzFailure) => void;
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
  private readonly socket: StreamSocket;
  private readonly watch: Watch;
  private readonly header = new Header();
  private readonly outbox: Piece[] = [];
  private readonly expected: Expectation[] = [];
  private readonly asked = new Map<number, Asked>();
  private readonly late: { readonly id: number; readonly asked: Asked }[] = [];
  /** Taken away, which the server may not have come to yet. */
  private leaving: MappedRange[] = [];
  private buffer: Uint8Array = new Uint8Array(BUFFER_BYTES);
  private filled = 0;
  private reading = true;
  private isClosed = false;

  constructor(private readonly options: PeerOptions) {
    const { fd, loop, reference } = options;
    this.reference = reference;
    this.socket = new StreamSocket(fd, BUFFER_BYTES, BUFFER_BYTES, DESCRIPTORS);
    this.watch = loop.watch(fd, PollEvents.in, () => this.ready());
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
      this.outbox.length === 0 &&
      !this.reference.closed &&
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
    return this.reading && this.asked.size === 0 && this.reference.partial === 0 && this.outbox.length === 0;
  }

  /** What is waited for, in words. */
  get awaited(): string {
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
      this.outbox.push({ bytes: part, descriptors: isFirst ? descriptors : [], alone, sent: 0 });
      from = to;
    }
    if (!joined || this.outbox.length > OUTBOX_PIECES) this.flush();
  }

  read(reading: boolean): void {
    this.reading = reading;
    this.updateInterest();
  }

  /** Answers what was to be answered late. */
  answerLate(): void {
    for (const { id, asked } of this.late.splice(0)) this.answer(id, asked, 'right');
  }

  flush(): void {
    while (this.outbox.length > 0 && !this.ended && !this.isClosed) {
      const sent = this.sendSome();
      if (sent < 0) break;
    }
    this.updateInterest();
  }

  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.watch.stop();
    this.socket.close();
  }

  private sendSome(): number {
    const first = this.outbox[0]!;
    const { output } = this.socket;
    let filled = 0;
    let pieces = 0;
    for (const piece of this.outbox) {
      if (pieces > 0 && (piece.alone || first.alone)) break;
      const left = piece.bytes.subarray(piece.sent, piece.sent + output.length - filled);
      output.set(left, filled);
      filled += left.length;
      pieces++;
      if (filled === output.length) break;
    }
    const descriptors = first.sent === 0 && first.descriptors.length > 0 ? first.descriptors : undefined;
    let sent: number;
    try {
      sent = this.socket.send(0, filled, descriptors);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      // Gone: what it has answered before is still to be read.
      this.outbox.length = 0;
      this.reading = true;
      return -1;
    }
    if (sent < 0) return -1;
    for (let left = sent; left > 0; ) {
      const piece = this.outbox[0]!;
      const done = Math.min(left, piece.bytes.length - piece.sent);
      piece.sent += done;
      left -= done;
      if (piece.sent === piece.bytes.length) this.outbox.shift();
    }
    return sent;
  }

  private updateInterest(): void {
    if (this.isClosed || this.ended) return;
    this.watch.interest = (this.reading ? PollEvents.in : 0) | (this.outbox.length > 0 ? PollEvents.out : 0);
  }

  private ready(): void {
    // An exception in a callback of the loop would be somebody else's.
    try {
      if (this.reading) this.receive();
      if (!this.ended && !this.isClosed) this.flush();
    } catch (error) {
      if (!(error instanceof FuzzFailure)) throw error;
      this.options.failed(error);
    }
  }

  private receive(): void {
    // A few at a time: others wait as well.
    for (let i = 0; i < 8 && !this.ended && !this.isClosed; i++) {
      let count: number;
      try {
        count = this.socket.receive(0, BUFFER_BYTES);
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        count = 0;
      }
      if (count < 0) return;
      if (count === 0) {
        this.end();
        return;
      }
      for (const descriptor of this.socket.takeDescriptors()) closeDescriptor(descriptor);
      this.append(this.socket.input.subarray(0, count));
      this.split();
    }
  }

  private append(bytes: Uint8Array): void {
    if (this.filled + bytes.length > this.buffer.length) {
      const larger = new Uint8Array((this.filled + bytes.length) * 2);
      larger.set(this.buffer.subarray(0, this.filled));
      this.buffer = larger;
    }
    this.buffer.set(bytes, this.filled);
    this.filled += bytes.length;
  }

  private split(): void {
    let at = 0;
    const view = new DataView(this.buffer.buffer, 0, this.filled);
    while (this.filled - at >= HEADER_BYTES) {
      this.header.read(view, at);
      const { size } = this.header;
      if (size < HEADER_BYTES || size > LARGEST_MESSAGE) this.fail(`sent a header with a size of ${size}`);
      if (this.filled - at < size) break;
      this.take(this.buffer.slice(at + HEADER_BYTES, at + size));
      at += size;
    }
    this.buffer.copyWithin(0, at, this.filled);
    this.filled -= at;
  }

  private take(payload: Uint8Array): void {
    const { id, command, flags, error } = this.header;
    const type = flags & HeaderFlag.typeMask;
    if (type === HeaderFlag.typeCommand) {
      this.takeRequest(id, command, flags, payload);
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
    if (errnos !== undefined && !errnos.includes(error)) {
      this.fail(`${name} with id ${id} is answered with errno ${error}, not ${errnos.join(' or ')}`);
    }
    const problem = isFailed ? undefined : check?.(payload);
    if (problem !== undefined) this.fail(`the reply to ${name} with id ${id}: ${problem}`);
    if (gone !== undefined) this.leaving = this.leaving.filter(range => !gone.includes(range));
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
    if (gone !== undefined) this.leaving = this.leaving.filter(range => !gone.includes(range));
  }

  private end(): void {
    this.ended = true;
    this.watch.stop();
    this.outbox.length = 0;
    const causes = this.expected.flatMap(({ closes }) => (closes === undefined ? [] : [closes]));
    if (causes.length === 0) this.fail(`closed the connection for no reason; awaited was ${this.awaited}`);
    this.reasons = causes.some(({ length }) => length === 0) ? [] : causes[0]!;
  }

  private takeRequest(id: number, command: number, flags: number, payload: Uint8Array): void {
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
    for (const range of reference.mapped.values()) if (holds(range)) return true;
    if (this.leaving.some(holds)) return true;
    return writing && address >= INTERRUPTS.address && address + count <= INTERRUPTS.end;
  }

  private answer(id: number, asked: Asked, way: AnswerWay): void {
    if (way === 'late') this.late.push({ id, asked });
    for (const bytes of answersTo(id, asked, way, this.options)) this.send(bytes, [], [], [], true);
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

  private fail(what: string): never {
    throw new FuzzFailure(what, this.options.name);
  }
}
