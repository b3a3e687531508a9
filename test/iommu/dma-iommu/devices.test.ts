import { describe, expect, it } from 'vitest';
import {
  DeviceCreationConfigType,
  type DeviceCreationConfiguration,
  type DeviceHandle,
  type DomainHandle,
  DomainType,
  InterfaceStateField,
  PasidConfigType,
  type PasidDeviceHandle,
} from '../../../src/iommu/dma-iommu/types.ts';
import { DISK, expectStatus, GPU, NIC, R, Rig, STRANGER, UART } from './support.ts';

const NONE = 12345;
const acpi = (inputMappingBase: number, mappingsCount: number): DeviceCreationConfiguration => ({
  configType: DeviceCreationConfigType.Acpi,
  inputMappingBase,
  mappingsCount,
});
const pasid = (pasidConfigType: number, suppressPasidFaults = false): DeviceCreationConfiguration => ({
  configType: DeviceCreationConfigType.Pasid,
  pasidConfigType,
  suppressPasidFaults,
});
const TAGGED = pasid(PasidConfigType.PasidTaggedDma);

describe('attachDevice and detachDevice', () => {
  it('refuse devices and domains that are none', () => {
    const rig = new Rig();
    expectStatus(rig.attach(NONE as DomainHandle), 'INVALID_HANDLE');
    expectStatus(rig.attach(rig.domain(), STRANGER), 'NOT_FOUND');
    expectStatus(rig.detach(NONE as DomainHandle), 'INVALID_HANDLE');
    expectStatus(rig.detach(rig.domain(), STRANGER), 'NOT_FOUND');
  });

  it('allow one domain for a device, and many devices for a domain', () => {
    const rig = new Rig();
    const one = rig.domain();
    const other = rig.domain();
    rig.map(one, 0x1000n, [5]);
    expectStatus(rig.attach(one, NIC), 'SUCCESS');
    expectStatus(rig.attach(one, DISK), 'SUCCESS');
    expectStatus(rig.attach(other, NIC), 'INVALID_PARAMETER');
    expectStatus(rig.attach(one, NIC), 'INVALID_PARAMETER');
    expect([rig.dma(NIC, 0x1000n), rig.dma(DISK, 0x1000n)]).toEqual([0x5000n, 0x5000n]);
  });

  it('name domain, device and id when they detach', () => {
    const rig = new Rig();
    const one = rig.domain();
    const other = rig.domain();
    expectStatus(rig.detach(one, NIC), 'INVALID_PARAMETER_2');
    rig.attach(one, NIC);
    expectStatus(rig.detach(other, NIC), 'INVALID_PARAMETER_1');
    expectStatus(rig.detach(one, NIC, 1), 'INVALID_PARAMETER_3');
    expectStatus(rig.detach(one, NIC), 'SUCCESS');
    expectStatus(rig.detach(one, NIC), 'INVALID_PARAMETER_2');
  });

  it('block a detached device', () => {
    const rig = new Rig();
    const domain = rig.domain(DomainType.PassThrough);
    rig.attach(domain);
    expect(rig.dma(NIC, 0x1000n)).toBe(0x1000n);
    rig.detach(domain);
    expect(rig.dma(NIC, 0x1000n)).toBeUndefined();
  });

  it('detach a device that has left the machine', () => {
    const rig = new Rig();
    const domain = rig.domain();
    rig.attach(domain);
    rig.directory.devices.delete(NIC);
    expectStatus(rig.detach(domain), 'SUCCESS');
    expectStatus(rig.unit.deleteDomain({ domain }), 'SUCCESS');
  });

  it.each([
    [7, 1, 'INVALID_PARAMETER_3'],
    [16, 1, 'INVALID_PARAMETER_3'],
    [8, 0, 'INVALID_PARAMETER_4'],
    [8, 9, 'INVALID_PARAMETER_4'],
    [15, 2, 'INVALID_PARAMETER_4'],
    [8, 2 ** 32, 'INVALID_PARAMETER_4'],
    [8, 1.5, 'INVALID_PARAMETER_4'],
  ] as const)('refuse ids %d, %d of them, of a device enumerated by ACPI', (base, count, status) => {
    const rig = new Rig();
    expectStatus(rig.attach(rig.domain(), UART, base, count), status);
    expect(rig.unit.snapshot().attachments).toEqual([]);
  });

  it('attach a group whole or not at all', () => {
    const rig = new Rig();
    const one = rig.domain();
    const other = rig.domain();
    rig.map(one, 0x1000n, [5]);
    rig.map(other, 0x1000n, [6]);
    expectStatus(rig.attach(one, UART, 10, 2), 'SUCCESS');
    expectStatus(rig.attach(other, UART, 8, 3), 'INVALID_PARAMETER');
    expect([8, 9, 10, 11].map(id => rig.dma(id, 0x1000n))).toEqual([undefined, undefined, 0x5000n, 0x5000n]);
    expectStatus(rig.attach(other, UART, 8, 2), 'SUCCESS');
    expect([8, 9, 10, 11].map(id => rig.dma(id, 0x1000n))).toEqual([0x6000n, 0x6000n, 0x5000n, 0x5000n]);
  });
});

