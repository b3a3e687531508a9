/**
 * What a unit saves: its objects with their handles, what is attached, mapped and set apart, and the faults that wait. The tables that
 * it owns are built anew, those of callers are theirs, and caches start empty. Callbacks of others than the guest cannot move: they are
 * left out, with a note.
 */
import { StateError, type StateValue, stateFields, stateFlag, stateList, stateNumber } from '../../pci/state.ts';
import { tellAttached } from './attach-events.ts';
import type { Core } from './core.ts';
import { idsOf } from './device-operations.ts';
import { DmaDevice, type DmaDevices, PasidDevice } from './dma-devices.ts';
import { Domain } from './domain.ts';
import type { Domains } from './domains.ts';
import type { Faults, PendingFault } from './faults.ts';
import { FAULTS_PENDING_MAX, HANDLE_MAX, LOGICAL_PAGES, OBJECTS_MAX, OPERATION_PAGES_MAX, STREAMS } from './limits.ts';
import { NtStatus } from './ntstatus.ts';
import {
  PERMISSIONS_MAX,
  type RunRoom,
  restoreDomain,
  SAVED_RUNS_MAX,
  savedDomain,
  savedRuns,
  takeBlock,
} from './saved-domain.ts';
import { RunReader, savedFault, savedWide, stateFault, stateWide } from './saved-values.ts';
import { Attachment, type Streams } from './streams.ts';
import { Segment, Token } from './tokens.ts';
import {
  DeviceCreationConfigType,
  type DeviceCreationConfiguration,
  type DeviceFaultHandler,
  type DeviceHandle,
  type DomainHandle,
  type InterfaceStateChangeCallback,
  PasidConfigType,
  type PasidDeviceHandle,
  type SegmentHandle,
  type TokenHandle,
} from './types.ts';

/** The guest's callbacks: they go where the guest goes. */
export interface GuestCallbacks {
  isFaultHandler(handler: DeviceFaultHandler): boolean;
  faultHandler(): DeviceFaultHandler;
  isStateChangeCallback(callback: InterfaceStateChangeCallback): boolean;
}

export interface UnitStateParts {
  readonly core: Core;
  readonly streams: Streams;
  readonly faults: Faults;
  readonly domains: Domains;
  readonly dmaDevices: DmaDevices;
  /** PASIDs go up to this one. */
  readonly pasidMax: number;
}

const UNIT = ['directory', 'guarded', 'lastHandle', 'lastPasid', 'objects', 'attachments', 'faults'] as const;
const DEVICE = ['what', 'handle', 'pdo', 'base', 'count', 'pasid', 'pasidTagged', 'suppressPasidFaults'] as const;
const PASID_DEVICE = ['what', 'handle', 'device', 'pasid', 'domain'] as const;
const TOKEN = ['what', 'handle', 'domain', 'start', 'pages'] as const;
const SEGMENT = ['what', 'handle', 'token', 'start', 'pages', 'permissions', 'runs'] as const;
const ATTACHMENT = ['domain', 'pdo', 'base', 'count', 'device', 'reports'] as const;
const FAULT = ['attachment', 'suppressed', 'fault'] as const;
/** What an object may be, those first that others need. */
const KINDS = ['domain', 'device', 'pasidDevice', 'token', 'segment'] as const;
type Kind = (typeof KINDS)[number];
const NONE = -1;
/** Objects in one state: more than its size allows. */
const SAVED_OBJECTS_MAX = 1 << 16;

export class UnitState {
  constructor(private readonly parts: UnitStateParts) {}

  /** Throws a StateError where there is more than a state may have. */
  save(guest: GuestCallbacks): StateValue {
    const { core, streams, faults, dmaDevices } = this.parts;
    if (core.handles.size > SAVED_OBJECTS_MAX) throw new StateError(`it has more than ${SAVED_OBJECTS_MAX} objects`);
    const room: RunRoom = { runs: SAVED_RUNS_MAX };
    const attachments = streams.all();
    const places = new Map(attachments.map((one, place) => [one, place]));
    for (const { watcher, settings } of core.handles.all(DmaDevice)) {
      if (watcher === undefined || guest.isStateChangeCallback(watcher.callback)) continue;
      core.note('dma-iommu.callbackNotSaved', { device: settings.pdo });
    }
    return {
      directory: this.directory,
      guarded: [...streams.guarded],
      lastHandle: core.handles.last,
      lastPasid: dmaDevices.lastPasid,
      objects: [...core.handles.entries()].map(([, object]) => savedObject(object, room)),
      attachments: attachments.map(one => this.savedAttachment(one, guest)),
      faults: faults.pending.map(({ attachment, suppressed, information }) => ({
        attachment: (attachment && places.get(attachment)) ?? NONE,
        suppressed,
        fault: savedFault(information),
      })),
    };
  }

