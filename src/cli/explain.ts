/** `viommu explain`: a mistake with its history, from a recording or a running machine. */
import type { Command } from 'commander';
import { EventClass, Kind } from '../trace/event-kinds.ts';
import type { RecordCursor } from '../trace/record-cursor.ts';
import { fieldsOf } from '../trace/record-fields.ts';
import type { RecordingReader } from '../trace/recording/reader.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { parseWide } from './domain-values.ts';
import { UsageError } from './errors.ts';
import { type FileFindings, findingsOf } from './recording-findings.ts';
import { type Connect, checkOneSource, connectRemote } from './recording-live.ts';
import { complaints, deviceName, endpointsOf, withRecording } from './recording-options.ts';
import { RecordFormatter } from './recording-printer.ts';
import { type RecordTerminal, recordTerminal } from './recording-terminal.ts';
import { describeRecord, type Focus, type Timeline, timelineOf } from './recording-timeline.ts';
import { describeFinding, describeTimeline, findingLine, oneLine, stamp } from './recording-words.ts';
import { addRemoteOptions, type RemoteFlags, toJson } from './remote-access.ts';

interface ExplainFlags extends RemoteFlags {
  readonly replay?: boolean;
}

const EXAMPLES = `
WHAT is a finding's id (F3), a fault by its number in the file (fault:2), or an address as the device sees it (0xfffff000). Without it, all
findings and faults are listed. A file that was recorded without findings is looked through again.

Examples:
  $ viommu explain run.viommu
  $ viommu explain run.viommu F1
  $ viommu explain run.viommu fault:2
  $ viommu explain run.viommu 0xfffff000
  A running machine (viommu serve --dir /tmp/m --listen 0); it tells its findings, and a recording tells more:
    $ viommu explain --dir /tmp/m F1
`;

const MAX_FAULTS_LISTED = 20;
const FAULT_WIDTH = 7;
const PAGE_SHIFT = 12n;

type What =
  | { readonly finding: string; readonly fault?: undefined; readonly iova?: undefined }
  | { readonly fault: number; readonly finding?: undefined; readonly iova?: undefined }
  | { readonly iova: bigint; readonly finding?: undefined; readonly fault?: undefined };

/** undefined: it is written like none of them. */
export function parseWhat(text: string): What | undefined {
  if (/^f[0-9]+$/i.test(text)) return { finding: text.toUpperCase() };
  const fault = /^fault:([0-9]{1,15})$/i.exec(text);
  if (fault) return { fault: Number(fault[1]) };
  return /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? { iova: parseWide(text) } : undefined;
}

export function addExplain(
  program: Command,
  terminal: RecordTerminal = recordTerminal,
  connect: Connect = connectRemote,
): void {
  const command = program
    .command('explain')
    .description('explain a mistake: what was mapped, how it went away, who used it, and what happened around it')
    .argument('[file]', "a file of 'viommu record' or 'viommu serve --record'; missing with --dir or --connect")
    .argument('[what]', 'F3, fault:2, an address, or nothing for a list')
    .option('--replay', 'look through the file again, even where findings were recorded')
    .addHelpText('after', EXAMPLES);
  addRemoteOptions(command).action(
    async (first: string | undefined, second: string | undefined, flags: ExplainFlags) => {
      const isLive = flags.connect !== undefined || flags.dir !== undefined;
      const isWhat = isLive && second === undefined && (first === undefined || parseWhat(first) !== undefined);
      const file = isWhat ? undefined : first;
      checkOneSource(file, flags);
      const what = isWhat ? first : second;
      const meant = what === undefined ? undefined : parseWhat(what);
      if (what !== undefined && meant === undefined) {
        throw new UsageError(`'${what}' is not a finding (F3), a fault (fault:2) or an address (0xfffff000)`);
      }
      if (file === undefined) await explainMachine(terminal, connect, flags, meant);
      else await explainFile(terminal, file, flags, meant);
    },
  );
}

