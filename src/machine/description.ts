/**
 * What a machine is made of, as data: one IOMMU and the endpoints behind it. From command-line flags or from a JSON file,
 * checked here once, so that nothing behind this door meets an impossible machine.
 */

import type { EndpointOptions } from '../devices/endpoint.ts';
import { findKind } from '../devices/kinds.ts';
import { formatRequesterId } from '../trace/record-fields.ts';
import { LimitError, settleLimits } from '../vfio-user/limit-settings.ts';
import type { GivenLimits } from '../vfio-user/limit-table.ts';

export const IOMMU_KINDS = ['vtd', 'dma-iommu', 'none'] as const;
export type IommuKindName = (typeof IOMMU_KINDS)[number];

export interface IommuDescription {
  readonly kind: IommuKindName;
  /** VT-d: caching mode (CAP.CM): the driver must also invalidate when an entry becomes present. */
  readonly cachingMode: boolean;
  /** dma-iommu: do what the hardware could do, or refuse what Windows documents that it refuses. */
  readonly compat: Compat;
  /** dma-iommu: at each translation by a caller's tables, see whether a fresh walk says the same, and note where not. */
  readonly checkStale: boolean;
}

export const COMPATS = ['extended', 'windows'] as const;
export type Compat = (typeof COMPATS)[number];

export interface EndpointDescription {
  readonly kind: string;
  /** Names its socket (`ID.sock`), its events and its statistics. */
  readonly id: string;
  /** PCI address in the guest: bus << 8 | device << 3 | function. */
  readonly requesterId: number;
  readonly options: EndpointOptions;
}

export interface MachineDescription {
  readonly iommu: IommuDescription;
  readonly endpoints: readonly EndpointDescription[];
  /**
   * How long the device thread looks for the next message before it blocks, in microseconds, up to `MAX_POLL_MICROSECONDS`. 'auto':
   * where the process has more than one processor. Missing: not at all.
   */
  readonly pollMicroseconds?: PollMicroseconds;
  /** Of each client's connection (vfio-user/limit-table.ts). Missing, or missing in it: the defaults. */
  readonly limits?: GivenLimits;
}

export type PollMicroseconds = number | 'auto';
/** Longer than a wake-up takes anywhere; a thread that polls for more only burns its processor. */
export const MAX_POLL_MICROSECONDS = 1000;

/** A description that cannot be built; the message says what to write instead. */
export class DescriptionError extends Error {
  override readonly name = 'DescriptionError';
}

/** One device thread serves them all; more would only starve each other. */
export const MAX_ENDPOINTS = 64;
const ID_PATTERN = /^[A-Za-z][A-Za-z0-9_-]{0,31}$/;
const RESERVED_IDS = new Set(['iommu']);
const DEVICE_PATTERN = /^([a-z][a-z0-9-]*)@(?:([0-9a-f]{1,2}):)?([0-9a-f]{1,2})\.([0-7])$/i;

/** Parses `KIND@[BB:]DD.F[,id=NAME][,OPTION=VALUE]...`, all numbers of the address in hexadecimal. */
export function parseDevice(text: string): Omit<EndpointDescription, 'id'> & { id?: string } {
  const [head = '', ...pairs] = text.split(',');
  const match = DEVICE_PATTERN.exec(head);
  if (!match) {
    throw new DescriptionError(
      `'${text}' is not a device: write KIND@DD.F or KIND@BB:DD.F, e.g. edu@04.0 (root bus) or edu@01:00.0 (behind a root port)`,
    );
  }
  const [, kind = '', bus = '0', device = '', fn = ''] = match;
  const slot = Number.parseInt(device, 16);
  if (slot > 31) throw new DescriptionError(`'${text}': a PCI device number is at most 1f`);
  const options: Record<string, string | number | boolean> = {};
  let id: string | undefined;
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    if (at < 1) throw new DescriptionError(`'${pair}' in '${text}' is not NAME=VALUE`);
    const name = pair.slice(0, at);
    const value = pair.slice(at + 1);
    if (name === 'id') id = value;
    else options[name] = optionValue(value);
  }
  const requesterId = (Number.parseInt(bus, 16) << 8) | (slot << 3) | Number.parseInt(fn, 10);
  return { kind: kind.toLowerCase(), requesterId, options, ...(id === undefined ? {} : { id }) };
}

/** Builds a whole description from command-line flags. */
export function describeMachine(
  iommu: string,
  devices: readonly string[],
  options: Readonly<Record<string, unknown>> = {},
): MachineDescription {
  return checkDescription({ iommu: { ...options, kind: iommu }, endpoints: devices.map(parseDevice) });
}

/** Checks a description from outside (a JSON file, another process) and fills in what it may leave out. */
export function checkDescription(value: unknown): MachineDescription {
  const machine = asObject(value, 'a machine description');
  refuseUnknown(machine, ['iommu', 'endpoints', 'pollMicroseconds', 'limits'], 'a machine description');
  const list = machine.endpoints ?? [];
  if (!Array.isArray(list)) throw new DescriptionError(`'endpoints' must be a list`);
  if (list.length > MAX_ENDPOINTS) throw new DescriptionError(`at most ${MAX_ENDPOINTS} endpoints in one machine`);
  const counts = new Map<string, number>();
  const endpoints = list.map(one => checkEndpoint(one, counts));
  refuseTwins(
    endpoints.map(one => one.id),
    'id',
  );
  refuseTwins(
    endpoints.map(one => formatRequesterId(one.requesterId)),
    'address',
  );
  const iommu = checkIommu(machine.iommu);
  const { pollMicroseconds, limits } = machine;
  return {
    iommu,
    endpoints,
    ...(pollMicroseconds === undefined ? {} : { pollMicroseconds: checkPolling(pollMicroseconds) }),
    ...(limits === undefined ? {} : { limits: checkLimits(limits) }),
  };
}

