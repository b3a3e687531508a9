/** The operations of version 1 that name a device by its physical device object. */
import { tellAttached, tellDetached } from './attach-events.ts';
import {
  ALREADY_ATTACHED,
  ATTACHED_ELSEWHERE,
  BAD_HANDLE,
  BAD_MAPPING_BASE,
  BAD_MAPPING_COUNT,
  inputMappingsOutsideAcpi,
  NOT_A_GROUP_BASE,
  NOT_ATTACHED_V1,
  REPORTING_BAD_BASE,
  REPORTING_NO_HANDLER,
  REPORTING_NOT_ATTACHED,
  UNKNOWN_DEVICE,
} from './choices.ts';
import type { Core } from './core.ts';
import type { Domains } from './domains.ts';
import { STREAMS } from './limits.ts';
import { NtStatus } from './ntstatus.ts';
import type { Answer, DmaIommuOperations } from './operations.ts';
import { Attachment, type Streams } from './streams.ts';
import { type DeviceFaultConfiguration, type DirectoryDevice, INPUT_MAPPING_ELEMENT_BYTES } from './types.ts';

type Args<Name extends keyof DmaIommuOperations> = Parameters<DmaIommuOperations[Name]>[0];

/** A range of a device's ids, as callers give it; or the status that refuses it. */
export function idsOf(
  device: DirectoryDevice,
  base: number,
  count: number,
): { readonly status: NtStatus; readonly ids: readonly number[] } {
  const bad = (status: NtStatus) => ({ status, ids: [] });
  if (!device.acpi) {
    if (base !== 0) return bad(BAD_MAPPING_BASE);
    return count === 1 ? { status: NtStatus.SUCCESS, ids: [device.requesterId] } : bad(BAD_MAPPING_COUNT);
  }
  if (!device.inputMappingIds.includes(base)) return bad(BAD_MAPPING_BASE);
  if (!Number.isInteger(count) || count < 1 || count > device.inputMappingIds.length) return bad(BAD_MAPPING_COUNT);
  const ids = Array.from({ length: count }, (_, i) => base + i);
  if (ids.some(id => id >= STREAMS || !device.inputMappingIds.includes(id))) return bad(BAD_MAPPING_COUNT);
  return { status: NtStatus.SUCCESS, ids };
}

/** Enables or disables it for an attachment. */
export function switchReporting(
  attachment: Attachment,
  enable: boolean,
  faultConfig: DeviceFaultConfiguration | undefined,
): NtStatus {
  if (enable && typeof faultConfig?.faultHandler !== 'function') return REPORTING_NO_HANDLER;
  attachment.faultConfig = enable ? faultConfig : undefined;
  return NtStatus.SUCCESS;
}

export class DeviceOperations {
  constructor(
    private readonly core: Core,
    private readonly domains: Domains,
    private readonly streams: Streams,
  ) {}

  attach(args: Args<'attachDevice'>): Answer {
    const { physicalDeviceObject: pdo, inputMappingIdBase: base, mappingCount: count } = args;
    const domain = this.domains.find(args.domain);
    if (domain === undefined) return { status: BAD_HANDLE };
    const device = this.core.devices.find(pdo);
    if (device === undefined) return { status: UNKNOWN_DEVICE };
    const { status, ids } = idsOf(device, base, count);
    if (status !== NtStatus.SUCCESS) return { status };
    const attachment = new Attachment(domain, pdo, base, ids, device.acpi, undefined);
    const answer = this.streams.attach(attachment, ALREADY_ATTACHED);
    if (answer === NtStatus.SUCCESS) noteAttached(this.core, attachment);
    return { status: answer };
  }

  detach({ domain: handle, physicalDeviceObject: pdo, inputMappingId }: Args<'detachDevice'>): Answer {
    const domain = this.domains.find(handle);
    if (domain === undefined) return { status: BAD_HANDLE };
    // A device may be gone from the machine, and must be detached nevertheless.
    const attached = this.streams.of(pdo).filter(one => one.device === undefined);
    if (attached.length === 0) {
      return { status: this.core.devices.find(pdo) === undefined ? UNKNOWN_DEVICE : NOT_ATTACHED_V1 };
    }
    const attachment = attached.find(one => one.base === inputMappingId);
    if (attachment === undefined) return { status: NOT_A_GROUP_BASE };
    if (attachment.domain !== domain) return { status: ATTACHED_ELSEWHERE };
    this.streams.detach(attachment);
    noteDetached(this.core, attachment);
    return { status: NtStatus.SUCCESS };
  }

  queryInputMappings(args: Args<'queryInputMappings'>): ReturnType<DmaIommuOperations['queryInputMappings']> {
    const device = this.core.devices.find(args.physicalDeviceObject);
    if (device === undefined) return { status: UNKNOWN_DEVICE };
    if (!device.acpi) {
      const status = inputMappingsOutsideAcpi(this.core.compat);
      if (status !== NtStatus.SUCCESS) return { status };
    }
    const ids = device.acpi ? [...device.inputMappingIds] : [device.requesterId];
    const returnLength = ids.length * INPUT_MAPPING_ELEMENT_BYTES;
    if (!(args.bufferLength >= returnLength)) return { status: NtStatus.BUFFER_TOO_SMALL, returnLength };
    return { status: NtStatus.SUCCESS, inputMappingIds: ids, returnLength };
  }

  setFaultReporting(args: Args<'setDeviceFaultReporting'>): Answer {
    const { physicalDeviceObject: pdo, inputMappingIdBase: base, enable, faultConfig } = args;
    const attached = this.streams.of(pdo);
    if (attached.length === 0) {
      return { status: this.core.devices.find(pdo) === undefined ? UNKNOWN_DEVICE : REPORTING_NOT_ATTACHED };
    }
    const attachment = attached.find(one => one.base === base);
    if (attachment === undefined) return { status: REPORTING_BAD_BASE };
    return { status: switchReporting(attachment, enable, faultConfig) };
  }
}

export function noteAttached(core: Core, attachment: Attachment): void {
  const { domain, pdo, base, ids } = attachment;
  core.note('dma-iommu.attached', { domain: domain.handle, device: pdo, inputMappingIdBase: base, count: ids.length });
  tellAttached(core, domain, attachment);
}

export function noteDetached(core: Core, attachment: Attachment): void {
  const { domain, pdo, base } = attachment;
  core.note('dma-iommu.detached', { domain: domain.handle, device: pdo, inputMappingIdBase: base });
  tellDetached(core, domain, attachment);
}
