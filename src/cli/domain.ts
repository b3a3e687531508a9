/** `viommu domain`: the operations of DMA_IOMMU_INTERFACE on a running server. */
import type { Command } from 'commander';
import type { RemoteMachine } from '../inspector/remote-client.ts';
import { DomainConfigurationArch, DomainType, LogicalAllocatorType } from '../iommu/dma-iommu/types.ts';
import { addDeviceCommands } from './domain-devices.ts';
import { addInspectionCommands } from './domain-inspect.ts';
import {
  given,
  parseDeviceWord,
  parseDomain,
  parseMdl,
  parseMemory,
  parseNumber,
  parsePermissions,
  parseRange,
  parseWide,
} from './domain-values.ts';
import { UsageError } from './errors.ts';
import {
  addRemoteOptions,
  processTerminal,
  type RemoteFlags,
  showAnswer,
  type Terminal,
  withMachine,
} from './remote-access.ts';

const EXAMPLES = `
Numbers are decimal or 0x... A DEVICE is an address in the guest (01:00.0) or, for the operations of version 2 and 3, the handle
that create-device printed. MEMORY is BASE+BYTES of guest memory, several with commas: 0x100000+0x1000,0x300000+0x2000.

Examples:
  $ viommu serve --dir /tmp/m --iommu dma-iommu --device edu@01:00.0 --listen 0 &
  $ export VIOMMU_DIR=/tmp/m
  $ viommu domain create
  $ viommu domain attach 1 01:00.0
  $ viommu domain map 1 0x100000+0x4000 --at 0x80000000 --permissions rw
  $ viommu domain probe 01:00.0 0x80000123
  $ viommu domain unmap 1 0x80000000 4
  $ viommu domain call flushDomainByVaList '{"domain":2,"lastLevel":true,"vaList":["0x1000"]}'
The status is printed first; the exit status is 1 where it is not STATUS_SUCCESS.
`;

const DOMAIN_TYPES: Readonly<Record<string, number>> = {
  translate: DomainType.Translate,
  'pass-through': DomainType.PassThrough,
  unmanaged: DomainType.Unmanaged,
  'translate-s1': DomainType.TranslateS1,
};

export function addDomain(program: Command, terminal: Terminal = processTerminal): void {
  const domain = program
    .command('domain')
    .description('operate the DMA_IOMMU_INTERFACE of a running server: domains, devices, mappings')
    .addHelpText('after', EXAMPLES);
  addDomainCommands(domain, terminal);
  addDeviceCommands(domain, terminal);
  addInspectionCommands(domain, terminal);
}

interface CreateFlags extends RemoteFlags {
  readonly type: string;
  readonly allocatorBits?: number;
  readonly reserve?: readonly string[];
  readonly v1?: boolean;
}

interface MapFlags extends RemoteFlags {
  readonly at?: bigint;
  readonly min?: bigint;
  readonly max?: bigint;
  readonly permissions: number;
  readonly v1?: boolean;
}

interface IdentityFlags extends RemoteFlags {
  readonly permissions: number;
  readonly v1?: boolean;
}

interface ConfigureFlags extends RemoteFlags {
  readonly x64?: bigint;
  readonly levels?: number;
  readonly ttbr0?: bigint;
  readonly ttbr1?: bigint;
  readonly mair0?: number;
  readonly mair1?: number;
  readonly inputSize0?: number;
  readonly inputSize1?: number;
  readonly granule?: number;
  readonly coherent: boolean;
  readonly translation: boolean;
}

