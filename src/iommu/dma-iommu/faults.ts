/** Faults: counted and noted at once, told to the device's handler by a job. */
import { EventClass, FaultCause, FaultOutcome } from '../../trace/event-kinds.ts';
import { faultForm } from './choices.ts';
import type { Core } from './core.ts';
import type { Domain } from './domain.ts';
import { faultCause } from './fault-cause.ts';
import { FAULTS_PENDING_MAX } from './limits.ts';
import type { Attachment } from './streams.ts';
import { type FaultInformation, FaultInformationArch, type FaultType } from './types.ts';
import { NO_DOMAIN } from './unit-events.ts';

export interface Fault {
  /** The requester id that the DMA carried. */
  readonly requesterId: number;
  readonly pasid: number;
  readonly high: number;
  readonly low: number;
  readonly access: number;
  readonly type: FaultType;
  /** Of the requests without PASID; undefined: attached to nothing. */
  readonly attachment: Attachment | undefined;
  /** The one that the request went to. */
  readonly domain: Domain | undefined;
  /** The device's driver wants to hear nothing of requests with a PASID. */
  readonly suppressed: boolean;
}

/** A fault on its way to its handler. */
export interface PendingFault {
  readonly attachment: Attachment | undefined;
  readonly suppressed: boolean;
  readonly information: FaultInformation;
}

export interface FaultPlace {
  readonly iommuBaseAddress: bigint;
  readonly pciSegment: number;
}

/** What a page-frame number can say, where no tables are in the way. */
const PHYSICAL_ADDRESS_BITS = 43;
/** Bit of `Access`. */
const WRITE = 2;

export class Faults {
  /** Told every fault, whoever else is; by a job. */
  onFault: ((fault: FaultInformation) => void) | undefined;
  #pending: PendingFault[] = [];

  constructor(
    private readonly core: Core,
    private readonly place: FaultPlace,
  ) {}

  report(fault: Fault): void {
    const { statistics } = this.core;
    const full = this.#pending.length >= FAULTS_PENDING_MAX;
    statistics.faults[fault.type]!++;
    this.core.note('dma-iommu.fault', {
      requesterId: fault.requesterId,
      pasid: fault.pasid,
      address: address(fault),
      access: fault.access,
      type: fault.type,
      domain: fault.domain?.handle ?? 0,
    });
    this.#tell(fault, full);
    if (full) {
      statistics.faultsDropped++;
      return;
    }
    const { attachment, suppressed } = fault;
    this.#pending.push({ attachment, suppressed, information: this.#informationOf(fault) });
    this.#schedule();
  }

  #tell(fault: Fault, full: boolean): void {
    const { events, answer } = this.core;
    if ((events.records.mask & EventClass.fault) !== 0) {
      const { requesterId, pasid, high, low, access, type: reason, domain, suppressed } = fault;
      const cause = faultCause(domain, pasid, reason, answer.failed);
      const recorded = suppressed ? FaultOutcome.suppressed : FaultOutcome.recorded;
      const outcome = full ? FaultOutcome.overflowed : recorded;
      const handle = domain?.handle ?? NO_DOMAIN;
      if (cause === FaultCause.addressTooWide && answer.width === 0) answer.width = PHYSICAL_ADDRESS_BITS;
      events.fault({ requesterId, pasid, high, low, access, cause, outcome, reason, domain: handle }, answer);
    }
    answer.clear();
  }

  reset(): void {
    this.#pending = [];
    this.core.work.delete('deliver');
  }

  /** Those that wait, the first first. */
  get pending(): readonly PendingFault[] {
    return this.#pending;
  }

  /** Those of a saved state; `resume` queues their delivery. */
  restore(pending: readonly PendingFault[]): void {
    this.#pending = [...pending];
  }

  resume(): void {
    if (this.#pending.length > 0) this.#schedule();
  }

  #schedule(): void {
    const { work } = this.core;
    if (work.has('deliver')) return;
    work.add('deliver');
    this.core.later(() => this.#deliver());
  }

  #deliver(): void {
    // Handlers may cause faults, and one that throws must not lose those of others: what is pending is looked at one by one.
    const next = this.#pending.shift();
    this.core.work.delete('deliver');
    this.resume();
    if (next === undefined) return;
    const { attachment, suppressed, information } = next;
    this.onFault?.(information);
    if (suppressed || attachment === undefined || !attachment.live || attachment.faultConfig === undefined) return;
    this.core.statistics.faultsReported++;
    attachment.faultConfig.faultHandler(attachment.faultConfig.faultContext, information);
  }

  #informationOf(fault: Fault): FaultInformation {
    const { attachment, domain, requesterId, pasid, access, type } = fault;
    const { iommuBaseAddress, pciSegment } = this.place;
    const acpi = attachment?.acpi ?? false;
    const common = { isStage1: domain?.isStage1 ?? false, requesterId, access, pasid };
    const domainHandle = domain?.handle ?? 0;
    const faultAddress = address(fault);
    if (domain !== undefined && faultForm(domain.arch, acpi) === FaultInformationArch.Arm64) {
      const flags = {
        writeNotRead: (access & WRITE) !== 0,
        instructionNotData: false,
        privileged: false,
        faultAddressValid: true,
      };
      const physicalDeviceObject = attachment?.pdo ?? requesterId;
      const inputMappingId = acpi ? requesterId : 0;
      const arm64 = { domainHandle, faultAddress, physicalDeviceObject, inputMappingId, flags, type, iommuBaseAddress };
      return { ...common, type: FaultInformationArch.Arm64, arm64 };
    }
    const flags = { faultAddressValid: true };
    const x64 = { domainHandle, faultAddress, flags, type, iommuBaseAddress, pciSegment };
    return { ...common, type: FaultInformationArch.X64, x64 };
  }
}

function address({ high, low }: Fault): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}
