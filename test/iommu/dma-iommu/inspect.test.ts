import { describe, expect, it } from 'vitest';
import { type DomainConfiguration, type DomainHandle, DomainType } from '../../../src/iommu/dma-iommu/types.ts';
import { Arm64Tables, arm64Config, X64Tables, x64Config } from './guest-tables.ts';
import { DISK, expectStatus, NIC, R, Rig, W } from './support.ts';

const MEMORY = 8 << 20;

function unmanaged(rig: Rig, configuration: DomainConfiguration): DomainHandle {
  const domain = rig.domain(DomainType.Unmanaged);
  expectStatus(rig.attach(domain), 'SUCCESS');
  expectStatus(rig.unit.configureDomain({ domain, configuration }), 'SUCCESS');
  return domain;
}

function managed(rig: Rig): DomainHandle {
  const domain = rig.domain();
  expectStatus(rig.attach(domain), 'SUCCESS');
  expectStatus(rig.map(domain, 0x8000_0000n, [0x40, 0x41], R), 'SUCCESS');
  return domain;
}

const walk = (rig: Rig, iova: bigint, requesterId = NIC) => rig.unit.inspection.walk(requesterId, undefined, iova);

describe('a walk', () => {
  it('of tables that the unit owns shows their levels and the domain', () => {
    const rig = new Rig();
    const domain = managed(rig);
    const answer = walk(rig, 0x8000_1008n);
    expect(answer).toMatchObject({ status: 'mapped', address: 0x41008n, shift: 12, permissions: R, domain });
    expect(answer.steps.map(({ what }) => what)).toEqual(['level 4', 'level 3', 'level 2', 'level 1']);
    expect(answer.steps.at(-1)!.fields).toContainEqual({ name: 'ADDR', bits: [51, 12], value: 0x41n });
    expect(answer.agrees).toBe(true);
    expect(answer.cached).toBeUndefined();
  });

  it('tells what is cached', () => {
    const rig = new Rig();
    managed(rig);
    rig.dma(NIC, 0x8000_0000n);
    expect(walk(rig, 0x8000_0010n)).toMatchObject({ cached: { address: 0x40010n, shift: 12 }, agrees: true });
  });

  it('leads nowhere where nothing is mapped, attached or configured', () => {
    const rig = new Rig();
    const domain = managed(rig);
    expect(walk(rig, 0x9000_0000n)).toMatchObject({ status: 'not present', domain });
    expect(walk(rig, 1n << 60n)).toMatchObject({ status: 'not present', steps: [], domain });
    expect(walk(rig, 0n, DISK)).toEqual({ status: 'not attached', steps: [], agrees: true });
    expectStatus(rig.attach(rig.domain(DomainType.Unmanaged), DISK), 'SUCCESS');
    expect(walk(rig, 0n, DISK)).toMatchObject({ status: 'not present', steps: [] });
  });

  it('of a PassThrough domain leads to the address itself', () => {
    const rig = new Rig();
    const domain = rig.domain(DomainType.PassThrough);
    rig.attach(domain);
    expect(walk(rig, 0x1234n)).toMatchObject({ status: 'pass-through', address: 0x1234n, permissions: 3, domain });
    expect(walk(rig, 1n << 50n).address).toBeUndefined();
  });

  it('of x86-64 tables takes canonical addresses, and finds what is stale', () => {
    const rig = new Rig();
    const tables = new X64Tables(rig.memory);
    const upper = 0xffff_8000_0000_0000n;
    tables.map(upper, 0x6000n);
    unmanaged(rig, x64Config({ root: tables.root }));
    rig.dma(NIC, upper, W);
    expect(walk(rig, upper + 5n)).toMatchObject({ status: 'mapped', address: 0x6005n, permissions: 3, agrees: true });
    expect(walk(rig, 0x8000_0000_0000n)).toMatchObject({ status: 'not present', steps: [] });
    tables.map(upper, 0x7000n);
    expect(walk(rig, upper)).toMatchObject({ address: 0x7000n, cached: { address: 0x6000n }, agrees: false });
    expect(rig.unit.inspection.tlb(10)).toEqual({
      entries: [{ domain: expect.any(Number), iova: upper, address: 0x6000n, shift: 12, permissions: 3 }],
      total: 1,
    });
  });

  it('says that a page may be written although it is not marked as written yet, and marks nothing', () => {
    const rig = new Rig();
    const tables = new X64Tables(rig.memory);
    tables.map(0x1000n, 0x5000n, 0x7n);
    unmanaged(rig, x64Config({ root: tables.root }));
    const answer = walk(rig, 0x1000n);
    expect(answer.permissions).toBe(3);
    expect(answer.steps.at(-1)!.fields).toContainEqual({ name: 'D', bits: [6, 6], value: 0n });
    expect(walk(rig, 0x1000n)).toEqual(answer);
  });

  it('of ARM64 tables counts levels from the page', () => {
    const rig = new Rig({ memoryBytes: MEMORY });
    const tables = new Arm64Tables(rig.memory, 16, 3);
    tables.map(0x4000n, 0x10_0000n);
    unmanaged(rig, arm64Config({ ttbr0: tables.root, inputSize0: 47, granule: 16 }));
    const answer = walk(rig, 0x5000n);
    expect(answer).toMatchObject({ status: 'mapped', address: 0x10_1000n, shift: 14 });
    expect(answer.steps.map(({ what }) => what)).toEqual(['level 3', 'level 2', 'level 1']);
    expect(answer.steps.at(-1)!.fields).toContainEqual({ name: 'AF', bits: [10, 10], value: 1n });
  });
});

describe('the TLB', () => {
  it('shows addresses of the upper end as requests carry them', () => {
    const rig = new Rig({ memoryBytes: MEMORY });
    const tables = new Arm64Tables(rig.memory, 4, 3);
    const upper = (1n << 64n) - (1n << 39n);
    tables.map(0n, 0x10_0000n);
    unmanaged(rig, arm64Config({ ttbr1: tables.root, inputSize0: 0, inputSize1: 39 }));
    expect(rig.dma(NIC, upper)).toBe(0x10_0000n);
    expect(rig.unit.inspection.tlb(10).entries[0]).toMatchObject({ iova: upper, address: 0x10_0000n });
  });

  it('lists no more than it is asked for', () => {
    const rig = new Rig();
    managed(rig);
    rig.dma(NIC, 0x8000_0000n);
    rig.dma(NIC, 0x8000_1000n);
    expect(rig.unit.inspection.tlb(1).entries).toHaveLength(1);
    expect(rig.unit.inspection.tlb(1).total).toBe(2);
  });
});

describe('looking', () => {
  it('changes no counters and no caches', () => {
    const rig = new Rig();
    managed(rig);
    rig.dma(NIC, 0x8000_0000n);
    const state = () => structuredClone([rig.unit.statistics, rig.unit.inspection.tlb(100), rig.trace.events]);
    const before = state();
    walk(rig, 0x8000_0000n);
    walk(rig, 0x8000_1000n);
    walk(rig, 0n);
    expect(state()).toEqual(before);
  });
});