function addDomainCommands(domain: Command, terminal: Terminal): void {
  /** Runs one operation and shows its answer. */
  const run = <Flags extends RemoteFlags>(
    flags: Flags,
    operate: (machine: RemoteMachine) => ReturnType<RemoteMachine['request']>,
  ) => withMachine(flags, async machine => showAnswer(terminal, flags, await operate(machine)));

  addRemoteOptions(domain.command('create'))
    .description('make a domain, and print its handle')
    .option('--type <type>', `one of ${Object.keys(DOMAIN_TYPES).join(', ')}`, 'translate')
    .option('--allocator-bits <bits>', 'choose logical addresses of this width by a buddy allocator', parseNumber)
    .option(
      '--reserve <range>',
      'BASE+BYTES that is never mapped, or with :map, mapped to itself; may be given again',
      collect,
    )
    .option('--v1', 'by CreateDomain of version 1: --type translate or unmanaged')
    .action((flags: CreateFlags) => run(flags, machine => create(machine, flags)));

  addRemoteOptions(domain.command('delete'))
    .description('delete a domain that has neither devices nor reserved ranges')
    .argument('<domain>', 'its handle', parseDomain)
    .action((handle, flags) => run(flags, machine => machine.operate('deleteDomain', { domain: handle })));

  addRemoteOptions(domain.command('attach'))
    .description('attach a device to a domain')
    .argument('<domain>', 'its handle', parseDomain)
    .argument('<device>', 'address (AttachDevice) or handle (AttachDeviceEx)', parseDeviceWord)
    .option('--base <id>', 'by address: the first input mapping id', parseNumber, 0)
    .option('--count <ids>', 'by address: how many input mapping ids', parseNumber, 1)
    .action((handle, { dmaDevice, physicalDeviceObject }, flags) =>
      run(flags, machine =>
        dmaDevice === undefined
          ? machine.operate('attachDevice', {
              domain: handle,
              physicalDeviceObject,
              inputMappingIdBase: flags.base,
              mappingCount: flags.count,
            })
          : machine.operate('attachDeviceEx', { domain: handle, dmaDevice }),
      ),
    );

  addRemoteOptions(domain.command('detach'))
    .description('detach a device from its domain')
    .argument('<device>', 'address (DetachDevice) or handle (DetachDeviceEx)', parseDeviceWord)
    .argument('[domain]', 'by address: the handle of its domain', parseDomain)
    .option('--base <id>', 'by address: the input mapping id that it was attached with', parseNumber, 0)
    .action((device, handle, flags) => {
      const { dmaDevice, physicalDeviceObject } = device;
      if (dmaDevice !== undefined) return run(flags, machine => machine.operate('detachDeviceEx', { dmaDevice }));
      if (handle === undefined) throw new UsageError('a device that is named by its address needs its domain, too');
      const args = { domain: handle, physicalDeviceObject, inputMappingId: flags.base };
      return run(flags, machine => machine.operate('detachDevice', args));
    });

  addRemoteOptions(domain.command('flush'))
    .description('drop everything that the TLB has of a domain')
    .argument('<domain>', 'its handle', parseDomain)
    .action((handle, flags) => run(flags, machine => machine.operate('flushDomain', { domain: handle })));

  addRemoteOptions(domain.command('flush-va'))
    .description('drop what the TLB has of some addresses of a domain')
    .argument('<domain>', 'its handle', parseDomain)
    .argument('<addresses...>', 'any within the pages', (text: string, before: bigint[] = []) => [
      ...before,
      parseWide(text),
    ])
    .option('--last-level', 'only entries that map pages were changed: keep pointers to tables')
    .action((handle, vaList, flags) =>
      run(flags, machine =>
        machine.operate('flushDomainByVaList', { domain: handle, lastLevel: flags.lastLevel ?? false, vaList }),
      ),
    );

  const permissionsHelp = 'r, w or rw';
  addRemoteOptions(domain.command('map'))
    .description('map memory at a logical address, and print the address')
    .argument('<domain>', 'its handle', parseDomain)
    .argument('<memory>', 'BASE+BYTES[,BASE+BYTES]...')
    .option('--at <address>', 'where; without it the domain needs an allocator', parseWide)
    .option('--min <address>', 'for the allocator: the lowest address', parseWide)
    .option('--max <address>', 'for the allocator: the highest address', parseWide)
    .option('--permissions <rw>', permissionsHelp, parsePermissions, parsePermissions('rw'))
    .option('--v1', 'by MapLogicalRange of version 1')
    .action((handle, memory, flags: MapFlags) => run(flags, machine => map(machine, handle, memory, flags)));

  addRemoteOptions(domain.command('unmap'))
    .description('unmap pages at a logical address')
    .argument('<domain>', 'its handle', parseDomain)
    .argument('<address>', 'the logical address', parseWide)
    .argument('<pages>', 'how many pages of 4 KiB', parseNumber)
    .action((handle, logicalAddress, numberOfPages, flags) =>
      run(flags, machine => machine.operate('unmapLogicalRange', { domain: handle, logicalAddress, numberOfPages })),
    );

  addRemoteOptions(domain.command('map-identity'))
    .description('map memory to itself')
    .argument('<domain>', 'its handle', parseDomain)
    .argument('<memory>', 'BASE+BYTES[,BASE+BYTES]...')
    .option('--permissions <rw>', permissionsHelp, parsePermissions, parsePermissions('rw'))
    .option('--v1', 'by MapIdentityRange of version 1')
    .action((handle, memory, flags: IdentityFlags) => {
      const common = { domain: handle, permissions: flags.permissions };
      return run(flags, machine =>
        flags.v1
          ? machine.operate('mapIdentityRange', { ...common, mdl: parseMdl(memory) })
          : machine.operate('mapIdentityRangeEx', { ...common, physicalAddressToMap: parseMemory(memory) }),
      );
    });

  addRemoteOptions(domain.command('unmap-identity'))
    .description('undo map-identity')
    .argument('<domain>', 'its handle', parseDomain)
    .argument('<memory>', 'BASE+BYTES[,BASE+BYTES]...')
    .option('--v1', 'by UnmapIdentityRange of version 1')
    .action((handle, memory, flags) =>
      run(flags, machine =>
        flags.v1
          ? machine.operate('unmapIdentityRange', { domain: handle, mdl: parseMdl(memory) })
          : machine.operate('unmapIdentityRangeEx', { domain: handle, mappedPhysicalAddress: parseMemory(memory) }),
      ),
    );

  addRemoteOptions(domain.command('configure'))
    .description('give an unmanaged domain its page tables')
    .argument('<domain>', 'its handle', parseDomain)
    .option('--x64 <root>', 'x86-64 first-level tables with this root', parseWide)
    .option('--levels <levels>', 'of them: 4 or 5', parseNumber)
    .option('--ttbr0 <root>', 'ARM64 stage-1 tables for the low addresses', parseWide)
    .option('--ttbr1 <root>', '... and for the high ones', parseWide)
    .option('--mair0 <value>', 'ARM64 memory attributes 0 to 3', parseNumber)
    .option('--mair1 <value>', '... and 4 to 7', parseNumber)
    .option('--input-size0 <bits>', 'ARM64: width of the addresses that TTBR0 translates', parseNumber)
    .option('--input-size1 <bits>', '... and TTBR1', parseNumber)
    .option('--granule <kib>', 'ARM64: 4, 16 or 64', parseNumber)
    .option('--no-coherent', 'ARM64: table walks do not snoop')
    .option('--no-translation', 'bypass the tables')
    .action((handle, flags: ConfigureFlags) =>
      run(flags, machine =>
        machine.operate('configureDomain', { domain: handle, configuration: configuration(flags) }),
      ),
    );
}

