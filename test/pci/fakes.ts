/** What the tests of this room stand on: definitions, a client that records triggers, and config accesses by number. */
import type { FunctionDefinition } from '../../src/pci/definition.ts';
import { PciFunction, RegionIndex } from '../../src/pci/function.ts';
import type { RegisterAccess, RegisterHandler } from '../../src/pci/registers.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import type { ClientPort, DmaRegions } from '../../src/vfio-user/device-model.ts';

export const plain: FunctionDefinition = {
  identity: {
    vendorId: 0x1234,
    deviceId: 0x5678,
    revisionId: 0x9a,
    classCode: 0x0c0330,
    subsystemVendorId: 0xabcd,
    subsystemId: 0xef01,
  },
  bars: [
    { index: 0, bytes: 0x1000, width: 32, prefetchable: false },
    { index: 2, bytes: 0x10000, width: 64, prefetchable: true },
  ],
  express: false,
  interruptPin: 1,
};

/** Everything that a function can have. */
export const full: FunctionDefinition = {
  ...plain,
  express: true,
  msi: { vectors: 8, wide: true, maskable: true },
  msix: { vectors: 70, table: { bar: 2, offset: 0x2000 }, pending: { bar: 2, offset: 0x3000 } },
};

export const noRegions: DmaRegions = { map: () => 0, unmap: () => 0, unmapAll: () => {} };

export class FakeClient implements ClientPort {
  /** `index:vector` of every eventfd signalled. */
  readonly triggered: string[] = [];
  private readonly eventfds = new Set<string>();
  private readonly refused = new Set<string>();

  arm(index: number, ...vectors: number[]): this {
    for (const vector of vectors) this.eventfds.add(`${index}:${vector}`);
    return this;
  }

  disarm(index: number, ...vectors: number[]): void {
    for (const vector of vectors) this.eventfds.delete(`${index}:${vector}`);
  }

  mask(index: number, vector: number, masked: boolean): void {
    if (masked) this.refused.add(`${index}:${vector}`);
    else this.refused.delete(`${index}:${vector}`);
  }

  trigger(index: number, vector: number): boolean {
    const key = `${index}:${vector}`;
    if (!this.eventfds.has(key) || this.refused.has(key)) return false;
    this.triggered.push(key);
    return true;
  }

  isArmed(index: number, vector: number): boolean {
    return this.eventfds.has(`${index}:${vector}`);
  }

  dmaRead(): number {
    throw new Error('registers never touch guest memory');
  }

  dmaWrite(): number {
    throw new Error('registers never touch guest memory');
  }
}

/** A handler that remembers every access, and answers reads from bytes. */
export class MemoryHandler implements RegisterHandler {
  readonly bytes: Uint8Array;
  readonly log: string[] = [];
  readonly objects = new Set<RegisterAccess>();

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  read(access: RegisterAccess): void {
    this.log.push(`read ${access.offset} ${access.width}`);
    this.objects.add(access);
    access.low = this.word(access.offset, Math.min(access.width, 4));
    access.high = access.width === 8 ? this.word(access.offset + 4, 4) : 0;
  }

  write(access: RegisterAccess): void {
    this.log.push(`write ${access.offset} ${access.width}`);
    this.objects.add(access);
    for (let i = 0; i < access.width; i++) {
      this.bytes[access.offset + i] = i < 4 ? access.low >>> (8 * i) : access.high >>> (8 * (i - 4));
    }
  }

  private word(offset: number, bytes: number): number {
    let value = 0;
    for (let i = 0; i < bytes; i++) value |= this.bytes[offset + i]! << (8 * i);
    return value;
  }
}

export function functionOf(definition: FunctionDefinition): { pci: PciFunction; trace: TraceLog } {
  const trace = new TraceLog();
  return { pci: new PciFunction({ name: 'fn', definition, dma: noRegions, trace }), trace };
}

export function littleEndian(value: bigint | number, bytes: number): Uint8Array {
  const wide = BigInt.asUintN(8 * bytes, BigInt(value));
  return Uint8Array.from({ length: bytes }, (_, i) => Number((wide >> BigInt(8 * i)) & 0xffn));
}

export function numberOf(bytes: Uint8Array): number {
  return Number(bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n));
}

export function readRegion(pci: PciFunction, region: number, offset: number, bytes: number): number {
  const target = new Uint8Array(bytes);
  const errno = pci.read(region, offset, target, 0, bytes);
  if (errno !== 0) throw new Error(`errno ${errno}`);
  return numberOf(target);
}

export function writeRegion(
  pci: PciFunction,
  region: number,
  offset: number,
  bytes: number,
  value: bigint | number,
): void {
  const errno = pci.write(region, offset, littleEndian(value, bytes), 0, bytes);
  if (errno !== 0) throw new Error(`errno ${errno}`);
}

export function readConfig(pci: PciFunction, offset: number, bytes: number): number {
  return readRegion(pci, RegionIndex.config, offset, bytes);
}

export function writeConfig(pci: PciFunction, offset: number, bytes: number, value: bigint | number): void {
  writeRegion(pci, RegionIndex.config, offset, bytes, value);
}
