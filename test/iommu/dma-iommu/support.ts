/** A unit with a few devices, guest memory, and jobs that run when the test says so. */
import { expect } from 'vitest';
import { NtStatus, ntStatusName } from '../../../src/iommu/dma-iommu/ntstatus.ts';
import type { Answer } from '../../../src/iommu/dma-iommu/operations.ts';
import type { DmaIommuTuning } from '../../../src/iommu/dma-iommu/options.ts';
import {
  type Compat,
  type DeviceCreationConfiguration,
  type DeviceDirectory,
  type DeviceHandle,
  type DirectoryDevice,
  type DomainHandle,
  DomainType,
  type FaultInformation,
  LogicalAllocatorType,
  type Mdl,
  type PhysicalAddressToMap,
  type ReservedRegion,
} from '../../../src/iommu/dma-iommu/types.ts';
import { DmaIommu } from '../../../src/iommu/dma-iommu/unit.ts';
import { Access, Translation } from '../../../src/iommu/translator.ts';
import { LocalMemory } from '../../../src/memory/local-memory.ts';
import type { JobQueue } from '../../../src/pci/ports.ts';
import { TraceLog } from '../../../src/trace/trace.ts';

/** Requester ids of the devices of every rig. */
export const NIC = 0x0100;
export const DISK = 0x0200;
/** Knows PASIDs. */
export const GPU = 0x0300;
/** Enumerated by ACPI, input mapping ids 8 to 15. */
export const UART = 0x1000;
export const UART_IDS = [8, 9, 10, 11, 12, 13, 14, 15];
/** Not behind the unit. */
export const STRANGER = 0x0900;

const pci = (requesterId: number, pasidCapable = false): DirectoryDevice => ({
  requesterId,
  inputMappingIds: [requesterId],
  acpi: false,
  pasidCapable,
});

export class Directory implements DeviceDirectory {
  readonly devices = new Map<number, DirectoryDevice>([
    [NIC, pci(NIC)],
    [DISK, pci(DISK)],
    [GPU, pci(GPU, true)],
    [UART, { requesterId: UART, inputMappingIds: UART_IDS, acpi: true, pasidCapable: false }],
  ]);

  find(pdo: number): DirectoryDevice | undefined {
    return this.devices.get(pdo);
  }

  all(): readonly DirectoryDevice[] {
    return [...this.devices.values()];
  }
}

export class Jobs implements JobQueue {
  readonly pending: (() => void)[] = [];

  push(job: () => void): void {
    this.pending.push(job);
  }

  run(): void {
    for (let job = this.pending.shift(); job !== undefined; job = this.pending.shift()) job();
  }
}

export interface RigOptions extends DmaIommuTuning {
  readonly compat?: Compat;
  readonly memoryBytes?: number;
  readonly trace?: TraceLog;
}

export const RW = Access.read | Access.write;
export const R = Access.read;
export const W = Access.write;

export class Rig {
  readonly memory: LocalMemory;
  readonly directory = new Directory();
  readonly jobs = new Jobs();
  readonly trace: TraceLog;
  readonly unit: DmaIommu;
  readonly out = new Translation();

  constructor({ compat = 'extended', memoryBytes = 1 << 20, trace = new TraceLog(), ...options }: RigOptions = {}) {
    this.trace = trace;
    this.memory = new LocalMemory(memoryBytes);
    const { memory, directory: devices, jobs } = this;
    this.unit = new DmaIommu({ name: 'iommu', memory, devices, jobs, trace, compat, options });
  }

  /** The guest-physical address that an access goes to, or undefined if it is refused. */
  dma(requesterId: number, address: bigint, access: number = R, pasid = -1): bigint | undefined {
    const { out } = this;
    const [high, low] = wordsOf(address);
    if (!this.unit.translate(requesterId, high, low, access, out, pasid)) return undefined;
    return (BigInt(out.frame) << 12n) | (address & 0xfffn);
  }

  probe(requesterId: number, address: bigint, access: number = R, pasid = -1) {
    return this.unit.probe(requesterId, pasid, ...wordsOf(address), access);
  }

  domain(type: number = DomainType.Translate, regions?: readonly ReservedRegion[]): DomainHandle {
    const { status, domain } = this.unit.createDomainEx({ domainType: type, reservedRegions: regions });
    expect(ntStatusName(status)).toBe('STATUS_SUCCESS');
    return domain!;
  }

  buddy(addressWidth: number, regions?: readonly ReservedRegion[]): DomainHandle {
    const { status, domain } = this.unit.createDomainEx({
      domainType: DomainType.Translate,
      logicalAllocatorConfig: { logicalAllocatorType: LogicalAllocatorType.Buddy, addressWidth },
      reservedRegions: regions,
    });
    expect(ntStatusName(status)).toBe('STATUS_SUCCESS');
    return domain!;
  }

  attach(domain: DomainHandle, physicalDeviceObject: number = NIC, inputMappingIdBase = 0, mappingCount = 1): number {
    return this.unit.attachDevice({ domain, physicalDeviceObject, inputMappingIdBase, mappingCount }).status;
  }

  detach(domain: DomainHandle, physicalDeviceObject: number = NIC, inputMappingId = 0): number {
    return this.unit.detachDevice({ domain, physicalDeviceObject, inputMappingId }).status;
  }

  device(physicalDeviceObject: number = NIC, deviceConfig?: readonly DeviceCreationConfiguration[]): DeviceHandle {
    const { status, dmaDevice } = this.unit.createDevice({ physicalDeviceObject, deviceConfig });
    expect(ntStatusName(status)).toBe('STATUS_SUCCESS');
    return dmaDevice!;
  }

  map(domain: DomainHandle, logicalAddress: bigint, pages: readonly number[], permissions = RW): number {
    return this.unit.mapLogicalRange({ domain, permissions, mdl: mdl(...pages), logicalAddress }).status;
  }

  unmap(domain: DomainHandle, logicalAddress: bigint, numberOfPages: number): number {
    return this.unit.unmapLogicalRange({ domain, logicalAddress, numberOfPages }).status;
  }

  /** Every fault told by a job so far, and from now on. */
  listen(): FaultInformation[] {
    const faults: FaultInformation[] = [];
    this.unit.onFault = fault => faults.push(fault);
    return faults;
  }
}

export function wordsOf(address: bigint): [high: number, low: number] {
  return [Number(BigInt.asIntN(32, address >> 32n)), Number(BigInt.asIntN(32, address))];
}

export function mdl(...pages: readonly number[]): Mdl {
  return { type: 'mdl', pages: Int32Array.from(pages), byteOffset: 0, byteCount: pages.length * 4096 };
}

export function range(base: bigint, size: bigint): PhysicalAddressToMap {
  return { type: 'contiguousRange', base, size };
}

export function pfns(...pages: readonly number[]): PhysicalAddressToMap {
  return { type: 'pfnArray', pages: Int32Array.from(pages) };
}

/** Compares by name, which says more when it fails. */
export function expectStatus(answer: Answer | number, name: keyof typeof NtStatus): void {
  const status = typeof answer === 'number' ? answer : answer.status;
  expect(ntStatusName(status)).toBe(ntStatusName(NtStatus[name]));
}

export const PAGE = 4096n;