function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

function create(machine: RemoteMachine, flags: CreateFlags): ReturnType<RemoteMachine['request']> {
  const type = DOMAIN_TYPES[flags.type];
  if (type === undefined) throw new UsageError(`no domain type is called '${flags.type}'`);
  if (!flags.v1) {
    const bits = flags.allocatorBits;
    return machine.operate('createDomainEx', {
      domainType: type,
      ...given(
        'logicalAllocatorConfig',
        bits === undefined ? undefined : { logicalAllocatorType: LogicalAllocatorType.Buddy, addressWidth: bits },
      ),
      ...given('reservedRegions', flags.reserve?.map(reservedRegion)),
    });
  }
  const fits = type === DomainType.Translate || type === DomainType.Unmanaged;
  if (!fits || flags.allocatorBits !== undefined || flags.reserve !== undefined) {
    throw new UsageError('version 1 has translate and unmanaged domains only, without allocator and reserved ranges');
  }
  return machine.operate('createDomain', { osManagedPageTable: type === DomainType.Translate });
}

function reservedRegion(text: string) {
  const shouldMap = text.endsWith(':map');
  const { base, size } = parseRange(shouldMap ? text.slice(0, -':map'.length) : text);
  if (size % 4096n !== 0n) throw new UsageError(`'${text}' is not made of whole pages of 4 KiB`);
  return { base, numberOfPages: Number(size / 4096n), shouldMap };
}

function map(machine: RemoteMachine, domain: ReturnType<typeof parseDomain>, memory: string, flags: MapFlags) {
  const common = { domain, permissions: flags.permissions };
  if (!flags.v1) {
    return machine.operate('mapLogicalRangeEx', {
      ...common,
      physicalAddressToMap: parseMemory(memory),
      ...given('explicitLogicalAddress', flags.at),
      ...given('minLogicalAddress', flags.min),
      ...given('maxLogicalAddress', flags.max),
    });
  }
  if (flags.at === undefined || flags.min !== undefined || flags.max !== undefined) {
    throw new UsageError('version 1 needs --at, and knows neither --min nor --max');
  }
  return machine.operate('mapLogicalRange', { ...common, mdl: parseMdl(memory), logicalAddress: flags.at });
}

function configuration(flags: ConfigureFlags) {
  const isArm64 = flags.ttbr0 !== undefined || flags.ttbr1 !== undefined;
  if (isArm64 === (flags.x64 !== undefined)) throw new UsageError('give either --x64 or --ttbr0 and --ttbr1');
  const translationEnabled = flags.translation;
  if (flags.x64 !== undefined) {
    return {
      type: DomainConfigurationArch.X64,
      firstLevelPageTableRoot: flags.x64,
      translationEnabled,
      ...given('levels', flags.levels),
    };
  }
  return {
    type: DomainConfigurationArch.Arm64,
    ttbr0: flags.ttbr0 ?? 0n,
    ttbr1: flags.ttbr1 ?? 0n,
    mair0: flags.mair0 ?? 0,
    mair1: flags.mair1 ?? 0,
    inputSize0: flags.inputSize0 ?? 0,
    inputSize1: flags.inputSize1 ?? 0,
    coherentTableWalks: flags.coherent,
    translationEnabled,
    ...given('granule', flags.granule),
  };
}
