import { describe, expect, it } from 'vitest';
import { type DomainConfiguration, type DomainHandle, DomainType } from '../../../src/iommu/dma-iommu/types.ts';
import { Arm64Tables, arm64Config, X64Tables, x64Config } from './guest-tables.ts';
import { expectStatus, NIC, R, Rig, RW, W } from './support.ts';

const MEMORY = 8 << 20;

function unmanaged(rig: Rig, configuration: DomainConfiguration): DomainHandle {
  const domain = rig.domain(DomainType.Unmanaged);
  expectStatus(rig.attach(domain), 'SUCCESS');
  expectStatus(rig.unit.configureDomain({ domain, configuration }), 'SUCCESS');
  return domain;
}

describe('x86-64 tables', () => {
  it.each([4, 5])('of %i levels translate both halves of the address space', levels => {
    const rig = new Rig();
    const tables = new X64Tables(rig.memory, levels);
    const top = levels === 4 ? 0xffff_8000_0000_0000n : 0xff00_0000_0000_0000n;
    tables.map(0x12_3456_7000n, 0x5000n);
    tables.map(top, 0x6000n);
    tables.map(0xffff_ffff_ffff_f000n, 0x7000n);
    unmanaged(rig, x64Config({ root: tables.root, levels }));
    const addresses = [0x12_3456_7008n, top + 8n, 0xffff_ffff_ffff_f008n, top - 8n, -top & (2n ** 64n - 1n)];
    const seen = addresses.map(address => rig.dma(NIC, address, W));
    expect(seen).toEqual([0x5008n, 0x6008n, 0x7008n, undefined, undefined]);
  });

  it('map large pages', () => {
    const rig = new Rig();
    const tables = new X64Tables(rig.memory);
    tables.set(0x4000_0000n, 2, 0x4020_00e7n);
    unmanaged(rig, x64Config({ root: tables.root }));
    expect(rig.dma(NIC, 0x401f_f123n)).toBe(0x403f_f123n);
    expect(rig.probe(NIC, 0x4000_0000n)).toMatchObject({ shift: 21, level: 2 });
  });

  it('get their accessed and dirty bits, but not from a probe', () => {
    const rig = new Rig();
    const tables = new X64Tables(rig.memory);
    tables.map(0x1000n, 0x5000n, 0x7n);
    unmanaged(rig, x64Config({ root: tables.root }));
    const entry = () => {
      const frame = Number(tables.root >> 12n) + 3;
      rig.memory.load64(frame, 8);
      return rig.memory.low & 0xfff;
    };
    expect(rig.probe(NIC, 0x1000n, W)).toMatchObject({ translated: true, frame: 5 });
    expect(entry()).toBe(0x7);
    rig.dma(NIC, 0x1000n, R);
    expect(entry()).toBe(0x27);
    rig.dma(NIC, 0x1000n, W);
    expect(entry()).toBe(0x67);
  });
});

