/** The flags by which every command is told which machine to make. */
import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { kinds } from '../devices/kinds.ts';
import {
  COMPATS,
  checkDescription,
  checkLimits,
  describeMachine,
  IOMMU_KINDS,
  MAX_POLL_MICROSECONDS,
  type MachineDescription,
  type PollMicroseconds,
} from '../machine/description.ts';
import { checkLimit, LimitError, limitRange } from '../vfio-user/limit-settings.ts';
import { type GivenLimits, type LimitDefinition, limitNames, limitTable } from '../vfio-user/limit-table.ts';
import { UsageError } from './errors.ts';

export interface MachineFlags {
  readonly iommu?: string;
  readonly device?: readonly string[];
  readonly cachingMode?: boolean;
  readonly compat?: string;
  readonly checkStale?: boolean;
  readonly machine?: string;
  readonly pollUs?: PollMicroseconds;
  readonly limit?: GivenLimits;
}

export function addMachineOptions(command: Command): Command {
  const list = kinds.map(one => one.kind).join(', ');
  return addLimitOption(addPollOption(addIommuOptions(command)))
    .addOption(new Option('--iommu <kind>', 'which IOMMU the machine has').choices([...IOMMU_KINDS]))
    .option(
      '--device <device>',
      `an endpoint, KIND@[BUS:]DEVICE.FUNCTION[,id=NAME][,OPTION=VALUE]...; may be given again (kinds: ${list})`,
      (value: string, before: string[] = []) => [...before, value],
    )
    .option('--machine <file>', 'read the machine from a JSON file instead of --iommu and --device');
}

/** The options of the IOMMUs themselves. */
export function addIommuOptions(command: Command): Command {
  const compat = new Option('--compat <mode>', 'dma-iommu: do all it can, or refuse what Windows refuses');
  return command
    .option('--caching-mode', 'vtd: advertise caching mode (CAP.CM)')
    .addOption(compat.choices([...COMPATS]))
    .option('--check-stale', 'dma-iommu: report each translation that a fresh walk would not give');
}

/** For what serves a machine. */
export function addPollOption(command: Command): Command {
  return command.option(
    '--poll-us <n|auto>',
    `look for the next message for so many microseconds (0 to ${MAX_POLL_MICROSECONDS}) before blocking; auto: where there is more than one processor (default: 0)`,
    parsePolling,
  );
}

function parsePolling(text: string): PollMicroseconds {
  if (text === 'auto') return text;
  const value = Number(text);
  if (/^[0-9]+$/.test(text) && value <= MAX_POLL_MICROSECONDS) return value;
  throw new InvalidArgumentError(`Write 'auto' or a whole number of microseconds from 0 to ${MAX_POLL_MICROSECONDS}.`);
}

/** For what serves a machine. */
export function addLimitOption(command: Command): Command {
  return command.option(
    '--limit <name=value>',
    `a limit of each client's connection, such as maxDmaMaps=4096; may be given again (names: ${limitNames.join(', ')})`,
    parseLimit,
  );
}

/** What `--help` says of each. */
export function limitsHelp(): string {
  const width = Math.max(...limitNames.map(name => name.length));
  const lines = limitNames.map(name => {
    const { what, default: usual }: LimitDefinition = limitTable[name];
    return `  ${name.padEnd(width)}  ${limitRange(name)} ${what.replaceAll('`', '')} (default: ${usual})`;
  });
  return `\nLimits (--limit), of each client's connection:\n${lines.join('\n')}\n`;
}

function parseLimit(text: string, before: GivenLimits = {}): GivenLimits {
  const at = text.indexOf('=');
  const name = at < 0 ? text : text.slice(0, at);
  const digits = at < 0 ? '' : text.slice(at + 1);
  try {
    checkLimit(name, /^[0-9]+$/.test(digits) ? Number(digits) : digits);
    return { ...before, [name]: Number(digits) };
  } catch (error) {
    if (error instanceof LimitError) throw new InvalidArgumentError(`Write NAME=VALUE: ${error.message}.`);
    throw error;
  }
}

/** The machine with the polling and the limits that flags ask for, if any. Throws a DescriptionError. */
export function withServing(
  machine: MachineDescription,
  { pollUs, limit }: Pick<MachineFlags, 'pollUs' | 'limit'>,
): MachineDescription {
  return {
    ...machine,
    ...(pollUs === undefined ? {} : { pollMicroseconds: pollUs }),
    ...(limit === undefined ? {} : { limits: checkLimits({ ...machine.limits, ...limit }) }),
  };
}

/** The machine that the flags ask for; `devices` are its endpoints where no flag names any. */
export function machineFromFlags(flags: MachineFlags, devices: readonly string[]): MachineDescription {
  return withServing(describedBy(flags, devices), flags);
}

function describedBy(flags: MachineFlags, devices: readonly string[]): MachineDescription {
  if (flags.machine === undefined) {
    const { cachingMode, compat, checkStale } = flags;
    return describeMachine(flags.iommu ?? 'vtd', flags.device ?? devices, { cachingMode, compat, checkStale });
  }
  if (
    flags.iommu !== undefined ||
    flags.device !== undefined ||
    (flags.cachingMode ?? flags.compat ?? flags.checkStale) !== undefined
  ) {
    throw new UsageError('--machine stands for --iommu, --device and their options: give one or the others');
  }
  return checkDescription(readJson(flags.machine));
}

export function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError(`${path} is not JSON: ${(error as Error).message}`);
  }
}
