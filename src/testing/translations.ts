/** Looks for a translation among records. */
import type { DecodedRecord, RecordLog } from './record-log.ts';

export interface ExpectedTranslation {
  /** The endpoint's name, or its address as 01:00.0; any, where left out. */
  readonly device?: string;
  /** An address within the transfer. */
  readonly iova: bigint;
  readonly access?: 'read' | 'write';
  /** Where `iova` led to: a guest-physical address. */
  readonly to?: bigint;
}

/** One transfer, or what of it is contiguous in guest memory. */
export interface TranslatedRun {
  /** The endpoint's name. */
  readonly device: string;
  readonly access: 'read' | 'write';
  readonly iova: bigint;
  readonly bytes: number;
  /** Guest-physical address of the first byte. */
  readonly to: bigint;
}

const TRANSFERS = ['dma.read', 'dma.write', 'dma.failed'];
const PAGE = 4096n;
const SHOWN = 5;

export function findTranslation(records: RecordLog, expected: ExpectedTranslation): TranslatedRun | undefined {
  for (const run of translatedRuns(records)) if (fits(run, expected)) return run;
  return undefined;
}

/** The last few, for messages. */
export function describeTranslations(records: RecordLog): string {
  const last = [...translatedRuns(records)].slice(-SHOWN);
  if (last.length === 0) return 'there was no translation at all';
  return ['the last ones were:', ...last.map(run => `  ${describeRun(run)}`)].join('\n');
}

export function describeRun({ device, access, iova, bytes, to }: TranslatedRun): string {
  return `${device} ${access} of ${bytes} bytes at ${hex(iova)} -> ${hex(to)}`;
}

export function describeExpected({ device, iova, access, to }: ExpectedTranslation): string {
  const who = [device ?? 'any device', access ?? 'access'].join(' ');
  return `${who} at ${hex(iova)}${to === undefined ? '' : ` -> ${hex(to)}`}`;
}

/**
 * The IOMMU tells of each run of contiguous pages before the transfer that it was made for ends; the transfer says how long it was
 * in all. What was translated for a transfer that failed counts as far as it came.
 */
export function* translatedRuns(records: RecordLog): Generator<TranslatedRun> {
  let open: DecodedRecord[] = [];
  for (const record of records.all('translation', ...TRANSFERS)) {
    if (record.kind === 'translation') {
      open.push(record);
      continue;
    }
    const { requesterId } = record.fields;
    const own = open.filter(one => one.fields.requesterId === requesterId);
    open = open.filter(one => one.fields.requesterId !== requesterId);
    yield* runsOf(own, record);
  }
}

function* runsOf(translations: readonly DecodedRecord[], transfer: DecodedRecord): Generator<TranslatedRun> {
  const transferEnd = (transfer.fields.iova as bigint) + BigInt(transfer.fields.length as number);
  for (const [index, { fields }] of translations.entries()) {
    const iova = fields.iova as bigint;
    const next = translations[index + 1];
    const end = next === undefined ? transferEnd : (next.fields.iova as bigint);
    const to = (fields.frame as bigint) + (iova % PAGE);
    const access = fields.access as TranslatedRun['access'];
    yield { device: transfer.source, access, iova, bytes: Number(end - iova), to };
  }
}

function fits(run: TranslatedRun, { device, iova, access, to }: ExpectedTranslation): boolean {
  if (device !== undefined && run.device !== device) return false;
  if (access !== undefined && run.access !== access) return false;
  if (iova < run.iova || iova >= run.iova + BigInt(run.bytes)) return false;
  return to === undefined || run.to + (iova - run.iova) === to;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
