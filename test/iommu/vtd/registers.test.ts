import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ABSENT_REGISTERS } from '../../../src/iommu/vtd/absent-registers.ts';
import { vtdCapabilities } from '../../../src/iommu/vtd/capabilities.ts';
import { vtdRegisters } from '../../../src/iommu/vtd/registers.ts';
import type { Field, Register } from '../../../src/pci/registers.ts';
import { Bench, MASK, Reg } from './support.ts';

const block = vtdRegisters(vtdCapabilities());

function readRegister(bench: Bench, { offset, bytes }: Register): bigint {
  let value = 0n;
  for (let at = 0; at < bytes; at += 4) value |= BigInt(bench.read32(offset + at)) << BigInt(8 * at);
  return value;
}

function writeRegister(bench: Bench, { offset, bytes }: Register, value: bigint): void {
  for (let at = 0; at < bytes; at += 4) bench.write32(offset + at, Number((value >> BigInt(8 * at)) & 0xffffffffn));
}

function maskOf({ bits: [high, low] }: Field): bigint {
  return ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
}

function masks(register: Register, ...access: Field['access'][]): bigint {
  return register.fields.filter(one => access.includes(one.access)).reduce((mask, one) => mask | maskOf(one), 0n);
}

function resetOf(register: Register): bigint {
  return register.fields
    .filter(one => one.access !== 'wo')
    .reduce((value, one) => value | (BigInt(one.reset ?? 0) << BigInt(one.bits[1])), 0n);
}

describe('register definition', () => {
  it('has every register of the base set at its offset', () => {
    const offsets = Object.fromEntries(block.registers.map(one => [one.name, one.offset]));
    expect(offsets).toMatchObject({
      VER: 0x00,
      CAP: 0x08,
      ECAP: 0x10,
      GCMD: 0x18,
      GSTS: 0x1c,
      RTADDR: 0x20,
      CCMD: 0x28,
      FSTS: 0x34,
      FECTL: 0x38,
      FEDATA: 0x3c,
      FEADDR: 0x40,
      FEUADDR: 0x44,
      AFLOG: 0x58,
      PMEN: 0x64,
      PLMBASE: 0x68,
      PLMLIMIT: 0x6c,
      PHMBASE: 0x70,
      PHMLIMIT: 0x78,
      IQH: 0x80,
      IQT: 0x88,
      IQA: 0x90,
      ICS: 0x9c,
      IECTL: 0xa0,
      IEDATA: 0xa4,
      IEADDR: 0xa8,
      IEUADDR: 0xac,
      IQERCD: 0xb0,
      IRTA: 0xb8,
      IVA: 0x100,
      IOTLB: 0x108,
      FRCD0: 0x220,
      FRCD7: 0x290,
    });
  });

  it('says why for every capability bit, and names no bit twice', () => {
    for (const name of ['VER', 'CAP', 'ECAP']) {
      for (const one of block.registers.find(register => register.name === name)!.fields) expect(one.why).toBeTruthy();
    }
    for (const register of block.registers) {
      let seen = 0n;
      for (const one of register.fields) {
        expect(seen & maskOf(one), `${register.name}.${one.name}`).toBe(0n);
        seen |= maskOf(one);
      }
      expect(register.section).toMatch(/^11\.4/);
    }
  });

  it('fits every value into its field', () => {
    for (const register of block.registers) {
      for (const one of register.fields) {
        const [high, low] = one.bits;
        expect(BigInt(one.reset ?? 0) >> BigInt(high - low + 1), `${register.name}.${one.name}`).toBe(0n);
      }
    }
  });
});

describe.each(block.registers.map(register => [register.name, register] as const))('%s', (_name, register) => {
  it('has its reset value', () => {
    expect(readRegister(new Bench(), register)).toBe(resetOf(register));
  });

  it('keeps what software writes to writable fields only', () => {
    const bench = new Bench();
    const all = (1n << BigInt(8 * register.bytes)) - 1n;
    writeRegister(bench, register, all);
    expect(readRegister(bench, register)).toBe((resetOf(register) & ~masks(register, 'rw')) | masks(register, 'rw'));
    writeRegister(bench, register, 0n);
    expect(readRegister(bench, register)).toBe(resetOf(register) & ~masks(register, 'rw'));
  });

  it('reports reserved bits that software writes', () => {
    const bench = new Bench();
    const all = (1n << BigInt(8 * register.bytes)) - 1n;
    const reserved = all & ~masks(register, 'ro', 'rw', 'wo', 'w1c');
    writeRegister(bench, register, reserved);
    const noted = bench.trace.events
      .filter(event => event.kind === 'register.reserved' && event.detail.register === register.name)
      .reduce((bits, event) => {
        const shift = BigInt(8 * (Number(event.detail.offset) - register.offset));
        return bits | (BigInt(event.detail.bits as number) << shift);
      }, 0n);
    expect(noted).toBe(reserved);
  });
});