async function explainFile(terminal: RecordTerminal, file: string, flags: ExplainFlags, what?: What): Promise<void> {
  await withRecording(file, reader => {
    const found = findingsOf(reader, flags.replay);
    if (what === undefined) listFile(terminal, flags, reader, found);
    else if (what.finding !== undefined) explainFinding(terminal, flags, reader, findingById(found, what.finding));
    else if (what.fault !== undefined) explainFault(terminal, flags, reader, found, what.fault);
    else explainAddress(terminal, flags, reader, found, what.iova);
    for (const complaint of complaints(reader)) terminal.complain(complaint);
  });
}

async function explainMachine(
  terminal: RecordTerminal,
  connect: Connect,
  flags: ExplainFlags,
  what?: What,
): Promise<void> {
  if (what?.fault !== undefined) {
    throw new UsageError("faults have numbers in a recording only: make one with 'viommu record'");
  }
  const { state, findings, lost } = await connect(flags, machine => machine.findings());
  if (state === 'off') terminal.complain('the machine looks for no mistakes: it was started with --sanitize off');
  if (state === 'failed') terminal.complain('the sanitizer failed, and has looked at nothing since');
  const found = { findings, lost, replayed: false };
  if (what === undefined) {
    if (flags.json) terminal.print(toJson({ state, findings, lost }));
    else print(terminal, listFindings(found));
    return;
  }
  const meant = what.finding === undefined ? onPage(findings, what.iova) : [findingById(found, what.finding)];
  if (flags.json) terminal.print(toJson({ findings: meant }));
  else if (meant.length === 0) terminal.print('No finding is about this address.');
  else for (const finding of meant) print(terminal, [...describeFinding(finding), '']);
}

function listFile(terminal: RecordTerminal, flags: ExplainFlags, reader: RecordingReader, found: FileFindings): void {
  const formatter = new RecordFormatter(reader.header.machine);
  const faults: { line: string; object: object }[] = [];
  const total = eachFault(reader, (cursor, number) => {
    if (number > MAX_FAULTS_LISTED) return true;
    faults.push({ line: faultLine(number, reader, cursor), object: formatter.object(cursor) });
    return true;
  });
  if (flags.json) {
    const { findings, lost, replayed } = found;
    terminal.print(toJson({ findings, lost, replayed, faults: faults.map(({ object }) => object), faultCount: total }));
    return;
  }
  print(terminal, [
    ...(found.replayed ? ['The file has no findings of its own: these were found by looking through it now.'] : []),
    ...listFindings(found),
    ...faults.map(({ line }) => line),
    ...(total > faults.length ? [`... and ${total - faults.length} faults more`] : []),
    ...(total === 0 ? ['No faults.'] : []),
  ]);
}

function listFindings({ findings, lost }: FileFindings): string[] {
  const more = lost > 0 ? [`... and ${lost} more, which were not kept`] : [];
  return findings.length === 0 ? ['No findings.'] : [...findings.map(findingLine), ...more];
}

function findingById({ findings }: FileFindings, id: string): Finding {
  const finding = findings.find(one => one.id === id);
  if (finding) return finding;
  const known = findings.length === 0 ? 'there are none' : `there are ${findings[0]!.id} to ${findings.at(-1)!.id}`;
  throw new UsageError(`there is no finding ${id}: ${known}`);
}

function explainFinding(
  terminal: RecordTerminal,
  flags: ExplainFlags,
  reader: RecordingReader,
  finding: Finding,
): void {
  const { machine } = reader.header;
  const { device, iova, length, domain, evidence, first } = finding;
  const time = evidence.at(-1)?.time ?? first;
  const requesterId = endpointsOf(machine).get(device) ?? requesterIdOf(device);
  const timeline = timelineOf(reader, {
    time,
    device,
    ...(requesterId === undefined ? {} : { requesterId }),
    ...(iova === undefined ? {} : { iova }),
    ...(length === undefined ? {} : { length }),
    ...(domain === undefined ? {} : { domain }),
  });
  show(terminal, flags, [finding], timeline, time);
}

