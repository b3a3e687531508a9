/** `viommu domain`: what is there, what an address translates to, what happens. */
import type { Command } from 'commander';
import type { RemoteEvent } from '../inspector/protocol.ts';
import { operationNames } from '../iommu/dma-iommu/opcodes.ts';
import type { Snapshot } from '../iommu/dma-iommu/snapshot.ts';
import { DomainType, FaultType, Permission } from '../iommu/dma-iommu/types.ts';
import type { ProbeAnswer } from '../iommu/dma-iommu/unit.ts';
import { isOperationName } from '../machine/operations-command.ts';
import { formatRequesterId } from '../trace/record-fields.ts';
import { given, parseDeviceAddress, parseNumber, parseWide } from './domain-values.ts';
import { UsageError } from './errors.ts';
import { catchInterrupt } from './interrupt.ts';
import {
  addRemoteOptions,
  formatValue,
  type RemoteFlags,
  showAnswer,
  type Terminal,
  toJson,
  withMachine,
} from './remote-access.ts';

const PAGE_MASK = 0xfffn;

interface ProbeFlags extends RemoteFlags {
  readonly write?: boolean;
  readonly pasid?: number;
}

interface InterfaceFlags extends RemoteFlags {
  readonly ex?: boolean;
  readonly flags?: bigint;
}

interface WatchFlags extends RemoteFlags {
  readonly count?: number;
}

export function addInspectionCommands(domain: Command, terminal: Terminal): void {
  addRemoteOptions(domain.command('list'))
    .description('domains, what is mapped in them, and which devices are attached')
    .action((flags: RemoteFlags) =>
      withMachine(flags, async machine => {
        const snapshot = await machine.snapshot();
        for (const line of flags.json ? [toJson(snapshot)] : describeSnapshot(snapshot)) terminal.print(line);
      }),
    );

  addRemoteOptions(domain.command('probe'))
    .description("what a device's DMA to an address would reach, without doing it; exit status 1: it would fault")
    .argument('<device>', 'its address', parseDeviceAddress)
    .argument('<address>', 'the logical address', parseWide)
    .option('--write', 'a write instead of a read')
    .option('--pasid <pasid>', 'of the request', parseNumber)
    .action((requesterId, logicalAddress, flags: ProbeFlags) =>
      withMachine(flags, async machine => {
        const access = flags.write ? Permission.write : Permission.read;
        const answer = await machine.probe({ requesterId, logicalAddress, access, ...given('pasid', flags.pasid) });
        terminal.print(flags.json ? toJson(answer) : describeProbe(logicalAddress, answer));
        if (!answer.translated) terminal.fail();
      }),
    );

  addRemoteOptions(domain.command('interface'))
    .description('ask for the interface, as IoGetIommuInterface or with --ex as IoGetIommuInterfaceEx')
    .argument('<version>', '1, or with --ex up to 3', parseNumber)
    .option('--ex', 'DMA_IOMMU_INTERFACE_EX')
    .option('--flags <flags>', 'with --ex', parseWide)
    .action((version, flags: InterfaceFlags) =>
      withMachine(flags, async machine => {
        const args = { version, ...given('ex', flags.ex), ...given('flags', flags.flags) };
        showAnswer(terminal, flags, await machine.getInterface(args));
      }),
    );

  addRemoteOptions(domain.command('statistics'))
    .description('what the machine counted since it started')
    .action((flags: RemoteFlags) =>
      withMachine(flags, async machine => terminal.print(toJson(await machine.statistics(), flags.json ? 0 : 2))),
    );

  addRemoteOptions(domain.command('watch'))
    .description('print events as they happen: faults, changes, everything that the server notes')
    .argument('[kinds...]', "kinds, or beginnings followed by *, e.g. 'callback.*' (default: '*')")
    .option('--count <events>', 'end after so many', parseNumber)
    .action((kinds: string[], flags: WatchFlags) => watch(terminal, kinds, flags));

  addRemoteOptions(domain.command('call'))
    .description("call any operation by its name in camelCase ('viommu domain call help' lists them)")
    .argument('<operation>', 'e.g. flushDomain')
    .argument('[arguments]', 'a JSON object; 64-bit numbers may be written as "0x..."', '{}')
    .action(async (operation: string, text: string, flags: RemoteFlags) => {
      if (operation === 'help') for (const name of operationNames) terminal.print(name);
      else if (!isOperationName(operation)) throw new UsageError(`there is no operation '${operation}': see call help`);
      else {
        const args = parseArguments(text);
        await withMachine(flags, async machine => showAnswer(terminal, flags, await machine.request(operation, args)));
      }
    });
}

