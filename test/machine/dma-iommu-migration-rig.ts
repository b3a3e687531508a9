/** As `MigrationRig`, with a `dma-iommu`, whose driver this is. */
import { Packr } from 'msgpackr';
import { dmaIommuRegisters } from '../../src/iommu/dma-iommu/function/registers.ts';
import type { OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import { DomainType, MapPhysicalAddressType } from '../../src/iommu/dma-iommu/types.ts';
import { COMMAND_BYTES, encodeCommand, type Values } from '../iommu/dma-iommu/function/support.ts';
import { BAR0, bytes16, bytes32, bytes64, CONFIG, Edu, FUNCTIONS, MigrationRig, PAGE } from './migration-rig.ts';

/** Guest page frames. Each endpoint has its own data, at the same addresses in every domain. */
export const Place = {
  commands: 1,
  completions: 9,
  faults: 17,
  lists: 19,
  tables: 20,
  data: [32, 64],
  shared: 96,
} as const;
export const DATA_PAGES = 32;
/** The guest's handles, as `setUp` makes them. */
export const Handle = { translate: 1, buddy: 2, passThrough: 3, unmanaged: 4, device: [5, 6], token: 7 } as const;
export const COMMAND_ENTRIES = 128;
const FAULT_ORDER = 6;
const COMMAND_ORDER = 7;
const PATIENCE_MS = 20_000;
const ALL_SOURCES = 0xf;

const registers = dmaIommuRegisters().registers;
const at = (name: string) => registers.find(one => one.name === name)!.offset;
export const Reg = {
  control: at('CONTROL'),
  status: at('STATUS'),
  commandBase: at('COMMAND_BASE'),
  commandTail: at('COMMAND_TAIL'),
  commandHead: at('COMMAND_HEAD'),
  completionBase: at('COMPLETION_BASE'),
  completionHead: at('COMPLETION_HEAD'),
  completionTail: at('COMPLETION_TAIL'),
  faultBase: at('FAULT_BASE'),
  faultHead: at('FAULT_HEAD'),
  faultTail: at('FAULT_TAIL'),
  interruptEnable: at('INTERRUPT_ENABLE'),
  interruptPending: at('INTERRUPT_PENDING'),
  probeDevice: at('PROBE_DEVICE'),
  probeIova: at('PROBE_IOVA'),
  probeCommand: at('PROBE_COMMAND'),
  probeResult: at('PROBE_RESULT'),
  bytes: at('PROBE_DOMAIN') + 4,
} as const;

export const packr = new Packr({ useRecords: false, mapsAsObjects: true });

/** Contiguous guest pages, as an argument. */
export function pages(frame: number, count: number): Values {
  return { type: MapPhysicalAddressType.ContiguousRange, address: BigInt(frame) << 12n, size: BigInt(count * PAGE) };
}

/** The list of page frames that `setUp` leaves in guest memory, from an index on. */
export function listed(index: number, count: number): Values {
  return { type: MapPhysicalAddressType.Pfn, address: BigInt(Place.lists * PAGE + index * 8), size: BigInt(count) };
}

export class DmaIommuRig extends MigrationRig {
  private tail = 0;

  constructor() {
    super(['edu@01:00.0,dmaMask=64', 'edu@02:00.0,dmaMask=64'], 'dma-iommu');
  }

  /** `completionOrder`: log2 of the ring's entries. */
  override setUp(completionOrder = 7): void {
    const { iommu } = this.clients;
    for (const name of FUNCTIONS) this.clients[name].regionWrite(CONFIG, 4, bytes16(0x0006));
    const ring = (base: number, frame: number, order: number) => {
      iommu.regionWrite(BAR0, base, bytes64(BigInt(frame) << 12n));
      iommu.regionWrite(BAR0, base + 8, bytes32(order));
    };
    ring(Reg.commandBase, Place.commands, COMMAND_ORDER);
    ring(Reg.completionBase, Place.completions, completionOrder);
    ring(Reg.faultBase, Place.faults, FAULT_ORDER);
    iommu.regionWrite(BAR0, Reg.interruptEnable, bytes32(ALL_SOURCES));
    iommu.regionWrite(BAR0, Reg.control, bytes32(3));
    // Every second frame of the first endpoint's.
    for (let i = 0; i < DATA_PAGES; i++)
      this.write64(Place.lists, i * 8, BigInt(Place.data[0] + ((i * 5) % DATA_PAGES)));
    for (let level = 0; level < 3; level++)
      this.write64(Place.tables + level, 0, (BigInt(Place.tables + level + 1) << 12n) | 7n);
    for (let page = 0; page < DATA_PAGES; page++) this.mapTable(page, page);
    this.ask('createDomainEx', { domainType: DomainType.Translate });
    this.ask('createDomainEx', {
      domainType: DomainType.Translate,
      hasAllocator: 1,
      allocatorType: 1,
      addressWidth: 32,
    });
    this.ask('createDomainEx', { domainType: DomainType.PassThrough });
    this.ask('createDomainEx', { domainType: DomainType.Unmanaged });
    const pasidTagged = 1;
    this.write64(Place.lists, 2048, 3n);
    this.write64(Place.lists, 2056, BigInt(pasidTagged));
    const configurations = BigInt(Place.lists * PAGE + 2048);
    this.ask('createDevice', { pdo: 0x0100, configurationCount: 1, configurations });
    this.ask('createDevice', { pdo: 0x0200 });
    const size = BigInt(4 * PAGE);
    this.ask('reserveLogicalAddressRange', { domain: 1, present: 1, size, explicitLogicalAddress: 0x20_0000n });
    this.ask('attachDeviceEx', { domain: Handle.translate, device: Handle.device[0] });
    this.ask('attachDeviceEx', { domain: Handle.buddy, device: Handle.device[1] });
    this.configure(true);
    for (const device of Handle.device) {
      const reporting = { device, enable: 1, hasConfig: 1, context: BigInt(device) << 40n };
      this.ask('setDeviceFaultReportingEx', reporting);
    }
    const everything = { memory: pages(Place.data[0], DATA_PAGES), permissions: 3, present: 1 };
    this.ask('mapLogicalRangeEx', {
      ...everything,
      domain: Handle.translate,
      explicitLogicalAddress: BigInt(Place.data[0]) << 12n,
    });
    this.ask('mapLogicalRangeEx', {
      domain: Handle.buddy,
      memory: pages(Place.data[1], DATA_PAGES),
      permissions: 3,
      present: 2,
      minLogicalAddress: BigInt(Place.data[1]) << 12n,
    });
    this.ring();
    this.settle();
  }

  /** Page of the unmanaged domain's tables, among the first endpoint's. */
  mapTable(page: number, to: number): void {
    this.write64(Place.tables + 3, (Place.data[0] + page) * 8, (BigInt(Place.data[0] + to) << 12n) | 7n);
  }

  configure(translationEnabled: boolean): void {
    const entry = encodeCommand(
      'configureDomain',
      { domain: Handle.unmanaged, arch: 1 },
      { patch: [8, [...bytes64(BigInt(Place.tables) << 12n), Number(translationEnabled), 0, 0, 0]] },
    );
    this.put(entry);
  }

  /** Puts a command into the ring; `ring` tells of it. */
  ask(name: OperationName, values: Values): void {
    this.put(encodeCommand(name, values, { cookie: BigInt(this.tail) }));
  }

  private put(entry: Uint8Array): void {
    for (let offset = 0; offset < entry.length; offset += 8) {
      const value = new DataView(entry.buffer, entry.byteOffset + offset, 8).getBigUint64(0, true);
      const address = this.tail * COMMAND_BYTES + offset;
      this.write64(Place.commands + Math.floor(address / PAGE), address % PAGE, value);
    }
    this.tail = (this.tail + 1) % COMMAND_ENTRIES;
  }

  ring(): void {
    this.post('iommu', Reg.commandTail, bytes32(this.tail));
  }

  /** Frees what the device has written, until nothing is to be done any more. */
  override settle(): void {
    const deadline = performance.now() + PATIENCE_MS;
    while (!this.idle()) {
      if (performance.now() > deadline) throw new Error('the machine does not come to rest');
    }
    this.consume();
    this.clients.iommu.regionWrite(BAR0, Reg.interruptPending, bytes32(ALL_SOURCES));
    this.collect();
  }

  private consume(): void {
    const { iommu } = this.clients;
    iommu.regionWrite(BAR0, Reg.completionHead, bytes32(this.read32('iommu', Reg.completionTail)));
    iommu.regionWrite(BAR0, Reg.faultHead, bytes32(this.read32('iommu', Reg.faultTail)));
  }

  private idle(): boolean {
    const busy = (['edu0', 'edu1'] as const).some(name => (this.read32(name, Edu.command) & 1) !== 0);
    if (busy) return false;
    const { work, completions } = this.saved();
    if (this.read32('iommu', Reg.status) >>> 8 !== 0) throw new Error('a ring has failed');
    if (work.length === 0 && completions.length === 0 && this.read32('iommu', Reg.commandHead) === this.tail)
      return true;
    this.consume();
    return false;
  }

  /** What the function would save now. */
  // biome-ignore lint/suspicious/noExplicitAny: of tests.
  saved(): any {
    return packr.unpack(this.migrationState().subarray(8)).state.device;
  }

  migrationState(): Uint8Array {
    const state: Uint8Array | string = this.machine.functions.get('iommu')!.pci.migration!.save();
    if (typeof state === 'string') throw new Error(state);
    return state;
  }
}
