/** Whatever a guest writes, nothing throws or hangs, and a reset brings the function back. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LIST_PAGES_MAX, LIST_PIECE_BYTES } from '../../../../src/iommu/dma-iommu/function/limits.ts';
import { dmaIommuRegisters } from '../../../../src/iommu/dma-iommu/function/registers.ts';
import { operationNames } from '../../../../src/iommu/dma-iommu/opcodes.ts';
import { DmaIommu } from '../../../../src/iommu/dma-iommu/unit.ts';
import { Bench, encodeCommand, FRAMES, Frame } from './support.ts';

const offsets = dmaIommuRegisters().registers.flatMap(({ offset, bytes }) =>
  Array.from({ length: bytes / 4 }, (_, i) => offset + 4 * i),
);

const word = fc.oneof(
  fc.integer({ min: 0, max: 17 }),
  fc.integer({ min: 0, max: FRAMES }).map(frame => frame << 12),
  fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
);

const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), offset: fc.constantFrom(...offsets), value: word }),
  fc.record({ kind: fc.constant('write8' as const), offset: fc.constantFrom(...offsets), value: word }),
  fc.record({
    kind: fc.constant('read' as const),
    offset: fc.integer({ min: 0, max: 4095 }),
    width: fc.constantFrom(1, 2, 4, 8),
  }),
  fc.record({ kind: fc.constant('jobs' as const), count: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constant('place' as const), size: fc.integer({ min: 1, max: 4 }) }),
);

const WIDE_BITS = 8;

/** An entry that gets far: a real opcode, and fields of which many are small. */
const entry = fc
  .record({
    name: fc.constantFrom(...operationNames),
    bytes: fc.uint8Array({ minLength: 112, maxLength: 112 }),
    keep: fc.nat({ max: 2 ** WIDE_BITS - 1 }),
  })
  .map(({ name, bytes, keep }) => {
    const made = encodeCommand(name, {});
    for (let i = 0; i < 112; i++) if ((keep >>> (i % WIDE_BITS)) & 1) made[16 + i] = bytes[i]!;
    return made;
  });

const ring = fc.oneof(
  fc.uint8Array({ minLength: 512, maxLength: 2048 }),
  fc.array(entry, { minLength: 4, maxLength: 16 }).map(flat),
);

function flat(entries: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(entries.flatMap(one => [...one]));
}

describe('a hostile guest', () => {
  it('finds nothing that throws, hangs or stays broken', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 40 }), ring, (steps, bytes) => {
        const bench = new Bench();
        bench.memory.poke(Frame.commands * 4096, bytes);
        for (const one of steps) {
          if (one.kind === 'write') bench.write(one.offset, one.value);
          else if (one.kind === 'write8') bench.write(one.offset & ~7, one.value, 8);
          else if (one.kind === 'read') bench.read(one.offset, one.width);
          else if (one.kind === 'place') bench.enable({ command: one.size, completion: one.size, fault: one.size });
          else for (let i = 0; i < one.count; i++) bench.jobs.step();
        }
        // Every job ends, and in the end there are none.
        bench.jobs.run(1000);
        bench.write('CONTROL', 4);
        expect(bench.read('STATUS')).toBe(0);
        bench.memory.poke(Frame.completions * 4096, new Uint8Array(8192));
        bench.enable();
        expect(bench.command('flushDomain', { domain: 5 }, { cookie: 6n })).toMatchObject({ cookie: 6n, phase: 1 });
      }),
      { numRuns: 300 },
    );
  });

  it('gets an answer for every command, from any operation', () => {
    fc.assert(
      fc.property(fc.array(entry, { minLength: 1, maxLength: 15 }), entries => {
        const bench = new Bench().enable({ command: 4, completion: 6 });
        for (const one of entries) bench.put(one);
        bench.doorbell();
        bench.jobs.run(100);
        expect(bench.read('COMMAND_HEAD')).toBe(entries.length);
        expect(bench.take().filter(one => one.kind === 0)).toHaveLength(entries.length);
        expect(bench.read('STATUS')).toBe(1);
      }),
      { numRuns: 300 },
    );
  });

  it('cannot make one job read more than it may', () => {
    const commands = 12;
    const bench = new Bench().enable({ command: 4, completion: 4 });
    for (let i = 0; i < commands; i++) {
      bench.put(encodeCommand('mapLogicalRangeEx', { memory: { type: 2, address: 0, size: LIST_PAGES_MAX } }));
    }
    bench.doorbell();
    let most = 0;
    for (let left = true; left; ) {
      bench.memory.accesses = 0;
      left = bench.jobs.step();
      most = Math.max(most, bench.memory.accesses);
    }
    expect(bench.operations.calls).toHaveLength(commands);
    const pieces = (LIST_PAGES_MAX * 8) / LIST_PIECE_BYTES;
    // One list, and the entries and completions around it.
    expect(most).toBeLessThan(pieces + 8);
  });
});

it('the bench of these tests is like the unit', () => {
  const bench = new Bench();
  for (const name of [...operationNames, 'reset', 'probe', 'isAttached', 'translate'] as const) {
    expect([name, typeof (bench.operations as never)[name], typeof DmaIommu.prototype[name]]).toEqual([
      name,
      'function',
      'function',
    ]);
  }
});
