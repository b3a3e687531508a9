import { describe, expect, it } from 'vitest';
import { ntStatusName } from '../../../src/iommu/dma-iommu/ntstatus.ts';
import { operationByOpcode, operationNames, operations, operationsOf } from '../../../src/iommu/dma-iommu/opcodes.ts';
import { DomainType, FaultType } from '../../../src/iommu/dma-iommu/types.ts';
import { DmaIommu } from '../../../src/iommu/dma-iommu/unit.ts';
import { Access, Translation } from '../../../src/iommu/translator.ts';
import { silentTrace } from '../../../src/trace/trace.ts';
import { FakeMemory } from '../support.ts';
import { Arm64Tables, arm64Config } from './guest-tables.ts';
import { Directory, expectStatus, Jobs, NIC, R, Rig, RW, W } from './support.ts';

/** Of a snapshot that leaves nothing out. */
const NOTHING = { domains: 0, attachments: 0, devices: 0, pasidDevices: 0, tokens: 0, ranges: 0 };

describe('the interface objects', () => {
  it('have exactly the operations of their version, bound, and are frozen', () => {
    const { unit } = new Rig();
    for (const version of [1, 2, 3] as const) {
      const made = unit.getInterfaceEx(version).interface!;
      const { version: number, size, ...rest } = made;
      expect(number).toBe(version);
      expect(Object.keys(rest)).toEqual(operationsOf(version));
      expect(size).toBe(0x10 + 8 * Object.keys(rest).length);
      expect(Object.isFrozen(made)).toBe(true);
    }
    const { createDomainEx } = unit.getInterfaceEx(2).interface!;
    expectStatus(createDomainEx({ domainType: 0 }), 'SUCCESS');
    expect(unit.snapshot().domains.length).toBe(1);
  });

  it('of the older kind are of version 1 only', () => {
    const { unit } = new Rig();
    expectStatus(unit.getInterface(0), 'INVALID_PARAMETER_1');
    expectStatus(unit.getInterface(2), 'INVALID_PARAMETER_1');
    const { version, size, ...rest } = unit.getInterface(1).interface!;
    expect([version, size, Object.keys(rest)]).toEqual([1, 0x70, operationsOf(1)]);
  });

  it('have 13, 22 and 27 operations, one for each slot', () => {
    for (const [version, count] of [
      [1, 13],
      [2, 22],
      [3, 27],
    ] as const) {
      const slots = operationsOf(version).map(name => operations[name].slot);
      expect(slots).toEqual(Array.from({ length: count }, (_, i) => i));
    }
  });

  it('have one opcode for each operation', () => {
    expect(new Set(operationNames.map(name => operations[name].opcode)).size).toBe(operationNames.length);
    for (const name of operationNames) expect(operationByOpcode(operations[name].opcode)).toBe(name);
    expect(operationByOpcode(0)).toBeUndefined();
  });
});

it('statuses have names', () => {
  expect([0, 0xc000000d, 0xc0000708, 0x12345].map(ntStatusName)).toEqual([
    'STATUS_SUCCESS',
    'STATUS_INVALID_PARAMETER',
    'STATUS_RESOURCE_IN_USE',
    '0x00012345',
  ]);
});

describe('probe', () => {
  it('says where an answer comes from, without changing what there is', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x1000n, [5], R);
    const expected = {
      translated: true,
      fault: -1,
      domain,
      frame: 5,
      shift: 12,
      permissions: R,
      level: 1,
      stale: false,
    };
    for (let i = 0; i < 2; i++) expect(rig.probe(NIC, 0x1008n)).toEqual({ ...expected, source: 'walk' });
    rig.dma(NIC, 0x1000n);
    const before = structuredClone(rig.unit.statistics);
    expect(rig.probe(NIC, 0x1008n)).toEqual({ ...expected, source: 'iotlb' });
    expect(rig.probe(NIC, 0x1000n, W)).toMatchObject({ translated: false, fault: FaultType.PermissionFault, frame: 0 });
    expect(rig.probe(NIC, 0x2000n)).toMatchObject({ fault: FaultType.TranslationFault, source: 'paging-structure' });
    expect(rig.probe(NIC, 1n << 48n)).toMatchObject({ fault: FaultType.AddressSizeFault, level: 0 });
    expect(rig.probe(NIC, 0x1008n).source).toBe('iotlb');
    expect(rig.unit.statistics).toEqual(before);
    expect(rig.jobs.pending).toEqual([]);
  });

  it('knows devices that are attached to nothing, and ids that are none', () => {
    const rig = new Rig();
    for (const id of [NIC, -1, 70000, 1.5, Number.NaN]) {
      const fault = FaultType.UnsupportedUpstreamTransaction;
      expect(rig.probe(id, 0n)).toMatchObject({ translated: false, fault, domain: 0, source: 'none' });
      expect(rig.probe(id, 0n, R, 5)).toMatchObject({ translated: false, fault, domain: 0, source: 'none' });
    }
  });

  it('knows PassThrough', () => {
    const rig = new Rig();
    rig.attach(rig.domain(DomainType.PassThrough));
    expect(rig.probe(NIC, 0x5123n, W)).toMatchObject({ translated: true, frame: 5, permissions: RW, source: 'none' });
  });
});

