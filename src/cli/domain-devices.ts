/** `viommu domain`: devices, PASID devices, fault reporting and reserved ranges. */
import type { Command } from 'commander';
import type { OperationName } from '../iommu/dma-iommu/operations.ts';
import {
  DeviceCreationConfigType,
  type DeviceCreationConfiguration,
  InterfaceStateField,
  PasidConfigType,
  type PasidDeviceHandle,
  type SegmentHandle,
  type TokenHandle,
} from '../iommu/dma-iommu/types.ts';
import type { OperationArguments } from '../machine/operations-command.ts';
import {
  given,
  parseDeviceAddress,
  parseDeviceWord,
  parseDmaDevice,
  parseDomain,
  parseMemory,
  parseNumber,
  parsePermissions,
  parseRange,
  parseWide,
} from './domain-values.ts';
import { UsageError } from './errors.ts';
import { addRemoteOptions, type RemoteFlags, showAnswer, type Terminal, withMachine } from './remote-access.ts';

const parsePasidDevice = (text: string) => parseNumber(text) as PasidDeviceHandle;
const parseToken = (text: string) => parseNumber(text) as TokenHandle;
const parseSegment = (text: string) => parseNumber(text) as SegmentHandle;
const PASID_CONFIGURATIONS: Readonly<Record<string, number>> = {
  default: PasidConfigType.DefaultPasidOnly,
  tagged: PasidConfigType.PasidTaggedDma,
};

interface CreateDeviceFlags extends RemoteFlags {
  readonly acpi?: string;
  readonly pasid?: string;
  readonly suppressFaults?: boolean;
}

interface ReserveFlags extends RemoteFlags {
  readonly at?: bigint;
  readonly min?: bigint;
  readonly max?: bigint;
}

function parseSwitch(text: string): boolean {
  if (text !== 'on' && text !== 'off') throw new UsageError(`'${text}' is neither on nor off`);
  return text === 'on';
}

