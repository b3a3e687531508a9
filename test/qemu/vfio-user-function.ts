/**
 * The least that QEMU's vfio-user client needs to accept a PCI function, for tests that care only about where firmware puts
 * a BAR: no interrupts, no DMA, one 64-bit memory BAR. QEMU, docs/interop/vfio-user.rst.
 */
import { createServer, type Server, type Socket } from 'node:net';

const Command = { version: 1, getInfo: 4, regionInfo: 5, irqInfo: 7, regionRead: 9, regionWrite: 10 } as const;
const HEADER_BYTES = 16;
const REPLY = 1;
const NO_REPLY = 1 << 4;
const CONFIG_REGION = 7;
const REGIONS = 9;
const IRQS = 5;
const CONFIG_BYTES = 256;
const COMMAND_AT = 0x04;
const BAR_AT = 0x10;
const MEMORY_64 = 0x4;
const MEMORY_SPACE = 1 << 1;

export class TinyFunction {
  readonly placement: Promise<bigint>;
  /** How often a client has connected. */
  connections = 0;
  readonly #config = new DataView(new ArrayBuffer(CONFIG_BYTES));
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #barBytes: number;
  #placed!: (address: bigint) => void;

  private constructor(barBytes: number) {
    this.#barBytes = barBytes;
    this.placement = new Promise(resolve => {
      this.#placed = resolve;
    });
    this.#config.setUint16(0, 0x1234, true);
    this.#config.setUint16(2, 0x11e8, true);
    this.#config.setUint32(8, 0x08800001, true);
    this.#config.setUint32(BAR_AT, MEMORY_64, true);
    this.#server = createServer(socket => this.#serve(socket));
  }

  static async listen(path: string, barBytes = 4096): Promise<TinyFunction> {
    const served = new TinyFunction(barBytes);
    await new Promise<void>(resolve => served.#server.listen(path, resolve));
    return served;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }

  #serve(socket: Socket): void {
    this.connections++;
    this.#sockets.add(socket);
    let received = Buffer.alloc(0);
    // QEMU is ended while the connection is open.
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('data', chunk => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= HEADER_BYTES && received.length >= received.readUInt32LE(4)) {
        const message = received.subarray(0, received.readUInt32LE(4));
        received = received.subarray(message.length);
        const answer = this.#answer(message.readUInt16LE(2), message.subarray(HEADER_BYTES));
        if (message.readUInt32LE(8) & NO_REPLY) continue;
        const header = Buffer.from(message.subarray(0, HEADER_BYTES));
        header.writeUInt32LE(HEADER_BYTES + answer.length, 4);
        header.writeUInt32LE(REPLY, 8);
        socket.write(Buffer.concat([header, answer]));
      }
    });
  }

  #answer(command: number, payload: Buffer): Buffer {
    const words = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer);
    switch (command) {
      case Command.version:
        return Buffer.from('\0\0\0\0{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":4096}}\0', 'latin1');
      case Command.getInfo:
        return words(16, 3, REGIONS, IRQS);
      case Command.regionInfo: {
        const index = payload.readUInt32LE(8);
        const bytes = index === CONFIG_REGION ? CONFIG_BYTES : index === 0 ? this.#barBytes : 0;
        return words(32, bytes === 0 ? 0 : 3, index, 0, bytes, 0, 0, 0);
      }
      case Command.irqInfo:
        return words(16, 0, payload.readUInt32LE(8), 0);
      case Command.regionRead:
        return this.#read(payload);
      case Command.regionWrite:
        this.#write(payload);
        return payload.subarray(0, 16);
      default:
        return Buffer.alloc(0);
    }
  }

  #read(payload: Buffer): Buffer {
    const offset = payload.readUInt32LE(0);
    const count = payload.readUInt32LE(12);
    const data = Buffer.alloc(count);
    if (payload.readUInt32LE(8) === CONFIG_REGION) data.set(new Uint8Array(this.#config.buffer, offset, count));
    return Buffer.concat([payload.subarray(0, 16), data]);
  }

  #write(payload: Buffer): void {
    if (payload.readUInt32LE(8) !== CONFIG_REGION) return;
    const offset = payload.readUInt32LE(0);
    const data = payload.subarray(16);
    // Byte by byte: firmware writes the command register and the BAR in the widths that it likes.
    for (let index = 0; index < data.length; index++) {
      const at = offset + index;
      if (at === COMMAND_AT || (at >= BAR_AT && at < BAR_AT + 8)) this.#config.setUint8(at, data[index]!);
    }
    const low = this.#config.getUint32(BAR_AT, true);
    this.#config.setUint32(BAR_AT, (low & -this.#barBytes) | MEMORY_64, true);
    if (offset <= COMMAND_AT && this.#config.getUint8(COMMAND_AT) & MEMORY_SPACE) {
      this.#placed(this.#config.getBigUint64(BAR_AT, true) & ~0xfn);
    }
  }
}
