/**
 * The operations of Windows' DMA_IOMMU_INTERFACE as an IOMMU: translates for the devices that they attach, and answers each of them.
 */

import { TableMemory } from '../../page-tables/table-memory.ts';
import { WalkStatus } from '../../page-tables/walker.ts';
import type { StateValue } from '../../pci/state.ts';
import { EventClass, MappingSource } from '../../trace/event-kinds.ts';
import { silentTrace } from '../../trace/trace.ts';
import {
  bytesToPageEnd,
  type FaultInjectable,
  type RunTranslator,
  Translation,
  type Translator,
} from '../translator.ts';
import { TRANSLATED } from './address-space.ts';
import { BAD_MDL, BAD_UNMAP_MDL, BLOCKED_FAULT, V1_DOMAIN_TYPES } from './choices.ts';
import { Core } from './core.ts';
import { DeviceOperations } from './device-operations.ts';
import { DmaDevices } from './dma-devices.ts';
import type { Domain } from './domain.ts';
import { Domains } from './domains.ts';
import { Engines } from './engines.ts';
import { Faults } from './faults.ts';
import { DmaIommuInspection } from './inspect.ts';
import { getInterface, getInterfaceEx } from './interfaces.ts';
import { PASID_MAX } from './limits.ts';
import { Mapping } from './mapping.ts';
import { NtStatus, ntStatusName } from './ntstatus.ts';
import type { Answer, DmaIommuOperations, OperationName } from './operations.ts';
import type { DmaIommuOptions } from './options.ts';
import { refusalDetail } from './refusals.ts';
import { type Snapshot, snapshot } from './snapshot.ts';
import { type DmaIommuStatistics, newStatistics } from './statistics.ts';
import { Streams } from './streams.ts';
import { Tokens } from './tokens.ts';
import { tellRefused, tellTranslated } from './translation-events.ts';
import {
  type Compat,
  type DeviceHandle,
  type FaultInformation,
  FaultType,
  type InterfaceStateChangeCallback,
  type PhysicalDeviceObject,
} from './types.ts';
import { type GuestCallbacks, UnitState } from './unit-state.ts';

export type { DmaIommuOptions, DmaIommuTuning } from './options.ts';

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

export class DmaIommu implements RunTranslator, FaultInjectable, DmaIommuOperations {
  readonly statistics: DmaIommuStatistics = newStatistics();
  readonly compat: Compat;
  readonly inspection: DmaIommuInspection;
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
  private readonly state: UnitState;

  /** Throws a RangeError on options out of range. */
  constructor(private readonly made: DmaIommuOptions) {
    const { name, memory, devices, jobs, trace, compat = 'extended', options = {}, work = new Set() } = made;
    const { checkStale = false, iommuBaseAddress = 0n, pciSegment = 0, pasidMax = PASID_MAX, tableMemory } = options;
    if (!Number.isInteger(pasidMax) || pasidMax < 1 || pasidMax > PASID_MAX) {
      throw new RangeError(`the highest PASID must be 1 to ${PASID_MAX}, not ${pasidMax}`);
    }
    const { statistics } = this;
    this.compat = compat;
    this.core = new Core({ name, devices, jobs, trace, compat, statistics, work });
    this.engines = new Engines(this.core, memory, { checkStale, tableMemory });
    this.faults = new Faults(this.core, { iommuBaseAddress, pciSegment });
    this.domains = new Domains(this.core, this.engines);
    this.mapping = new Mapping(this.core, this.domains);
    this.tokens = new Tokens(this.core, this.domains);
    this.devices = new DeviceOperations(this.core, this.domains, this.streams);
    this.dmaDevices = new DmaDevices(this.core, this.domains, this.streams, pasidMax);
    this.inspection = new DmaIommuInspection(this.core, this.streams, this.engines);
    const { core, streams, faults, domains, dmaDevices } = this;
    this.state = new UnitState({ core, streams, faults, domains, dmaDevices, pasidMax });
  }

