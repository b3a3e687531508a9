import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { describe, expect, it } from 'vitest';
import { decodeState, fitsState, STATE_COST_MAX } from '../../src/machine/state-decoder.ts';
import { encodeState, openState } from '../../src/machine/state-format.ts';
import { StateError, type StateValue } from '../../src/pci/state.ts';
import { defaultLimits } from '../../src/vfio-user/limits.ts';
import { bytes32, Edu, MigrationRig } from './migration-rig.ts';

const packr = new Packr({ useRecords: false, mapsAsObjects: true });
const TOO_MANY = /more values than any state/;
const EMPTY_OBJECT = 0x80;

/** A list with 32 bits of length, and what is in it as bytes. */
function listOf(count: number, byte: number, each = 1): Uint8Array {
  const bytes = new Uint8Array(5 + count * each).fill(byte);
  bytes[0] = 0xdd;
  new DataView(bytes.buffer).setUint32(1, count);
  return bytes;
}

describe('decodeState', () => {
  const value: fc.Arbitrary<StateValue> = fc.letrec<{ value: StateValue }>(tie => ({
    value: fc.oneof(
      { depthSize: 'small', maxDepth: 6 },
      fc.integer(),
      fc.double(),
      fc.boolean(),
      fc.string({ unit: 'binary' }),
      fc.uint8Array(),
      fc.array(tie('value'), { maxLength: 20 }),
      // No object in JavaScript keeps a member of this name.
      fc.dictionary(
        fc.string().filter(name => name !== '__proto__'),
        tie('value'),
        { maxKeys: 20 },
      ),
    ),
  })).value;

  it('gives back what was put in', () => {
    fc.assert(
      fc.property(value, given => {
        expect(packr.pack(decodeState(packr.pack(given)))).toEqual(packr.pack(given));
      }),
    );
  });

  it.each([
    ['numbers', 0x01, STATE_COST_MAX - 8],
    ['flags', 0xc3, STATE_COST_MAX - 8],
    ['objects', EMPTY_OBJECT, STATE_COST_MAX / 8 - 1],
    ['lists', 0x90, STATE_COST_MAX / 8 - 1],
    ['text', 0xa0, STATE_COST_MAX / 8 - 1],
  ])('takes so many %s and not one more', (_what, byte, most) => {
    expect(decodeState(listOf(most, byte))).toHaveLength(most);
    expect(() => decodeState(listOf(most + 1, byte))).toThrow(TOO_MANY);
  });

  it('takes bytes whatever their number, and not many of them', () => {
    const bytes = new Uint8Array(4 * STATE_COST_MAX);
    const taken = decodeState(packr.pack(bytes));
    // `toEqual` takes half a minute for so many on a busy machine.
    expect(taken).toBeInstanceOf(Uint8Array);
    expect(Buffer.compare(taken as Uint8Array, bytes)).toBe(0);
    expect(() => decodeState(packr.pack(Array.from({ length: STATE_COST_MAX / 8 }, () => new Uint8Array(0))))).toThrow(
      TOO_MANY,
    );
  });

  it('does not go through what it refuses', () => {
    const bytes = listOf(4 * STATE_COST_MAX, EMPTY_OBJECT);
    // What stands there is no value at all: whoever gets there says so.
    bytes.fill(0xc1, STATE_COST_MAX);
    expect(() => decodeState(bytes)).toThrow(TOO_MANY);
  });

  it('agrees with what may be saved', () => {
    for (const [count, one] of [
      [STATE_COST_MAX - 8, 1],
      [STATE_COST_MAX / 8 - 1, ''],
      [STATE_COST_MAX / 8 - 1, {}],
      [Math.floor((STATE_COST_MAX - 8) / 26), { a: [1], b: true }],
      [Math.floor((STATE_COST_MAX - 8) / 16), ['x']],
    ] as const) {
      for (const length of [count, count + 1]) {
        const list = new Array<StateValue>(length).fill(one);
        let taken = true;
        try {
          decodeState(packr.pack(list));
        } catch (error) {
          if (!(error instanceof StateError)) throw error;
          taken = false;
        }
        expect([length, fitsState(list)]).toEqual([length, taken]);
      }
    }
  });

  it('tells of each member before its value is read', () => {
    const told: string[] = [];
    const bytes = packr.pack({ a: 1, b: { inner: 2 }, c: 3 });
    decodeState(bytes, (name, before) => told.push(`${name} after ${[...before.keys()].join()}`));
    expect(told).toEqual(['a after ', 'b after a', 'c after a,b']);
  });
});

describe('a saved state', () => {
  const owner = { kind: 'edu', name: 'edu0', definition: 'd' };

  it.each([
    [{ ...owner, kind: 'vtd' }, 'it is a state of "vtd", and this is edu'],
    [{ ...owner, name: 'edu1' }, 'it is the state of "edu1", and this is edu0'],
    [{ ...owner, definition: 'e' }, 'it comes from a machine whose edu0 is another one'],
  ])('of %j is refused before it is read', (other, why) => {
    const bytes = encodeState(other, 0);
    bytes[bytes.length - 1] = 0xc1;
    expect(() => openState(owner, bytes)).toThrow(why);
  });

  it('that comes before its owner is refused', () => {
    const header = encodeState(owner, 0).subarray(0, 8);
    const bytes = Buffer.concat([header, packr.pack({ state: 0, ...owner })]);
    expect(() => openState(owner, bytes)).toThrow('it is a state of something without a name');
  });

  it('with more values than can be restored is not made', () => {
    expect(() => encodeState(owner, new Array<number>(STATE_COST_MAX).fill(0))).toThrow(StateError);
  });

  it.each(['vtd', 'dma-iommu'] as const)('of a machine with %s is far from the limits', kind => {
    const rig = new MigrationRig(undefined, kind);
    try {
      if (kind === 'vtd') rig.setUp();
      rig.post('edu0', Edu.factorial, bytes32(5));
      for (const [name, bytes] of Object.entries(rig.save())) {
        expect([name, bytes.length < defaultLimits.maxMigrationData / 100]).toEqual([name, true]);
        const cost = costOf(decodeState(bytes.subarray(8)));
        expect([name, cost > 50, cost < STATE_COST_MAX / 100]).toEqual([name, true, true]);
      }
    } finally {
      rig.close();
    }
  });

  function costOf(value: unknown): number {
    if (typeof value !== 'object' || value === null) return typeof value === 'string' ? 8 : 1;
    if (value instanceof Uint8Array) return 8;
    if (Array.isArray(value)) return value.reduce((sum, one) => sum + costOf(one), 8);
    return Object.values(value).reduce((sum: number, one) => sum + 8 + costOf(one), 8);
  }
});
