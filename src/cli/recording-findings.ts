/** The findings of a recording: those that were recorded, or, where there are none, those that its events give now. */
import { EventClass, Kind } from '../trace/event-kinds.ts';
import type { RecordingReader } from '../trace/recording/reader.ts';
import { replay } from '../trace/recording/replay.ts';
import { textValue } from '../trace/recording/text-record.ts';
import type { Evidence, Finding } from '../trace/sanitizer/finding.ts';
import { parsePolicy } from '../trace/sanitizer/policy.ts';
import { Sanitizer } from '../trace/sanitizer/sanitizer.ts';
import { endpointsOf } from './recording-options.ts';

/** Recorded findings that are kept: a file may hold any number. */
const MAX_RECORDED = 10_000;

export interface FileFindings {
  readonly findings: readonly Finding[];
  /** Beyond what is kept. */
  readonly lost: number;
  /** They were found now, by what the file holds. */
  readonly replayed: boolean;
}

export function findingsOf(reader: RecordingReader, again = false): FileFindings {
  const recorded = again ? [] : recordedFindings(reader);
  return recorded.length > 0 ? { findings: recorded, lost: 0, replayed: false } : replayFindings(reader);
}

/** A finding that happens again may be recorded again: the last one counts. */
function recordedFindings(reader: RecordingReader): Finding[] {
  const found = new Map<string, Finding>();
  const cursor = reader.cursor();
  for (const { words } of reader.read({ classes: EventClass.finding })) {
    cursor.load(words);
    while (cursor.next()) {
      if (cursor.kind !== Kind.finding) continue;
      const finding = asFinding(textValue(cursor.slice(), 0, cursor.slots));
      if (finding && (found.has(finding.id) || found.size < MAX_RECORDED)) found.set(finding.id, finding);
    }
  }
  return [...found.values()];
}

function replayFindings(reader: RecordingReader): FileFindings {
  const endpoints = new Map([...endpointsOf(reader.header.machine)].map(([name, requesterId]) => [requesterId, name]));
  const sanitizer = new Sanitizer({ policy: parsePolicy('on'), endpoints });
  const { time } = replay(reader, sanitizer, {
    before: now => {
      if (now >= sanitizer.deadline) sanitizer.tick(now);
    },
  });
  sanitizer.finish(time);
  return { findings: sanitizer.findings, lost: sanitizer.lost, replayed: true };
}

/** What comes from a file may be anything: undefined where it is no finding. */
export function asFinding(value: unknown): Finding | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const finding = value as Record<string, unknown>;
  const texts = ['id', 'detector', 'severity', 'summary', 'explanation', 'suggestion', 'device'];
  if (texts.some(name => typeof finding[name] !== 'string')) return undefined;
  if (['first', 'last', 'count'].some(name => typeof finding[name] !== 'number')) return undefined;
  const { iova, evidence, length, domain, ...rest } = finding;
  const isAddress = typeof iova === 'bigint' || (typeof iova === 'number' && Number.isSafeInteger(iova) && iova >= 0);
  return {
    ...(rest as unknown as Finding),
    evidence: Array.isArray(evidence) ? evidence.filter(isEvidence) : [],
    // MessagePack makes no difference between a small bigint and a number.
    ...(isAddress ? { iova: BigInt(iova as bigint | number) } : {}),
    ...(typeof length === 'number' ? { length } : {}),
    ...(typeof domain === 'number' ? { domain } : {}),
  };
}

function isEvidence(value: unknown): value is Evidence {
  if (typeof value !== 'object' || value === null) return false;
  const { time, kind, source, text } = value as Record<string, unknown>;
  return [kind, source, text].every(one => typeof one === 'string') && typeof time === 'number';
}