  /** Builds it all in a unit that was reset; throws a StateError half-way where that cannot be. `guest`: its own callbacks. */
  build(state: unknown, guest: Pick<GuestCallbacks, 'faultHandler'>): void {
    const { core, streams, faults, dmaDevices, pasidMax } = this.parts;
    const fields = stateFields(state, 'the unit', UNIT);
    const directory = stateList(fields.directory, 'the devices behind the unit', STREAMS);
    const here = this.directory;
    // Who was attached before a device was guarded stays so.
    streams.guarded.clear();
    if (directory.length !== here.length || here.some((pdo, at) => directory[at] !== pdo))
      throw new StateError('other devices are behind the unit');
    this.buildObjects(stateList(fields.objects, 'the objects of the unit', OBJECTS_MAX));
    core.handles.resume(stateNumber(fields.lastHandle, 'the last handle', 0, HANDLE_MAX));
    dmaDevices.resumePasids(stateNumber(fields.lastPasid, 'the last PASID', 0, pasidMax));
    const attachments = stateList(fields.attachments, 'the attachments', STREAMS).map(one =>
      this.restoredAttachment(one, guest),
    );
    const pending = stateList(fields.faults, 'the faults that wait', FAULTS_PENDING_MAX);
    faults.restore(pending.map(one => restoredFault(one, attachments)));
    const guarded = stateList(fields.guarded, 'the guarded devices', STREAMS);
    for (const pdo of guarded) streams.guarded.add(stateNumber(pdo, 'a guarded device', 0, STREAMS - 1));
    for (const domain of core.handles.all(Domain))
      for (const attached of domain.attached) tellAttached(core, domain, attached);
  }

  /** Whose callback it was: a DMA device by its handle. */
  watch(handle: DeviceHandle, callback: InterfaceStateChangeCallback, context: unknown): boolean {
    const device = this.parts.core.handles.find(handle, DmaDevice);
    if (device === undefined || device.watcher !== undefined) return false;
    device.watcher = { callback, context };
    return true;
  }

  private get directory(): number[] {
    return this.parts.core.devices.all().map(({ requesterId }) => requesterId);
  }

  private savedAttachment(one: Attachment, guest: GuestCallbacks): StateValue {
    const { domain, pdo, base, ids, device, faultConfig } = one;
    const own = faultConfig !== undefined && guest.isFaultHandler(faultConfig.faultHandler);
    if (faultConfig !== undefined && !own) this.parts.core.note('dma-iommu.callbackNotSaved', { device: pdo });
    return {
      domain: domain.handle,
      pdo,
      base,
      count: ids.length,
      device: device instanceof DmaDevice ? device.handle : 0,
      reports: own ? savedWide(faultConfig.faultContext) : false,
    };
  }

  private buildObjects(list: readonly unknown[]): void {
    const { handles } = this.parts.core;
    const found = list.map(value => {
      const what = (value as { what?: unknown } | null)?.what;
      const kind = KINDS.find(one => one === what);
      if (kind === undefined) throw new StateError('an object of the unit is none that there is');
      return { kind, value, handle: stateNumber((value as { handle?: unknown }).handle, 'a handle', 1, HANDLE_MAX) };
    });
    const made = new Map<number, object>();
    for (const kind of KINDS) {
      for (const one of found) {
        if (one.kind !== kind) continue;
        if (made.has(one.handle)) throw new StateError(`two objects have the handle ${one.handle}`);
        made.set(one.handle, this.object(kind, one.value, one.handle, made));
      }
    }
    for (const { handle } of found) handles.put(handle, made.get(handle)!);
  }

