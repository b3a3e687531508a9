import { describe, expect, it } from 'vitest';
import { FAULTS_PENDING_MAX } from '../../../src/iommu/dma-iommu/limits.ts';
import {
  DeviceCreationConfigType,
  type DeviceCreationConfiguration,
  DomainType,
  type FaultInformation,
  FaultInformationArch,
  FaultType,
  PasidConfigType,
} from '../../../src/iommu/dma-iommu/types.ts';
import { Arm64Tables, arm64Config, X64Tables, x64Config } from './guest-tables.ts';
import { expectStatus, GPU, NIC, R, Rig, type RigOptions, STRANGER, UART, W } from './support.ts';

function reporting(rig: Rig, pdo: number = NIC, base = 0): { faults: FaultInformation[]; contexts: unknown[] } {
  const faults: FaultInformation[] = [];
  const contexts: unknown[] = [];
  const faultConfig = {
    faultContext: 'context',
    faultHandler: (context: unknown, fault: FaultInformation) => {
      contexts.push(context);
      faults.push(fault);
    },
  };
  const args = { physicalDeviceObject: pdo, inputMappingIdBase: base, enable: true, faultConfig };
  expectStatus(rig.unit.setDeviceFaultReporting(args), 'SUCCESS');
  return { faults, contexts };
}

const typeOf = (fault: FaultInformation | undefined) =>
  fault?.type === FaultInformationArch.Arm64 ? fault.arm64.type : fault?.x64.type;

describe('setDeviceFaultReporting', () => {
  it('refuses, by parameter', () => {
    const rig = new Rig();
    const faultConfig = { faultHandler: () => {} };
    const set = (args: object) =>
      rig.unit.setDeviceFaultReporting({
        physicalDeviceObject: NIC,
        inputMappingIdBase: 0,
        enable: true,
        faultConfig,
        ...args,
      });
    expectStatus(set({ physicalDeviceObject: STRANGER }), 'NOT_FOUND');
    expectStatus(set({}), 'INVALID_PARAMETER_1');
    rig.attach(rig.domain());
    expectStatus(set({ inputMappingIdBase: 1 }), 'INVALID_PARAMETER_2');
    expectStatus(set({ faultConfig: undefined }), 'INVALID_PARAMETER_4');
    expectStatus(set({ enable: false, faultConfig: undefined }), 'SUCCESS');
  });

  it('in its Ex form refuses, by parameter', () => {
    const rig = new Rig();
    const dmaDevice = rig.device();
    const faultConfig = { faultHandler: () => {} };
    const set = (args: object) =>
      rig.unit.setDeviceFaultReportingEx({ dmaDevice, inputMappingIdBase: 0, enable: true, faultConfig, ...args });
    expectStatus(set({ dmaDevice: 12345 }), 'INVALID_HANDLE');
    expectStatus(set({}), 'INVALID_PARAMETER_1');
    rig.unit.attachDeviceEx({ domain: rig.domain(), dmaDevice });
    expectStatus(set({ inputMappingIdBase: 1 }), 'INVALID_PARAMETER_2');
    expectStatus(set({ faultConfig: {} }), 'INVALID_PARAMETER_4');
    expectStatus(set({}), 'SUCCESS');
  });

  it('calls the handler by a job and never from within the DMA', () => {
    const rig = new Rig();
    rig.attach(rig.domain());
    const { faults, contexts } = reporting(rig);
    rig.dma(NIC, 0x1000n);
    rig.dma(NIC, 0x2000n);
    expect(faults).toEqual([]);
    rig.jobs.run();
    expect(contexts).toEqual(['context', 'context']);
    expect(faults.map(fault => fault.type === 2 && fault.x64.faultAddress)).toEqual([0x1000n, 0x2000n]);
  });

  it('ends when it is disabled, and when the device is detached', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    const { faults } = reporting(rig);
    rig.dma(NIC, 0x1000n);
    rig.unit.setDeviceFaultReporting({ physicalDeviceObject: NIC, inputMappingIdBase: 0, enable: false });
    rig.jobs.run();
    expect(faults).toEqual([]);
    reporting(rig);
    rig.dma(NIC, 0x1000n);
    rig.detach(domain);
    rig.attach(domain);
    rig.jobs.run();
    rig.dma(NIC, 0x1000n);
    rig.jobs.run();
    expect(faults).toEqual([]);
    expect(rig.unit.statistics.faults[FaultType.TranslationFault]).toBe(3);
  });

  it('is by group of ids', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain, UART, 8, 2);
    rig.attach(domain, UART, 10, 2);
    const { faults } = reporting(rig, UART, 10);
    rig.dma(9, 0x1000n);
    rig.dma(11, 0x1000n);
    rig.jobs.run();
    expect(faults.map(fault => fault.requesterId)).toEqual([11]);
  });
});

