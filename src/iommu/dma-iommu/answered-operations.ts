/** Each operation of Windows' DMA_IOMMU_INTERFACE, handed to the part that knows it; its answer is counted, and noted where it refuses. */
import { BAD_MDL, BAD_UNMAP_MDL, V1_DOMAIN_TYPES } from './choices.ts';
import type { Core } from './core.ts';
import { DeviceOperations } from './device-operations.ts';
import { DmaDevices } from './dma-devices.ts';
import { Domains } from './domains.ts';
import type { Engines } from './engines.ts';
import { Mapping } from './mapping.ts';
import { NtStatus, ntStatusName } from './ntstatus.ts';
import type { Answer, DmaIommuOperations, OperationName } from './operations.ts';
import { refusalDetail } from './refusals.ts';
import type { Streams } from './streams.ts';
import { Tokens } from './tokens.ts';

type Args<Name extends OperationName> = Parameters<DmaIommuOperations[Name]>[0];
type Result<Name extends OperationName> = ReturnType<DmaIommuOperations[Name]>;

export interface OperationParts {
  readonly core: Core;
  readonly engines: Engines;
  readonly streams: Streams;
  /** PASIDs go up to this one. */
  readonly pasidMax: number;
}

export class AnsweredOperations implements DmaIommuOperations {
  protected readonly core: Core;
  protected readonly streams: Streams;
  protected readonly domains: Domains;
  protected readonly dmaDevices: DmaDevices;
  private readonly mapping: Mapping;
  private readonly tokens: Tokens;
  private readonly devices: DeviceOperations;

  constructor({ core, engines, streams, pasidMax }: OperationParts) {
    this.core = core;
    this.streams = streams;
    this.domains = new Domains(core, engines);
    this.mapping = new Mapping(core, this.domains);
    this.tokens = new Tokens(core, this.domains);
    this.devices = new DeviceOperations(core, this.domains, streams);
    this.dmaDevices = new DmaDevices(core, this.domains, streams, pasidMax);
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

  /** The one place where every answer passes: counted, and noted where it is a refusal. */
  private answer<T extends Answer>(operation: OperationName, answer: T, args?: unknown): T {
    const counts = this.core.statistics.operations[operation];
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
