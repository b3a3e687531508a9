/** A bridged function with a QEMU on one side and a server by script on the other; all in the test's own thread. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FunctionDoor } from '../../src/bridge/function-door.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { WindowPool } from '../../src/posix/window-pool.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { Connection, type MessageHandler } from '../../src/vfio-user/connection.ts';
import { type Header, writeHeader } from '../../src/vfio-user/header.ts';
import { defaultLimits, type Limits } from '../../src/vfio-user/limits.ts';
import { Command, DmaAccess, HEADER_BYTES, HeaderFlag, Interrupt } from '../../src/vfio-user/spec.ts';

/** Milliseconds after which a condition that should come about counts as failed. */
export const PATIENCE = 20_000;

export interface Received {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly payload: Uint8Array;
}

/** The payload of the answer, an errno, or nothing where no answer shall be sent now. */
export type Script = (message: Received) => Uint8Array | number | undefined;

/** The end of the stream at which a server would be. */
export class ScriptedServer implements MessageHandler {
  readonly connection: Connection;
  readonly received: Received[] = [];
  endReason: string | undefined;
  /** What commands are answered; by default as a server without anything to say does it. */
  script: Script = ({ command, payload }) => (command === Command.version ? versionAnswer() : payload);
  /** It takes in nothing while this is true. */
  deaf = false;
  /** Bytes of the largest answer beyond what was asked. */
  answerRoom = 256;
  private lastId = 100;

  constructor(
    private readonly loop: EventLoop,
    stream: number,
  ) {
    this.connection = new Connection(stream, loop, defaultLimits, this);
  }

  /** The answers to commands of this side. */
  get answers(): Received[] {
    return this.received.filter(({ flags }) => (flags & HeaderFlag.typeMask) === HeaderFlag.typeReply);
  }

  /** Commands of the other side, by number. */
  commands(command?: number): Received[] {
    const isCommand = ({ flags }: Received) => (flags & HeaderFlag.typeMask) === HeaderFlag.typeCommand;
    return this.received.filter(one => isCommand(one) && (command === undefined || one.command === command));
  }

  send(
    command: number,
    payload: Uint8Array,
    { id = this.lastId++, flags = 0, error = 0, size = HEADER_BYTES + payload.length } = {},
  ): number {
    const { connection } = this;
    const bytes = HEADER_BYTES + payload.length;
    const at = connection.reserve(bytes);
    if (at < 0) throw new Error(`no room, or closed: ${this.endReason}`);
    writeHeader(connection.outputView, at, id, command, size, flags, error);
    connection.output.set(payload, at + HEADER_BYTES);
    connection.commit(bytes);
    return id;
  }

  reply({ id, command }: { id: number; command: number }, result: Uint8Array | number): void {
    if (typeof result !== 'number') this.send(command, result, { id, flags: HeaderFlag.typeReply });
    else this.send(command, new Uint8Array(0), { id, flags: HeaderFlag.typeReply | HeaderFlag.error, error: result });
  }

  /** Waits for the answer to this message. */
  answer(id: number): Received {
    const find = () => this.answers.find(one => one.id === id);
    if (!this.loop.waitUntil(() => find() !== undefined || this.connection.closed, PATIENCE) || !find()) {
      throw new Error(`no answer to ${id}: ${this.endReason ?? 'silence'}`);
    }
    return find()!;
  }

  dmaRead(address: bigint, count: number): Received {
    return this.answer(this.send(Command.dmaRead, dmaPayload(address, count)));
  }

  dmaWrite(address: bigint, data: Uint8Array): Received {
    return this.answer(this.send(Command.dmaWrite, dmaPayload(address, data.length, data)));
  }

  interrupt(index: number, vector: number): void {
    const payload = new Uint8Array(Interrupt.bytes);
    new DataView(payload.buffer).setUint32(Interrupt.index, index, true);
    new DataView(payload.buffer).setUint32(Interrupt.vector, vector, true);
    this.send(Command.interrupt, payload, { flags: HeaderFlag.noReply });
  }

  replyRoom(_header: Header, _payload: number, length: number): number {
    return this.deaf ? 0x7fffffff : HEADER_BYTES + length + this.answerRoom;
  }