  private object(kind: Kind, value: unknown, handle: number, made: ReadonlyMap<number, object>): object {
    switch (kind) {
      case 'domain':
        return restoreDomain(value, handle as DomainHandle, this.parts.domains);
      case 'device':
        return this.dmaDevice(value, handle as DeviceHandle);
      case 'pasidDevice':
        return this.pasidDevice(value, handle as PasidDeviceHandle, made);
      case 'token':
        return this.token(value, handle as TokenHandle, made);
      case 'segment':
        return segment(value, handle as SegmentHandle, made);
    }
  }

  private dmaDevice(value: unknown, handle: DeviceHandle): DmaDevice {
    const what = `DMA device ${handle}`;
    const fields = stateFields(value, what, DEVICE);
    const pdo = stateNumber(fields.pdo, what, 0, STREAMS - 1);
    const base = stateNumber(fields.base, what, 0, STREAMS - 1);
    const count = stateNumber(fields.count, what, 1, STREAMS);
    const configured = stateFlag(fields.pasid, what);
    const tagged = stateFlag(fields.pasidTagged, what);
    const suppressPasidFaults = stateFlag(fields.suppressPasidFaults, what);
    if (!configured && (tagged || suppressPasidFaults))
      throw new StateError(`${what} has PASIDs without a configuration`);
    const { PasidTaggedDma, DefaultPasidOnly } = PasidConfigType;
    const configs: DeviceCreationConfiguration[] = [];
    if (this.parts.core.devices.find(pdo)?.acpi === true)
      configs.push({ configType: DeviceCreationConfigType.Acpi, inputMappingBase: base, mappingsCount: count });
    else if (base !== 0 || count !== 1) throw new StateError(`${what} has ids that it cannot have`);
    const pasidConfigType = tagged ? PasidTaggedDma : DefaultPasidOnly;
    if (configured) configs.push({ configType: DeviceCreationConfigType.Pasid, pasidConfigType, suppressPasidFaults });
    const device = this.parts.dmaDevices.restore(handle, pdo, configs);
    if (typeof device === 'number') throw new StateError(`${what} cannot be made`);
    return device;
  }

  private pasidDevice(value: unknown, handle: PasidDeviceHandle, made: ReadonlyMap<number, object>): PasidDevice {
    const what = `PASID device ${handle}`;
    const fields = stateFields(value, what, PASID_DEVICE);
    const device = of(made, fields.device, DmaDevice, what);
    const pasid = stateNumber(fields.pasid, what, 1, this.parts.pasidMax);
    const domain = fields.domain === 0 ? undefined : of(made, fields.domain, Domain, what);
    const pasidDevice = this.parts.dmaDevices.restorePasid(handle, device, pasid, domain);
    if (pasidDevice === undefined) throw new StateError(`${what} cannot be made`);
    return pasidDevice;
  }

  private token(value: unknown, handle: TokenHandle, made: ReadonlyMap<number, object>): Token {
    const what = `token ${handle}`;
    const fields = stateFields(value, what, TOKEN);
    const domain = of(made, fields.domain, Domain, what);
    const start = stateNumber(fields.start, what, 0, LOGICAL_PAGES - 1);
    const pages = stateNumber(fields.pages, what, 1, Math.min(OPERATION_PAGES_MAX, LOGICAL_PAGES - start));
    takeBlock(domain, start, pages, what);
    if (domain.tables?.reserve(start, pages) !== NtStatus.SUCCESS) throw new StateError(`${what} has no place`);
    const token = new Token(domain, start, pages, this.parts.core.ranges);
    token.handle = handle;
    domain.tokens.add(token);
    return token;
  }

