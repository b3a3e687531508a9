/** The DMA devices of versions 2 and 3, and the PASID devices made of them. */
import { tellAttached, tellDetached } from './attach-events.ts';
import {
  AVAILABLE_DOMAIN_TYPES,
  BAD_HANDLE,
  BAD_STATE_CALLBACK,
  DEVICE_EXISTS,
  DEVICE_HAS_PASIDS,
  FIRST_PASID,
  NO_DOMAIN_TYPES,
  PASID_INCAPABLE,
  REPORTING_BAD_BASE,
  REPORTING_NOT_ATTACHED,
  takesPasidDevices,
  UNKNOWN_DEVICE,
} from './choices.ts';
import type { Core } from './core.ts';
import { idsOf, noteAttached, noteDetached, switchReporting } from './device-operations.ts';
import type { Domain } from './domain.ts';
import type { Domains } from './domains.ts';
import { NtStatus } from './ntstatus.ts';
import type { Answer, DmaIommuOperations } from './operations.ts';
import { Attachment, type Streams } from './streams.ts';
import {
  DEVICE_INFORMATION_BYTES,
  DeviceCreationConfigType,
  type DeviceCreationConfiguration,
  type DeviceHandle,
  DomainType,
  type InterfaceStateChangeCallback,
  InterfaceStateField,
  PasidConfigType,
  type PasidDeviceHandle,
  type PhysicalDeviceObject,
} from './types.ts';

type Args<Name extends keyof DmaIommuOperations> = Parameters<DmaIommuOperations[Name]>[0];
type Result<Name extends keyof DmaIommuOperations> = ReturnType<DmaIommuOperations[Name]>;

interface Watcher {
  readonly callback: InterfaceStateChangeCallback;
  readonly context: unknown;
}

interface DeviceSettings {
  readonly pdo: PhysicalDeviceObject;
  readonly acpi: boolean;
  readonly base: number;
  readonly ids: readonly number[];
  readonly defaultPasid: boolean;
  readonly pasidTagged: boolean;
  readonly suppressPasidFaults: boolean;
}

export class DmaDevice {
  handle = 0 as DeviceHandle;
  attachment: Attachment | undefined;
  watcher: Watcher | undefined;
  readonly pasidDevices = new Set<PasidDevice>();

  constructor(readonly settings: DeviceSettings) {}
}

export class PasidDevice {
  handle = 0 as PasidDeviceHandle;
  domain: Domain | undefined;

  constructor(
    readonly device: DmaDevice,
    readonly pasid: number,
  ) {}

  get ids(): readonly number[] {
    return this.device.settings.ids;
  }
}

export class DmaDevices {
  /** By id: at most one DMA device stands for it. */
  readonly byId = new Map<number, DmaDevice>();
  readonly #pasids = new Set<number>();
  #lastPasid = FIRST_PASID - 1;

  constructor(
    private readonly core: Core,
    private readonly domains: Domains,
    private readonly streams: Streams,
    /** PASIDs go up to this one. */
    private readonly pasidMax: number,
  ) {}

  create({ physicalDeviceObject: pdo, deviceConfig }: Args<'createDevice'>): Result<'createDevice'> {
    const settings = this.#settings(pdo, deviceConfig ?? []);
    if (typeof settings === 'number') return { status: settings };
    if (settings.ids.some(id => this.byId.has(id))) return { status: DEVICE_EXISTS };
    const device = new DmaDevice(settings);
    device.handle = this.core.handles.add(device) as DeviceHandle;
    if (device.handle === 0) return { status: NtStatus.INSUFFICIENT_RESOURCES };
    for (const id of settings.ids) this.byId.set(id, device);
    return { status: NtStatus.SUCCESS, dmaDevice: device.handle };
  }

  delete({ dmaDevice: handle }: Args<'deleteDevice'>): Answer {
    const device = this.#find(handle);
    if (device === undefined) return { status: BAD_HANDLE };
    if (device.attachment !== undefined) return { status: NtStatus.RESOURCE_IN_USE };
    if (device.pasidDevices.size > 0) return { status: DEVICE_HAS_PASIDS };
    // Its owner should have unregistered it; nobody is left to be called for.
    if (device.watcher !== undefined) this.core.note('dma-iommu.callbackLeft', { device: device.settings.pdo });
    for (const id of device.settings.ids) this.byId.delete(id);
    this.core.handles.remove(handle);
    return { status: NtStatus.SUCCESS };
  }

