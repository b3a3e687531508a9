/** `viommu trace`: the records of a file, or of a running machine as they come. */
import { watch } from 'node:fs';
import type { Command } from 'commander';
import { compileFilter, type EventFilter, FilterError } from '../trace/event-filter.ts';
import { EVENT_KINDS, EventClass, Kind } from '../trace/event-kinds.ts';
import { KindTableError } from '../trace/kind-table.ts';
import { RecordCursor } from '../trace/record-cursor.ts';
import { Decoder } from '../trace/record-fields.ts';
import type { RecordingReader } from '../trace/recording/reader.ts';
import { parseNumber } from './domain-values.ts';
import { CommandFailure, UsageError } from './errors.ts';
import { catchInterrupt } from './interrupt.ts';
import { type Connect, checkOneSource, connectRemote, feedFrom, type LiveRecording } from './recording-live.ts';
import { addFilterOptions, complaints, type FilterFlags, filterFrom, withRecording } from './recording-options.ts';
import { RecordPrinter } from './recording-printer.ts';
import { type RecordTerminal, recordTerminal } from './recording-terminal.ts';
import { addRemoteOptions, type RemoteFlags } from './remote-access.ts';

interface TraceFlags extends RemoteFlags, FilterFlags {
  readonly follow?: boolean;
  readonly limit?: number;
}

const EXAMPLES = `
A line: seconds since the machine's start, [who], what. Registers are shown by name, with the fields that are not zero or that changed.
Without --class, a file is shown whole; of a running machine everything but registers, translations and transfers that went through.

Examples:
  What a driver did to the IOMMU's registers:
    $ viommu trace run.viommu --class register --device iommu
  All that happened to one page:
    $ viommu trace run.viommu --iova 0xfffff000+0x1000
  The faults of one device in the first two seconds, for a program:
    $ viommu trace run.viommu --class fault --device 01:00.0 --until 2s --json
  A running machine, until Ctrl-C (viommu serve --dir /tmp/m --listen 0):
    $ viommu trace --dir /tmp/m --class dma,mapping,fault
`;

/** What is frequent, and recorded only where somebody asks for it. */
const FREQUENT = EventClass.register | EventClass.translation | EventClass.dma;
const ALL_CLASSES = Object.values(EventClass).reduce((mask, bit) => mask | bit, 0);

export function addTrace(
  program: Command,
  terminal: RecordTerminal = recordTerminal,
  connect: Connect = connectRemote,
): void {
  const command = program
    .command('trace')
    .description('print what happened: the records of a file, or of a running machine as they come')
    .argument('[file]', "a file of 'viommu record' or 'viommu serve --record'")
    .option('--follow', 'go on as the file grows, until it is complete; a running machine is followed in any case')
    .option('--limit <records>', 'end after so many', parseNumber)
    .addHelpText('after', EXAMPLES);
  addRemoteOptions(addFilterOptions(command)).action(async (file: string | undefined, flags: TraceFlags) => {
    checkOneSource(file, flags);
    if (file === undefined) await traceMachine(terminal, connect, flags);
    else await traceFile(terminal, file, flags);
  });
}

async function traceFile(terminal: RecordTerminal, file: string, flags: TraceFlags): Promise<void> {
  await withRecording(file, async reader => {
    const { machine } = reader.header;
    const cursor = reader.cursor();
    const filter = filterFrom(flags, machine, reader.sources.values());
    const printer = printerFor(terminal, flags, machine, cursor, filter);
    const { classes, since, until, domains } = filter;
    const blocks = reader.read({
      // Holes among the records are shown whatever is asked for.
      ...(classes === undefined ? {} : { classes: classes | EventClass.note }),
      ...(since === undefined ? {} : { since }),
      ...(until === undefined ? {} : { until }),
      ...(domains?.length === 1 ? { domain: domains[0]! } : {}),
    });
    for (const { words } of blocks) {
      printer.print(words);
      if (cursor.damaged) terminal.complain('a block ends with something that is no record');
      if (printer.full || terminal.gone) break;
      await terminal.drained();
    }
    if (flags.follow && !reader.complete) {
      // The last block may have been half written when the file was opened.
      await follow(terminal, file, reader, printer);
      return;
    }
    for (const complaint of complaints(reader)) terminal.complain(complaint);
    if (reader.damage.length > 0) terminal.fail();
  });
}

