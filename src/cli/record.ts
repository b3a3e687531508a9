/** `viommu record`: writes what happens on a running machine into a file. */
import { type Command, Option } from 'commander';
import { parseClasses } from '../trace/event-filter.ts';
import { EventClass } from '../trace/event-kinds.ts';
import type { RecordingSummary, RecordingWriter } from '../trace/recording/writer.ts';
import { CommandFailure, UsageError } from './errors.ts';
import { catchInterrupt } from './interrupt.ts';
import { createRecording } from './recording-file.ts';
import { type Connect, connectRemote, feedFrom, type TracedMachine } from './recording-live.ts';
import { asArgument, asDuration } from './recording-options.ts';
import { type RecordTerminal, recordTerminal } from './recording-terminal.ts';
import { addRemoteOptions, type RemoteFlags, toJson } from './remote-access.ts';

interface RecordFlags extends RemoteFlags {
  readonly output: string;
  /** `EventClass` bits. */
  readonly class: number;
  /** Nanoseconds. */
  readonly for?: number;
  readonly maxBytes?: number;
}

const EXAMPLES = `
Everything costs time where a driver does many transfers: leave out what you do not need, or see how many records were dropped.

Examples:
  A machine (viommu serve --dir /tmp/m --listen 0) until Ctrl-C:
    $ viommu record --dir /tmp/m -o run.viommu
  Ten seconds, without registers and without transfers that went through:
    $ viommu record --dir /tmp/m -o run.viommu --class mapping,attach,invalidation,fault,connection,note --for 10s
  Then:
    $ viommu trace run.viommu --class fault
    $ viommu explain run.viommu
`;

/** How often progress is told. */
const PROGRESS_MILLISECONDS = 1000;
const MAX_TIMER_MILLISECONDS = 2 ** 31 - 1;
const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

export function addRecord(
  program: Command,
  terminal: RecordTerminal = recordTerminal,
  connect: Connect = connectRemote,
): void {
  const command = program
    .command('record')
    .description('record what happens on a running machine into a file, for viommu trace and viommu explain')
    .requiredOption('-o, --output <file>', 'the file; what is in it is lost')
    .addOption(
      new Option('--class <classes>', `classes of events, with commas: ${Object.keys(EventClass).join(', ')}, or all`)
        .argParser(asArgument(parseClasses))
        .default(parseClasses('all'), 'all'),
    )
    .option('--for <time>', 'end after this time, e.g. 10s', asDuration)
    .option('--max-bytes <bytes>', 'end when the file is so large, e.g. 500M', parseBytes)
    .addHelpText('after', EXAMPLES);
  addRemoteOptions(command).action((flags: RecordFlags) => record(terminal, connect, flags));
}

async function record(terminal: RecordTerminal, connect: Connect, flags: RecordFlags): Promise<void> {
  const interruption = catchInterrupt();
  try {
    const summary = await connect(flags, machine => recordMachine(terminal, machine, flags, interruption.signalled));
    terminal.print(flags.json ? toJson({ file: flags.output, ...summary }) : describeEnd(flags.output, summary));
  } finally {
    interruption.stop();
  }
}

async function recordMachine(
  terminal: RecordTerminal,
  machine: TracedMachine,
  flags: RecordFlags,
  interrupted: Promise<unknown>,
): Promise<RecordingSummary> {
  const most = flags.maxBytes ?? Number.POSITIVE_INFINITY;
  const full = latch();
  let lost = 0;
  let ended = false;
  let writer: RecordingWriter | undefined;
  const { recording, gone } = await feedFrom(machine, flags.class, async live => {
    const made = await createRecording(flags.output, live.machine, flags.class, live.kinds);
    writer = made;
    return (words, dropped) => {
      if (ended) return;
      // Batches are lost as a whole; each had a record at least.
      if (dropped > lost) made.lost(dropped - lost);
      lost = dropped;
      made.append(words);
      if (made.error || made.summary.bytes >= most) full.open();
    };
  });
  const output = writer!;
  const ticker = setInterval(() => {
    if (!flags.json) terminal.complain(describe(output.summary));
  }, PROGRESS_MILLISECONDS);
  const failure = await Promise.race([interrupted, gone, timeUp(flags.for), full.opened]).then(
    () => undefined,
    (error: unknown) => error,
  );
  clearInterval(ticker);
  if (failure === undefined) await recording.stop();
  ended = true;
  const summary = await closeWriter(output, flags);
  if (failure === undefined) return summary;
  // The server went away: what was recorded until then is there.
  terminal.complain(describeEnd(flags.output, summary));
  throw failure;
}

function latch(): { readonly opened: Promise<void>; open(): void } {
  let open: () => void = () => {};
  const opened = new Promise<void>(resolve => {
    open = resolve;
  });
  return { opened, open };
}

async function closeWriter(writer: RecordingWriter, flags: RecordFlags): Promise<RecordingSummary> {
  try {
    return await writer.close();
  } catch (error) {
    throw new CommandFailure(`cannot write ${flags.output}: ${(error as Error).message}`);
  }
}

/** Never resolves without a time. */
function timeUp(nanoseconds: number | undefined): Promise<void> {
  return new Promise(resolve => {
    if (nanoseconds === undefined) return;
    // Whatever else ends the recording must not wait for it.
    setTimeout(resolve, Math.min(nanoseconds / 1e6, MAX_TIMER_MILLISECONDS)).unref();
  });
}

function describe({ records, dropped, bytes }: RecordingSummary): string {
  return `${records} records, ${dropped} dropped, ${formatBytes(bytes)}`;
}

function describeEnd(file: string, summary: RecordingSummary): string {
  const malformed = summary.malformed > 0 ? `, ${summary.malformed} not understood` : '';
  return `${file}: ${describe(summary)}${malformed}`;
}

function formatBytes(bytes: number): string {
  if (bytes < 2 ** 10) return `${bytes} bytes`;
  return bytes < 2 ** 20 ? `${(bytes / 2 ** 10).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function parseBytes(text: string): number {
  const match = /^([0-9]+)([KMG]?)$/i.exec(text);
  if (!match) throw new UsageError(`'${text}' is not a number of bytes: write 500M, or K or G instead of M`);
  return Number(match[1]) * UNITS[match[2]!.toUpperCase()]!;
}