  attach({ domain: domainHandle, dmaDevice: handle }: Args<'attachDeviceEx'>): Answer {
    const domain = this.domains.find(domainHandle);
    const device = this.#find(handle);
    if (domain === undefined || device === undefined) return { status: BAD_HANDLE };
    const { pdo, base, ids, acpi } = device.settings;
    const attachment = new Attachment(domain, pdo, base, ids, acpi, device);
    const status = this.streams.attach(attachment, NtStatus.INVALID_PARAMETER);
    if (status === NtStatus.SUCCESS) {
      device.attachment = attachment;
      noteAttached(this.core, attachment);
    }
    return { status };
  }

  detach({ dmaDevice: handle }: Args<'detachDeviceEx'>): Answer {
    const device = this.#find(handle);
    if (device === undefined) return { status: BAD_HANDLE };
    const { attachment } = device;
    if (attachment === undefined) return { status: NtStatus.INVALID_PARAMETER_1 };
    this.streams.detach(attachment);
    device.attachment = undefined;
    noteDetached(this.core, attachment);
    return { status: NtStatus.SUCCESS };
  }

  setFaultReporting(args: Args<'setDeviceFaultReportingEx'>): Answer {
    if (this.core.compat === 'windows') return { status: NtStatus.NOT_IMPLEMENTED };
    const device = this.#find(args.dmaDevice);
    if (device === undefined) return { status: BAD_HANDLE };
    if (device.attachment === undefined) return { status: REPORTING_NOT_ATTACHED };
    if (args.inputMappingIdBase !== device.settings.base) return { status: REPORTING_BAD_BASE };
    return { status: switchReporting(device.attachment, args.enable, args.faultConfig) };
  }