describe('createDevice', () => {
  it.each([
    ['an ACPI configuration of a PCI device', NIC, [acpi(0, 1)]],
    ['no ACPI configuration of an ACPI device', UART, []],
    ['ids that the device lacks', UART, [acpi(7, 2)]],
    ['two configurations of one type', GPU, [TAGGED, TAGGED]],
    ['a device id', NIC, [{ configType: DeviceCreationConfigType.DeviceId, deviceId: 1 }]],
    ['no such PASID configuration', GPU, [pasid(2)]],
    ['a negative PASID configuration', GPU, [pasid(-1)]],
    ['no such configuration', NIC, [{ configType: 9 } as unknown as DeviceCreationConfiguration]],
  ] as const)('refuses %s', (_, physicalDeviceObject, deviceConfig) => {
    const { unit } = new Rig();
    expectStatus(unit.createDevice({ physicalDeviceObject, deviceConfig }), 'INVALID_PARAMETER_2');
    expect(unit.snapshot().devices).toEqual([]);
  });

  it('refuses PASIDs for a device without, and a second DMA device for an id', () => {
    const rig = new Rig();
    expectStatus(rig.unit.createDevice({ physicalDeviceObject: NIC, deviceConfig: [TAGGED] }), 'NOT_SUPPORTED');
    rig.device(NIC);
    expectStatus(rig.unit.createDevice({ physicalDeviceObject: NIC }), 'RESOURCE_IN_USE');
    rig.device(UART, [acpi(8, 2)]);
    expectStatus(rig.unit.createDevice({ physicalDeviceObject: UART, deviceConfig: [acpi(9, 1)] }), 'RESOURCE_IN_USE');
    rig.device(UART, [acpi(10, 1)]);
  });

  it('makes a DMA device of a range of ids', () => {
    const rig = new Rig();
    const dmaDevice = rig.device(UART, [acpi(9, 2)]);
    const domain = rig.domain(DomainType.PassThrough);
    expectStatus(rig.unit.attachDeviceEx({ domain, dmaDevice }), 'SUCCESS');
    expect([8, 9, 10, 11].map(id => rig.dma(id, 0x1000n))).toEqual([undefined, 0x1000n, 0x1000n, undefined]);
  });
});

