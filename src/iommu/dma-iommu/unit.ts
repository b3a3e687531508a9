/**
 * The operations of Windows' DMA_IOMMU_INTERFACE as an IOMMU: translates for the devices that they attach, and answers each of them.
 */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { TableMemory } from '../../page-tables/table-memory.ts';
import type { JobQueue } from '../../pci/ports.ts';
import type { Trace } from '../../trace/trace.ts';
import { Translation, type Translator } from '../translator.ts';
import { TRANSLATED } from './address-space.ts';
import { BAD_MDL, BAD_UNMAP_MDL, BLOCKED_FAULT, V1_DOMAIN_TYPES } from './choices.ts';
import { Core } from './core.ts';
import { DeviceOperations } from './device-operations.ts';
import { DmaDevices } from './dma-devices.ts';
import type { Domain } from './domain.ts';
import { Domains } from './domains.ts';
import { Engines } from './engines.ts';
import { Faults } from './faults.ts';
import { getInterface, getInterfaceEx } from './interfaces.ts';
import { PASID_MAX } from './limits.ts';
import { Mapping } from './mapping.ts';
import { NtStatus, ntStatusName } from './ntstatus.ts';
import type { Answer, DmaIommuOperations, OperationName } from './operations.ts';
import { type Snapshot, snapshot } from './snapshot.ts';
import { type DmaIommuStatistics, newStatistics } from './statistics.ts';
import { Streams } from './streams.ts';
import { Tokens } from './tokens.ts';
import type { Compat, DeviceDirectory, FaultInformation, FaultType, PhysicalDeviceObject } from './types.ts';

export interface DmaIommuTuning {
  /** Look, at each translation by a caller's tables, whether a fresh walk would say the same. Default false. */
  readonly checkStale?: boolean | undefined;
  /** What faults say of the unit. Default 0. */
  readonly iommuBaseAddress?: bigint | undefined;
  /** Default 0. */
  readonly pciSegment?: number | undefined;
  /** The highest PASID, 1 to 2^20 - 1. Default the latter. */
  readonly pasidMax?: number | undefined;
  /** Where the tables of domains that we own the tables of are. Default: a new one of its default size. */
  readonly tableMemory?: TableMemory | undefined;
}

export interface DmaIommuOptions {
  /** Its name in events. */
  readonly name: string;
  /** The guest's: callers' page tables are there. */
  readonly memory: GuestMemory;
  readonly devices: DeviceDirectory;
  readonly jobs: JobQueue;
  readonly trace: Trace;
  /** Default `extended`. */
  readonly compat?: Compat | undefined;
  readonly options?: DmaIommuTuning | undefined;
}

export interface ProbeAnswer {
  /** Whether the access would go through. */
  readonly translated: boolean;
  /** Why not; -1 if it would. */
  readonly fault: FaultType | -1;
  /** Handle of the domain; 0: attached to none. */
  readonly domain: number;
  /** Guest page frame of the address; 0 where it is not translated. */
  readonly frame: number;
  /** log2 of the mapping's bytes. */
  readonly shift: number;
  /** `Access` bits. */
  readonly permissions: number;
  /** Level of the page-table entry that decided, from 1 for the smallest page; 0: none did. */
  readonly level: number;
  /** `none`: no tables are looked at. */
  readonly source: 'iotlb' | 'paging-structure' | 'walk' | 'none';
  /** The tables as they are now say otherwise: an invalidation is missing. */
  readonly stale: boolean;
}

type Args<Name extends OperationName> = Parameters<DmaIommuOperations[Name]>[0];
type Result<Name extends OperationName> = ReturnType<DmaIommuOperations[Name]>;

export class DmaIommu implements Translator, DmaIommuOperations {
  readonly statistics: DmaIommuStatistics = newStatistics();
  readonly compat: Compat;
  private readonly core: Core;
  private readonly engines: Engines;
  private readonly streams = new Streams();
  private readonly faults: Faults;
  private readonly domains: Domains;
  private readonly mapping: Mapping;
  private readonly tokens: Tokens;
  private readonly devices: DeviceOperations;
  private readonly dmaDevices: DmaDevices;
  private readonly probed = new Translation();