export function addDeviceCommands(domain: Command, terminal: Terminal): void {
  const run = <Name extends OperationName>(flags: RemoteFlags, operation: Name, args: OperationArguments[Name]) =>
    withMachine(flags, async machine => showAnswer(terminal, flags, await machine.operate(operation, args)));

  addRemoteOptions(domain.command('query'))
    .description('list the input mapping ids of a device')
    .argument('<device>', 'its address', parseDeviceAddress)
    .option('--length <bytes>', 'of the buffer, 4 for each id', parseNumber, 4096)
    .action((physicalDeviceObject, flags) =>
      run(flags, 'queryInputMappings', { physicalDeviceObject, bufferLength: flags.length }),
    );

  addRemoteOptions(domain.command('faults'))
    .description("report a device's faults, as callback.fault events ('viommu domain watch'), or stop it")
    .argument('<device>', 'address (SetDeviceFaultReporting) or handle (SetDeviceFaultReportingEx)', parseDeviceWord)
    .argument('<on|off>', 'whether they are reported', parseSwitch)
    .option('--context <text>', 'comes with each event')
    .option('--base <id>', 'the input mapping id that the device was attached with', parseNumber, 0)
    .action((device, enable, flags) => {
      const faultConfig = enable ? { ...given('faultContext', flags.context as string | undefined) } : undefined;
      const common = { inputMappingIdBase: flags.base as number, enable, ...given('faultConfig', faultConfig) };
      return device.dmaDevice === undefined
        ? run(flags, 'setDeviceFaultReporting', { physicalDeviceObject: device.physicalDeviceObject, ...common })
        : run(flags, 'setDeviceFaultReportingEx', { dmaDevice: device.dmaDevice, ...common });
    });

  addRemoteOptions(domain.command('types'))
    .description('which types of domains a device may be attached to now')
    .argument('<dma-device>', 'its handle', parseDmaDevice)
    .action((dmaDevice, flags) => run(flags, 'queryAvailableDomainTypes', { dmaDevice }));

  addRemoteOptions(domain.command('notify'))
    .description('tell changes of those types as callback.stateChange events, or stop it')
    .argument('<dma-device>', 'its handle', parseDmaDevice)
    .argument('<on|off>', 'whether they are told', parseSwitch)
    .option('--context <text>', 'comes with each event')
    .action((dmaDevice, enable, flags) =>
      enable
        ? run(flags, 'registerInterfaceStateChangeCallback', {
            dmaDevice,
            stateFields: InterfaceStateField.availableDomainTypes,
            ...given('context', flags.context as string | undefined),
          })
        : run(flags, 'unregisterInterfaceStateChangeCallback', { dmaDevice }),
    );

  addRemoteOptions(domain.command('create-device'))
    .description('make a DMA device of a device of the machine, and print its handle')
    .argument('<device>', 'its address', parseDeviceAddress)
    .option('--acpi <base+count>', 'these input mapping ids only')
    .option('--pasid <default|tagged>', 'with a PASID configuration')
    .option('--suppress-faults', 'of requests with a PASID')
    .action((physicalDeviceObject, flags: CreateDeviceFlags) =>
      run(flags, 'createDevice', { physicalDeviceObject, ...given('deviceConfig', deviceConfiguration(flags)) }),
    );

  addRemoteOptions(domain.command('delete-device'))
    .description('delete a DMA device that is not attached')
    .argument('<dma-device>', 'its handle', parseDmaDevice)
    .action((dmaDevice, flags) => run(flags, 'deleteDevice', { dmaDevice }));

  addRemoteOptions(domain.command('info'))
    .description('what PASID configuration a DMA device has')
    .argument('<dma-device>', 'its handle', parseDmaDevice)
    .option('--length <bytes>', 'of the buffer', parseNumber, 3)
    .action((dmaDevice, flags) => run(flags, 'queryDeviceInfo', { dmaDevice, size: flags.length }));

  addRemoteOptions(domain.command('create-pasid'))
    .description('make a PASID device, and print its handle and PASID')
    .argument('<dma-device>', 'the handle of a device with --pasid tagged', parseDmaDevice)
    .action((dmaDevice, flags) => run(flags, 'createPasidDevice', { dmaDevice }));

  addRemoteOptions(domain.command('delete-pasid'))
    .description('delete a PASID device that is not attached')
    .argument('<pasid-device>', 'its handle', parsePasidDevice)
    .action((pasidDevice, flags) => run(flags, 'deletePasidDevice', { pasidDevice }));

  addRemoteOptions(domain.command('attach-pasid'))
    .description('attach a PASID device to a domain')
    .argument('<domain>', 'its handle', parseDomain)
    .argument('<pasid-device>', 'its handle', parsePasidDevice)
    .action((handle, pasidDevice, flags) => run(flags, 'attachPasidDevice', { domain: handle, pasidDevice }));

  addRemoteOptions(domain.command('detach-pasid'))
    .description('detach a PASID device from its domain')
    .argument('<pasid-device>', 'its handle', parsePasidDevice)
    .action((pasidDevice, flags) => run(flags, 'detachPasidDevice', { pasidDevice }));

  addRemoteOptions(domain.command('reserve'))
    .description('reserve a range of logical addresses, and print its token')
    .argument('<domain>', 'its handle', parseDomain)
    .argument('<bytes>', 'how much', parseWide)
    .option('--at <address>', 'where; without it the domain needs an allocator', parseWide)
    .option('--min <address>', 'for the allocator: the lowest address', parseWide)
    .option('--max <address>', 'for the allocator: the highest address', parseWide)
    .action((handle, size, flags: ReserveFlags) =>
      run(flags, 'reserveLogicalAddressRange', {
        domain: handle,
        size,
        ...given('explicitLogicalAddress', flags.at),
        ...given('minLogicalAddress', flags.min),
        ...given('maxLogicalAddress', flags.max),
      }),
    );

  addRemoteOptions(domain.command('free'))
    .description('give back a reserved range that nothing is mapped in')
    .argument('<token>', 'its token', parseToken)
    .action((token, flags) => run(flags, 'freeReservedLogicalAddressRange', { token }));

  addRemoteOptions(domain.command('map-reserved'))
    .description('map memory in a reserved range, and print the segment')
    .argument('<token>', 'the token of the range', parseToken)
    .argument('<offset>', 'bytes from its beginning', parseWide)
    .argument('<memory>', 'BASE+BYTES[,BASE+BYTES]...', parseMemory)
    .option('--permissions <rw>', 'r, w or rw', parsePermissions, parsePermissions('rw'))
    .action((token, offset, physicalAddressToMap, flags) =>
      run(flags, 'mapReservedLogicalRange', { token, offset, permissions: flags.permissions, physicalAddressToMap }),
    );

  addRemoteOptions(domain.command('unmap-reserved'))
    .description('unmap a segment')
    .argument('<segment>', 'what map-reserved printed', parseSegment)
    .action((mappedSegment, flags) => run(flags, 'unmapReservedLogicalRange', { mappedSegment }));
}

function deviceConfiguration(flags: CreateDeviceFlags): DeviceCreationConfiguration[] | undefined {
  const list: DeviceCreationConfiguration[] = [];
  if (flags.acpi !== undefined) {
    const { base, size } = parseRange(flags.acpi);
    list.push({
      configType: DeviceCreationConfigType.Acpi,
      inputMappingBase: Number(base),
      mappingsCount: Number(size),
    });
  }
  if (flags.pasid !== undefined) {
    const pasidConfigType = PASID_CONFIGURATIONS[flags.pasid];
    if (pasidConfigType === undefined) throw new UsageError(`'${flags.pasid}' is neither default nor tagged`);
    const suppressPasidFaults = flags.suppressFaults ?? false;
    list.push({ configType: DeviceCreationConfigType.Pasid, pasidConfigType, suppressPasidFaults });
  } else if (flags.suppressFaults) throw new UsageError('--suppress-faults goes with --pasid');
  return list.length === 0 ? undefined : list;
}
