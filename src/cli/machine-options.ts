/** The flags by which every command is told which machine to make. */
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { kinds } from '../devices/kinds.ts';
import {
  COMPATS,
  checkDescription,
  describeMachine,
  IOMMU_KINDS,
  type MachineDescription,
} from '../machine/description.ts';
import { UsageError } from './errors.ts';

export interface MachineFlags {
  readonly iommu?: string;
  readonly device?: readonly string[];
  readonly cachingMode?: boolean;
  readonly compat?: string;
  readonly checkStale?: boolean;
  readonly machine?: string;
}

export function addMachineOptions(command: Command): Command {
  const list = kinds.map(one => one.kind).join(', ');
  return addIommuOptions(command)
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

/** The machine that the flags ask for; `devices` are its endpoints where no flag names any. */
export function machineFromFlags(flags: MachineFlags, devices: readonly string[]): MachineDescription {
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
