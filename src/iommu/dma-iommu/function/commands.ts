/** Which function carries out which operation: each reads its arguments, calls the unit, and puts the outputs. */
import type { OperationName } from '../operations.ts';
import type { Call } from './call.ts';
import * as device from './device-commands.ts';
import * as domain from './domain-commands.ts';
import * as mapping from './mapping-commands.ts';

/** Returns an NTSTATUS. */
export type CommandHandler = (call: Call) => number;

export const commandHandlers: { readonly [Name in OperationName]: CommandHandler } = {
  createDomain: domain.createDomain,
  createDomainEx: domain.createDomainEx,
  deleteDomain: domain.deleteDomain,
  attachDevice: domain.attachDevice,
  attachDeviceEx: domain.attachDeviceEx,
  detachDevice: domain.detachDevice,
  detachDeviceEx: domain.detachDeviceEx,
  flushDomain: domain.flushDomain,
  flushDomainByVaList: domain.flushDomainByVaList,
  configureDomain: domain.configureDomain,
  mapLogicalRange: mapping.mapLogicalRange,
  mapLogicalRangeEx: mapping.mapLogicalRangeEx,
  unmapLogicalRange: mapping.unmapLogicalRange,
  mapIdentityRange: mapping.mapIdentityRange,
  mapIdentityRangeEx: mapping.mapIdentityRangeEx,
  unmapIdentityRange: mapping.unmapIdentityRange,
  unmapIdentityRangeEx: mapping.unmapIdentityRangeEx,
  reserveLogicalAddressRange: mapping.reserveLogicalAddressRange,
  freeReservedLogicalAddressRange: mapping.freeReservedLogicalAddressRange,
  mapReservedLogicalRange: mapping.mapReservedLogicalRange,
  unmapReservedLogicalRange: mapping.unmapReservedLogicalRange,
  queryInputMappings: device.queryInputMappings,
  setDeviceFaultReporting: device.setDeviceFaultReporting,
  setDeviceFaultReportingEx: device.setDeviceFaultReportingEx,
  queryAvailableDomainTypes: device.queryAvailableDomainTypes,
  registerInterfaceStateChangeCallback: device.registerInterfaceStateChangeCallback,
  unregisterInterfaceStateChangeCallback: device.unregisterInterfaceStateChangeCallback,
  createDevice: device.createDevice,
  deleteDevice: device.deleteDevice,
  createPasidDevice: device.createPasidDevice,
  deletePasidDevice: device.deletePasidDevice,
  attachPasidDevice: device.attachPasidDevice,
  detachPasidDevice: device.detachPasidDevice,
  queryDeviceInfo: device.queryDeviceInfo,
};