/** Each by itself, and all of them together. */
export function checkLimits(value: unknown): GivenLimits {
  const limits = asObject(value, `'limits'`) as GivenLimits;
  try {
    settleLimits(limits);
  } catch (error) {
    if (error instanceof LimitError) throw new DescriptionError(error.message);
    throw error;
  }
  return limits;
}

function checkPolling(value: unknown): PollMicroseconds {
  if (value === 'auto') return value;
  const isWhole = typeof value === 'number' && Number.isInteger(value);
  if (isWhole && value >= 0 && value <= MAX_POLL_MICROSECONDS) return value;
  throw new DescriptionError(
    `'pollMicroseconds' must be 'auto' or a whole number from 0 to ${MAX_POLL_MICROSECONDS}, not '${textOf(value)}'`,
  );
}

function checkIommu(value: unknown): IommuDescription {
  const iommu = typeof value === 'string' ? { kind: value } : asObject(value ?? { kind: 'vtd' }, `'iommu'`);
  refuseUnknown(iommu, ['kind', 'cachingMode', 'compat', 'checkStale'], `'iommu'`);
  const kind = IOMMU_KINDS.find(one => one === iommu.kind);
  if (!kind) throw new DescriptionError(`no IOMMU is called '${textOf(iommu.kind)}': one of ${IOMMU_KINDS.join(', ')}`);
  const cachingMode = iommuFlag(iommu, 'cachingMode', kind, 'vtd');
  const checkStale = iommuFlag(iommu, 'checkStale', kind, 'dma-iommu');
  const compat = COMPATS.find(one => one === (iommu.compat ?? 'extended'));
  if (!compat) throw new DescriptionError(`'compat' must be one of ${COMPATS.join(', ')}`);
  if (compat !== 'extended' && kind !== 'dma-iommu') {
    throw new DescriptionError(`'compat' is an option of dma-iommu, not of ${kind}`);
  }
  return { kind, cachingMode, compat, checkStale };
}

function parseAddress(kind: string, address: string): number {
  if (address.includes(',')) {
    throw new DescriptionError(
      `'${address}' is not an address such as "01:00.0": options have a member 'options' of their own`,
    );
  }
  return parseDevice(`${kind}@${address}`).requesterId;
}

function refuseUnknown(value: Record<string, unknown>, known: readonly string[], what: string): void {
  const unknown = Object.keys(value).find(name => !known.includes(name));
  if (unknown !== undefined) {
    throw new DescriptionError(`${what} has no member '${unknown}': it may have ${known.join(', ')}`);
  }
}

function iommuFlag(iommu: Record<string, unknown>, name: string, kind: IommuKindName, owner: IommuKindName): boolean {
  const value = iommu[name] ?? false;
  if (typeof value !== 'boolean') throw new DescriptionError(`'${name}' must be true or false`);
  if (value && kind !== owner) throw new DescriptionError(`'${name}' is an option of ${owner}, not of ${kind}`);
  return value;
}

function checkEndpoint(value: unknown, counts: Map<string, number>): EndpointDescription {
  const endpoint = asObject(typeof value === 'string' ? parseDevice(value) : value, 'an endpoint');
  refuseUnknown(endpoint, ['kind', 'id', 'address', 'requesterId', 'options'], 'an endpoint');
  const kind = textOf(endpoint.kind);
  const options = asObject(endpoint.options ?? {}, `'options' of ${kind}`) as EndpointOptions;
  checkOptions(kind, options);
  const number = counts.get(kind) ?? 0;
  counts.set(kind, number + 1);
  const id = endpoint.id === undefined ? `${kind}${number}` : textOf(endpoint.id);
  if (!ID_PATTERN.test(id) || RESERVED_IDS.has(id)) {
    throw new DescriptionError(`'${id}' cannot be an id: a letter, then letters, digits, - or _, and not 'iommu'`);
  }
  const requesterId =
    typeof endpoint.address === 'string' ? parseAddress(kind, endpoint.address) : Number(textOf(endpoint.requesterId));
  if (!Number.isInteger(requesterId) || requesterId < 0 || requesterId > 0xffff) {
    throw new DescriptionError(`${id} needs an 'address' such as "01:00.0"`);
  }
  return { kind, id, requesterId, options };
}

function checkOptions(kind: string, options: EndpointOptions): void {
  try {
    findKind(kind).define(options);
  } catch (error) {
    throw new DescriptionError(error instanceof Error ? error.message : String(error));
  }
}

function refuseTwins(names: readonly string[], what: string): void {
  const twin = names.find((name, index) => names.indexOf(name) !== index);
  if (twin !== undefined) throw new DescriptionError(`two endpoints have the ${what} '${twin}'`);
}

/** An object need not have a text. */
function textOf(value: unknown): string {
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

function asObject(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new DescriptionError(`${what} must be an object`);
  }
  return value as Record<string, unknown>;
}

function optionValue(text: string): string | number | boolean {
  if (text === 'true' || text === 'on') return true;
  if (text === 'false' || text === 'off') return false;
  return /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : text;
}
