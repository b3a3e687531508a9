/** Random tables of every format but VT-d's, which walker.test.ts covers: answers as the reference gives them, and what walks write. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { arm64Stage1 } from '../../src/page-tables/arm64-stage1.ts';
import { Walker, WalkStatus } from '../../src/page-tables/walker.ts';
import { x64FirstLevel } from '../../src/page-tables/x64-first-level.ts';
import { referenceWalk } from '../iommu/reference.ts';
import { arm64Reference, x64Reference } from '../iommu/reference-formats.ts';
import { FakeMemory, words } from '../iommu/support.ts';

/** The last is where there is no memory. */
const TABLES = 10;
const NAMES = Object.keys(WalkStatus);
const A = 1n << 5n;
const D = 1n << 6n;

const kinds = [
  ...[
    { '2M': true, '1G': true },
    { '2M': true, '1G': false },
    { '2M': false, '1G': false },
  ].map(largePages => ({
    name: `x86-64 with ${JSON.stringify(largePages)}`,
    format: x64FirstLevel({ hostAddressWidth: 46, largePages }),
    reference: x64Reference({ hostAddressWidth: 46, largePages }),
    // Mostly present, writable, user.
    flags: [7n, 7n, 7n, 7n, 7n, 7n, 0x27n, 0x27n, 0x67n, 0x67n, 5n, 3n, 0x87n, 0xe7n],
  })),
  ...([4, 16, 64] as const).flatMap(granule =>
    (['privileged', 'unprivileged'] as const).map(privilege => ({
      name: `Arm stage 1, ${granule} KiB, ${privilege}`,
      format: arm64Stage1({ granule, outputAddressBits: 44, privilege }),
      reference: arm64Reference({ granule, outputAddressBits: 44, privilege }),
      // Access flag and AP[1] mostly; then read-only, privileged, without access flag, block, APTable.
      flags: [0x443n, 0x443n, 0x443n, 0x4c3n, 0x403n, 0x043n, 0x441n, 0x443n | (1n << 62n), 0x443n | (1n << 61n)],
    })),
  ),
];

describe.each(kinds)('random tables, $name', ({ format, reference, flags }) => {
  const { granuleShift, bitsPerLevel } = format;
  const frames = 1 << (granuleShift - 12);
  const lastIndex = (1 << bitsPerLevel) - 1;
  const index = fc.constantFrom(0, lastIndex);
  const flag = fc.constantFrom(...flags);
  const table = fc.tuple(fc.nat(TABLES - 1), flag).map(([t, f]) => (BigInt(t) << BigInt(granuleShift)) | f);
  const entry = fc.oneof(
    { weight: 24, arbitrary: table },
    {
      weight: 3,
      arbitrary: fc.tuple(fc.nat(7), fc.integer({ min: 1, max: 2 }), flag).map(([n, level, f]) => {
        const leaf = format.leafBitClear === true ? f & ~BigInt(format.leafBit) : f | BigInt(format.leafBit);
        return (BigInt(n) << BigInt(granuleShift + bitsPerLevel * level)) | leaf;
      }),
    },
    { weight: 1, arbitrary: fc.constant(0n) },
    { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }) },
    { weight: 2, arbitrary: fc.tuple(table, fc.nat(63)).map(([t, bit]) => t ^ (1n << BigInt(bit))) },
  );
  const iova = fc
    .tuple(fc.array(index, { minLength: 5, maxLength: 5 }), fc.nat((1 << granuleShift) - 1), fc.nat(60))
    .map(([indexes, offset, rare]) => {
      const address = indexes.reduce(
        (sum, one, i) => sum | (BigInt(one) << BigInt(granuleShift + bitsPerLevel * i)),
        BigInt(offset),
      );
      return { address: BigInt.asUintN(64, address), whole: rare === 0 };
    });

  it('answer as the reference does, and are marked where a walk has used them, nowhere else', () => {
    let ok = 0;
    fc.assert(
      fc.property(
        fc.constantFrom(...format.depths),
        fc.array(fc.tuple(fc.nat(TABLES - 1), index, entry), { minLength: 40, maxLength: 80 }),
        fc.array(fc.tuple(iova, fc.constantFrom(1, 2, 3)), { minLength: 1, maxLength: 20 }),
        fc.boolean(),
        (levels, entries, asked, messagesOnly) => {
          const holes = Array.from({ length: frames }, (_, i) => (TABLES - 1) * frames + i);
          const memory = new FakeMemory(TABLES * frames * 4096, { holes, messagesOnly });
          const written = new Map<bigint, bigint>();
          for (const [t, i, value] of entries) {
            const address = t * frames * 4096 + i * 8;
            memory.write64(address >>> 12, address & 0xfff, value);
            if (t < TABLES - 1) written.set(BigInt(address), value);
          }
          const walker = new Walker(format, memory);
          for (const [{ address, whole }, access] of asked) {
            const at = whole ? address : address & ((1n << BigInt(reference.inputWidth(levels))) - 1n);
            // Every entry that the reference looks at: of a walk that succeeds, all that were used.
            const used: bigint[] = [];
            const word = (a: bigint) => {
              if (!used.includes(a)) used.push(a);
              return memory.word(a);
            };
            const wanted = referenceWalk(word, reference, 0, levels, at, access);
            const status = walker.walk(0, levels, ...words(at), access);
            const got =
              status === WalkStatus.ok
                ? { status: 'ok', frame: walker.frame, shift: walker.shift, permissions: walker.permissions }
                : { status: NAMES[status] };
            expect(got).toEqual(wanted);
            if (status !== WalkStatus.ok) continue;
            ok++;
            if (format.accessed === undefined) continue;
            for (const a of used) written.set(a, written.get(a)! | A);
            // A table may be its own page, so the leaf need not be the last that was new.
            const leaf = leafOf(memory, levels, at);
            if ((access & 2) !== 0) written.set(leaf, written.get(leaf)! | D);
          }
          const expected = new FakeMemory(memory.bytes.length);
          for (const [a, value] of written) expected.write64(Number(a >> 12n), Number(a & 0xfffn), value);
          expect(Buffer.compare(memory.bytes, expected.bytes)).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
    expect(ok).toBeGreaterThan(10);
  });
});

/** Where the entry is that maps the address, in x86-64 tables rooted at zero, of a walk that succeeds. */
function leafOf(memory: FakeMemory, levels: number, iova: bigint): bigint {
  let table = 0n;
  for (let level = levels; ; level--) {
    const address = table + ((iova >> BigInt(12 + 9 * (level - 1))) & 511n) * 8n;
    const entry = memory.word(address)!;
    if (level === 1 || (entry & 0x80n) !== 0n) return address;
    table = entry & 0xf_ffff_ffff_f000n;
  }
}