/** Prints what is written to the file until it is complete, the limit is reached, or Ctrl-C. */
async function follow(
  terminal: RecordTerminal,
  file: string,
  reader: RecordingReader,
  printer: RecordPrinter,
): Promise<void> {
  const interruption = catchInterrupt();
  // Watched before it is looked at, so that no change is missed.
  const watcher = watch(file);
  try {
    const interrupted = interruption.signalled.then(() => true);
    while (!printer.full && !terminal.gone) {
      const changed = new Promise<boolean>((resolve, reject) => {
        watcher.once('change', () => resolve(false));
        watcher.once('error', reject);
      });
      const isComplete = printMore(reader, printer);
      if (isComplete || printer.full || (await Promise.race([changed, interrupted]))) return;
      watcher.removeAllListeners();
    }
  } finally {
    watcher.close();
    interruption.stop();
  }
}

function printMore(reader: RecordingReader, printer: RecordPrinter): boolean {
  const blocks = reader.readMore();
  for (;;) {
    const step = blocks.next();
    if (step.done) return step.value;
    printer.print(step.value.words);
  }
}

async function traceMachine(terminal: RecordTerminal, connect: Connect, flags: TraceFlags): Promise<void> {
  const classes = flags.class ?? classesOf(flags.kind);
  const interruption = catchInterrupt();
  try {
    await connect(flags, async machine => {
      let unprinted = 0;
      let resolve: () => void = () => {};
      const enough = new Promise<void>(done => {
        resolve = done;
      });
      const { recording, gone } = await feedFrom(machine, classes | EventClass.note, live => {
        const cursor = new RecordCursor(decoderOf(live));
        const filter = { ...filterFrom(flags, live.machine), classes };
        const printer = printerFor(terminal, flags, live.machine, cursor, filter);
        let lost = 0;
        return (words, dropped) => {
          if (printer.full) return;
          if (dropped > lost)
            terminal.complain(`${dropped - lost} batches of records were lost: this side is too slow`);
          lost = dropped;
          if (terminal.behind) unprinted++;
          else printer.print(words);
          if (printer.full || terminal.gone) resolve();
        };
      });
      await Promise.race([enough, interruption.signalled, gone]);
      await recording.stop();
      if (unprinted > 0)
        terminal.complain(`${unprinted} batches of records were not printed: the output is read too slowly`);
    });
  } catch (error) {
    if (error instanceof FilterError) throw new UsageError(error.message);
    throw error;
  } finally {
    interruption.stop();
  }
}

/** Of the kinds that are asked for; without any, everything that is not frequent. */
function classesOf(kinds: readonly string[] | undefined): number {
  if (kinds === undefined) return ALL_CLASSES & ~FREQUENT;
  return EVENT_KINDS.reduce((mask, kind) => (kinds.includes(kind.name) ? mask | EventClass[kind.class] : mask), 0);
}

function decoderOf(live: LiveRecording): Decoder {
  try {
    return Decoder.fromTable(live.kinds);
  } catch (error) {
    if (error instanceof KindTableError)
      throw new CommandFailure(`the server's records cannot be read: ${error.message}`);
    throw error;
  }
}

function printerFor(
  terminal: RecordTerminal,
  flags: TraceFlags,
  machine: unknown,
  cursor: RecordCursor,
  filter: EventFilter,
): RecordPrinter {
  const passes = compileFilter(filter, cursor.decoder);
  // Names of sources are in every line; they are no event unless asked for.
  const showsNames = flags.kind?.includes('source') ?? false;
  return new RecordPrinter({
    terminal,
    machine,
    cursor,
    wanted: showsNames ? passes : one => one.kind !== Kind.source && passes(one),
    json: flags.json ?? false,
    limit: flags.limit ?? Number.POSITIVE_INFINITY,
  });
}