describe('ARM64 tables', () => {
  it.each([
    [4, 48, 4],
    [4, 39, 3],
    [4, 30, 2],
    [16, 48, 4],
    [16, 47, 3],
    [64, 48, 3],
    [64, 42, 2],
  ] as const)('with a granule of %i KiB and %i bits have %i levels', (granule, inputSize0, levels) => {
    const rig = new Rig({ memoryBytes: MEMORY });
    const tables = new Arm64Tables(rig.memory, granule, levels);
    const last = (1n << BigInt(inputSize0)) - (BigInt(granule) << 10n);
    tables.map(last, 0x10_0000n);
    unmanaged(rig, arm64Config({ ttbr0: tables.root, inputSize0, granule }));
    expect(rig.dma(NIC, last + 0x123n)).toBe(0x10_0123n);
    expect(rig.dma(NIC, 1n << BigInt(inputSize0))).toBeUndefined();
    expect(rig.probe(NIC, 1n << BigInt(inputSize0))).toMatchObject({ source: 'none', translated: false });
  });

  it('for the lower and the upper end are apart, in the caches too', () => {
    const rig = new Rig();
    const lower = new Arm64Tables(rig.memory, 4, 3);
    const upper = new Arm64Tables(rig.memory, 4, 4, 64);
    const high = 0xffff_0000_0000_0000n;
    lower.map(0x1000n, 0x5000n);
    upper.map(0x1000n, 0x6000n);
    upper.map(0xffff_ffff_f000n, 0x7000n);
    const configuration = arm64Config({ ttbr0: lower.root, inputSize0: 39, ttbr1: upper.root, inputSize1: 48 });
    const domain = unmanaged(rig, configuration);
    const all = [0x1000n, high + 0x1000n, 0xffff_ffff_ffff_f000n];
    expect(all.map(address => rig.dma(NIC, address))).toEqual([0x5000n, 0x6000n, 0x7000n]);
    expect(rig.dma(NIC, high - 0x1000n)).toBeUndefined();
    expect(rig.dma(NIC, 1n << 39n)).toBeUndefined();
    upper.set(0x1000n, 1, 0n);
    lower.set(0x1000n, 1, 0n);
    rig.unit.flushDomainByVaList({ domain, lastLevel: true, vaList: [high + 0x1000n] });
    expect(all.map(address => rig.dma(NIC, address))).toEqual([0x5000n, undefined, 0x7000n]);
    rig.unit.flushDomain({ domain });
    expect(all.map(address => rig.dma(NIC, address))).toEqual([undefined, undefined, 0x7000n]);
  });

  it('narrower than 32 bits are told from both ends', () => {
    const rig = new Rig();
    const tables = new Arm64Tables(rig.memory, 4, 2);
    tables.map(0x1ff_f000n, 0x5000n);
    const half = { inputSize0: 25, inputSize1: 25 };
    unmanaged(rig, arm64Config({ ttbr0: tables.root, ttbr1: tables.root, ...half }));
    const addresses = [0x1ff_f000n, 0x3ff_f000n, 0xffff_ffff_ffff_f000n, 0xffff_ffff_fdff_f000n, 0x1_0000_0000n];
    expect(addresses.map(address => rig.dma(NIC, address))).toEqual([
      0x5000n,
      undefined,
      0x5000n,
      undefined,
      undefined,
    ]);
  });

  it('refuse writes to a read-only page', () => {
    const rig = new Rig();
    const tables = new Arm64Tables(rig.memory);
    tables.map(0x1000n, 0x5000n, 0x483n);
    unmanaged(rig, arm64Config({ ttbr0: tables.root }));
    expect([rig.dma(NIC, 0x1000n, R), rig.dma(NIC, 0x1000n, W), rig.dma(NIC, 0x1000n, RW)]).toEqual([
      0x5000n,
      undefined,
      undefined,
    ]);
  });
});