describe('reset', () => {
  it('leaves nothing, and gives no handle again', () => {
    const rig = new Rig();
    const domain = rig.buddy(32);
    const dmaDevice = rig.device();
    rig.unit.attachDeviceEx({ domain, dmaDevice });
    rig.unit.reserveLogicalAddressRange({ domain, size: 4096n });
    rig.unit.reset();
    expect(rig.unit.snapshot()).toEqual({
      domains: [],
      attachments: [],
      devices: [],
      tokens: [],
      guarded: [],
      tablePages: 0,
      omitted: NOTHING,
    });
    expect(rig.dma(NIC, 0n)).toBeUndefined();
    expectStatus(rig.unit.deleteDomain({ domain }), 'INVALID_HANDLE');
    expect(rig.domain()).toBeGreaterThan(dmaDevice);
    rig.device();
  });

  it('while a table is read ends the request, without a fault and with nothing cached', () => {
    const memory = new FakeMemory(1 << 20, { messagesOnly: true });
    const jobs = new Jobs();
    const unit = new DmaIommu({ name: 'iommu', memory, devices: new Directory(), jobs, trace: silentTrace });
    const rig = new Rig();
    const tables = new Arm64Tables(rig.memory);
    tables.map(0x1000n, 0x5000n);
    memory.bytes.set(rig.memory.windows[0]!.bytes);
    const attach = () => {
      const domain = unit.createDomain({ osManagedPageTable: false }).domain!;
      unit.attachDevice({ domain, physicalDeviceObject: NIC, inputMappingIdBase: 0, mappingCount: 1 });
      unit.configureDomain({ domain, configuration: arm64Config({ ttbr0: tables.root }) });
    };
    attach();
    const out = new Translation();
    expect(unit.translate(NIC, 0, 0x1000, Access.read, out)).toBe(true);
    unit.reset();
    attach();
    memory.during = () => unit.reset();
    expect(unit.translate(NIC, 0, 0x1000, Access.read, out)).toBe(false);
    expect(unit.statistics.faults.every(count => count === 0)).toBe(true);
    expect(jobs.pending).toEqual([]);
  });
});

describe('snapshot', () => {
  it('tells domains, ranges, devices and tokens', () => {
    const rig = new Rig();
    const domain = rig.domain(DomainType.Translate, [{ base: 0x9000n, numberOfPages: 2, shouldMap: false }]);
    const dmaDevice = rig.device();
    rig.unit.attachDeviceEx({ domain, dmaDevice });
    rig.map(domain, 0x1000n, [5, 6], R);
    const { token } = rig.unit.reserveLogicalAddressRange({
      domain,
      size: 0x3000n,
      explicitLogicalAddress: 0x4000n,
    });
    expect(rig.unit.snapshot()).toEqual({
      domains: [
        {
          handle: domain,
          type: 0,
          allocator: undefined,
          configuration: undefined,
          attached: 1,
          tokens: 1,
          rangeCount: 3,
          ranges: [
            { logicalAddress: 0x1000n, numberOfPages: 2, kind: 'logical', permissions: R },
            { logicalAddress: 0x4000n, numberOfPages: 3, kind: 'token', permissions: 0 },
            { logicalAddress: 0x9000n, numberOfPages: 2, kind: 'hole', permissions: 0 },
          ],
        },
      ],
      attachments: [
        {
          domain,
          physicalDeviceObject: NIC,
          inputMappingIdBase: 0,
          ids: [NIC],
          faultReporting: false,
          dmaDevice,
        },
      ],
      devices: [
        { handle: dmaDevice, physicalDeviceObject: NIC, domain, pasidTagged: false, watched: false, pasidDevices: [] },
      ],
      tokens: [{ handle: token, domain, logicalAddress: 0x4000n, numberOfPages: 3, segments: 0 }],
      guarded: [],
      tablePages: 4,
      omitted: NOTHING,
    });
    expect(structuredClone(rig.unit.statistics)).toEqual(rig.unit.statistics);
  });
});

it('refuses PASID limits that are none', () => {
  for (const pasidMax of [0, 1 << 20, 1.5]) expect(() => new Rig({ pasidMax })).toThrow(RangeError);
});
