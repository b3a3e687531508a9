/** Looks for a translation among records. */
import type { DecodedRecord, RecordLog } from './record-log.ts';

export interface ExpectedTranslation {
  /** The endpoint's name; any, where left out. */
  readonly device?: string;
  /** An address within the transfer. */
  readonly iova: bigint;
  readonly access?: 'read' | 'write';
  /** Where `iova` led to: a guest-physical address. */
  readonly to?: bigint;
}

const TRANSLATION = 'translation';
const PAGE = 4096n;
const SHOWN = 5;

interface Run {
  readonly record: DecodedRecord;
  readonly transfer: DecodedRecord;
}

export async function findTranslation(
  records: RecordLog,
  expected: ExpectedTranslation,
  timeoutMs: number,
): Promise<DecodedRecord['fields'] | undefined> {
  let answer: DecodedRecord['fields'] | undefined;
  await records.first(() => {
    answer = runs(records).find(run => fits(run, expected))?.record.fields;
    return answer !== undefined;
  }, timeoutMs);
  return answer;
}

/** The last few, for messages. */
export function describeTranslations(records: RecordLog): string {
  const last = runs(records).slice(-SHOWN);
  if (last.length === 0) return 'there was no translation at all';
  const hex = (value: unknown) => `0x${(value as bigint).toString(16)}`;
  const lines = last.map(({ record: { source, fields } }) => {
    return `  ${source} ${fields.access} ${hex(fields.iova)} -> ${hex(fields.frame)}`;
  });
  return `the last ones were:\n${lines.join('\n')}`;
}

/** Translations with the transfers that they were made for, which follow them. */
function runs(records: RecordLog): Run[] {
  const found: Run[] = [];
  let open: DecodedRecord[] = [];
  for (const record of records.all(TRANSLATION, 'dma.read', 'dma.write', 'dma.failed')) {
    if (record.kind === TRANSLATION) {
      open.push(record);
      continue;
    }
    for (const one of open) {
      if (one.fields.requesterId === record.fields.requesterId) found.push({ record: one, transfer: record });
    }
    open = [];
  }
  return found;
}

function fits({ record, transfer }: Run, { device, iova, access, to }: ExpectedTranslation): boolean {
  if (device !== undefined && transfer.source !== device) return false;
  if (access !== undefined && record.fields.access !== access) return false;
  const start = record.fields.iova as bigint;
  const end = (transfer.fields.iova as bigint) + BigInt(transfer.fields.length as number);
  if (iova < start || iova >= end) return false;
  return to === undefined || (record.fields.frame as bigint) + (start % PAGE) + (iova - start) === to;
}
