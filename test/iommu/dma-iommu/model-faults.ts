/** Faults of the model: those that wait, whom they are told to once the jobs run, and how many there were. */
import type { FaultInformation } from '../../../src/iommu/dma-iommu/types.ts';
import {
  type Model,
  type ModelAttachment,
  type ModelDevice,
  type Outcome,
  type Status,
  TRANSLATE_S1,
  UNMANAGED,
} from './model.ts';
import { Directory, STRANGER } from './support.ts';

const machine = new Directory().devices;

/** More than these do not wait. */
const PENDING_MAX = 256;
const FAULT_TYPES = 7;
const TYPE: Record<Exclude<Outcome, number>, 0 | 4 | 6> = { blocked: 0, permission: 4, translation: 6 };
const WRITE = 2;

/** What the handlers of the run do besides listening. */
export const HANDLER_CAUSES_FAULT = 1;
export const HANDLER_DISABLES = 2;

export interface ModelHandler {
  readonly handler: number;
  readonly context: unknown;
}

/** What somebody was told, in its order. */
export type Heard =
  | { readonly what: 'fault'; readonly fault: FaultInformation }
  | { readonly what: 'handler'; readonly handler: number; readonly context: unknown; readonly fault: FaultInformation };

/** An access that was refused. */
export interface Refused {
  readonly id: number;
  readonly pasid: number;
  readonly address: bigint;
  readonly access: number;
  readonly why: Exclude<Outcome, number>;
}

interface Pending {
  readonly fault: FaultInformation;
  readonly attachment: ModelAttachment | undefined;
  readonly suppressed: boolean;
}

export class ModelFaults {
  pending: Pending[] = [];
  /** By type, as the unit counts: a reset does not clear them. */
  readonly counts = new Array<number>(FAULT_TYPES).fill(0);
  reported = 0;
  dropped = 0;

  constructor(private readonly model: Model) {}

  setReporting(pdo: number, base: number, enable: boolean, handler: ModelHandler | undefined): Status {
    const attached = [...this.model.attachments].filter(one => one.pdo === pdo);
    if (attached.length === 0) return machine.has(pdo) ? 'INVALID_PARAMETER_1' : 'NOT_FOUND';
    const attachment = attached.find(one => one.base === base);
    return attachment === undefined ? 'INVALID_PARAMETER_2' : this.switch(attachment, enable, handler);
  }

  setReportingEx(
    device: ModelDevice | undefined,
    base: number,
    enable: boolean,
    handler: ModelHandler | undefined,
  ): Status {
    if (this.model.compat === 'windows') return 'NOT_IMPLEMENTED';
    if (device === undefined) return 'INVALID_HANDLE';
    if (device.attachment === undefined) return 'INVALID_PARAMETER_1';
    return base === device.base ? this.switch(device.attachment, enable, handler) : 'INVALID_PARAMETER_2';
  }

  private switch(attachment: ModelAttachment, enable: boolean, handler: ModelHandler | undefined): Status {
    if (enable && handler === undefined) return 'INVALID_PARAMETER_4';
    attachment.reporting = enable ? handler : undefined;
    return 'SUCCESS';
  }

  add(refused: Refused): void {
    const { id, pasid, why } = refused;
    this.counts[TYPE[why]]!++;
    if (this.pending.length >= PENDING_MAX) {
      this.dropped++;
      return;
    }
    const attachment = [...this.model.attachments].find(one => one.ids.includes(id));
    const suppressed = pasid >= 0 && [...this.model.devices].some(one => one.ids.includes(id) && one.suppressed);
    this.pending.push({ fault: this.information(refused, attachment), attachment, suppressed });
  }

  private information(refused: Refused, attachment: ModelAttachment | undefined): FaultInformation {
    const { id, pasid, address: faultAddress, access, why } = refused;
    const domain = this.model.domainOf(id, pasid);
    const acpi = attachment !== undefined && machine.get(attachment.pdo)!.acpi;
    const isStage1 = domain?.type === UNMANAGED || domain?.type === TRANSLATE_S1;
    const common = { isStage1, requesterId: id, access, pasid };
    const place = { domainHandle: domain?.handle ?? 0, faultAddress, type: TYPE[why], iommuBaseAddress: 0n };
    const arm64 = domain !== undefined && (domain.arch === 'arm64' || (domain.arch === undefined && acpi));
    if (!arm64) return { ...common, type: 2, x64: { ...place, flags: { faultAddressValid: true }, pciSegment: 0 } };
    const flags = {
      writeNotRead: (access & WRITE) !== 0,
      instructionNotData: false,
      privileged: false,
      faultAddressValid: true,
    };
    const who = { physicalDeviceObject: attachment?.pdo ?? id, inputMappingId: acpi ? id : 0 };
    return { ...common, type: 1, arm64: { ...place, ...who, flags } };
  }

  /** All that wait are told, and what their handlers cause. */
  deliver(): Heard[] {
    const heard: Heard[] = [];
    for (let next = this.pending.shift(); next !== undefined; next = this.pending.shift()) {
      const { fault, attachment, suppressed } = next;
      heard.push({ what: 'fault', fault });
      if (suppressed || attachment?.reporting === undefined || !this.model.attachments.has(attachment)) continue;
      const { handler } = attachment.reporting;
      heard.push({ what: 'handler', ...attachment.reporting, fault });
      this.reported++;
      if (handler === HANDLER_DISABLES) attachment.reporting = undefined;
      if (handler !== HANDLER_CAUSES_FAULT) continue;
      this.add({ id: STRANGER, pasid: -1, address: 0n, access: 1, why: 'blocked' });
    }
    return heard;
  }
}