  private restoredAttachment(value: unknown, guest: Pick<GuestCallbacks, 'faultHandler'>): Attachment {
    const { core, streams } = this.parts;
    const what = 'an attachment';
    const fields = stateFields(value, what, ATTACHMENT);
    const pdo = stateNumber(fields.pdo, what, 0, STREAMS - 1);
    const base = stateNumber(fields.base, what, 0, STREAMS - 1);
    const found = core.devices.find(pdo);
    const ids = found && idsOf(found, base, stateNumber(fields.count, what, 1, STREAMS));
    if (found === undefined || ids?.status !== NtStatus.SUCCESS)
      throw new StateError(`${what} has ids that nothing has`);
    const domain = core.handles.find(stateNumber(fields.domain, what, 1, HANDLE_MAX), Domain);
    if (domain === undefined) throw new StateError(`${what} has no domain`);
    const handle = stateNumber(fields.device, what, 0, HANDLE_MAX);
    const device = handle === 0 ? undefined : core.handles.find(handle, DmaDevice);
    const { settings } = device ?? {};
    const same = settings?.pdo === pdo && settings.base === base && settings.ids.length === ids.ids.length;
    if (handle !== 0 && (!same || device?.attachment !== undefined))
      throw new StateError(`${what} is not that of its DMA device`);
    const attachment = new Attachment(domain, pdo, base, ids.ids, found.acpi, device);
    if (streams.attach(attachment, NtStatus.INVALID_PARAMETER) !== NtStatus.SUCCESS)
      throw new StateError('two attachments have the same ids');
    if (device !== undefined) device.attachment = attachment;
    if (fields.reports !== false) {
      const faultContext = stateWide(fields.reports, 'the context of fault reports');
      attachment.faultConfig = { faultHandler: guest.faultHandler(), faultContext };
    }
    return attachment;
  }
}

function savedObject(object: object, room: RunRoom): StateValue {
  if (object instanceof Domain) return savedDomain(object, room);
  if (object instanceof DmaDevice) {
    const { pdo, base, ids, defaultPasid: pasid, pasidTagged, suppressPasidFaults } = object.settings;
    const { handle } = object;
    return { what: 'device', handle, pdo, base, count: ids.length, pasid, pasidTagged, suppressPasidFaults };
  }
  if (object instanceof PasidDevice) {
    const { handle, device, pasid, domain } = object;
    return { what: 'pasidDevice', handle, device: device.handle, pasid, domain: domain?.handle ?? 0 };
  }
  if (object instanceof Token) {
    const { handle, domain, start, pages } = object;
    return { what: 'token', handle, domain: domain.handle, start, pages };
  }
  if (!(object instanceof Segment)) throw new TypeError('the unit has an object that it does not know');
  const { handle, token, start, pages } = object;
  const permissions = token.segments.from(start)!.permissions;
  const runs = savedRuns(token.domain.tables!, start, pages, room);
  return { what: 'segment', handle, token: token.handle, start, pages, permissions, runs };
}

function segment(value: unknown, handle: SegmentHandle, made: ReadonlyMap<number, object>): Segment {
  const what = `segment ${handle}`;
  const fields = stateFields(value, what, SEGMENT);
  const token = of(made, fields.token, Token, what);
  const last = token.start + token.pages;
  const start = stateNumber(fields.start, what, token.start, last - 1);
  const pages = stateNumber(fields.pages, what, 1, last - start);
  const permissions = stateNumber(fields.permissions, what, 1, PERMISSIONS_MAX);
  if (token.segments.overlaps(start, pages)) throw new StateError(`${what} overlaps another one`);
  const list = stateList(fields.runs, `the frames of ${what}`, 2 * OPERATION_PAGES_MAX);
  const reader = new RunReader(list, what);
  const runs = reader.take(pages);
  reader.end();
  const mapped = token.domain.tables?.restoreRuns(start, runs, permissions) === true;
  if (!mapped || !token.segments.insert({ start, pages, kind: 'token', permissions }))
    throw new StateError(`there is no room for ${what}`);
  const restored = new Segment(token, start, pages);
  restored.handle = handle;
  return restored;
}

function restoredFault(value: unknown, attachments: readonly Attachment[]): PendingFault {
  const what = 'a fault that waits';
  const fields = stateFields(value, what, FAULT);
  const place = stateNumber(fields.attachment, what, NONE, attachments.length - 1);
  return {
    attachment: attachments[place],
    suppressed: stateFlag(fields.suppressed, what),
    information: stateFault(fields.fault),
  };
}

function of<T extends object>(
  made: ReadonlyMap<number, object>,
  handle: unknown,
  kind: abstract new (...args: never[]) => T,
  what: string,
): T {
  const object = made.get(stateNumber(handle, `a handle of ${what}`, 1, HANDLE_MAX));
  if (object instanceof kind) return object;
  throw new StateError(`${what} belongs to nothing that there is`);
}
