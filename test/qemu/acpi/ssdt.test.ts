import { describe, expect, it } from 'vitest';
import { buildExternalPortsSsdt, rootBusDeviceName } from '../../../qemu/acpi/ssdt.ts';
import { checkTable } from '../../../qemu/acpi/table.ts';

describe("the names of QEMU's DSDT", () => {
  it.each([
    [0, 0, '\\_SB.PCI0.S00'],
    [1, 0, '\\_SB.PCI0.S08'],
    [2, 0, '\\_SB.PCI0.S10'],
    [0x1f, 3, '\\_SB.PCI0.SFB'],
  ])('slot %d function %d is %s', (slot, fn, expected) => {
    expect(rootBusDeviceName(slot, fn)).toBe(expected);
  });

  it('refuses what is no PCI function', () => {
    expect(() => rootBusDeviceName(32, 0)).toThrow(RangeError);
    expect(() => rootBusDeviceName(0, 8)).toThrow(RangeError);
  });
});

describe('the SSDT of external-facing ports', () => {
  it('is a whole table, also with no port at all', () => {
    for (const ports of [[], [{ slot: 2 }]])
      expect(() => checkTable(buildExternalPortsSsdt(ports), 'SSDT')).not.toThrow();
  });

  it('has integers of 64 bits', () => {
    expect(buildExternalPortsSsdt([])[8]).toBeGreaterThanOrEqual(2);
  });
});
