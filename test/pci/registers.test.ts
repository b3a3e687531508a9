import { describe, expect, it } from 'vitest';
import { type RegisterBlock, RegisterFile } from '../../src/pci/registers.ts';
import { TraceLog } from '../../src/trace/trace.ts';

const block: RegisterBlock = {
  name: 'sample',
  specification: 'none',
  bytes: 0x40,
  registers: [
    {
      name: 'CONTROL',
      offset: 0x00,
      bytes: 4,
      section: '1',
      fields: [
        { name: 'ENABLE', bits: [0, 0], access: 'rw' },
        { name: 'MODE', bits: [7, 4], access: 'rw', reset: 5 },
        { name: 'START', bits: [31, 31], access: 'wo' },
      ],
    },
    {
      name: 'STATUS',
      offset: 0x04,
      bytes: 4,
      section: '2',
      fields: [
        { name: 'BUSY', bits: [0, 0], access: 'ro', reset: 1 },
        { name: 'ERROR', bits: [1, 1], access: 'w1c' },
        { name: 'SPARE', bits: [9, 8], access: 'reserved' },
      ],
    },
    {
      name: 'POINTER',
      offset: 0x08,
      bytes: 8,
      section: '3',
      fields: [{ name: 'ADDRESS', bits: [63, 12], access: 'rw', reset: 0xfee0_0000_1n }],
    },
  ],
};

function make() {
  const trace = new TraceLog();
  return { trace, file: new RegisterFile(block, trace) };
}

describe('RegisterFile', () => {
  it('starts with the reset values', () => {
    const { file } = make();
    expect(file.softwareRead(0)).toBe(0x50);
    expect(file.softwareRead(4)).toBe(1);
    expect(file.softwareRead(8) >>> 0).toBe(0x0000_1000);
    expect(file.softwareRead(12) >>> 0).toBe(0xfee0);
  });

  it('lets software write rw bits only', () => {
    const { file } = make();
    file.softwareWrite(0, 0x0000_00f1);
    expect(file.softwareRead(0)).toBe(0xf1);
    file.softwareWrite(4, 0);
    expect(file.softwareRead(4)).toBe(1);
  });

  it('reads write-only bits as zero and keeps what was written for the behaviour', () => {
    const { file } = make();
    file.softwareWrite(0, 0x8000_0000 | 0);
    expect(file.softwareRead(0)).toBe(0);
    expect(file.written[0] >>> 31).toBe(1);
  });

  it('clears w1c bits where a one is written and leaves them where a zero is', () => {
    const { file } = make();
    const error = file.field('STATUS', 'ERROR');
    file.set(error, 1);
    file.softwareWrite(4, 0);
    expect(file.get(error)).toBe(1);
    file.softwareWrite(4, 2);
    expect(file.get(error)).toBe(0);
  });

  it('reports reserved bits, named or not, and does not keep them', () => {
    const { file, trace } = make();
    file.softwareWrite(4, 0x300 | 0x8000_0000);
    expect(file.softwareRead(4)).toBe(1);
    expect(trace.events).toEqual([
      { kind: 'register.reserved', source: 'sample', detail: { register: 'STATUS', offset: 4, bits: 0x8000_0300 } },
    ]);
  });

  it('answers zero for what is not there and says so', () => {
    const { file, trace } = make();
    expect(file.softwareRead(0x20)).toBe(0);
    expect(file.softwareRead(0x4000)).toBe(0);
    file.softwareWrite(0x20, 7);
    expect(trace.kinds()).toEqual(['register.unknown', 'register.unknown', 'register.unknown']);
  });

  it('gives handles to fields in the upper word of a 64-bit register, and refuses ones that span words', () => {
    const wide: RegisterBlock = {
      ...block,
      registers: [
        { name: 'W', offset: 0, bytes: 8, section: '1', fields: [{ name: 'HIGH', bits: [63, 32], access: 'rw' }] },
        { name: 'X', offset: 8, bytes: 8, section: '1', fields: [{ name: 'ALL', bits: [63, 0], access: 'rw' }] },
      ],
    };
    const file = new RegisterFile(wide, new TraceLog());
    file.set(file.field('W', 'HIGH'), 0xffff_fffe);
    expect(file.get(file.field('W', 'HIGH'))).toBe(0xffff_fffe);
    expect(file.softwareRead(0)).toBe(0);
    expect(() => file.field('X', 'ALL')).toThrow(/spans two words/);
    expect(() => file.field('X', 'NONE')).toThrow(/no field X.NONE/);
  });

  it('refuses a definition whose registers overlap', () => {
    const twin = { ...block, registers: [...block.registers, { ...block.registers[0], name: 'TWIN' }] };
    expect(() => new RegisterFile(twin as RegisterBlock, new TraceLog())).toThrow(/TWIN overlaps CONTROL/);
  });

  it('forgets everything at reset', () => {
    const { file } = make();
    file.softwareWrite(0, -1);
    file.reset();
    expect(file.softwareRead(0)).toBe(0x50);
    expect(file.written[0]).toBe(0);
  });
});