describe('deleteDevice', () => {
  it('refuses a device in use', () => {
    const rig = new Rig();
    const dmaDevice = rig.device(GPU, [TAGGED]);
    rig.unit.attachDeviceEx({ domain: rig.domain(), dmaDevice });
    expectStatus(rig.unit.deleteDevice({ dmaDevice }), 'RESOURCE_IN_USE');
    rig.unit.detachDeviceEx({ dmaDevice });
    const { pasidDevice } = rig.unit.createPasidDevice({ dmaDevice });
    expectStatus(rig.unit.deleteDevice({ dmaDevice }), 'RESOURCE_IN_USE');
    rig.unit.deletePasidDevice({ pasidDevice: pasidDevice! });
    expectStatus(rig.unit.deleteDevice({ dmaDevice }), 'SUCCESS');
    expectStatus(rig.unit.deleteDevice({ dmaDevice }), 'INVALID_HANDLE');
    rig.device(GPU);
  });

  it('notes a callback that was left behind, and never calls it', () => {
    const rig = new Rig();
    const dmaDevice = rig.device();
    let calls = 0;
    const stateChangeCallback = () => {
      calls++;
    };
    const stateFields = InterfaceStateField.availableDomainTypes;
    rig.unit.registerInterfaceStateChangeCallback({ stateChangeCallback, dmaDevice, stateFields });
    expectStatus(rig.unit.deleteDevice({ dmaDevice }), 'SUCCESS');
    rig.unit.setDmaGuard(NIC, true);
    expect(calls).toBe(1);
    expect(rig.trace.kinds()).toContain('dma-iommu.callbackLeft');
  });
});

describe('attachDeviceEx and detachDeviceEx', () => {
  it('refuse handles that are none', () => {
    const rig = new Rig();
    const domain = rig.domain();
    const dmaDevice = rig.device();
    expectStatus(rig.unit.attachDeviceEx({ domain, dmaDevice: NONE as DeviceHandle }), 'INVALID_HANDLE');
    expectStatus(rig.unit.attachDeviceEx({ domain: NONE as DomainHandle, dmaDevice }), 'INVALID_HANDLE');
    expectStatus(rig.unit.attachDeviceEx({ domain, dmaDevice: domain as number as DeviceHandle }), 'INVALID_HANDLE');
    expectStatus(rig.unit.detachDeviceEx({ dmaDevice: NONE as DeviceHandle }), 'INVALID_HANDLE');
  });

  it('do not mix with those of version 1', () => {
    const rig = new Rig();
    const domain = rig.domain();
    const dmaDevice = rig.device();
    rig.attach(domain);
    expectStatus(rig.unit.attachDeviceEx({ domain, dmaDevice }), 'INVALID_PARAMETER');
    expectStatus(rig.unit.detachDeviceEx({ dmaDevice }), 'INVALID_PARAMETER_1');
    rig.detach(domain);
    expectStatus(rig.unit.attachDeviceEx({ domain, dmaDevice }), 'SUCCESS');
    expectStatus(rig.detach(domain), 'INVALID_PARAMETER_2');
    expectStatus(rig.unit.detachDeviceEx({ dmaDevice }), 'SUCCESS');
    expectStatus(rig.unit.deleteDomain({ domain }), 'SUCCESS');
  });
});

describe('interface state changes', () => {
  it('refuse what is no callback, no device, no field', () => {
    const rig = new Rig();
    const dmaDevice = rig.device();
    const stateChangeCallback = () => {};
    const register = (args: object) =>
      rig.unit.registerInterfaceStateChangeCallback({ stateChangeCallback, dmaDevice, stateFields: 1, ...args });
    expectStatus(register({ stateChangeCallback: undefined }), 'INVALID_PARAMETER_1');
    expectStatus(register({ stateFields: 3 }), 'INVALID_PARAMETER_4');
    expectStatus(register({ dmaDevice: NONE }), 'INVALID_HANDLE');
    expectStatus(register({}), 'SUCCESS');
    const unregister = (args: object) =>
      rig.unit.unregisterInterfaceStateChangeCallback({ stateChangeCallback, dmaDevice, ...args });
    expectStatus(unregister({ dmaDevice: NONE }), 'INVALID_HANDLE');
    expectStatus(unregister({ stateChangeCallback: () => {} }), 'UNSUCCESSFUL');
    expectStatus(unregister({}), 'SUCCESS');
    expectStatus(unregister({}), 'UNSUCCESSFUL');
  });

  it('are told only when something changes, and to the device concerned', () => {
    const rig = new Rig();
    const told: number[] = [];
    for (const pdo of [NIC, DISK]) {
      rig.unit.registerInterfaceStateChangeCallback({
        stateChangeCallback: () => told.push(pdo),
        dmaDevice: rig.device(pdo),
        stateFields: 1,
      });
    }
    rig.unit.setDmaGuard(NIC, false);
    rig.unit.setDmaGuard(DISK, true);
    rig.unit.setDmaGuard(DISK, true);
    expect(told).toEqual([NIC, DISK, DISK]);
  });

  it('leave an attachment that DMA Guard would deny now', () => {
    const rig = new Rig();
    rig.attach(rig.domain(DomainType.PassThrough));
    rig.unit.setDmaGuard(NIC, true);
    expect(rig.dma(NIC, 0x1000n)).toBe(0x1000n);
  });
});

