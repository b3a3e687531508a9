import { describe, expect, it } from 'vitest';
import { vtdCapabilities } from '../../../src/iommu/vtd/capabilities.ts';
import { Bench, Reg } from './support.ts';

describe('capability registers', () => {
  it('report what the default unit can do', () => {
    const bench = new Bench();
    // ND 16 bits, SAGAW 3 and 4 levels, MGAW 48, ZLR, FRO 220h, 2M and 1G, PSI, 8 records, MAMV 18, draining.
    expect(bench.read64(Reg.cap)).toBe(0x00d2078c_226f0606n);
    // C, QI, PT, SC, IRO 100h.
    expect(bench.read64(Reg.ecap)).toBe(0x10c3n);
    expect(bench.read32(Reg.ver)).toBe(0x10);
  });

  it('report caching mode', () => {
    expect(new Bench({ cachingMode: true }).read32(Reg.cap) & 0x80).toBe(0x80);
    expect(new Bench().read32(Reg.cap) & 0x80).toBe(0);
  });

  it('report the number of levels and the width that follows', () => {
    const three = new Bench({ levels: [3], hostAddressWidth: 39 }).read32(Reg.cap);
    expect([(three >>> 8) & 0x1f, (three >>> 16) & 0x3f]).toEqual([0b00010, 38]);
    const five = new Bench({ levels: [4, 5] }).read32(Reg.cap);
    expect([(five >>> 8) & 0x1f, (five >>> 16) & 0x3f]).toEqual([0b01100, 56]);
  });

  it('report the sizes of large pages', () => {
    const sizes = (pages: { '2M': boolean; '1G': boolean }) =>
      (new Bench({ largePages: pages }).read64(Reg.cap) >> 34n) & 0xfn;
    expect(sizes({ '2M': false, '1G': false })).toBe(0n);
    expect(sizes({ '2M': true, '1G': false })).toBe(1n);
    expect(sizes({ '2M': true, '1G': true })).toBe(3n);
  });

  it('report the number of fault records and where they are', () => {
    const cap = new Bench({ faultRecords: 1 }).read64(Reg.cap);
    expect((cap >> 40n) & 0xffn).toBe(0n);
    expect(((cap >> 24n) & 0x3ffn) * 16n).toBe(BigInt(Reg.frcd));
  });

  it('report the width of domain ids', () => {
    for (const [bits, encoded] of [
      [4, 0],
      [8, 2],
      [16, 6],
    ]) {
      expect(new Bench({ domainIdBits: bits! }).read32(Reg.cap) & 7).toBe(encoded);
    }
  });

  it('drop pass-through and snoop control where they are switched off', () => {
    expect(new Bench({ passThrough: false }).read32(Reg.ecap) & 0x40).toBe(0);
    expect(new Bench({ snoopControl: false }).read32(Reg.ecap) & 0x80).toBe(0);
  });

  it('say where the IOTLB registers are', () => {
    expect(((new Bench().read32(Reg.ecap) >>> 8) & 0x3ff) * 16).toBe(Reg.iva);
  });
});

describe('options', () => {
  it('keep guest width at least as wide as host width, as 11.4.2 demands', () => {
    const { guestAddressWidth, hostAddressWidth } = vtdCapabilities();
    expect(guestAddressWidth).toBeGreaterThanOrEqual(hostAddressWidth);
    expect(() => vtdCapabilities({ levels: [3] })).toThrow(/hostAddressWidth is 43/);
    expect(() => vtdCapabilities({ levels: [3], hostAddressWidth: 39 })).not.toThrow();
  });

  it.each([
    [{ hostAddressWidth: 44 }, /hostAddressWidth is 44/],
    [{ hostAddressWidth: 31 }, /hostAddressWidth is 31/],
    [{ faultRecords: 0 }, /faultRecords is 0/],
    [{ faultRecords: 223 }, /faultRecords is 223/],
    [{ domainIdBits: 7 }, /must be even/],
    [{ domainIdBits: 18 }, /domainIdBits is 18/],
    [{ levels: [] }, /levels is empty/],
    [{ largePages: { '2M': false, '1G': true } }, /1G without 2M/],
  ])('refuse %o', (options, message) => {
    expect(() => vtdCapabilities(options)).toThrow(message);
  });

  it('take as many fault records as fit the page', () => {
    const bench = new Bench({ faultRecords: 222 });
    expect((bench.read64(Reg.cap) >> 40n) & 0xffn).toBe(221n);
    bench.enable();
    for (let i = 0; i < 222; i++) bench.translate(BigInt(i) << 12n);
    expect(bench.record(221)).toMatchObject({ valid: true, address: 221n << 12n });
  });
});