  queryAvailableDomainTypes({
    dmaDevice: handle,
  }: Args<'queryAvailableDomainTypes'>): Result<'queryAvailableDomainTypes'> {
    const device = this.#find(handle);
    if (device === undefined) return { status: BAD_HANDLE, availableDomains: NO_DOMAIN_TYPES };
    return { status: NtStatus.SUCCESS, availableDomains: this.#available(device) };
  }

  register(args: Args<'registerInterfaceStateChangeCallback'>): Answer {
    const device = this.#find(args.dmaDevice);
    if (device === undefined) return { status: BAD_HANDLE };
    const { stateChangeCallback: callback, context, stateFields } = args;
    if (typeof callback !== 'function') return { status: BAD_STATE_CALLBACK };
    if (stateFields !== InterfaceStateField.availableDomainTypes) return { status: NtStatus.INVALID_PARAMETER_4 };
    if (device.watcher !== undefined) return { status: NtStatus.UNSUCCESSFUL };
    device.watcher = { callback, context };
    this.#tell(device);
    return { status: NtStatus.SUCCESS };
  }

  unregister(args: Args<'unregisterInterfaceStateChangeCallback'>): Answer {
    const device = this.#find(args.dmaDevice);
    if (device === undefined) return { status: BAD_HANDLE };
    if (device.watcher === undefined || device.watcher.callback !== args.stateChangeCallback) {
      return { status: NtStatus.UNSUCCESSFUL };
    }
    device.watcher = undefined;
    return { status: NtStatus.SUCCESS };
  }

  /** DMA Guard's policy for a device: who watches one of its DMA devices is told of a change. */
  setDmaGuard(pdo: PhysicalDeviceObject, blocked: boolean): void {
    const { guarded } = this.streams;
    if (guarded.has(pdo) === blocked) return;
    if (blocked) guarded.add(pdo);
    else guarded.delete(pdo);
    this.core.note('dma-iommu.dmaGuard', { device: pdo, blocked });
    for (const device of new Set(this.byId.values())) if (device.settings.pdo === pdo) this.#tell(device);
  }

  createPasid({ dmaDevice: handle }: Args<'createPasidDevice'>): Result<'createPasidDevice'> {
    const device = this.#find(handle);
    if (device === undefined) return { status: BAD_HANDLE };
    if (!device.settings.pasidTagged) return { status: NtStatus.INVALID_PARAMETER_1 };
    if (this.#pasids.size > this.pasidMax - FIRST_PASID) return { status: NtStatus.NONE_MAPPED };
    do {
      this.#lastPasid = this.#lastPasid >= this.pasidMax ? FIRST_PASID : this.#lastPasid + 1;
    } while (this.#pasids.has(this.#lastPasid));
    const pasidDevice = new PasidDevice(device, this.#lastPasid);
    pasidDevice.handle = this.core.handles.add(pasidDevice) as PasidDeviceHandle;
    if (pasidDevice.handle === 0) return { status: NtStatus.INSUFFICIENT_RESOURCES };
    this.#pasids.add(pasidDevice.pasid);
    device.pasidDevices.add(pasidDevice);
    return { status: NtStatus.SUCCESS, pasidDevice: pasidDevice.handle, asid: pasidDevice.pasid };
  }

  deletePasid({ pasidDevice: handle }: Args<'deletePasidDevice'>): Answer {
    const pasidDevice = this.core.handles.find(handle, PasidDevice);
    if (pasidDevice === undefined) return { status: BAD_HANDLE };
    if (pasidDevice.domain !== undefined) return { status: NtStatus.RESOURCE_IN_USE };
    pasidDevice.device.pasidDevices.delete(pasidDevice);
    this.#pasids.delete(pasidDevice.pasid);
    this.core.handles.remove(handle);
    return { status: NtStatus.SUCCESS };
  }

  attachPasid({ domain: domainHandle, pasidDevice: handle }: Args<'attachPasidDevice'>): Answer {
    const domain = this.domains.find(domainHandle);
    const pasidDevice = this.core.handles.find(handle, PasidDevice);
    if (domain === undefined || pasidDevice === undefined) return { status: BAD_HANDLE };
    if (!takesPasidDevices(domain.type)) return { status: NtStatus.INVALID_PARAMETER_1 };
    if (pasidDevice.domain !== undefined) return { status: NtStatus.UNSUCCESSFUL };
    const { ids, pdo } = pasidDevice.device.settings;
    if (this.streams.denied(domain, pdo)) return { status: NtStatus.ACCESS_DENIED };
    pasidDevice.domain = domain;
    domain.attached.add(pasidDevice);
    this.streams.attachPasid(ids, pasidDevice.pasid, pasidDevice);
    this.core.note('dma-iommu.pasidAttached', { domain: domainHandle, device: pdo, pasid: pasidDevice.pasid });
    tellAttached(this.core, domain, pasidDevice);
    return { status: NtStatus.SUCCESS };
  }

  detachPasid({ pasidDevice: handle }: Args<'detachPasidDevice'>): Answer {
    const pasidDevice = this.core.handles.find(handle, PasidDevice);
    if (pasidDevice === undefined) return { status: BAD_HANDLE };
    const { domain, pasid, device } = pasidDevice;
    if (domain === undefined) return { status: NtStatus.INVALID_PARAMETER_1 };
    pasidDevice.domain = undefined;
    domain.attached.delete(pasidDevice);
    this.streams.detachPasid(device.settings.ids, pasid);
    this.core.note('dma-iommu.pasidDetached', { domain: domain.handle, device: device.settings.pdo, pasid });
    tellDetached(this.core, domain, pasidDevice);
    return { status: NtStatus.SUCCESS };
  }

  queryInfo({ dmaDevice: handle, size }: Args<'queryDeviceInfo'>): Result<'queryDeviceInfo'> {
    const device = this.#find(handle);
    if (device === undefined) return { status: BAD_HANDLE, bytesWritten: 0 };
    if (!(size >= DEVICE_INFORMATION_BYTES)) return { status: NtStatus.BUFFER_TOO_SMALL, bytesWritten: 0 };
    const { defaultPasid, pasidTagged, suppressPasidFaults } = device.settings;
    return {
      status: NtStatus.SUCCESS,
      bytesWritten: DEVICE_INFORMATION_BYTES,
      information: {
        defaultPasidEnabled: defaultPasid,
        pasidTaggedDmaEnabled: pasidTagged,
        pasidFaultsSuppressed: suppressPasidFaults,
      },
    };
  }

  /** The last PASID that was given out. */
  get lastPasid(): number {
    return this.#lastPasid;
  }

  /** A DMA device of a saved state, not attached and without PASID devices; or the status that refuses it. */
  restore(
    handle: DeviceHandle,
    pdo: PhysicalDeviceObject,
    configs: readonly DeviceCreationConfiguration[],
  ): DmaDevice | NtStatus {
    const settings = this.#settings(pdo, configs);
    if (typeof settings === 'number') return settings;
    if (settings.ids.some(id => this.byId.has(id))) return DEVICE_EXISTS;
    const device = new DmaDevice(settings);
    device.handle = handle;
    for (const id of settings.ids) this.byId.set(id, device);
    return device;
  }

  /** A PASID device of a saved state; undefined: it cannot be. */
  restorePasid(handle: PasidDeviceHandle, device: DmaDevice, pasid: number, domain?: Domain): PasidDevice | undefined {
    if (!device.settings.pasidTagged || pasid > this.pasidMax || this.#pasids.has(pasid)) return undefined;
    if (domain !== undefined && !takesPasidDevices(domain.type)) return undefined;
    const pasidDevice = new PasidDevice(device, pasid);
    pasidDevice.handle = handle;
    this.#pasids.add(pasid);
    device.pasidDevices.add(pasidDevice);
    if (domain === undefined) return pasidDevice;
    pasidDevice.domain = domain;
    domain.attached.add(pasidDevice);
    this.streams.attachPasid(device.settings.ids, pasid, pasidDevice);
    return pasidDevice;
  }

  resumePasids(last: number): void {
    this.#lastPasid = last;
  }

  reset(): void {
    this.byId.clear();
    this.#pasids.clear();
  }

  #find(handle: DeviceHandle): DmaDevice | undefined {
    return this.core.handles.find(handle, DmaDevice);
  }

  #available({ settings }: DmaDevice): number {
    const guarded = this.streams.guarded.has(settings.pdo);
    return guarded ? AVAILABLE_DOMAIN_TYPES & ~(1 << DomainType.PassThrough) : AVAILABLE_DOMAIN_TYPES;
  }

  #tell(device: DmaDevice): void {
    const { watcher } = device;
    if (watcher === undefined) return;
    const change = {
      presentFields: InterfaceStateField.availableDomainTypes,
      availableDomainTypes: this.#available(device),
    };
    watcher.callback(change, watcher.context);
  }

  #settings(pdo: PhysicalDeviceObject, configs: readonly DeviceCreationConfiguration[]): DeviceSettings | NtStatus {
    const found = this.core.devices.find(pdo);
    if (found === undefined) return UNKNOWN_DEVICE;
    if (!Array.isArray(configs)) return NtStatus.INVALID_PARAMETER_2;
    let base = 0;
    let count = 1;
    let pasidTagged = false;
    let suppressPasidFaults = false;
    const seen = new Set<number>();
    for (const config of configs as readonly DeviceCreationConfiguration[]) {
      if (seen.has(config?.configType)) return NtStatus.INVALID_PARAMETER_2;
      seen.add(config?.configType);
      if (config?.configType === DeviceCreationConfigType.Acpi && found.acpi) {
        base = config.inputMappingBase;
        count = config.mappingsCount;
      } else if (
        config?.configType === DeviceCreationConfigType.Pasid &&
        config.pasidConfigType >>> 0 < PasidConfigType.Max
      ) {
        pasidTagged = config.pasidConfigType === PasidConfigType.PasidTaggedDma;
        suppressPasidFaults = config.suppressPasidFaults === true;
      } else {
        return NtStatus.INVALID_PARAMETER_2;
      }
    }
    if (found.acpi && !seen.has(DeviceCreationConfigType.Acpi)) return NtStatus.INVALID_PARAMETER_2;
    if (pasidTagged && !found.pasidCapable) return PASID_INCAPABLE;
    const { status, ids } = idsOf(found, base, count);
    if (status !== NtStatus.SUCCESS) return NtStatus.INVALID_PARAMETER_2;
    const defaultPasid = seen.has(DeviceCreationConfigType.Pasid);
    return { pdo, acpi: found.acpi, base, ids, defaultPasid, pasidTagged, suppressPasidFaults };
  }
}
