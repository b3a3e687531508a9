/** Commands about devices: create, query, fault reporting, state changes, PASIDs. */
import { NtStatus } from '../ntstatus.ts';
import { DeviceCreationConfigType, type DeviceCreationConfiguration, type DeviceHandle } from '../types.ts';
import type { Call } from './call.ts';
import { BAD_LIST, LIST_TOO_LONG } from './choices.ts';
import {
  acpiConfigurationLayout,
  argumentLayouts,
  deviceConfigurationLayout,
  pasidConfigurationLayout,
  resultLayouts,
} from './layout.ts';
import { LIST_CONFIGURATIONS_MAX } from './limits.ts';
import type { Entry } from './struct.ts';

export function queryInputMappings(call: Call): number {
  const { pdo, bufferLength, buffer } = argumentLayouts.queryInputMappings.fields;
  const { status, inputMappingIds, returnLength } = call.operations.queryInputMappings({
    physicalDeviceObject: call.number(pdo),
    bufferLength: call.number(bufferLength),
  });
  if (status === NtStatus.SUCCESS && inputMappingIds !== undefined) {
    const address = call.wide(buffer);
    if (!call.lists.writeIds(address, inputMappingIds)) return call.unreadable(address, BAD_LIST.queryInputMappings);
  }
  call.put(resultLayouts.queryInputMappings.fields.returnLength, returnLength);
  return status;
}

export function setDeviceFaultReporting(call: Call): number {
  const { pdo, inputMappingIdBase, enable, hasConfig, context } = argumentLayouts.setDeviceFaultReporting.fields;
  return call.operations.setDeviceFaultReporting({
    physicalDeviceObject: call.number(pdo),
    inputMappingIdBase: call.number(inputMappingIdBase),
    enable: call.flag(enable),
    faultConfig: call.faultConfiguration(hasConfig, context),
  }).status;
}

export function setDeviceFaultReportingEx(call: Call): number {
  const { device, inputMappingIdBase, enable, hasConfig, context } = argumentLayouts.setDeviceFaultReportingEx.fields;
  return call.operations.setDeviceFaultReportingEx({
    dmaDevice: call.handle(device),
    inputMappingIdBase: call.number(inputMappingIdBase),
    enable: call.flag(enable),
    faultConfig: call.faultConfiguration(hasConfig, context),
  }).status;
}

export function queryAvailableDomainTypes(call: Call): number {
  const { device } = argumentLayouts.queryAvailableDomainTypes.fields;
  const { status, availableDomains } = call.operations.queryAvailableDomainTypes({ dmaDevice: call.handle(device) });
  call.put(resultLayouts.queryAvailableDomainTypes.fields.availableDomains, availableDomains);
  return status;
}

export function registerInterfaceStateChangeCallback(call: Call): number {
  const { device, stateFields, callback, context } = argumentLayouts.registerInterfaceStateChangeCallback.fields;
  return call.stateChanges.register(
    call.handle(device),
    call.number(stateFields),
    call.wide(callback),
    call.wide(context),
  );
}

export function unregisterInterfaceStateChangeCallback(call: Call): number {
  const { device, callback } = argumentLayouts.unregisterInterfaceStateChangeCallback.fields;
  return call.stateChanges.unregister(call.handle(device), call.wide(callback));
}

export function createDevice(call: Call): number {
  const deviceConfig = configurations(call);
  if (typeof deviceConfig === 'number') return deviceConfig;
  const { pdo } = argumentLayouts.createDevice.fields;
  const { status, dmaDevice } = call.operations.createDevice({ physicalDeviceObject: call.number(pdo), deviceConfig });
  call.put(resultLayouts.createDevice.fields.device, dmaDevice);
  return status;
}

export function deleteDevice(call: Call): number {
  const dmaDevice = call.handle<DeviceHandle>(argumentLayouts.deleteDevice.fields.device);
  const { status } = call.operations.deleteDevice({ dmaDevice });
  if (status === NtStatus.SUCCESS) call.stateChanges.deviceDeleted(dmaDevice);
  return status;
}