  /** Throws a RangeError on options out of range. */
  constructor({ name, memory, devices, jobs, trace, compat = 'extended', options = {} }: DmaIommuOptions) {
    const { checkStale = false, iommuBaseAddress = 0n, pciSegment = 0, pasidMax = PASID_MAX, tableMemory } = options;
    if (!Number.isInteger(pasidMax) || pasidMax < 1 || pasidMax > PASID_MAX) {
      throw new RangeError(`the highest PASID must be 1 to ${PASID_MAX}, not ${pasidMax}`);
    }
    const { statistics } = this;
    this.compat = compat;
    this.core = new Core({ name, devices, jobs, trace, compat, statistics });
    this.engines = new Engines(this.core, memory, { checkStale, tableMemory });
    this.faults = new Faults(this.core, { iommuBaseAddress, pciSegment });
    this.domains = new Domains(this.core, this.engines);
    this.mapping = new Mapping(this.domains);
    this.tokens = new Tokens(this.core, this.domains);
    this.devices = new DeviceOperations(this.core, this.domains, this.streams);
    this.dmaDevices = new DmaDevices(this.core, this.domains, this.streams, pasidMax);
  }

  /** As `Translator.translate`; `pasid` is -1 for a request without one. */
  translate(requesterId: number, high: number, low: number, access: number, out: Translation, pasid = -1): boolean {
    const { core, streams } = this;
    core.statistics.translations++;
    const { generation } = core;
    const attachment = streams.attachments[requesterId];
    const domain = pasid < 0 ? attachment?.domain : this.domainOf(requesterId, pasid);
    const result = domain === undefined ? BLOCKED_FAULT : domain.space.translate(high, low, access, out);
    if (result === TRANSLATED) return true;
    // A reset while the tables were read: this request belongs to what is gone.
    if (generation !== core.generation) return false;
    if (result === BLOCKED_FAULT) core.statistics.blocked++;
    this.faults.report({
      requesterId,
      pasid,
      high,
      low,
      access,
      type: result as FaultType,
      attachment,
      domain,
      suppressed: pasid >= 0 && this.suppresses(requesterId),
    });
    return false;
  }

  /** The same unit for requests that carry this PASID. */
  withPasid(pasid: number): Translator {
    return {
      translate: (requesterId, high, low, access, out) => this.translate(requesterId, high, low, access, out, pasid),
    };
  }

  /** Whether requests with this PASID (-1: without one) have a domain. */
  isAttached(requesterId: number, pasid: number): boolean {
    return this.domainOf(requesterId, pasid) !== undefined;
  }

  /** What `translate` would do, without doing it: no cache changes, no fault is recorded, nothing is counted. */
  probe(requesterId: number, pasid: number, high: number, low: number, access: number): ProbeAnswer {
    const { probed } = this;
    const domain = this.domainOf(requesterId, pasid);
    probed.frame = 0;
    probed.shift = 12;
    probed.permissions = 0;
    const answer = domain?.space.probe(high, low, access, probed);
    const result = answer?.result ?? BLOCKED_FAULT;
    return {
      translated: result === TRANSLATED,
      fault: result as FaultType | -1,
      domain: domain?.handle ?? 0,
      frame: probed.frame,
      shift: probed.shift,
      permissions: probed.permissions,
      level: answer?.level ?? 0,
      source: answer?.source ?? 'none',
      stale: answer?.stale ?? false,
    };
  }

  /** Told every fault by a job, whether or not its device's driver wants to be told. */
  set onFault(listener: ((fault: FaultInformation) => void) | undefined) {
    this.faults.onFault = listener;
  }

  /** IoGetIommuInterface. */
  getInterface(version: number): ReturnType<typeof getInterface> {
    return getInterface(this, version);
  }

  /** IoGetIommuInterfaceEx. */
  getInterfaceEx<Version extends number>(
    version: Version,
    flags: bigint | number = 0,
  ): ReturnType<typeof getInterfaceEx<Version>> {
    return getInterfaceEx(this, version, flags);
  }

