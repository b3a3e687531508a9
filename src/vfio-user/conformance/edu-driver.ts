/**
 * A device that does DMA when it is told to: QEMU's `edu` (docs/specs/edu), found by its ids. Rules about DMA can be seen at it
 * alone, because how a device is told is its own affair.
 */
import { Command, DmaAccess, HeaderFlag, IrqSet } from '../spec.ts';
import { type Context, enableBusMaster, identity, read, write } from './context.ts';
import type { Peer, Received } from './peer.ts';
import { fail, skip } from './rule.ts';
import { accessPayload, dmaPayload, irqSetPayload, NOTHING, viewOf } from './wire.ts';

const VENDOR = 0x1234;
const DEVICE = 0x11e8;
const BAR = 0;
const BUFFER = 0x40000n;
const Register = {
  raise: 0x60,
  acknowledge: 0x64,
  source: 0x80,
  destination: 0x88,
  count: 0x90,
  command: 0x98,
} as const;
const START = 1n;
const TO_MEMORY = 2n;

/** Bytes of the device's own buffer: the most that one transfer moves. */
export const EDU_BUFFER_BYTES = 4096;
/** Within the 28 bits that the device drives by default. */
export const MEMORY = 0x200000n;

export class EduDriver {
  private constructor(
    private readonly context: Context,
    readonly peer: Peer,
  ) {}

  /** Skips the rule where the device is another one. */
  static open(context: Context, proposal?: object): EduDriver {
    const peer = context.session(proposal);
    const { vendor, device } = identity(peer);
    if (vendor !== VENDOR || device !== DEVICE) skip('the device is not edu, which can be told to do DMA');
    enableBusMaster(peer);
    return new EduDriver(context, peer);
  }

  /** The device copies `count` bytes from memory into its buffer; returns when it says that it is done. */
  fetch(address: bigint, count: number): void {
    this.startFetch(address, count);
    this.finish();
  }

  /** The other way. */
  store(address: bigint, count: number): void {
    this.startStore(address, count);
    this.finish();
  }

  startFetch(address: bigint, count: number): void {
    this.aim(address, BUFFER, count);
    this.set(Register.command, START);
  }

  startStore(address: bigint, count: number): void {
    this.aim(BUFFER, address, count);
    this.set(Register.command, START | TO_MEMORY);
  }

  /** Without waiting for the answer to the write that starts it; there is none. */
  orderFetch(address: bigint, count: number): void {
    this.aim(address, BUFFER, count);
    this.post(Register.command, START);
  }

  orderStore(address: bigint, count: number): void {
    this.aim(BUFFER, address, count);
    this.post(Register.command, START | TO_MEMORY);
  }

  finish(): void {
    const { loop, patience } = this.context.target;
    const end = performance.now() + patience;
    for (;;) {
      const low = viewOf(read(this.peer, BAR, Register.command, 8)).getUint32(0, true);
      if ((low & Number(START)) === 0) return;
      if (performance.now() > end) fail(`the device is still at its DMA after ${patience} ms`);
      loop.runOnce(1);
    }
  }

  raise(): void {
    this.write32(Register.raise, 1);
  }

  acknowledge(): void {
    this.write32(Register.acknowledge, 0xffffffff);
  }

  arm(index: number): number {
    return this.context.arm(this.peer, index)[0]!;
  }

  setIrqs(flags: number, index: number, count: number): void {
    this.peer.succeed(Command.deviceSetIrqs, irqSetPayload({ flags: flags | IrqSet.dataNone, index, count }));
  }

  private aim(source: bigint, destination: bigint, count: number): void {
    this.set(Register.source, source);
    this.set(Register.destination, destination);
    this.set(Register.count, BigInt(count));
  }

  private set(register: number, value: bigint): void {
    write(this.peer, BAR, register, doubleWord(value));
  }

  private post(register: number, value: bigint): void {
    const payload = accessPayload(BAR, register, 8, doubleWord(value));
    this.peer.tell(Command.regionWrite, payload, { flags: HeaderFlag.noReply });
  }

  private write32(register: number, value: number): void {
    const data = new Uint8Array(4);
    viewOf(data).setUint32(0, value, true);
    write(this.peer, BAR, register, data);
  }
}

function doubleWord(value: bigint): Uint8Array {
  const data = new Uint8Array(8);
  viewOf(data).setBigUint64(0, value, true);
  return data;
}

export interface DmaRequest {
  readonly address: bigint;
  readonly count: number;
  readonly data: Uint8Array;
}

export function dmaRequest({ payload }: Received): DmaRequest {
  const view = viewOf(payload);
  return {
    address: view.getBigUint64(DmaAccess.address, true),
    count: Number(view.getBigUint64(DmaAccess.count, true)),
    data: payload.subarray(DmaAccess.data),
  };
}

/** Memory that messages reach: answers what the server asks of it, and refuses the rest. */
export class MessageMemory {
  readonly bytes: Uint8Array;

  constructor(
    private readonly peer: Peer,
    private readonly base: bigint,
    size: number,
  ) {
    this.bytes = new Uint8Array(size);
    peer.onRequest = request => this.serve(request);
  }

  /** Where an address lies in `bytes`. */
  at(address: bigint): number {
    return Number(address - this.base);
  }

  serve(request: Received): void {
    const { address, count, data } = dmaRequest(request);
    const at = this.at(address);
    const inside = at >= 0 && at + count <= this.bytes.length;
    if (!inside) this.peer.answer(request, 14, NOTHING);
    else if (request.command === Command.dmaRead) {
      this.peer.answer(request, 0, dmaPayload(address, count, this.bytes.subarray(at, at + count)));
    } else {
      this.bytes.set(data, at);
      this.peer.answer(request, 0, dmaPayload(address, count));
    }
  }
}