describe('queries', () => {
  it('give no domain types for a handle that is none', () => {
    const { unit } = new Rig();
    const answer = unit.queryAvailableDomainTypes({ dmaDevice: NONE as DeviceHandle });
    expect(answer.availableDomains).toBe(0);
    expectStatus(answer, 'INVALID_HANDLE');
  });

  it.each([
    ['extended', 'SUCCESS', [NIC]],
    ['windows', 'NOT_SUPPORTED', undefined],
  ] as const)('of the input mappings of a PCI device, in the mode %s', (compat, status, ids) => {
    const { unit } = new Rig({ compat });
    const answer = unit.queryInputMappings({ physicalDeviceObject: NIC, bufferLength: 4 });
    expectStatus(answer, status);
    expect(answer.inputMappingIds).toEqual(ids);
    expectStatus(unit.queryInputMappings({ physicalDeviceObject: STRANGER, bufferLength: 4 }), 'NOT_FOUND');
  });

  it('tell how a device was created', () => {
    const rig = new Rig();
    const info = (config: readonly DeviceCreationConfiguration[]) => {
      const dmaDevice = rig.device(GPU, config);
      const { information } = rig.unit.queryDeviceInfo({ dmaDevice, size: 100 });
      rig.unit.deleteDevice({ dmaDevice });
      const { defaultPasidEnabled, pasidTaggedDmaEnabled, pasidFaultsSuppressed } = information!;
      return [defaultPasidEnabled, pasidTaggedDmaEnabled, pasidFaultsSuppressed];
    };
    expect(info([])).toEqual([false, false, false]);
    expect(info([pasid(PasidConfigType.DefaultPasidOnly)])).toEqual([true, false, false]);
    expect(info([pasid(PasidConfigType.PasidTaggedDma, true)])).toEqual([true, true, true]);
    const none = rig.unit.queryDeviceInfo({ dmaDevice: NONE as DeviceHandle, size: 3 });
    expectStatus(none, 'INVALID_HANDLE');
    expect(none.bytesWritten).toBe(0);
  });
});

