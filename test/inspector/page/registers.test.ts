import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeBlock, formatBits, readLittleEndian } from '../../../src/inspector/page/store/register-decode.ts';
import { BLOCKS, registerBytes } from './fake-hardware.ts';
import { FakeMachine } from './fake-machine.ts';

describe('registers', () => {
  const vtd = BLOCKS[0]!;
  const { bytes } = registerBytes(new FakeMachine(0), 'iommu')!;

  it('are decoded by their definitions', () => {
    const registers = decodeBlock(vtd, bytes);
    const version = registers.find(one => one.name === 'VER')!;
    expect(version.value).toBe(0x10n);
    expect(version.fields.find(one => one.name === 'MAX')?.value).toBe(1n);
    expect(registers.every(one => one.before === undefined)).toBe(true);
  });

  it('tell what changed since the last look', () => {
    const now = bytes.slice();
    now[0x34] = 0x3;
    const status = decodeBlock(vtd, now, bytes).find(one => one.name === 'FSTS')!;
    expect(status.before).toBe(0n);
    expect(status.fields.filter(one => one.changed).map(one => one.name)).toEqual(['PFO', 'PPF']);
  });

  it('may be 16 bytes wide', () => {
    const now = bytes.slice();
    now.set([0x40, 0x01], 0x220 + 8);
    const record = decodeBlock(vtd, now).find(one => one.name === 'FRCD0')!;
    expect(record.fields.find(one => one.name === 'SID')?.value).toBe(0x140n);
  });

  it('read as zero where the bytes end', () => {
    expect(readLittleEndian(new Uint8Array([1]), 0, 8)).toBe(1n);
    expect(readLittleEndian(new Uint8Array([1]), 4, 4)).toBe(0n);
  });

  it('are little-endian', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 64n - 1n), value => {
        const written = new Uint8Array(8);
        new DataView(written.buffer).setBigUint64(0, value, true);
        expect(readLittleEndian(written, 0, 8)).toBe(value);
      }),
    );
  });

  it('name bits as specifications do', () => {
    expect(formatBits([63, 12])).toBe('63:12');
    expect(formatBits([5, 5])).toBe('5');
  });
});
