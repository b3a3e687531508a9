/** The memory of a guest that has no processor: a file that the machine's functions map, and that tests read and write. */
import { createMemfd, readAt, writeAt } from '../posix/memfd.ts';
import { closeDescriptor } from '../posix/socket.ts';

export const PAGE_BYTES = 4096;
/** Below it is nothing that is handed out, so that address 0 and what programs take for it by mistake are nobody's. */
const FIRST_FREE = 0x100000;

export class GuestRam {
  readonly descriptor: number;
  private next = FIRST_FREE;

  /** `bytes` of RAM from guest-physical address 0 on. */
  constructor(readonly bytes: number) {
    if (!Number.isSafeInteger(bytes) || bytes % PAGE_BYTES !== 0 || bytes <= FIRST_FREE) {
      throw new RangeError(`the memory must be whole pages, and more than ${FIRST_FREE} bytes`);
    }
    this.descriptor = createMemfd('viommu-test-guest', bytes, { seal: true });
  }

  /** Guest-physical address of fresh pages side by side, all zeros. They are never given back. */
  allocate(pages = 1): bigint {
    const address = this.next;
    if (address + pages * PAGE_BYTES > this.bytes) throw new Error(`the guest's ${this.bytes} bytes are used up`);
    this.next += pages * PAGE_BYTES;
    return BigInt(address);
  }

  read(address: bigint, bytes: number): Uint8Array {
    const buffer = new Uint8Array(bytes);
    readAt(this.descriptor, buffer, 0, bytes, this.checked(address, bytes));
    return buffer;
  }

  write(address: bigint, bytes: Uint8Array): void {
    writeAt(this.descriptor, bytes, 0, bytes.length, this.checked(address, bytes.length));
  }

  read32(address: bigint): number {
    return new DataView(this.read(address, 4).buffer).getUint32(0, true);
  }

  write32(address: bigint, value: number): void {
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, value, true);
    this.write(address, new Uint8Array(view.buffer));
  }

  read64(address: bigint): bigint {
    return new DataView(this.read(address, 8).buffer).getBigUint64(0, true);
  }

  write64(address: bigint, value: bigint): void {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt.asUintN(64, value), true);
    this.write(address, new Uint8Array(view.buffer));
  }

  close(): void {
    closeDescriptor(this.descriptor);
  }

  private checked(address: bigint, bytes: number): bigint {
    if (address >= 0n && address + BigInt(bytes) <= BigInt(this.bytes)) return address;
    throw new RangeError(`the guest has no memory at 0x${address.toString(16)}+0x${bytes.toString(16)}`);
  }
}
