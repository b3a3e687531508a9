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
import { AnsweredOperations } from './answered-operations.ts';
import { BLOCKED_FAULT } from './choices.ts';
import { Core } from './core.ts';
import type { Domain } from './domain.ts';
import { Engines } from './engines.ts';
import { Faults } from './faults.ts';
import { DmaIommuInspection } from './inspect.ts';
import { getInterface, getInterfaceEx } from './interfaces.ts';
import { PASID_MAX } from './limits.ts';
import type { DmaIommuOperations } from './operations.ts';
import type { DmaIommuOptions } from './options.ts';
import { type Snapshot, snapshot } from './snapshot.ts';
import { type DmaIommuStatistics, newStatistics } from './statistics.ts';
import { Streams } from './streams.ts';
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

/** What an access would come to. */
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

/** One unit. The operations answer at once and never throw. Fault handlers are called by the `jobs` that it was given. */
export class DmaIommu extends AnsweredOperations implements RunTranslator, FaultInjectable, DmaIommuOperations {
  /** What it counted since it was made; `reset` leaves it. */
  readonly statistics: DmaIommuStatistics;
  /** What it was made with. */
  readonly compat: Compat;
  /** For the inspector. */
  readonly inspection: DmaIommuInspection;
  private readonly engines: Engines;
  private readonly faults: Faults;
  private readonly probed = new Translation();
  private readonly state: UnitState;

  /** Throws a RangeError on options out of range. */
  constructor(private readonly made: DmaIommuOptions) {
    const { name, memory, devices, jobs, trace, compat = 'extended', options = {}, work = new Set() } = made;
    const { checkStale = false, iommuBaseAddress = 0n, pciSegment = 0, pasidMax = PASID_MAX, tableMemory } = options;
    if (!Number.isInteger(pasidMax) || pasidMax < 1 || pasidMax > PASID_MAX) {
      throw new RangeError(`the highest PASID must be 1 to ${PASID_MAX}, not ${pasidMax}`);
    }
    const statistics = newStatistics();
    const core = new Core({ name, devices, jobs, trace, compat, statistics, work });
    const engines = new Engines(core, memory, { checkStale, tableMemory });
    const streams = new Streams();
    super({ core, engines, streams, pasidMax });
    this.statistics = statistics;
    this.compat = compat;
    this.engines = engines;
    this.faults = new Faults(core, { iommuBaseAddress, pciSegment });
    this.inspection = new DmaIommuInspection(core, streams, engines);
    const { faults, domains, dmaDevices } = this;
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

  /** Domains, attachments, devices and tokens as they are now, as plain data. */
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

  private domainOf(requesterId: number, pasid: number): Domain | undefined {
    const { attachments, pasids } = this.streams;
    return pasid < 0 ? attachments[requesterId]?.domain : pasids[requesterId]?.get(pasid)?.domain;
  }

  private suppresses(requesterId: number): boolean {
    return this.dmaDevices.byId.get(requesterId)?.settings.suppressPasidFaults ?? false;
  }
}