export function createPasidDevice(call: Call): number {
  const { device } = argumentLayouts.createPasidDevice.fields;
  const outputs = resultLayouts.createPasidDevice.fields;
  const { status, pasidDevice, asid } = call.operations.createPasidDevice({ dmaDevice: call.handle(device) });
  call.put(outputs.pasidDevice, pasidDevice);
  call.put(outputs.asid, asid);
  return status;
}

export function deletePasidDevice(call: Call): number {
  const { pasidDevice } = argumentLayouts.deletePasidDevice.fields;
  return call.operations.deletePasidDevice({ pasidDevice: call.handle(pasidDevice) }).status;
}

export function attachPasidDevice(call: Call): number {
  const { domain, pasidDevice } = argumentLayouts.attachPasidDevice.fields;
  return call.operations.attachPasidDevice({ domain: call.handle(domain), pasidDevice: call.handle(pasidDevice) })
    .status;
}

export function detachPasidDevice(call: Call): number {
  const { pasidDevice } = argumentLayouts.detachPasidDevice.fields;
  return call.operations.detachPasidDevice({ pasidDevice: call.handle(pasidDevice) }).status;
}

export function queryDeviceInfo(call: Call): number {
  const { device, size } = argumentLayouts.queryDeviceInfo.fields;
  const outputs = resultLayouts.queryDeviceInfo.fields;
  const { status, bytesWritten, information } = call.operations.queryDeviceInfo({
    dmaDevice: call.handle(device),
    size: call.number(size),
  });
  call.put(outputs.bytesWritten, bytesWritten);
  if (information !== undefined) {
    call.put(outputs.defaultPasidEnabled, Number(information.defaultPasidEnabled));
    call.put(outputs.pasidTaggedDmaEnabled, Number(information.pasidTaggedDmaEnabled));
    call.put(outputs.pasidFaultsSuppressed, Number(information.pasidFaultsSuppressed));
  }
  return status;
}

function configurations(call: Call): readonly DeviceCreationConfiguration[] | undefined | number {
  const { configurationCount, configurations: address } = argumentLayouts.createDevice.fields;
  const count = call.number(configurationCount);
  if (count === 0) return undefined;
  if (count > LIST_CONFIGURATIONS_MAX) {
    call.note('dmaIommu.listTooLong', { count, limit: LIST_CONFIGURATIONS_MAX });
    return LIST_TOO_LONG;
  }
  const { bytes } = deviceConfigurationLayout;
  const list = call.lists.structures(call.wide(address), count, bytes);
  if (list === undefined) return call.unreadable(call.wide(address), BAD_LIST.createDevice);
  return Array.from({ length: count }, (_, index) => configurationAt(list, index * bytes));
}

function configurationAt(list: Entry, at: number): DeviceCreationConfiguration {
  const { type, u } = deviceConfigurationLayout.fields;
  const inner = at + u.offset;
  const configType = list.get(type, at);
  switch (configType) {
    case DeviceCreationConfigType.Acpi: {
      const { inputMappingBase, mappingsCount } = acpiConfigurationLayout.fields;
      return {
        configType,
        inputMappingBase: list.get(inputMappingBase, inner),
        mappingsCount: list.get(mappingsCount, inner),
      };
    }
    case DeviceCreationConfigType.Pasid: {
      const { type: kind, suppressFaults } = pasidConfigurationLayout.fields;
      return {
        configType,
        pasidConfigType: list.get(kind, inner),
        suppressPasidFaults: list.get(suppressFaults, inner) !== 0,
      };
    }
    default:
      // What is no type at all, the operation refuses.
      return {
        configType: configType as typeof DeviceCreationConfigType.DeviceId,
        deviceId: Number(list.get64(u, at)),
      };
  }
}
