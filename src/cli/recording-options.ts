/** Flags by which commands say which records they mean. */
import { type Command, InvalidArgumentError } from 'commander';
import { checkDescription, DescriptionError } from '../machine/description.ts';
import {
  type AddressRange,
  type EventFilter,
  FilterError,
  parseAddressRange,
  parseClasses,
  parseDuration,
} from '../trace/event-filter.ts';
import { EventClass } from '../trace/event-kinds.ts';
import { formatRequesterId } from '../trace/record-fields.ts';
import { RecordingError } from '../trace/recording/format.ts';
import { RecordingReader } from '../trace/recording/reader.ts';
import { parseDeviceAddress, parseNumber } from './domain-values.ts';
import { CommandFailure, UsageError } from './errors.ts';

export interface FilterFlags {
  /** `EventClass` bits. */
  readonly class?: number;
  readonly kind?: readonly string[];
  readonly device?: readonly string[];
  readonly domain?: readonly number[];
  readonly iova?: AddressRange;
  readonly since?: number;
  readonly until?: number;
}

export function addFilterOptions(command: Command): Command {
  return command
    .option(
      '--class <classes>',
      `classes of events, with commas: ${Object.keys(EventClass).join(', ')}, or all`,
      asArgument(parseClasses),
    )
    .option('--kind <kind>', 'a kind of event, e.g. mapping.removed; may be given again', collect)
    .option('--device <device>', 'a device by its name (edu0) or address (01:00.0); may be given again', collect)
    .option('--domain <domain>', 'a domain; may be given again', (text: string, before: readonly number[] = []) => [
      ...before,
      parseNumber(text),
    ])
    .option(
      '--iova <range>',
      'what touches these addresses: 0x1000-0x1fff, 0x1000+0x1000, or one address',
      asArgument(parseAddressRange),
    )
    .option('--since <time>', 'from this time on, counted from the start of the machine: 1.5s, 20ms', asDuration)
    .option('--until <time>', 'up to this time', asDuration);
}

/** Commander shows what it throws beside the option's name. */
export function asArgument<Value>(parse: (text: string) => Value) {
  return (text: string): Value => {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof FilterError) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}

export const asDuration = asArgument(parseDuration);

function collect(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** `machine`: the description; `names`: other sources that a device may be called by. Throws a `UsageError`. */
export function filterFrom(flags: FilterFlags, machine: unknown, names: Iterable<string> = []): EventFilter {
  return {
    ...(flags.class === undefined ? {} : { classes: flags.class }),
    ...(flags.kind === undefined ? {} : { kinds: flags.kind }),
    ...(flags.device === undefined ? {} : devicesFrom(flags.device, machine, names)),
    ...(flags.domain === undefined ? {} : { domains: flags.domain }),
    ...(flags.iova === undefined ? {} : { iova: flags.iova }),
    ...(flags.since === undefined ? {} : { since: flags.since }),
    ...(flags.until === undefined ? {} : { until: flags.until }),
  };
}

/** A device by its name is also meant by its requester id, and the other way round. */
function devicesFrom(devices: readonly string[], machine: unknown, names: Iterable<string>) {
  const endpoints = endpointsOf(machine);
  const sources = new Set<string>();
  const requesterIds = new Set<number>();
  const others = new Set(['iommu', ...names]);
  for (const device of devices) {
    const requesterId = endpoints.get(device) ?? (/[:.]/.test(device) ? parseDeviceAddress(device) : undefined);
    const isName = endpoints.has(device) || others.has(device);
    if (requesterId === undefined && !isName) {
      const known = [...new Set([...endpoints.keys(), ...others])];
      throw new UsageError(`there is no device '${device}': write an address such as 01:00.0, or ${known.join(', ')}`);
    }
    if (isName) sources.add(device);
    if (requesterId === undefined) continue;
    requesterIds.add(requesterId);
    for (const [name, id] of endpoints) if (id === requesterId) sources.add(name);
  }
  return { sources: [...sources], requesterIds: [...requesterIds] };
}

/** Requester ids of a machine's endpoints by name; none where the description is none. */
export function endpointsOf(machine: unknown): Map<string, number> {
  try {
    return new Map(checkDescription(machine).endpoints.map(({ id, requesterId }) => [id, requesterId]));
  } catch (error) {
    if (error instanceof DescriptionError) return new Map();
    throw error;
  }
}

/** What to call a requester: its endpoint's name, or its address. */
export function deviceName(machine: unknown, requesterId: number): string {
  for (const [name, id] of endpointsOf(machine)) if (id === requesterId) return name;
  return formatRequesterId(requesterId);
}

/** Opens the file, gives it to `use` and closes it. What is wrong with it becomes a message for the user. */
export async function withRecording<T>(path: string, use: (reader: RecordingReader) => T | Promise<T>): Promise<T> {
  try {
    const reader = RecordingReader.open(path);
    try {
      return await use(reader);
    } finally {
      reader.close();
    }
  } catch (error) {
    if (error instanceof RecordingError) throw new CommandFailure(error.message);
    if (error instanceof FilterError) throw new UsageError(error.message);
    throw error;
  }
}

/** What a reader has to say about its file, for people. */
export function complaints(reader: RecordingReader): string[] {
  const lines = reader.damage.map(({ offset, message }) => `at byte ${offset}: ${message}`);
  if (!reader.complete) lines.push('the file was not ended properly: what there is of it is shown');
  return lines;
}