  /** DMA Guard's policy: whether the device is kept from PassThrough domains. What is attached to one stays so. */
  setDmaGuard(physicalDeviceObject: PhysicalDeviceObject, blocked: boolean): void {
    this.dmaDevices.setDmaGuard(physicalDeviceObject, blocked);
  }

  snapshot(): Snapshot {
    return snapshot(this.core, this.streams, this.engines.builder.memory.pagesInUse);
  }

  /** As if just made: nothing is attached, no handle is valid. The statistics and DMA Guard's policy stay. */
  reset(): void {
    this.core.generation++;
    this.domains.reset();
    this.core.handles.clear();
    this.streams.reset();
    this.dmaDevices.reset();
    this.faults.reset();
    this.engines.invalidateAll();
  }

  createDomain({ osManagedPageTable }: Args<'createDomain'>): Result<'createDomain'> {
    const type = osManagedPageTable ? V1_DOMAIN_TYPES.osManaged : V1_DOMAIN_TYPES.callerManaged;
    return this.answer('createDomain', this.domains.create(type, 0, undefined, []));
  }

  createDomainEx(args: Args<'createDomainEx'>): Result<'createDomainEx'> {
    const { domainType, flags, logicalAllocatorConfig, reservedRegions } = args;
    const made = this.domains.create(domainType, flags ?? 0, logicalAllocatorConfig, reservedRegions ?? []);
    return this.answer('createDomainEx', made);
  }

  deleteDomain(args: Args<'deleteDomain'>): Answer {
    return this.answer('deleteDomain', this.domains.delete(args));
  }

  attachDevice(args: Args<'attachDevice'>): Answer {
    return this.answer('attachDevice', this.devices.attach(args));
  }

  attachDeviceEx(args: Args<'attachDeviceEx'>): Answer {
    return this.answer('attachDeviceEx', this.dmaDevices.attach(args));
  }

  detachDevice(args: Args<'detachDevice'>): Answer {
    return this.answer('detachDevice', this.devices.detach(args));
  }

  detachDeviceEx(args: Args<'detachDeviceEx'>): Answer {
    return this.answer('detachDeviceEx', this.dmaDevices.detach(args));
  }

  flushDomain(args: Args<'flushDomain'>): Answer {
    return this.answer('flushDomain', this.domains.flush(args));
  }

  flushDomainByVaList(args: Args<'flushDomainByVaList'>): Answer {
    return this.answer('flushDomainByVaList', this.domains.flushByVaList(args));
  }

  queryInputMappings(args: Args<'queryInputMappings'>): Result<'queryInputMappings'> {
    return this.answer('queryInputMappings', this.devices.queryInputMappings(args));
  }

  mapLogicalRange(args: Args<'mapLogicalRange'>): Answer {
    return this.answer('mapLogicalRange', this.mapping.mapLogical(args));
  }

  mapLogicalRangeEx(args: Args<'mapLogicalRangeEx'>): Result<'mapLogicalRangeEx'> {
    return this.answer('mapLogicalRangeEx', this.mapping.mapLogicalEx(args));
  }

  unmapLogicalRange(args: Args<'unmapLogicalRange'>): Answer {
    return this.answer('unmapLogicalRange', this.mapping.unmapLogical(args));
  }

  mapIdentityRange({ domain, permissions, mdl }: Args<'mapIdentityRange'>): Answer {
    return this.answer('mapIdentityRange', this.mapping.mapIdentity(domain, permissions, mdl, BAD_MDL));
  }

  mapIdentityRangeEx({ domain, permissions, physicalAddressToMap }: Args<'mapIdentityRangeEx'>): Answer {
    return this.answer('mapIdentityRangeEx', this.mapping.mapIdentity(domain, permissions, physicalAddressToMap));
  }

  unmapIdentityRange({ domain, mdl }: Args<'unmapIdentityRange'>): Answer {
    return this.answer('unmapIdentityRange', this.mapping.unmapIdentity(domain, mdl, BAD_UNMAP_MDL));
  }

  unmapIdentityRangeEx({ domain, mappedPhysicalAddress }: Args<'unmapIdentityRangeEx'>): Answer {
    return this.answer('unmapIdentityRangeEx', this.mapping.unmapIdentity(domain, mappedPhysicalAddress));
  }