  /** As `Translator.translate`; `pasid` is -1 for a request without one, `length` 0 where it is not known. */
  translate(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
    pasid = -1,
    length = 0,
  ): boolean {
    const { core, streams } = this;
    core.statistics.translations++;
    const { generation } = core;
    const attachment = streams.attachments[requesterId];
    const domain = pasid < 0 ? attachment?.domain : this.domainOf(requesterId, pasid);
    const result = domain === undefined ? BLOCKED_FAULT : domain.space.translate(high, low, access, out);
    if (result === TRANSLATED) {
      if (core.answer.stale || (core.events.records.mask & EventClass.translation) !== 0)
        tellTranslated(core, domain!, requesterId, high, low, access, length, out);
      return true;
    }
    // A reset while the tables were read: this request belongs to what is gone.
    if (generation !== core.generation) {
      core.answer.clear();
      return false;
    }
    const view = domain?.space.view;
    // What was mapped there may be gone, and its turn to be compared did not come yet.
    if (view !== undefined) {
      core.known.compareAt(domain!.handle, high, low, view, MappingSource.walk);
      if (generation !== core.generation) {
        core.answer.clear();
        return false;
      }
    }
    if (core.answer.stale) tellRefused(core, domain!, requesterId, high, low, access, length);
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

  /** As `FaultInjectable.refuse`; for requests without a PASID. */
  refuse(requesterId: number, high: number, low: number, access: number): void {
    const attachment = this.streams.attachments[requesterId];
    const domain = attachment?.domain;
    const type = domain === undefined ? BLOCKED_FAULT : FaultType.TranslationFault;
    this.core.answer.clear();
    if (domain !== undefined) this.core.answer.failed = WalkStatus.notPresent;
    this.faults.report({ requesterId, pasid: -1, high, low, access, type, attachment, domain, suppressed: false });
  }

  /** Page by page. */
  translateRun(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    if (!this.translate(requesterId, high, low, access, out, -1, length)) return false;
    out.bytes = bytesToPageEnd(out.shift, low, length);
    return true;
  }

  /** The same unit for requests that carry this PASID. */
  withPasid(pasid: number): Translator {
    return {
      translate: (requesterId, high, low, access, out) => this.translate(requesterId, high, low, access, out, pasid),
    };
  }

  /** Grows with each mapping that the checks compare with its tables. */
  get comparisons(): number {
    return this.core.known.comparisons;
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

  /** All that callers can find out but what is cached; callbacks of others than the guest are left out, with a note. */
  save(guest: GuestCallbacks): StateValue {
    return this.state.save(guest);
  }

  /**
   * Builds a saved state aside, in a unit of its own: throws a StateError where it cannot be, and changes nothing. The same succeeds
   * here, as after a reset, when the function that is returned is called: that takes the state over.
   */
  restore(state: unknown): { readonly aside: DmaIommu; readonly apply: (guest: GuestCallbacks) => void } {
    const tableMemory = new TableMemory({ maxPages: this.engines.builder.memory.maxPages });
    const options = { ...this.made.options, tableMemory };
    const jobs = { push: () => {} };
    const aside = new DmaIommu({ ...this.made, jobs, trace: silentTrace, options, work: new Set() });
    aside.state.build(state, { faultHandler: () => () => {} });
    return {
      aside,
      apply: guest => {
        this.reset();
        this.state.build(state, guest);
      },
    };
  }

  /** Of a state that was built: whether such a DMA device is there and nobody watches it yet, as from now on `callback` does. */
  watch(device: DeviceHandle, callback: InterfaceStateChangeCallback, context: unknown): boolean {
    return this.state.watch(device, callback, context);
  }

  /** Whether faults wait for their handlers. */
  get hasPendingFaults(): boolean {
    return this.faults.pending.length > 0;
  }

  /** Goes on with the faults of a state that was built. */
  resumeFaults(): void {
    this.faults.resume();
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
    this.core.answer.clear();
    this.core.events.reset();
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
    return this.answer('deleteDomain', this.domains.delete(args), args);
  }

  attachDevice(args: Args<'attachDevice'>): Answer {
    return this.answer('attachDevice', this.devices.attach(args), args);
  }

  attachDeviceEx(args: Args<'attachDeviceEx'>): Answer {
    return this.answer('attachDeviceEx', this.dmaDevices.attach(args), args);
  }

  detachDevice(args: Args<'detachDevice'>): Answer {
    return this.answer('detachDevice', this.devices.detach(args), args);
  }

  detachDeviceEx(args: Args<'detachDeviceEx'>): Answer {
    return this.answer('detachDeviceEx', this.dmaDevices.detach(args), args);
  }

  flushDomain(args: Args<'flushDomain'>): Answer {
    return this.answer('flushDomain', this.domains.flush(args), args);
  }

  flushDomainByVaList(args: Args<'flushDomainByVaList'>): Answer {
    return this.answer('flushDomainByVaList', this.domains.flushByVaList(args), args);
  }

  queryInputMappings(args: Args<'queryInputMappings'>): Result<'queryInputMappings'> {
    return this.answer('queryInputMappings', this.devices.queryInputMappings(args), args);
  }

  mapLogicalRange(args: Args<'mapLogicalRange'>): Answer {
    return this.answer('mapLogicalRange', this.mapping.mapLogical(args), args);
  }

  mapLogicalRangeEx(args: Args<'mapLogicalRangeEx'>): Result<'mapLogicalRangeEx'> {
    return this.answer('mapLogicalRangeEx', this.mapping.mapLogicalEx(args), args);
  }

  unmapLogicalRange(args: Args<'unmapLogicalRange'>): Answer {
    return this.answer('unmapLogicalRange', this.mapping.unmapLogical(args), args);
  }

  mapIdentityRange(args: Args<'mapIdentityRange'>): Answer {
    const { domain, permissions, mdl } = args;
    return this.answer('mapIdentityRange', this.mapping.mapIdentity(domain, permissions, mdl, BAD_MDL), args);
  }

  mapIdentityRangeEx(args: Args<'mapIdentityRangeEx'>): Answer {
    const { domain, permissions, physicalAddressToMap } = args;
    return this.answer('mapIdentityRangeEx', this.mapping.mapIdentity(domain, permissions, physicalAddressToMap), args);
  }

  unmapIdentityRange(args: Args<'unmapIdentityRange'>): Answer {
    const { domain, mdl } = args;
    return this.answer('unmapIdentityRange', this.mapping.unmapIdentity(domain, mdl, BAD_UNMAP_MDL), args);
  }

  unmapIdentityRangeEx(args: Args<'unmapIdentityRangeEx'>): Answer {
    const { domain, mappedPhysicalAddress } = args;
    return this.answer('unmapIdentityRangeEx', this.mapping.unmapIdentity(domain, mappedPhysicalAddress), args);
  }

  setDeviceFaultReporting(args: Args<'setDeviceFaultReporting'>): Answer {
    return this.answer('setDeviceFaultReporting', this.devices.setFaultReporting(args), args);
  }

  setDeviceFaultReportingEx(args: Args<'setDeviceFaultReportingEx'>): Answer {
    return this.answer('setDeviceFaultReportingEx', this.dmaDevices.setFaultReporting(args), args);
  }

  configureDomain(args: Args<'configureDomain'>): Answer {
    return this.answer('configureDomain', this.domains.configure(args), args);
  }

  queryAvailableDomainTypes(args: Args<'queryAvailableDomainTypes'>): Result<'queryAvailableDomainTypes'> {
    return this.answer('queryAvailableDomainTypes', this.dmaDevices.queryAvailableDomainTypes(args), args);
  }

  registerInterfaceStateChangeCallback(args: Args<'registerInterfaceStateChangeCallback'>): Answer {
    return this.answer('registerInterfaceStateChangeCallback', this.dmaDevices.register(args), args);
  }

  unregisterInterfaceStateChangeCallback(args: Args<'unregisterInterfaceStateChangeCallback'>): Answer {
    return this.answer('unregisterInterfaceStateChangeCallback', this.dmaDevices.unregister(args), args);
  }

  reserveLogicalAddressRange(args: Args<'reserveLogicalAddressRange'>): Result<'reserveLogicalAddressRange'> {
    return this.answer('reserveLogicalAddressRange', this.tokens.reserve(args), args);
  }

  freeReservedLogicalAddressRange(args: Args<'freeReservedLogicalAddressRange'>): Answer {
    return this.answer('freeReservedLogicalAddressRange', this.tokens.free(args), args);
  }

  mapReservedLogicalRange(args: Args<'mapReservedLogicalRange'>): Result<'mapReservedLogicalRange'> {
    return this.answer('mapReservedLogicalRange', this.tokens.map(args), args);
  }

  unmapReservedLogicalRange(args: Args<'unmapReservedLogicalRange'>): Answer {
    return this.answer('unmapReservedLogicalRange', this.tokens.unmap(args), args);
  }

  createDevice(args: Args<'createDevice'>): Result<'createDevice'> {
    return this.answer('createDevice', this.dmaDevices.create(args), args);
  }

  deleteDevice(args: Args<'deleteDevice'>): Answer {
    return this.answer('deleteDevice', this.dmaDevices.delete(args), args);
  }

  createPasidDevice(args: Args<'createPasidDevice'>): Result<'createPasidDevice'> {
    return this.answer('createPasidDevice', this.dmaDevices.createPasid(args), args);
  }

  deletePasidDevice(args: Args<'deletePasidDevice'>): Answer {
    return this.answer('deletePasidDevice', this.dmaDevices.deletePasid(args), args);
  }

  attachPasidDevice(args: Args<'attachPasidDevice'>): Answer {
    return this.answer('attachPasidDevice', this.dmaDevices.attachPasid(args), args);
  }

  detachPasidDevice(args: Args<'detachPasidDevice'>): Answer {
    return this.answer('detachPasidDevice', this.dmaDevices.detachPasid(args), args);
  }

  queryDeviceInfo(args: Args<'queryDeviceInfo'>): Result<'queryDeviceInfo'> {
    return this.answer('queryDeviceInfo', this.dmaDevices.queryInfo(args), args);
  }

  private domainOf(requesterId: number, pasid: number): Domain | undefined {
    const { attachments, pasids } = this.streams;
    return pasid < 0 ? attachments[requesterId]?.domain : pasids[requesterId]?.get(pasid)?.domain;
  }

  private suppresses(requesterId: number): boolean {
    return this.dmaDevices.byId.get(requesterId)?.settings.suppressPasidFaults ?? false;
  }

  /** The one place where every answer passes: counted, and noted where it is a refusal. */
  private answer<T extends Answer>(operation: OperationName, answer: T, args?: unknown): T {
    const counts = this.statistics.operations[operation];
    if (answer.status === NtStatus.SUCCESS) {
      counts.succeeded++;
    } else {
      counts.failed++;
      const statusName = ntStatusName(answer.status);
      const about = refusalDetail(this.core, operation, args);
      this.core.note('dma-iommu.refused', { operation, status: statusName, statusName, ...about });
    }
    return answer;
  }
}
