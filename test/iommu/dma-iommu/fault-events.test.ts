import { describe, expect, it } from 'vitest';
import {
  DeviceCreationConfigType,
  DomainType,
  FaultType,
  PasidConfigType,
} from '../../../src/iommu/dma-iommu/types.ts';
import { FaultCause } from '../../../src/trace/event-kinds.ts';
import { EventLog } from './event-log.ts';
import { Arm64Tables, arm64Config, X64Tables, x64Config } from './guest-tables.ts';
import { expectStatus, GPU, NIC, R, Rig, W } from './support.ts';

const causeNames = Object.keys(FaultCause);

function setUp() {
  const trace = new EventLog('fault');
  const rig = new Rig({ trace, memoryBytes: 8 << 20 });
  /** The one fault of one access; `cause` by name. */
  const fault = (address: bigint, access: number = R, requesterId = NIC, pasid = -1) => {
    expect(rig.dma(requesterId, address, access, pasid)).toBeUndefined();
    const [event, ...others] = trace.take();
    expect(others).toEqual([]);
    expect(event!.kind).toBe('fault');
    expect(causeNames).toContain(event!.fields.cause);
    return event!.fields;
  };
  return { trace, rig, fault };
}

function x64(rig: Rig) {
  const tables = new X64Tables(rig.memory);
  const domain = rig.domain(DomainType.Unmanaged);
  expectStatus(rig.attach(domain), 'SUCCESS');
  expectStatus(rig.unit.configureDomain({ domain, configuration: x64Config({ root: tables.root }) }), 'SUCCESS');
  return { tables, domain };
}

describe('fault events', () => {
  it('of pages that are not mapped say which entry decided', () => {
    const { rig, fault } = setUp();
    const { tables, domain } = x64(rig);
    tables.map(0x1000n, 0x5000n);
    expect(fault(0x2123n, W)).toEqual({
      requesterId: NIC,
      access: W,
      outcome: 'recorded',
      cause: 'notPresent',
      iova: 0x2123n,
      reason: FaultType.TranslationFault,
      domain,
      pasid: -1,
      level: 1,
      entry: 0n,
      entryAddress: tables.root + 0x3000n + 16n,
      addressWidth: 48,
    });
    expect(fault(1n << 40n)).toMatchObject({ level: 4, entryAddress: tables.root + 16n });
  });

  it('of accesses that are not allowed', () => {
    const { rig, fault } = setUp();
    const { tables } = x64(rig);
    tables.map(0x1000n, 0x5000n, 0x65n);
    expect(fault(0x1000n, W)).toMatchObject({ cause: 'denied', level: 1, entry: 0x5065n });
  });

  it('of tables that are not in memory, and of reserved bits', () => {
    const { rig, fault } = setUp();
    const { tables } = x64(rig);
    tables.set(0x4000_0000n, 2, 0x7_0000_0067n);
    expect(fault(0x4000_0000n)).toMatchObject({
      cause: 'tableUnreachable',
      level: 1,
      entry: 0n,
      entryAddress: 0x7_0000_0000n,
    });
    tables.set(0x8000_0000n, 2, 0x40_00e7n);
    tables.set(0x8020_0000n, 2, 0x40_20e7n);
    expect(rig.dma(NIC, 0x8000_0000n)).toBe(0x40_0000n);
    expect(fault(0x8020_0000n)).toMatchObject({ cause: 'malformedEntry', level: 2, entry: 0x40_20e7n });
  });

  it('of addresses that are none in the domain', () => {
    const { rig, fault } = setUp();
    x64(rig);
    expect(fault(1n << 50n)).toMatchObject({ cause: 'addressTooWide', level: 0, addressWidth: 48 });
    const other = new Arm64Tables(rig.memory, 4, 3, 300);
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain, 0x200);
    rig.unit.configureDomain({ domain, configuration: arm64Config({ ttbr0: other.root, inputSize0: 39 }) });
    expect(fault(1n << 39n, R, 0x200)).toMatchObject({ cause: 'addressTooWide', level: 0, addressWidth: 39 });
    other.map(0x1000n, 0x5000n, 0x3n);
    expect(fault(0x1000n, R, 0x200)).toMatchObject({ cause: 'malformedEntry', level: 1, entry: 0x5003n });
    rig.unit.configureDomain({ domain, configuration: arm64Config({ ttbr0: other.root, translationEnabled: false }) });
    expect(fault(1n << 43n, R, 0x200)).toMatchObject({ cause: 'addressTooWide', addressWidth: 43 });
  });

  it('of tables of our own', () => {
    const { rig, fault } = setUp();
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x1000n, [5], R);
    expect(fault(0x1000n, W)).toMatchObject({ cause: 'denied', domain, level: 1 });
    expect(fault(0x3000n)).toMatchObject({ cause: 'notPresent', domain, level: 1 });
    expect(fault(1n << 48n)).toMatchObject({ cause: 'addressTooWide', addressWidth: 48 });
  });

  it('of requesters that are attached to nothing, and of domains that are not configured', () => {
    const { rig, fault } = setUp();
    expect(fault(0x1000n, R, 0x555)).toMatchObject({ cause: 'notAttached', domain: -1, requesterId: 0x555 });
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain);
    expect(fault(0x1000n)).toMatchObject({ cause: 'blocked', domain, level: 0, entry: 0n, entryAddress: 0n });
  });

  it('of PASIDs, also of those that the driver wants to hear nothing of', () => {
    const { rig, fault } = setUp();
    expect(fault(0x1000n, R, NIC, 5)).toMatchObject({ cause: 'noPasid', pasid: 5, outcome: 'recorded' });
    rig.device(GPU, [
      {
        configType: DeviceCreationConfigType.Pasid,
        pasidConfigType: PasidConfigType.PasidTaggedDma,
        suppressPasidFaults: true,
      },
    ]);
    expect(fault(0x1000n, R, GPU, 5)).toMatchObject({ cause: 'noPasid', outcome: 'suppressed' });
  });

  it('say when the fault was lost because too many waited', () => {
    const { fault } = setUp();
    for (let i = 0; i < 256; i++) expect(fault(0x1000n)).toMatchObject({ outcome: 'recorded' });
    expect(fault(0x1000n)).toMatchObject({ outcome: 'overflowed' });
  });

  it('do not keep what an earlier fault was about', () => {
    const { rig, fault } = setUp();
    const { tables } = x64(rig);
    tables.map(0x1000n, 0x5000n, 0x65n);
    fault(0x1000n, W);
    expect(fault(0x1000n, W, 0x555)).toMatchObject({ level: 0, entry: 0n, entryAddress: 0n, addressWidth: 0 });
  });
});

describe('refuse', () => {
  it('reports a fault as if nothing were mapped', () => {
    const { rig, trace } = setUp();
    const faults = rig.listen();
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x1000n, [5]);
    rig.unit.refuse(NIC, 0, 0x1000, W);
    rig.unit.refuse(0x555, 0, 0x1000, W);
    expect(trace.fields('fault').map(({ cause, domain: of }) => [cause, of])).toEqual([
      ['notPresent', domain],
      ['notAttached', -1],
    ]);
    rig.jobs.run();
    expect(faults.map(({ requesterId }) => requesterId)).toEqual([NIC, 0x555]);
    expect(rig.dma(NIC, 0x1000n)).toBe(0x5000n);
  });
});
