/** A machine with its IOMMU programmed, its inspector, and clients that stand for QEMU; all on one loop. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeMachine, type MachineDescription } from '../../src/machine/description.ts';
import { Inspector } from '../../src/machine/inspect.ts';
import type { InspectCommand } from '../../src/machine/inspection.ts';
import { Machine } from '../../src/machine/machine.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { createMemfd, readAt, writeAt } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';

export const PATIENCE_MS = 20_000;
export const PAGE = 4096;
const GUEST_PAGES = 64;
export const CONFIG = 7;
export const BAR0 = 0;
export const EDU0 = 0x0100;
export const EDU1 = 0x0200;

/** Guest page frames. */
export const Frame = { root: 1, context: 2, level4: 4, level3: 5, level2: 6, level1: 7, queue: 8, data: 16, other: 17 };
export const IOVA = 0x0030_0000n;
export const DOMAIN = 7;

export const Vtd = { gcmd: 0x18, gsts: 0x1c, rtaddr: 0x20, iqt: 0x88, iqa: 0x90 } as const;
export const Edu = { liveness: 0x04, source: 0x80, destination: 0x88, count: 0x90, command: 0x98, buffer: 0x40000n };
const SET_ROOT = 1 << 30;
const QUEUE = 1 << 26;
const ENABLE = 1 << 31;

export class InspectRig {
  readonly trace = new TraceLog();
  readonly errors: unknown[] = [];
  readonly loop = new EventLoop(error => this.errors.push(error));
  readonly machine: Machine;
  readonly inspector: Inspector;
  private readonly directory = mkdtempSync(join(tmpdir(), 'viommu-inspect-'));
  private readonly memfd = createMemfd('guest', GUEST_PAGES * PAGE, { seal: true });
  private readonly clients: VfioUserClient[] = [];

  constructor(description: MachineDescription = describeMachine('vtd', ['edu@01:00.0', 'edu@02:00.0'])) {
    this.machine = new Machine({ description, directory: this.directory, loop: this.loop, trace: this.trace });
    this.inspector = new Inspector(this.machine);
  }

  /** `mapped`: false: memory is reached by messages, which the client answers from the same memory. */
  connect(name: string, { mapped = true } = {}): VfioUserClient {
    const client = new VfioUserClient(this.loop, this.machine.sockets[name]!);
    this.clients.push(client);
    client.negotiate();
    client.dmaMap({
      address: 0n,
      size: BigInt(GUEST_PAGES * PAGE),
      offset: 0n,
      descriptor: mapped ? this.memfd : -1,
      readable: true,
      writable: true,
    });
    client.onDmaRead = ({ address, count }) => this.load(Number(address), count);
    client.onDmaWrite = ({ address, data }) => {
      this.store(Number(address), data);
      return 0;
    };
    client.regionWrite(CONFIG, 4, Uint8Array.of(6, 0));
    return client;
  }

  /** As the control channel does it: the answer, or the error that it was refused with. */
  ask<T>(command: InspectCommand): T {
    let outcome: { readonly answer?: unknown; readonly error?: unknown } | undefined;
    if (command.name === 'pause') this.machine.control.announcePause();
    this.loop.push(() => {
      try {
        // What cannot be cloned cannot be sent to another thread.
        this.inspector.answer(command, answer => {
          outcome = { answer: structuredClone(answer) };
        });
      } catch (error) {
        outcome = { error };
      }
    });
    this.until(() => outcome !== undefined);
    if (outcome!.error !== undefined) throw outcome!.error;
    return outcome!.answer as T;
  }

  until(condition: () => boolean): void {
    if (!this.loop.waitUntil(condition, PATIENCE_MS)) throw new Error(`still not true: ${condition}`);
  }

  settle(): void {
    for (let i = 0; i < 8; i++) this.loop.runOnce(0);
  }

  store(address: number, bytes: Uint8Array): void {
    writeAt(this.memfd, bytes, 0, bytes.length, address);
  }

  load(address: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    readAt(this.memfd, bytes, 0, length, address);
    return bytes;
  }

  entry(frame: number, index: number, ...words: bigint[]): void {
    this.store(frame * PAGE + index * 8, new Uint8Array(BigUint64Array.from(words).buffer));
  }

  /** One page at IOVA for both endpoints. */
  buildTables(target: number, permissions = 3n): void {
    const at = (frame: number) => BigInt(frame) << 12n;
    this.entry(Frame.root, 2, at(Frame.context) | 1n, 0n);
    this.entry(Frame.root, 4, at(Frame.context) | 1n, 0n);
    this.entry(Frame.context, 0, at(Frame.level4) | 1n, (BigInt(DOMAIN) << 8n) | 2n);
    this.entry(Frame.level4, 0, at(Frame.level3) | 3n);
    this.entry(Frame.level3, 0, at(Frame.level2) | 3n);
    this.entry(Frame.level2, 1, at(Frame.level1) | 3n);
    this.map(target, permissions);
  }

  map(target: number, permissions = 3n): void {
    this.entry(Frame.level1, 0x100, (BigInt(target) << 12n) | permissions);
  }

  enableTranslation(iommu: VfioUserClient): void {
    iommu.regionWrite(BAR0, Vtd.rtaddr, bytes64(BigInt(Frame.root) << 12n));
    iommu.regionWrite(BAR0, Vtd.gcmd, bytes32(SET_ROOT));
    iommu.regionWrite(BAR0, Vtd.gcmd, bytes32(ENABLE));
  }

  enableQueue(iommu: VfioUserClient): void {
    iommu.regionWrite(BAR0, Vtd.iqa, bytes64(BigInt(Frame.queue) << 12n));
    iommu.regionWrite(BAR0, Vtd.gcmd, bytes32(QUEUE | ENABLE));
  }

  /** Begins a transfer; it is over when the command's start bit is clear. */
  startDma(edu: VfioUserClient, iova: bigint, toMemory: boolean): void {
    const write = (offset: number, value: bigint) => edu.regionWrite(BAR0, offset, bytes64(value), { posted: true });
    write(Edu.source, toMemory ? Edu.buffer : iova);
    write(Edu.destination, toMemory ? iova : Edu.buffer);
    write(Edu.count, 16n);
    write(Edu.command, toMemory ? 3n : 1n);
  }

  dma(edu: VfioUserClient, iova: bigint, toMemory = true): void {
    this.startDma(edu, iova, toMemory);
    this.finishDma(edu);
  }

  /** Polls, as a driver does. */
  finishDma(edu: VfioUserClient): void {
    for (let reads = 0; reads < 1000; reads++) if ((read32(edu, Edu.command) & 1) === 0) return;
    throw new Error('the transfer does not end');
  }

  close(): void {
    for (const client of this.clients) client.close();
    this.machine.close();
    this.loop.close();
    closeDescriptor(this.memfd);
    rmSync(this.directory, { recursive: true, force: true });
    if (this.errors.length > 0) throw this.errors[0];
  }
}

export function bytes32(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}

export function bytes64(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt.asUintN(64, value)).buffer);
}

export function read32(client: VfioUserClient, offset: number): number {
  const bytes = client.regionRead(BAR0, offset, 4);
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}