describe('fault information', () => {
  const place: RigOptions = { iommuBaseAddress: 0xfed9_0000n, pciSegment: 3 };

  it('has the X64 form for tables of ours, and who did what', () => {
    const rig = new Rig(place);
    const domain = rig.domain();
    rig.attach(domain);
    const faults = rig.listen();
    rig.dma(NIC, 0x12345n, W);
    rig.jobs.run();
    expect(faults).toEqual([
      {
        type: FaultInformationArch.X64,
        isStage1: false,
        requesterId: NIC,
        access: W,
        pasid: -1,
        x64: {
          domainHandle: domain,
          faultAddress: 0x12345n,
          flags: { faultAddressValid: true },
          type: FaultType.TranslationFault,
          iommuBaseAddress: 0xfed9_0000n,
          pciSegment: 3,
        },
      },
    ]);
  });

  it('has the ARM64 form for ARM64 tables, and for a device that ACPI enumerated', () => {
    const rig = new Rig(place);
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain);
    const configuration = arm64Config({ ttbr0: new Arm64Tables(rig.memory).root });
    rig.unit.configureDomain({ domain, configuration });
    const translate = rig.domain();
    rig.attach(translate, UART, 8, 4);
    const faults = rig.listen();
    rig.dma(NIC, 0x1000n, W);
    rig.dma(9, 0x2000n, R);
    rig.jobs.run();
    const flags = { instructionNotData: false, privileged: false, faultAddressValid: true };
    const common = { type: FaultType.TranslationFault, iommuBaseAddress: 0xfed9_0000n };
    expect(faults).toEqual([
      {
        type: FaultInformationArch.Arm64,
        isStage1: true,
        requesterId: NIC,
        access: W,
        pasid: -1,
        arm64: {
          ...common,
          domainHandle: domain,
          faultAddress: 0x1000n,
          physicalDeviceObject: NIC,
          inputMappingId: 0,
          flags: { ...flags, writeNotRead: true },
        },
      },
      {
        type: FaultInformationArch.Arm64,
        isStage1: false,
        requesterId: 9,
        access: R,
        pasid: -1,
        arm64: {
          ...common,
          domainHandle: translate,
          faultAddress: 0x2000n,
          physicalDeviceObject: UART,
          inputMappingId: 9,
          flags: { ...flags, writeNotRead: false },
        },
      },
    ]);
  });

  it('names no domain for a device that is attached to none', () => {
    const rig = new Rig();
    const faults = rig.listen();
    rig.dma(NIC, 0x1000n);
    rig.jobs.run();
    expect(faults).toMatchObject([{ x64: { domainHandle: 0, type: FaultType.UnsupportedUpstreamTransaction } }]);
  });

  it.each([
    ['an entry that is not present', 0x1000n, 0n, R, FaultType.TranslationFault],
    ['a write to a read-only page', 0x1000n, 0x5025n, W, FaultType.PermissionFault],
    ['a reserved bit', 0x1000n, 0x5067n | (1n << 51n), R, FaultType.ExternalFault],
    ['an address that is not canonical', 1n << 47n, 0n, R, FaultType.AddressSizeFault],
  ])('tells %s', (_, address, entry, access, type) => {
    const rig = new Rig();
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain);
    const tables = new X64Tables(rig.memory);
    tables.set(0x1000n, 1, entry);
    rig.unit.configureDomain({ domain, configuration: x64Config({ root: tables.root }) });
    const faults = rig.listen();
    expect(rig.dma(NIC, address, access)).toBeUndefined();
    rig.jobs.run();
    expect(typeOf(faults[0])).toBe(type);
  });

  it('tells an access flag that is not set, and a table outside memory', () => {
    const rig = new Rig();
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain);
    const tables = new Arm64Tables(rig.memory);
    tables.map(0x1000n, 0x5000n, 0x3n);
    const faults = rig.listen();
    rig.unit.configureDomain({ domain, configuration: arm64Config({ ttbr0: tables.root }) });
    rig.dma(NIC, 0x1000n);
    rig.unit.configureDomain({ domain, configuration: arm64Config({ ttbr0: 0x7_0000_0000n }) });
    rig.dma(NIC, 0x1000n);
    rig.jobs.run();
    expect(faults.map(typeOf)).toEqual([FaultType.AccessFlagFault, FaultType.ExternalFault]);
  });

  it('says which PASID, and leaves out those of a device that wants none', () => {
    for (const suppressPasidFaults of [false, true]) {
      const rig = new Rig();
      const config: DeviceCreationConfiguration = {
        configType: DeviceCreationConfigType.Pasid,
        pasidConfigType: PasidConfigType.PasidTaggedDma,
        suppressPasidFaults,
      };
      const dmaDevice = rig.device(GPU, [config]);
      rig.unit.attachDeviceEx({ domain: rig.domain(), dmaDevice });
      const { faults } = reporting(rig, GPU);
      rig.dma(GPU, 0x1000n, R, 77);
      rig.dma(GPU, 0x1000n, R);
      rig.jobs.run();
      expect(faults.map(fault => fault.pasid)).toEqual(suppressPasidFaults ? [-1] : [77, -1]);
      expect(rig.unit.statistics.faults[FaultType.UnsupportedUpstreamTransaction]).toBe(1);
    }
  });
});

