/** The handshake (vfio-user, section "VFIO_USER_VERSION"): what the client proposes, and our answer to it. */
import type { Limits } from './limits.ts';
import { CapabilityDefault, PAGE_BYTES, Version } from './spec.ts';

/** Numbers that a client may propose; missing where it says nothing. */
export interface Capabilities {
  readonly max_msg_fds?: number;
  readonly max_data_xfer_size?: number;
  readonly max_dma_maps?: number;
  readonly pgsizes?: number;
  readonly write_multiple?: boolean;
  /** As earlier revisions of the specification have it, and QEMU sends it. */
  readonly twin_socket?: { readonly supported?: boolean };
  readonly migration?: { readonly pgsize?: number; readonly max_bitmap_size?: number };
}

export interface Proposal {
  readonly minor: number;
  readonly capabilities: Capabilities;
}

/** Why a VERSION message is not one; the connection is closed with it. */
export class VersionError extends Error {}

const utf8 = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

/** Smallest value of each number; anything below, not whole or not exactly representable is malformed. */
const NUMBERS = { max_msg_fds: 0, max_data_xfer_size: 1, max_dma_maps: 0, pgsizes: 1 } as const;

/** Reads `bytes[at, at + length)`, the payload of a VERSION request. Throws a VersionError that says what is wrong. */
export function parseVersion(bytes: Uint8Array, at: number, length: number, limits: Limits): Proposal {
  if (length < Version.bytes) throw new VersionError('version payload too short');
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, length);
  const major = view.getUint16(Version.majorAt, true);
  const minor = view.getUint16(Version.minorAt, true);
  if (major !== Version.major) throw new VersionError(`major version ${major} not supported`);
  const data = bytes.subarray(at + Version.dataAt, at + length);
  return { minor, capabilities: data.length === 0 ? {} : parseData(data, limits) };
}

function parseData(data: Uint8Array, limits: Limits): Capabilities {
  if (data.length > limits.maxVersionData) throw new VersionError('version data too long');
  const end = data.indexOf(0);
  if (end === -1) throw new VersionError('version data not terminated');
  if (end !== data.length - 1) throw new VersionError('bytes after the end of the version data');
  const top = parseObject(data.subarray(0, end));
  if (!('capabilities' in top)) return {};
  return parseCapabilities(asObject(top.capabilities, 'capabilities'));
}

function parseObject(json: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(utf8.decode(json));
  } catch (error) {
    throw new VersionError(`version data is not JSON in UTF-8: ${(error as Error).message}`);
  }
  return asObject(value, 'version data');
}

function asObject(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new VersionError(`${name} is not an object`);
  }
  return value as Record<string, unknown>;
}

/** Capabilities without a name here are left alone: a client may know more than we do. */
function parseCapabilities(given: Record<string, unknown>): Capabilities {
  for (const [name, least] of Object.entries(NUMBERS)) {
    const value = given[name];
    if (Object.hasOwn(given, name) && !(Number.isSafeInteger(value) && (value as number) >= least)) {
      throw new VersionError(`capability ${name} is not a whole number of at least ${least}`);
    }
  }
  if (Object.hasOwn(given, 'write_multiple') && typeof given.write_multiple !== 'boolean') {
    throw new VersionError('capability write_multiple is not a boolean');
  }
  for (const name of ['twin_socket', 'migration']) {
    if (Object.hasOwn(given, name)) asObject(given[name], `capability ${name}`);
  }
  const { supported = false } = (given as Capabilities).twin_socket ?? {};
  if (typeof supported !== 'boolean') throw new VersionError('capability twin_socket.supported is not a boolean');
  if (Object.hasOwn(given, 'migration')) checkMigration(given.migration as Record<string, unknown>);
  return given as Capabilities;
}

function checkMigration(given: Record<string, unknown>): void {
  for (const name of ['pgsize', 'max_bitmap_size']) {
    const value = given[name];
    if (Object.hasOwn(given, name) && !(Number.isSafeInteger(value) && (value as number) >= 1)) {
      throw new VersionError(`capability migration.${name} is not a whole number of at least 1`);
    }
  }
}

/** What holds on a connection once both sides have said what they can. */
export interface Terms {
  /** Bytes in one DMA_READ or DMA_WRITE. */
  readonly maxTransfer: number;
  /** Descriptors that the client takes with one message. */
  readonly descriptors: number;
  /** REGION_WRITE_MULTI may come. */
  readonly writeMultiple: boolean;
  /** The client takes a stream of its own for our commands. */
  readonly twinSocket: boolean;
}

/** Before the handshake. */
export const NO_TERMS: Terms = { maxTransfer: 0, descriptors: 0, writeMultiple: false, twinSocket: false };

export function agreedTerms(proposal: Proposal, limits: Limits): Terms {
  const { max_msg_fds = CapabilityDefault.maxMsgFds, write_multiple = false, twin_socket } = proposal.capabilities;
  const descriptors = Math.min(max_msg_fds, limits.maxDescriptors);
  return {
    maxTransfer: Math.min(clientDataTransfer(proposal), limits.maxDataTransfer),
    descriptors,
    writeMultiple: write_multiple && limits.writeMultiple,
    twinSocket: twin_socket?.supported === true && descriptors > 0,
  };
}

/** The largest transfer that the client takes, in bytes. */
export function clientDataTransfer(proposal: Proposal): number {
  return proposal.capabilities.max_data_xfer_size ?? CapabilityDefault.maxDataXferSize;
}

/**
 * The version data of our answer, NUL included. Capabilities must be a subset of those proposed, so each is named only where
 * the client named it, or where its default would promise more than we hold. (QEMU takes no answer longer than its request.)
 * `migratable`: the device can be saved. `hasTwin`: the answer carries one descriptor, of the stream for our commands.
 */
export function composeVersionData(
  proposal: Proposal,
  limits: Limits,
  migratable = false,
  hasTwin = false,
): Uint8Array {
  const proposed = proposal.capabilities;
  const capabilities: Record<string, number | boolean | object> = {};
  if (proposed.max_msg_fds !== undefined || limits.maxDescriptors < CapabilityDefault.maxMsgFds) {
    capabilities.max_msg_fds = Math.min(limits.maxDescriptors, proposed.max_msg_fds ?? limits.maxDescriptors);
  }
  if (proposed.max_dma_maps !== undefined || limits.maxDmaMaps < CapabilityDefault.maxDmaMaps) {
    capabilities.max_dma_maps = limits.maxDmaMaps;
  }
  if (proposed.max_data_xfer_size !== undefined || limits.maxDataTransfer < CapabilityDefault.maxDataXferSize) {
    capabilities.max_data_xfer_size = limits.maxDataTransfer;
  }
  if (proposed.pgsizes !== undefined) capabilities.pgsizes = PAGE_BYTES;
  if (proposed.write_multiple === true && limits.writeMultiple) capabilities.write_multiple = true;
  if (proposed.migration !== undefined && migratable) {
    const most = Math.min(limits.maxDirtyBitmap, proposed.migration.max_bitmap_size ?? limits.maxDirtyBitmap);
    capabilities.migration = { pgsize: PAGE_BYTES, max_bitmap_size: most };
  }
  if (hasTwin) capabilities.twin_socket = { supported: true, fd_index: 0 };
  return encoder.encode(`${JSON.stringify({ capabilities })}\0`);
}
