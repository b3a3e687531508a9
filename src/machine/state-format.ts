/**
 * A function's state as bytes: a magic number, the version of the format, and as MessagePack who it is the state of and the state itself.
 * docs/migration.md has the layout.
 */
import { createHash } from 'node:crypto';
import { Packr } from 'msgpackr';
import { StateError, type StateValue, stateFields } from '../pci/state.ts';
import { type BeforeMember, decodeState, fitsState, STATE_COST_MAX } from './state-decoder.ts';

/** "VIOM", then the version as u32, both little-endian. */
const MAGIC = 0x4d4f4956;
const HEADER_BYTES = 8;
/** Grows with each change that an older or newer reader would misread. */
export const STATE_VERSION = 1;

/** Who a state belongs to; one of another function, or of another machine's, is refused. */
export interface StateOwner {
  readonly kind: string;
  readonly name: string;
  /** Of all that the guest can see of the function and that no state holds. */
  readonly definition: string;
}

/** In this order. */
const MEMBERS = ['kind', 'name', 'definition', 'state'] as const;

const packr = new Packr({ useRecords: false, mapsAsObjects: true });

/** A digest of plain data; the same for the same data. */
export function definitionHash(definition: unknown): string {
  const text = JSON.stringify(definition, (_name, value) => (typeof value === 'bigint' ? `${value}n` : value));
  return createHash('sha256').update(text).digest('hex').slice(0, 32);
}

/** Who it belongs to comes first, so that a stranger's state is not read. Throws a StateError on one that could not be restored. */
export function encodeState({ kind, name, definition }: StateOwner, state: StateValue): Uint8Array {
  const whole = { kind, name, definition, state };
  if (!fitsState(whole)) throw new StateError(`it has more values than a state may have (${STATE_COST_MAX})`);
  const body = packr.pack(whole);
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, STATE_VERSION, true);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

/** The state within, unchecked. Throws a StateError that says why it is not one of this owner. */
export function openState(owner: StateOwner, bytes: Uint8Array): unknown {
  if (bytes.length < HEADER_BYTES) throw new StateError(`a state has more than ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== MAGIC) throw new StateError('these bytes are no saved state');
  const version = view.getUint32(4, true);
  if (version !== STATE_VERSION)
    throw new StateError(`it has version ${version}, and this is version ${STATE_VERSION}`);
  const beforeMember: BeforeMember = (member, before) => {
    if (member === 'state') checkOwner(owner, before);
  };
  return stateFields(decodeState(bytes.subarray(HEADER_BYTES), beforeMember), 'a state', MEMBERS).state;
}

function checkOwner(owner: StateOwner, given: ReadonlyMap<string, unknown>): void {
  const [kind, name] = [given.get('kind'), given.get('name')];
  if (kind !== owner.kind) throw new StateError(`it is a state of ${shown(kind)}, and this is ${owner.kind}`);
  if (name !== owner.name) throw new StateError(`it is the state of ${shown(name)}, and this is ${owner.name}`);
  if (given.get('definition') !== owner.definition) {
    throw new StateError(
      `it comes from a machine whose ${owner.name} is another one: same kind, other options or version`,
    );
  }
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 64)) : 'something without a name';
}
