import { describe, expect, it } from 'vitest';
import { buildTable, byteSum, checkTable } from '../../../qemu/acpi/table.ts';

const identity = { signature: 'TEST', revision: 3, oemTableId: 'TABLE' };

describe('an ACPI table', () => {
  const table = buildTable(identity, Uint8Array.of(1, 2, 3));
  const view = new DataView(table.buffer);

  it('has the header of ACPI 6.5, 5.2.6', () => {
    expect(table.length).toBe(36 + 3);
    expect(Buffer.from(table.subarray(0, 4)).toString()).toBe('TEST');
    expect(view.getUint32(4, true)).toBe(39);
    expect(table[8]).toBe(3);
    expect(Buffer.from(table.subarray(10, 16)).toString()).toBe('VIOMMU');
    expect(Buffer.from(table.subarray(16, 24)).toString('latin1')).toBe('TABLE\0\0\0');
    expect([...table.subarray(36)]).toEqual([1, 2, 3]);
  });

  it('adds up to zero', () => {
    expect(byteSum(table)).toBe(0);
    expect(table[9]).not.toBe(0);
  });

  it('passes its own check', () => {
    expect(() => checkTable(table, 'TEST')).not.toThrow();
  });

  it('is refused with another signature, length or checksum', () => {
    expect(() => checkTable(table, 'DMAR')).toThrow(/Not an ACPI table DMAR/);
    expect(() => checkTable(table.subarray(0, 38), 'TEST')).toThrow(/its length says 39 bytes, there are 38/);
    const damaged = table.slice();
    damaged[37]!++;
    expect(() => checkTable(damaged, 'TEST')).toThrow(/checksum/);
    expect(() => checkTable(Uint8Array.of(1), 'TEST')).toThrow(/Not an ACPI table/);
  });

  it('refuses a signature or table id that does not fit', () => {
    expect(() => buildTable({ ...identity, signature: 'LONGER' }, new Uint8Array())).toThrow(RangeError);
    expect(() => buildTable({ ...identity, oemTableId: 'NINECHARS' }, new Uint8Array())).toThrow(RangeError);
  });
});