describe('register access', () => {
  it('takes 64-bit registers as a quadword or as two doublewords', () => {
    const bench = new Bench();
    bench.write64(Reg.iqa, 0x123_45678003n);
    expect([bench.read32(Reg.iqa), bench.read32(Reg.iqa + 4)]).toEqual([0x45678003, 0x123]);
    bench.write32(Reg.iqa + 4, 0x7ff);
    expect(bench.read64(Reg.iqa)).toBe(0x7ff_45678003n);
  });

  it('takes two 32-bit registers at once, lower first', () => {
    const bench = new Bench();
    bench.write64(Reg.feaddr, 0x00000003_fee01004n);
    expect([bench.read32(Reg.feaddr), bench.read32(Reg.feuaddr)]).toEqual([0xfee01004, 3]);
  });

  it.each([1, 2, 3, 16])('answers a width of %i bytes with zero and a note', width => {
    const bench = new Bench();
    expect(bench.readAny(Reg.cap, width)).toBe(0n);
    bench.writeAny(Reg.fedata, width, 0x77n);
    expect(bench.read32(Reg.fedata)).toBe(0);
    expect(bench.trace.kinds()).toEqual(['register.access', 'register.access']);
  });

  it.each([
    [Reg.cap + 4, 8],
    [Reg.cap + 1, 4],
    [Reg.fedata + 2, 4],
  ])('answers a misaligned access at %i of %i bytes with zero and a note', (offset, width) => {
    const bench = new Bench();
    expect(bench.readAny(offset, width)).toBe(0n);
    expect(bench.trace.events[0]).toMatchObject({ kind: 'register.access', detail: { offset, width, access: 'read' } });
  });

  it('answers registers that do not exist with zero and a note', () => {
    const bench = new Bench();
    expect(bench.read32(0x308)).toBe(0);
    bench.write32(0x308, 1);
    expect(bench.read32(0x1000)).toBe(0);
    expect(bench.trace.kinds()).toEqual(['register.unknown', 'register.unknown', 'register.unknown']);
  });

  it('answers registers of features that it does not report with zero, and says nothing', () => {
    const bench = new Bench();
    for (const { name, offset, bytes } of ABSENT_REGISTERS) {
      // IVA and IOTLB are there.
      if (block.registers.some(one => one.offset === offset)) continue;
      expect(bench.readAny(offset, bytes), name).toBe(0n);
      expect(bench.readAny(offset, 4), name).toBe(0n);
    }
    expect(bench.trace.kinds()).toEqual([]);
    bench.write64(0xd0, 0x1000n);
    expect(bench.trace.events).toMatchObject([
      { kind: 'register.unknown', detail: { offset: 0xd0, access: 'write' } },
      { kind: 'register.unknown', detail: { offset: 0xd4, access: 'write' } },
    ]);
  });

  it('knows absent registers that do not overlap, by name', () => {
    const taken = new Map<number, string>();
    for (const { name, offset, bytes } of ABSENT_REGISTERS) {
      expect(offset % bytes, name).toBe(0);
      for (let at = offset; at < offset + bytes; at += 4) {
        expect(taken.get(at), name).toBeUndefined();
        taken.set(at, name);
      }
    }
    expect(new Set(taken.values()).size).toBe(ABSENT_REGISTERS.length);
    expect([0xc0, 0xdc, 0x120, 0x218, 0xe30].map(at => taken.get(at))).toEqual([
      'PQH',
      'PRS',
      'MTRR_FIX64K_00000',
      'MTRR_PHYSMASK9',
      'VCCAP',
    ]);
  });

  it('never touches memory or sends a message within an access, whatever is written', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 0x2b0 / 4 }), fc.integer({ min: 0, max: 0xffffffff })), {
          maxLength: 60,
        }),
        writes => {
          const bench = new Bench();
          bench.memory.during = () => {
            throw new Error('memory was touched');
          };
          for (const [word, value] of writes) {
            bench.write32(word * 4, value);
            bench.read32(word * 4);
          }
          expect(bench.messages).toEqual([]);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('survives any writes with their jobs, and comes back to its reset values', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 0x2b0 / 4 }), fc.integer({ min: 0, max: 0xffffffff })), {
          maxLength: 60,
        }),
        writes => {
          const bench = new Bench();
          for (const [word, value] of writes) {
            bench.write32(word * 4, value);
            bench.jobs.run();
            bench.translate(0x1000n);
          }
          bench.unit.reset();
          bench.jobs.run();
          for (const register of block.registers) expect(readRegister(bench, register)).toBe(resetOf(register));
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('what is not offered', () => {
  it.each([
    ['WBF', 27],
    ['IRE', 25],
    ['SIRTP', 24],
    ['CFI', 23],
    ['SFL', 29],
    ['EAFL', 28],
  ])('GCMD.%s is reserved: reported, and no status follows', (_name, bit) => {
    const bench = new Bench();
    bench.write32(Reg.gcmd, 2 ** bit);
    expect(bench.read32(Reg.gsts)).toBe(0);
    expect(bench.trace.events).toMatchObject([
      { kind: 'register.reserved', detail: { register: 'GCMD', bits: 2 ** bit } },
    ]);
  });

  it('protected memory cannot be enabled', () => {
    const bench = new Bench();
    bench.write32(0x64, MASK);
    bench.write32(0x68, 0x100000);
    expect([bench.read32(0x64), bench.read32(0x68)]).toEqual([0, 0]);
    expect(bench.trace.kinds()).toContain('vtd.noProtectedMemory');
  });
});