describe('configureDomain', () => {
  const good = arm64Config({ ttbr0: 0x1_0000n });

  it.each([
    ['an unaligned table', { ttbr0: 0x1_0800n }],
    ['a table beyond 8 TiB', { ttbr0: 1n << 43n }],
    ['a negative table', { ttbr0: -0x1000n }],
    ['an input size of 24', { inputSize0: 24 }],
    ['an input size of 49', { inputSize0: 49 }],
    ['half an input size', { inputSize1: 39.5, ttbr1: 0n }],
    ['no input size at all', { inputSize0: 0 }],
    ['no such granule', { granule: 8 }],
    ['no such architecture', { type: 2 }],
  ])('refuses ARM64 with %s, and keeps what there was', (_, change) => {
    const rig = new Rig();
    const tables = new Arm64Tables(rig.memory);
    tables.map(0x1000n, 0x5000n);
    const domain = unmanaged(rig, arm64Config({ ttbr0: tables.root }));
    const configuration = { ...good, ...change } as DomainConfiguration;
    expectStatus(rig.unit.configureDomain({ domain, configuration }), 'INVALID_PARAMETER_2');
    expect(rig.dma(NIC, 0x1000n)).toBe(0x5000n);
  });

  it.each([
    ['an unaligned table', { root: 1n }],
    ['3 levels', { root: 0n, levels: 3 }],
    ['no table', { root: undefined as unknown as bigint }],
  ])('refuses X64 with %s', (_, change) => {
    const rig = new Rig();
    const domain = rig.domain(DomainType.Unmanaged);
    const configuration = x64Config(change);
    expectStatus(rig.unit.configureDomain({ domain, configuration }), 'INVALID_PARAMETER_2');
    rig.attach(domain);
    expect(rig.dma(NIC, 0n)).toBeUndefined();
  });

  it('knows one granule only in Windows', () => {
    for (const [compat, status] of [
      ['windows', 'INVALID_PARAMETER_2'],
      ['extended', 'SUCCESS'],
    ] as const) {
      const rig = new Rig({ compat });
      const domain = rig.domain(DomainType.Unmanaged);
      expectStatus(rig.unit.configureDomain({ domain, configuration: { ...good, granule: 64 } }), status);
      expectStatus(rig.unit.configureDomain({ domain, configuration: { ...good, granule: 4 } }), 'SUCCESS');
    }
  });

  it('refuses other domains and handles that are none', () => {
    const rig = new Rig();
    const configure = (domain: number) =>
      rig.unit.configureDomain({ domain: domain as DomainHandle, configuration: good });
    expectStatus(configure(12345), 'INVALID_HANDLE');
    for (const type of [0, 1, 3]) expectStatus(configure(rig.domain(type)), 'INVALID_PARAMETER_1');
  });

  it('without translation lets everything through', () => {
    const rig = new Rig();
    unmanaged(rig, arm64Config({ translationEnabled: false, inputSize0: 0 }));
    expect(rig.dma(NIC, 0x1234_5678n, W)).toBe(0x1234_5678n);
    const other = new Rig();
    unmanaged(other, x64Config({ root: 0n, translationEnabled: false }));
    expect(other.dma(NIC, 0x1234_5678n, W)).toBe(0x1234_5678n);
  });

  it('again replaces the tables, and what was cached of them', () => {
    const rig = new Rig();
    const one = new Arm64Tables(rig.memory);
    const other = new X64Tables(rig.memory, 4, 64);
    one.map(0x1000n, 0x5000n);
    other.map(0x1000n, 0x6000n);
    const domain = unmanaged(rig, arm64Config({ ttbr0: one.root }));
    expect(rig.dma(NIC, 0x1000n)).toBe(0x5000n);
    rig.unit.configureDomain({ domain, configuration: x64Config({ root: other.root }) });
    expect(rig.dma(NIC, 0x1000n)).toBe(0x6000n);
    one.set(0x1000n, 1, 0n);
    rig.unit.configureDomain({ domain, configuration: arm64Config({ ttbr0: one.root }) });
    expect(rig.dma(NIC, 0x1000n)).toBeUndefined();
  });
});

describe('flushes', () => {
  function twoDomains() {
    const rig = new Rig({ checkStale: true });
    const tables = new Arm64Tables(rig.memory);
    tables.map(0x1000n, 0x5000n);
    tables.map(0x2000n, 0x6000n);
    const configuration = arm64Config({ ttbr0: tables.root });
    const one = unmanaged(rig, configuration);
    const other = rig.domain(DomainType.Unmanaged);
    rig.attach(other, 0x200);
    rig.unit.configureDomain({ domain: other, configuration });
    for (const requester of [NIC, 0x200]) for (const address of [0x1000n, 0x2000n]) rig.dma(requester, address);
    const sources = () =>
      [NIC, 0x200].flatMap(requester => [0x1000n, 0x2000n].map(address => rig.probe(requester, address).source));
    return { rig, one, sources };
  }

  it('drop entries of their domain only', () => {
    const { rig, one, sources } = twoDomains();
    expect(sources()).toEqual(['iotlb', 'iotlb', 'iotlb', 'iotlb']);
    rig.unit.flushDomain({ domain: one });
    expect(sources()).toEqual(['walk', 'walk', 'iotlb', 'iotlb']);
  });

  it('drop the listed pages only, and paging structures only when asked to', () => {
    const { rig, one, sources } = twoDomains();
    rig.unit.flushDomainByVaList({ domain: one, lastLevel: true, vaList: [0x1fffn] });
    expect(sources()).toEqual(['paging-structure', 'iotlb', 'iotlb', 'iotlb']);
    rig.unit.flushDomainByVaList({ domain: one, lastLevel: false, vaList: [0x1000n] });
    expect(sources()).toEqual(['walk', 'iotlb', 'iotlb', 'iotlb']);
  });

  it('report nothing stale where the tables have not changed', () => {
    const { rig } = twoDomains();
    for (let i = 0; i < 3; i++) rig.dma(NIC, 0x1000n, i === 2 ? W : R);
    expect(rig.unit.statistics.staleHits).toBe(0);
  });
});