describe('many faults', () => {
  it('wait in a bounded number and are counted beyond', () => {
    const rig = new Rig();
    rig.attach(rig.domain());
    const { faults } = reporting(rig);
    for (let i = 0; i < FAULTS_PENDING_MAX + 10; i++) rig.dma(NIC, BigInt(i) << 12n);
    rig.jobs.run();
    expect(faults.length).toBe(FAULTS_PENDING_MAX);
    expect(rig.unit.statistics).toMatchObject({ faultsDropped: 10, faultsReported: FAULTS_PENDING_MAX });
  });

  it('are not lost when a handler throws', () => {
    const rig = new Rig();
    rig.attach(rig.domain());
    let calls = 0;
    rig.unit.onFault = () => {
      if (calls++ === 0) throw new Error('the handler’s own');
    };
    rig.dma(NIC, 0x1000n);
    rig.dma(NIC, 0x2000n);
    expect(() => rig.jobs.run()).toThrow('the handler’s own');
    rig.jobs.run();
    rig.dma(NIC, 0x3000n);
    rig.jobs.run();
    expect(calls).toBe(3);
  });

  it('are forgotten by a reset, and new ones are told after it', () => {
    const rig = new Rig();
    const faults = rig.listen();
    rig.dma(NIC, 0x1000n);
    rig.unit.reset();
    rig.dma(NIC, 0x2000n);
    rig.jobs.run();
    expect(faults).toMatchObject([{ x64: { faultAddress: 0x2000n } }]);
  });
});
