/** One PCI function of a machine, as a guest without a processor sees it. Every call waits for the answer. */

import { RegionIndex } from '../pci/function.ts';
import { InterruptIndex } from '../pci/interrupts.ts';
import type { EventLoop } from '../posix/event-loop.ts';
import { createEventFd, drainEventFd } from '../posix/eventfd.ts';
import { closeDescriptor } from '../posix/socket.ts';
import { VfioUserClient } from '../vfio-user/client.ts';
import { IrqSet } from '../vfio-user/spec.ts';
import type { GuestRam } from './guest-memory.ts';

/** In configuration space. */
const COMMAND = 0x04;
const MEMORY_SPACE = 1 << 1;
const BUS_MASTER = 1 << 2;

export class GuestFunction {
  /** For what is not here: any message of the protocol. */
  readonly client: VfioUserClient;
  private readonly interruptDescriptor: number;

  /** Throws a SystemError where nobody listens at the socket. */
  constructor(
    readonly name: string,
    loop: EventLoop,
    socket: string,
    ram: GuestRam,
  ) {
    this.client = new VfioUserClient(loop, socket);
    this.interruptDescriptor = createEventFd();
    try {
      this.start(ram);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Of a BAR; `offset` in bytes. */
  read32(bar: number, offset: number): number {
    return viewOf(this.client.regionRead(bar, offset, 4)).getUint32(0, true);
  }

  write32(bar: number, offset: number, value: number): void {
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, value, true);
    this.client.regionWrite(bar, offset, new Uint8Array(view.buffer));
  }

  read64(bar: number, offset: number): bigint {
    return viewOf(this.client.regionRead(bar, offset, 8)).getBigUint64(0, true);
  }

  write64(bar: number, offset: number, value: bigint): void {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt.asUintN(64, value), true);
    this.client.regionWrite(bar, offset, new Uint8Array(view.buffer));
  }

  /** Whether it may do DMA and send interrupts; it may from the start. */
  set busMaster(on: boolean) {
    this.command(on ? MEMORY_SPACE | BUS_MASTER : MEMORY_SPACE);
  }

  /** MSIs since this was asked last. */
  takeInterrupts(): number {
    return drainEventFd(this.interruptDescriptor);
  }

  reset(): void {
    this.client.reset();
    this.command(MEMORY_SPACE | BUS_MASTER);
  }

  close(): void {
    this.client.close();
    closeDescriptor(this.interruptDescriptor);
  }

  private start({ descriptor, bytes }: GuestRam): void {
    const { client } = this;
    client.negotiate();
    client.dmaMap({ address: 0n, size: BigInt(bytes), offset: 0n, descriptor, readable: true, writable: true });
    if (client.irqInfo(InterruptIndex.msi).count > 0) {
      const descriptors = [this.interruptDescriptor];
      client.setIrqs(IrqSet.dataEventfd | IrqSet.actionTrigger, InterruptIndex.msi, 0, 1, { descriptors });
    }
    this.command(MEMORY_SPACE | BUS_MASTER);
  }

  private command(value: number): void {
    this.client.regionWrite(RegionIndex.config, COMMAND, Uint8Array.of(value & 0xff, value >>> 8));
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
