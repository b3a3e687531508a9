/** The DMA devices of the model: how they are made, what they say of themselves, and who is told when that changes. */
import { type Model, ModelDevice, type Status } from './model.ts';
import { Directory } from './support.ts';

const machine = new Directory().devices;

const ACPI = 1;
const PASID = 3;
/** Every type of domain, and the same without PassThrough. */
const ALL_TYPES = 0b1111;
const GUARDED_TYPES = 0b1101;
const INFORMATION_BYTES = 3;
const ID_BYTES = 4;

/** One of a device's configurations, with whatever is in it. */
export interface ModelConfig {
  readonly configType: number;
  readonly inputMappingBase?: number;
  readonly mappingsCount?: number;
  readonly pasidConfigType?: number;
  readonly suppressPasidFaults?: boolean;
}

/** Which callback was called, with what. */
export interface Told {
  readonly what: 'change';
  readonly callback: number;
  readonly context: unknown;
  readonly change: { readonly presentFields: number; readonly availableDomainTypes: number };
}

/** An answer with all that is in it. */
export interface WholeAnswer {
  readonly status: Status;
  readonly [output: string]: unknown;
}

/** This callback unregisters itself whenever it is called. */
export const CALLBACK_ONCE = 2;

export function createDevice(model: Model, pdo: number, configs: readonly ModelConfig[]): ModelDevice | Status {
  const found = machine.get(pdo);
  if (found === undefined) return 'NOT_FOUND';
  const types = configs.map(config => config.configType);
  const acpi = configs.find(config => config.configType === ACPI);
  const pasid = configs.find(config => config.configType === PASID);
  if (new Set(types).size !== types.length) return 'INVALID_PARAMETER_2';
  if (types.some(type => type !== ACPI && type !== PASID)) return 'INVALID_PARAMETER_2';
  if ((acpi !== undefined) !== found.acpi) return 'INVALID_PARAMETER_2';
  if (pasid !== undefined && pasid.pasidConfigType !== 0 && pasid.pasidConfigType !== 1) return 'INVALID_PARAMETER_2';
  const tagged = pasid?.pasidConfigType === 1;
  if (tagged && !found.pasidCapable) return 'NOT_SUPPORTED';
  let base = 0;
  let ids: readonly number[] = [pdo];
  if (acpi !== undefined) {
    base = acpi.inputMappingBase!;
    ids = found.inputMappingIds.filter(id => id >= base && id < base + acpi.mappingsCount!);
    if (ids.length === 0 || ids[0] !== base || ids.length !== acpi.mappingsCount) return 'INVALID_PARAMETER_2';
  }
  for (const device of model.devices) if (device.ids.some(id => ids.includes(id))) return 'RESOURCE_IN_USE';
  const suppressed = pasid?.suppressPasidFaults === true;
  const device = new ModelDevice(pdo, base, ids, pasid !== undefined, tagged, suppressed);
  model.devices.add(device);
  return device;
}

/** What QueryDeviceInfo gives. */
export function deviceInfo(device: ModelDevice | undefined, size: number): WholeAnswer {
  if (device === undefined) return { status: 'INVALID_HANDLE', bytesWritten: 0 };
  if (size < INFORMATION_BYTES || Number.isNaN(size)) return { status: 'BUFFER_TOO_SMALL', bytesWritten: 0 };
  const information = {
    defaultPasidEnabled: device.configured,
    pasidTaggedDmaEnabled: device.tagged,
    pasidFaultsSuppressed: device.suppressed,
  };
  return { status: 'SUCCESS', bytesWritten: INFORMATION_BYTES, information };
}

export function inputMappings(model: Model, pdo: number, bytes: number): WholeAnswer {
  const found = machine.get(pdo);
  if (found === undefined) return { status: 'NOT_FOUND' };
  if (model.compat === 'windows' && !found.acpi) return { status: 'NOT_SUPPORTED' };
  const inputMappingIds = found.acpi ? found.inputMappingIds : [pdo];
  const returnLength = inputMappingIds.length * ID_BYTES;
  if (bytes < returnLength || Number.isNaN(bytes)) return { status: 'BUFFER_TOO_SMALL', returnLength };
  return { status: 'SUCCESS', inputMappingIds, returnLength };
}

export function domainTypes(model: Model, pdo: number): number {
  return model.guarded.has(pdo) ? GUARDED_TYPES : ALL_TYPES;
}

function tell(model: Model, device: ModelDevice): Told[] {
  const { watcher } = device;
  if (watcher === undefined) return [];
  if (watcher.callback === CALLBACK_ONCE) device.watcher = undefined;
  const change = { presentFields: 1, availableDomainTypes: domainTypes(model, device.pdo) };
  return [{ what: 'change', ...watcher, change }];
}

export function register(
  model: Model,
  device: ModelDevice | undefined,
  /** Undefined: not a function. */
  callback: number | undefined,
  context: unknown,
  fields: number,
): { status: Status; told: Told[] } {
  const refuse = (status: Status) => ({ status, told: [] });
  if (device === undefined) return refuse('INVALID_HANDLE');
  if (callback === undefined) return refuse('INVALID_PARAMETER_1');
  if (fields !== 1) return refuse('INVALID_PARAMETER_4');
  if (device.watcher !== undefined) return refuse('UNSUCCESSFUL');
  device.watcher = { callback, context };
  return { status: 'SUCCESS', told: tell(model, device) };
}

export function unregister(device: ModelDevice | undefined, callback: number): Status {
  if (device === undefined) return 'INVALID_HANDLE';
  if (device.watcher?.callback !== callback) return 'UNSUCCESSFUL';
  device.watcher = undefined;
  return 'SUCCESS';
}

export function setGuard(model: Model, pdo: number, blocked: boolean): Told[] {
  if (model.guarded.has(pdo) === blocked) return [];
  if (blocked) model.guarded.add(pdo);
  else model.guarded.delete(pdo);
  return [...model.devices].filter(device => device.pdo === pdo).flatMap(device => tell(model, device));
}
