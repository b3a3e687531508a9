import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { DeviceMigration } from '../../src/vfio-user/device-model.ts';
import { Migration, MigrationState } from '../../src/vfio-user/migration.ts';

const { running, stop, stopCopy, resuming, error } = MigrationState;
const EINVAL = 22;
const E2BIG = 7;
const MOST = 1_000_000;

let restored: Uint8Array | undefined;
let saved: Uint8Array | string;
let notes: [kind: string, detail: object][];
let migration: Migration;

beforeEach(() => {
  restored = undefined;
  saved = Uint8Array.of(1, 2, 3);
  notes = [];
  const device: DeviceMigration = {
    stop: stopped => stopped(),
    run: () => {},
    save: () => saved,
    restore: bytes => {
      restored = Uint8Array.from(bytes);
      return undefined;
    },
  };
  migration = new Migration({ device, maxBytes: MOST, note: (kind, detail) => notes.push([kind, detail]) });
});

function change(target: number): number {
  let answer = -1;
  migration.change(target, errno => {
    answer = errno;
  });
  return answer;
}

describe('what is written in RESUMING', () => {
  it('may be nothing, at any time', () => {
    change(resuming);
    expect(migration.give(new Uint8Array(0))).toBe(0);
    expect(migration.give(Uint8Array.of(7))).toBe(0);
    expect(migration.give(new Uint8Array(0))).toBe(0);
    expect(change(stop)).toBe(0);
    expect([...restored!]).toEqual([7]);
  });

  it('may be nothing at all', () => {
    change(resuming);
    expect(migration.give(new Uint8Array(0))).toBe(0);
    expect(change(stop)).toBe(0);
    expect(restored).toHaveLength(0);
  });

  it('is put together, whatever its pieces', () => {
    const piece = fc.oneof(fc.constant(0), fc.nat(100), fc.nat(150_000));
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 8 }), lengths => {
        change(resuming);
        let next = 0;
        const all: number[] = [];
        let expected = 0;
        for (const length of lengths) {
          const bytes = Uint8Array.from({ length }, () => next++ % 251);
          const fits = expected + length <= MOST;
          expect(migration.give(bytes)).toBe(fits ? 0 : E2BIG);
          if (!fits) continue;
          expected += length;
          for (const byte of bytes) all.push(byte);
        }
        change(stop);
        expect(Buffer.compare(restored!, Uint8Array.from(all))).toBe(0);
      }),
      { numRuns: 40 },
    );
  });

  it('is refused in other states, nothing too', () => {
    for (const state of [running, stop, stopCopy]) {
      change(state);
      expect(migration.give(new Uint8Array(0))).toBe(EINVAL);
    }
  });
});

describe('a state that cannot be saved', () => {
  it('is E2BIG, says why, and leaves the function stopped', () => {
    change(stop);
    saved = 'too much';
    expect(change(stopCopy)).toBe(E2BIG);
    expect(migration.state).toBe(stop);
    expect(notes).toEqual([['migration.notSaved', { why: 'too much' }]]);
    saved = new Uint8Array(MOST + 1);
    expect(change(stopCopy)).toBe(E2BIG);
    expect(migration.state).not.toBe(error);
  });
});