async function watch(terminal: Terminal, kinds: readonly string[], flags: WatchFlags): Promise<void> {
  const interruption = catchInterrupt();
  try {
    await withMachine(flags, async machine => {
      let left = flags.count ?? Number.POSITIVE_INFINITY;
      const enough = new Promise<void>((resolve, reject) => {
        const hear = (event: RemoteEvent) => {
          if (left <= 0) return;
          terminal.print(flags.json ? toJson(event) : describeEvent(event));
          if (--left <= 0) resolve();
        };
        machine.subscribe({ kinds: kinds.length === 0 ? ['*'] : kinds }, hear).catch(reject);
      });
      const gone = machine.closed.then(error => Promise.reject(error));
      await Promise.race([enough, gone, interruption.signalled]);
    });
  } finally {
    interruption.stop();
  }
}

/** `"0x..."` anywhere in the arguments is a 64-bit number. */
function parseArguments(text: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text, (_name, one) =>
      typeof one === 'string' && /^0x[0-9a-f]{1,16}$/i.test(one) ? BigInt(one) : one,
    );
  } catch (error) {
    throw new UsageError(`the arguments are not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null) throw new UsageError('the arguments must be a JSON object');
  return value;
}

function describeEvent({ event, source, detail, dropped }: RemoteEvent): string {
  const facts = Object.entries(detail).map(([name, value]) => `${name}=${formatValue(value)}`);
  return [`[${source}]`, event, ...facts, ...(dropped > 0 ? [`(${dropped} lost)`] : [])].join(' ');
}

function describeProbe(logicalAddress: bigint, answer: ProbeAnswer): string {
  const { translated, fault, domain, frame, shift, permissions, level, source, stale } = answer;
  if (!translated)
    return `${faultName(fault)} (${fault}), ${domain === 0 ? 'attached to no domain' : `domain ${domain}`}`;
  const physical = (BigInt(frame) << 12n) | (logicalAddress & PAGE_MASK);
  const where = `physical ${formatValue(physical)} (${permissionsName(permissions)}, page of ${2 ** shift} bytes)`;
  if (domain === 0) return `${where}, untranslated: attached to no domain`;
  return `${where}, domain ${domain}, level ${level}, from ${source}${stale ? ', STALE: an invalidation is missing' : ''}`;
}

function faultName(fault: number): string {
  return Object.entries(FaultType).find(([, type]) => type === fault)?.[0] ?? 'fault';
}

function permissionsName(permissions: number): string {
  return `${permissions & Permission.read ? 'r' : '-'}${permissions & Permission.write ? 'w' : '-'}`;
}

const TYPE_NAMES = new Map<number, string>(Object.entries(DomainType).map(([name, value]) => [value, name]));

function describeSnapshot({ domains, attachments, devices, tokens }: Snapshot): string[] {
  const lines: string[] = [];
  for (const { handle, type, allocator, configuration, rangeCount, ranges } of domains) {
    const facts = [
      `domain ${handle} ${TYPE_NAMES.get(type) ?? type}`,
      ...(allocator ? [`${allocator.freePages} of ${allocator.pages} pages free`] : []),
      ...(configuration ? [`configured ${formatValue(configuration)}`] : []),
    ];
    lines.push(facts.join(', '));
    for (const { domain, physicalDeviceObject, ids, faultReporting, dmaDevice } of attachments) {
      if (domain !== handle) continue;
      const how = dmaDevice === 0 ? '' : ` by DMA device ${dmaDevice}`;
      const reported = faultReporting ? ', faults reported' : '';
      lines.push(`  device ${formatRequesterId(physicalDeviceObject)}${how}, ids ${ids.join(' ')}${reported}`);
    }
    for (const { logicalAddress, numberOfPages, kind, permissions } of ranges) {
      const pages = numberOfPages === 1 ? 'page' : 'pages';
      lines.push(`  ${formatValue(logicalAddress)} ${numberOfPages} ${pages} ${permissionsName(permissions)} ${kind}`);
    }
    if (rangeCount > ranges.length) lines.push(`  ... and ${rangeCount - ranges.length} ranges more`);
  }
  for (const { handle, physicalDeviceObject, domain, pasidDevices } of devices) {
    const attached = domain === 0 ? 'not attached' : `in domain ${domain}`;
    lines.push(`DMA device ${handle} of ${formatRequesterId(physicalDeviceObject)}, ${attached}`);
    for (const one of pasidDevices) {
      const place = one.domain === 0 ? 'not attached' : `in domain ${one.domain}`;
      lines.push(`  PASID device ${one.handle}, PASID ${one.pasid}, ${place}`);
    }
  }
  for (const { handle, domain, logicalAddress, numberOfPages, segments } of tokens) {
    lines.push(
      `token ${handle} in domain ${domain}: ${formatValue(logicalAddress)}, ${numberOfPages} pages, ${segments} segments`,
    );
  }
  return lines.length === 0 ? ['no domains, no DMA devices'] : lines;
}