  /** What waited while it was deaf. */
  hear(): void {
    this.deaf = false;
    this.connection.pause();
    this.connection.resume();
  }

  message({ id, command, flags, error }: Header, payload: number, length: number, descriptors: number[]): void {
    for (const descriptor of descriptors) closeDescriptor(descriptor);
    const message = { id, command, flags, error, payload: this.connection.input.slice(payload, payload + length) };
    this.received.push(message);
    if ((flags & HeaderFlag.typeMask) !== HeaderFlag.typeCommand || (flags & HeaderFlag.noReply) !== 0) return;
    const result = this.script(message);
    if (result !== undefined) this.reply(message, result);
  }

  closed(reason: string): void {
    this.endReason = reason;
  }
}

export function versionAnswer(capabilities: object = { max_msg_fds: 0, max_data_xfer_size: 1048576 }): Uint8Array {
  const data = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
  const payload = new Uint8Array(4 + data.length);
  payload.set(data, 4);
  return payload;
}

export function dmaPayload(address: bigint, count: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const payload = new Uint8Array(DmaAccess.bytes + data.length);
  const view = new DataView(payload.buffer);
  view.setBigUint64(DmaAccess.address, address, true);
  view.setBigUint64(DmaAccess.count, BigInt(count), true);
  payload.set(data, DmaAccess.data);
  return payload;
}

export class BridgeRig {
  readonly directory = mkdtempSync(join(tmpdir(), 'bridge-test-'));
  readonly path = join(this.directory, 'edu0.sock');
  readonly errors: unknown[] = [];
  readonly loop: EventLoop;
  readonly trace = new TraceLog();
  readonly servers: ScriptedServer[] = [];
  readonly door: FunctionDoor;
  /** What becomes of the stream of a QEMU that connects. */
  offer: (stream: number) => void = stream => this.servers.push(new ScriptedServer(this.loop, stream));
  /** How often the door has said that its QEMU has gone. */
  gone = 0;
  private readonly clients: VfioUserClient[] = [];

  /** @param other a rig of the same bridge, to be closed after this one: it has the loop. */
  constructor(
    limits: Partial<Limits> = {},
    private readonly other?: BridgeRig,
  ) {
    this.loop = other?.loop ?? new EventLoop(error => this.errors.push(error));
    const { path, loop, trace } = this;
    const pool = new WindowPool();
    this.door = new FunctionDoor({
      path,
      name: 'edu0',
      loop,
      trace,
      pool,
      limits,
      offer: stream => this.offer(stream),
      gone: () => {
        this.gone++;
      },
    });
  }

  /** A QEMU before its handshake. */
  connect(limits: Partial<Limits> = {}): VfioUserClient {
    const client = new VfioUserClient(this.loop, this.path, { replyTimeout: PATIENCE, ...limits });
    this.clients.push(client);
    return client;
  }

  /** A QEMU that has got through the handshake. */
  qemu(limits: Partial<Limits> = {}): VfioUserClient {
    const client = this.connect(limits);
    client.negotiate();
    return client;
  }

  /** The server's end of the QEMU that connected last. */
  get server(): ScriptedServer {
    const server = this.servers.at(-1);
    if (server === undefined) throw new Error('no QEMU has connected');
    return server;
  }

  get statistics() {
    return this.door.statistics();
  }

  until(condition: () => boolean): void {
    if (!this.loop.waitUntil(condition, PATIENCE)) throw new Error(`still not true: ${condition}`);
  }

  /** Runs the loop until nothing more is ready. */
  settle(): void {
    for (let i = 0; i < 12; i++) this.loop.runOnce(0);
  }

  /** Why the bridge ended the connection that it ended last. */
  closeReason(): string | undefined {
    return this.trace.events.findLast(event => event.kind === 'client.closed')?.detail.reason as string | undefined;
  }

  close(): void {
    for (const client of this.clients) client.close();
    for (const server of this.servers) server.connection.close('test over');
    this.door.close();
    if (this.other === undefined) this.loop.close();
    rmSync(this.directory, { recursive: true, force: true });
    if (this.errors.length > 0) throw this.errors[0];
  }
}