function explainFault(
  terminal: RecordTerminal,
  flags: ExplainFlags,
  reader: RecordingReader,
  found: FileFindings,
  wanted: number,
): void {
  let focus: (Focus & { time: number }) | undefined;
  let line = '';
  const total = eachFault(reader, (cursor, number) => {
    if (number !== wanted) return true;
    line = faultLine(wanted, reader, cursor);
    focus = focusOf(reader, cursor);
    return false;
  });
  if (focus === undefined) throw new UsageError(`there is no fault:${wanted}: the file has ${total} faults`);
  const { time, iova, device } = focus;
  const findings = onPage(found.findings, iova!).filter(
    one => one.device === device && one.first <= time + SAME_MOMENT && one.last >= time - SAME_MOMENT,
  );
  if (!flags.json) print(terminal, [line, '']);
  show(terminal, flags, findings, timelineOf(reader, focus), time);
}

/** A finding is told by the transfer that failed, right after the fault: nanoseconds. */
const SAME_MOMENT = 1e6;

function explainAddress(
  terminal: RecordTerminal,
  flags: ExplainFlags,
  reader: RecordingReader,
  found: FileFindings,
  iova: bigint,
): void {
  const findings = onPage(found.findings, iova);
  if (!flags.json && findings.length === 0) print(terminal, ['No finding is about this address.', '']);
  show(terminal, flags, findings, timelineOf(reader, { iova }), undefined);
}

function show(
  terminal: RecordTerminal,
  flags: ExplainFlags,
  findings: readonly Finding[],
  timeline: Timeline,
  focus: number | undefined,
): void {
  if (flags.json) {
    const { entries, omitted } = timeline;
    terminal.print(toJson({ findings, timeline: entries.map(({ object }) => object), omitted }));
    return;
  }
  for (const finding of findings) print(terminal, [...describeFinding(finding), '']);
  print(terminal, ['What happened around it:', ...describeTimeline(timeline, focus)]);
}

/** Calls `visit` for each fault, counted from 1, until it gives false. Returns how many there were until then. */
function eachFault(reader: RecordingReader, visit: (cursor: RecordCursor, number: number) => boolean): number {
  const cursor = reader.cursor();
  let count = 0;
  for (const { words } of reader.read({ classes: EventClass.fault })) {
    cursor.load(words);
    while (cursor.next()) if (cursor.kind === Kind.fault && !visit(cursor, ++count)) return count;
  }
  return count;
}

/** `fault:2   3.587906 s  edu0 may not write at 0x2003000: ...`. */
function faultLine(number: number, { header }: RecordingReader, cursor: RecordCursor): string {
  const { time, text } = describeRecord(cursor, header.machine);
  return `${`fault:${number}`.padEnd(FAULT_WIDTH)}${stamp(time)}  ${oneLine(text)}`;
}

function focusOf(reader: RecordingReader, cursor: RecordCursor): Focus & { time: number } {
  const { iova, domain, requesterId } = fieldsOf(cursor.decoder.kind(cursor.kind)!, cursor);
  return {
    time: cursor.time,
    ...(typeof iova === 'bigint' ? { iova } : {}),
    ...(typeof domain === 'number' ? { domain } : {}),
    ...(typeof requesterId === 'number' ? { requesterId, device: deviceName(reader.header.machine, requesterId) } : {}),
  };
}

function requesterIdOf(device: string): number | undefined {
  const match = /^([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/i.exec(device);
  if (!match) return undefined;
  return (Number.parseInt(match[1]!, 16) << 8) | (Number.parseInt(match[2]!, 16) << 3) | Number(match[3]);
}

function onPage(findings: readonly Finding[], iova: bigint | undefined): Finding[] {
  if (iova === undefined) return [];
  return findings.filter(finding => {
    if (finding.iova === undefined) return false;
    const last = finding.iova + BigInt(Math.max(1, finding.length ?? 1)) - 1n;
    return finding.iova >> PAGE_SHIFT <= iova >> PAGE_SHIFT && last >> PAGE_SHIFT >= iova >> PAGE_SHIFT;
  });
}

function print(terminal: RecordTerminal, lines: readonly string[]): void {
  terminal.print(lines.join('\n'));
}