  setDeviceFaultReporting(args: Args<'setDeviceFaultReporting'>): Answer {
    return this.answer('setDeviceFaultReporting', this.devices.setFaultReporting(args));
  }

  setDeviceFaultReportingEx(args: Args<'setDeviceFaultReportingEx'>): Answer {
    return this.answer('setDeviceFaultReportingEx', this.dmaDevices.setFaultReporting(args));
  }

  configureDomain(args: Args<'configureDomain'>): Answer {
    return this.answer('configureDomain', this.domains.configure(args));
  }

  queryAvailableDomainTypes(args: Args<'queryAvailableDomainTypes'>): Result<'queryAvailableDomainTypes'> {
    return this.answer('queryAvailableDomainTypes', this.dmaDevices.queryAvailableDomainTypes(args));
  }

  registerInterfaceStateChangeCallback(args: Args<'registerInterfaceStateChangeCallback'>): Answer {
    return this.answer('registerInterfaceStateChangeCallback', this.dmaDevices.register(args));
  }

  unregisterInterfaceStateChangeCallback(args: Args<'unregisterInterfaceStateChangeCallback'>): Answer {
    return this.answer('unregisterInterfaceStateChangeCallback', this.dmaDevices.unregister(args));
  }

  reserveLogicalAddressRange(args: Args<'reserveLogicalAddressRange'>): Result<'reserveLogicalAddressRange'> {
    return this.answer('reserveLogicalAddressRange', this.tokens.reserve(args));
  }

  freeReservedLogicalAddressRange(args: Args<'freeReservedLogicalAddressRange'>): Answer {
    return this.answer('freeReservedLogicalAddressRange', this.tokens.free(args));
  }

  mapReservedLogicalRange(args: Args<'mapReservedLogicalRange'>): Result<'mapReservedLogicalRange'> {
    return this.answer('mapReservedLogicalRange', this.tokens.map(args));
  }

  unmapReservedLogicalRange(args: Args<'unmapReservedLogicalRange'>): Answer {
    return this.answer('unmapReservedLogicalRange', this.tokens.unmap(args));
  }

  createDevice(args: Args<'createDevice'>): Result<'createDevice'> {
    return this.answer('createDevice', this.dmaDevices.create(args));
  }

  deleteDevice(args: Args<'deleteDevice'>): Answer {
    return this.answer('deleteDevice', this.dmaDevices.delete(args));
  }

  createPasidDevice(args: Args<'createPasidDevice'>): Result<'createPasidDevice'> {
    return this.answer('createPasidDevice', this.dmaDevices.createPasid(args));
  }

  deletePasidDevice(args: Args<'deletePasidDevice'>): Answer {
    return this.answer('deletePasidDevice', this.dmaDevices.deletePasid(args));
  }

  attachPasidDevice(args: Args<'attachPasidDevice'>): Answer {
    return this.answer('attachPasidDevice', this.dmaDevices.attachPasid(args));
  }

  detachPasidDevice(args: Args<'detachPasidDevice'>): Answer {
    return this.answer('detachPasidDevice', this.dmaDevices.detachPasid(args));
  }

  queryDeviceInfo(args: Args<'queryDeviceInfo'>): Result<'queryDeviceInfo'> {
    return this.answer('queryDeviceInfo', this.dmaDevices.queryInfo(args));
  }

  private domainOf(requesterId: number, pasid: number): Domain | undefined {
    const { attachments, pasids } = this.streams;
    return pasid < 0 ? attachments[requesterId]?.domain : pasids[requesterId]?.get(pasid)?.domain;
  }

  private suppresses(requesterId: number): boolean {
    return this.dmaDevices.byId.get(requesterId)?.settings.suppressPasidFaults ?? false;
  }

  /** The one place where every answer passes: counted, and noted where it is a refusal. */
  private answer<T extends Answer>(operation: OperationName, answer: T): T {
    const counts = this.statistics.operations[operation];
    if (answer.status === NtStatus.SUCCESS) {
      counts.succeeded++;
    } else {
      counts.failed++;
      this.core.note('dma-iommu.refused', { operation, status: ntStatusName(answer.status) });
    }
    return answer;
  }
}