describe('PASID devices', () => {
  function pasidDevice(rig: Rig, dmaDevice: DeviceHandle) {
    const answer = rig.unit.createPasidDevice({ dmaDevice });
    expectStatus(answer, 'SUCCESS');
    return { pasidDevice: answer.pasidDevice!, asid: answer.asid! };
  }

  it('translate the requests that carry their PASID, and no others', () => {
    const rig = new Rig();
    const dmaDevice = rig.device(GPU, [TAGGED]);
    const [one, other, untagged] = [rig.domain(3), rig.domain(3), rig.domain()];
    rig.map(one, 0x1000n, [1]);
    rig.map(other, 0x1000n, [2]);
    rig.map(untagged, 0x1000n, [3]);
    const first = pasidDevice(rig, dmaDevice);
    const second = pasidDevice(rig, dmaDevice);
    rig.unit.attachPasidDevice({ domain: one, ...first });
    rig.unit.attachPasidDevice({ domain: other, ...second });
    rig.unit.attachDeviceEx({ domain: untagged, dmaDevice });
    const seen = [first.asid, second.asid, -1, 99].map(asid => rig.dma(GPU, 0x1000n, R, asid));
    expect(seen).toEqual([0x1000n, 0x2000n, 0x3000n, undefined]);
    expect(rig.dma(NIC, 0x1000n, R, first.asid)).toBeUndefined();
    rig.unit.detachPasidDevice(first);
    expect(rig.dma(GPU, 0x1000n, R, first.asid)).toBeUndefined();
    expect(rig.dma(GPU, 0x1000n, R, second.asid)).toBe(0x2000n);
  });

  it('are translated by the same unit seen through `withPasid`', () => {
    const rig = new Rig();
    const first = pasidDevice(rig, rig.device(GPU, [TAGGED]));
    rig.unit.attachPasidDevice({ domain: rig.domain(DomainType.PassThrough), ...first });
    const translator = rig.unit.withPasid(first.asid);
    expect(translator.translate(GPU, 0, 0x5000, R, rig.out)).toBe(true);
    expect(rig.out.frame).toBe(5);
    expect(rig.unit.translate(GPU, 0, 0x5000, R, rig.out)).toBe(false);
  });

  it('take every type of domain but Translate', () => {
    const rig = new Rig();
    const dmaDevice = rig.device(GPU, [TAGGED]);
    for (const [type, status] of [
      [DomainType.Translate, 'INVALID_PARAMETER_1'],
      [DomainType.PassThrough, 'SUCCESS'],
      [DomainType.Unmanaged, 'SUCCESS'],
      [DomainType.TranslateS1, 'SUCCESS'],
    ] as const) {
      const args = { domain: rig.domain(type), ...pasidDevice(rig, dmaDevice) };
      expectStatus(rig.unit.attachPasidDevice(args), status);
    }
    rig.unit.setDmaGuard(GPU, true);
    const args = { domain: rig.domain(DomainType.PassThrough), ...pasidDevice(rig, dmaDevice) };
    expectStatus(rig.unit.attachPasidDevice(args), 'ACCESS_DENIED');
  });

  it('keep their domain from being deleted', () => {
    const rig = new Rig();
    const domain = rig.domain(DomainType.TranslateS1);
    const first = pasidDevice(rig, rig.device(GPU, [TAGGED]));
    rig.unit.attachPasidDevice({ domain, ...first });
    expectStatus(rig.unit.deleteDomain({ domain }), 'RESOURCE_IN_USE');
    expectStatus(rig.unit.detachPasidDevice(first), 'SUCCESS');
    expectStatus(rig.unit.deleteDomain({ domain }), 'SUCCESS');
  });

  it('run out, and come again', () => {
    const rig = new Rig({ pasidMax: 3 });
    const dmaDevice = rig.device(GPU, [TAGGED]);
    const all = [1, 2, 3].map(() => pasidDevice(rig, dmaDevice));
    expect(all.map(one => one.asid)).toEqual([1, 2, 3]);
    expectStatus(rig.unit.createPasidDevice({ dmaDevice }), 'NONE_MAPPED');
    expectStatus(rig.unit.deletePasidDevice(all[1]!), 'SUCCESS');
    expectStatus(rig.unit.deletePasidDevice(all[1]!), 'INVALID_HANDLE');
    expect(pasidDevice(rig, dmaDevice).asid).toBe(2);
  });

  it('refuse handles that are none', () => {
    const rig = new Rig();
    const first = pasidDevice(rig, rig.device(GPU, [TAGGED]));
    const none = { pasidDevice: NONE as PasidDeviceHandle };
    expectStatus(rig.unit.createPasidDevice({ dmaDevice: NONE as DeviceHandle }), 'INVALID_HANDLE');
    expectStatus(rig.unit.attachPasidDevice({ domain: NONE as DomainHandle, ...first }), 'INVALID_HANDLE');
    expectStatus(rig.unit.attachPasidDevice({ domain: rig.domain(), ...none }), 'INVALID_HANDLE');
    expectStatus(rig.unit.detachPasidDevice(none), 'INVALID_HANDLE');
    expectStatus(rig.unit.deletePasidDevice(none), 'INVALID_HANDLE');
  });
});
