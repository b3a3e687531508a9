/** The flags by which a command is told what to look for, what to do about it, and what to keep. */
import { accessSync, constants, statSync } from 'node:fs';
import { dirname, extname, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseClasses } from '../trace/event-filter.ts';
import { DETECTOR_NAMES, type DetectorName } from '../trace/sanitizer/detectors.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { looksForAnything, parsePolicy, type SanitizePolicy } from '../trace/sanitizer/policy.ts';
import { CommandFailure, UsageError } from './errors.ts';

export interface SanitizeFlags {
  readonly sanitize: SanitizePolicy;
  readonly failOn: FailOn;
  readonly report?: readonly ReportFile[];
  readonly record?: string;
  /** `EventClass` bits. */
  readonly recordClasses: number;
}

/** Which findings make the command fail. */
export type FailOn = 'never' | 'warning' | 'note' | ReadonlySet<DetectorName>;

export interface ReportFile {
  readonly path: string;
  readonly format: ReportFormat;
}

const FORMATS = { '.json': 'json', '.sarif': 'sarif', '.xml': 'junit', '.txt': 'text' } as const;
export type ReportFormat = (typeof FORMATS)[keyof typeof FORMATS];

export function addSanitizeOptions(command: Command): Command {
  return command
    .optionsGroup('The DMA debugger:')
    .addOption(
      new Option(
        '--sanitize <what>',
        "which mistakes to look for: on, off, all, or a list such as 'stale-iotlb=stop,-register-spin' that changes the defaults",
      )
        .argParser(asArgument(parsePolicy))
        .default(parsePolicy('on'), 'on'),
    )
    .option(
      '--fail-on <what>',
      'which findings make the exit status 3: never, warning, note (any), or a list of detectors',
      asArgument((text: string) => parseFailOn(text)),
      'never' as FailOn,
    )
    .option(
      '--report <file>',
      'write the findings at the end: .json, .sarif, .xml (JUnit) or .txt; may be given again',
      asArgument((path: string, before?: readonly ReportFile[]) => [...(before ?? []), parseReport(path)]),
    )
    .option('--record <file>', 'record what happens into a file, for viommu trace and viommu explain')
    .addOption(
      new Option('--record-classes <classes>', "which classes of events to record, such as 'dma,mapping', or all")
        .argParser(asArgument(parseClasses))
        .default(parseClasses('all'), 'all'),
    );
}

/**
 * What would only come out when the guest has run: throws a UsageError for flags that contradict each other, a CommandFailure for a
 * file that cannot be written.
 */
export function checkSanitizeFlags({ sanitize, failOn, report = [], record }: SanitizeFlags): void {
  if (failOn !== 'never' && !looksForAnything(sanitize)) {
    throw new UsageError('--fail-on needs something to be looked for: leave out --sanitize off');
  }
  for (const { path } of report) checkWritable(path, `the report ${path}`);
  if (record !== undefined) checkWritable(record, record);
}

/** Leaves no file behind. */
function checkWritable(path: string, what: string): void {
  try {
    const existing = statSync(path, { throwIfNoEntry: false });
    if (existing?.isDirectory()) throw new Error('it is a directory');
    accessSync(existing === undefined ? dirname(resolve(path)) : path, constants.W_OK);
  } catch (error) {
    throw new CommandFailure(`cannot write ${what}: ${(error as Error).message}`);
  }
}

export function parseFailOn(text: string): FailOn {
  if (text === 'never' || text === 'warning' || text === 'note') return text;
  const names = text.split(',').map(name => name.trim());
  const unknown = names.find(name => !(DETECTOR_NAMES as readonly string[]).includes(name));
  if (unknown !== undefined) {
    throw new Error(`'${unknown}' is neither never, warning, note nor a detector: one of ${DETECTOR_NAMES.join(', ')}`);
  }
  return new Set(names as DetectorName[]);
}

/** Whether a command with these findings fails. A finding that stopped the machine always counts. */
export function failsOn(failOn: FailOn, { detector, severity }: Pick<Finding, 'detector' | 'severity'>): boolean {
  if (severity === 'stop') return true;
  if (failOn === 'never') return false;
  if (failOn === 'note') return true;
  return failOn === 'warning' ? severity === 'warning' : failOn.has(detector);
}

function parseReport(path: string): ReportFile {
  const format = FORMATS[extname(path) as keyof typeof FORMATS];
  if (format === undefined) {
    throw new Error(`'${path}': the name says which format is meant, ${Object.keys(FORMATS).join(', ')}`);
  }
  return { path, format };
}

/** Commander shows what it throws beside the option's name. */
function asArgument<Value, Before>(parse: (text: string, before?: Before) => Value) {
  return (text: string, before?: Before): Value => {
    try {
      return parse(text, before);
    } catch (error) {
      throw new InvalidArgumentError((error as Error).message);
    }
  };
}
