/** Prints records one by one, as lines for people or as JSON lines. */
import type { RecordPredicate } from '../trace/event-filter.ts';
import { Kind } from '../trace/event-kinds.ts';
import type { RecordCursor } from '../trace/record-cursor.ts';
import { formatRecord, formatTime, toJson as recordToJson } from '../trace/record-format.ts';
import { AccessDecoder, formatAccess, isRegisterAccess } from './recording-access.ts';
import { asFinding } from './recording-findings.ts';
import { RegisterMap } from './recording-registers.ts';
import { type Terminal, toJson } from './remote-access.ts';

/** Lines that are given to the terminal together. */
const LINES_AT_ONCE = 256;
/** Of which it is known that they were printed: a file may hold any number. */
const MAX_FINDINGS = 10_000;

/** A record as text; it remembers what registers held. */
export class RecordFormatter {
  private readonly accesses: AccessDecoder;

  constructor(machine: unknown) {
    this.accesses = new AccessDecoder(new RegisterMap(machine));
  }

  line(cursor: RecordCursor): string {
    if (!isRegisterAccess(cursor.kind)) return formatRecord(cursor);
    const access = this.accesses.decode(cursor.kind, cursor.sourceName, cursor);
    return `${formatTime(cursor.time)} [${cursor.sourceName || `#${cursor.source}`}] ${formatAccess(access)}`;
  }

  /** For JSON; bigint values are for `toJson` of remote-access.ts. */
  object(cursor: RecordCursor): object {
    const record = recordToJson(cursor);
    if (!isRegisterAccess(cursor.kind)) return record;
    const { registers } = this.accesses.decode(cursor.kind, cursor.sourceName, cursor);
    return registers.length === 0 ? record : { ...record, registers };
  }
}

export interface PrinterOptions {
  readonly terminal: Terminal;
  /** Of the machine, to decode registers by. */
  readonly machine: unknown;
  readonly cursor: RecordCursor;
  readonly wanted: RecordPredicate;
  readonly json: boolean;
  readonly limit: number;
}

export class RecordPrinter {
  printed = 0;
  private readonly formatter: RecordFormatter;
  private lines: string[] = [];
  /** Ids of findings that were printed. */
  private readonly findings = new Set<string>();

  constructor(private readonly options: PrinterOptions) {
    this.formatter = new RecordFormatter(options.machine);
  }

  get full(): boolean {
    return this.printed >= this.options.limit;
  }

  /** Prints what is wanted of a batch, up to the limit. */
  print(words: Int32Array): void {
    const { cursor, wanted, json } = this.options;
    cursor.load(words);
    while (!this.full && cursor.next()) {
      if (!wanted(cursor)) continue;
      this.printed++;
      this.lines.push(json ? toJson(this.object()) : this.line());
      if (this.lines.length >= LINES_AT_ONCE) this.flush();
    }
    this.flush();
  }

  private line(): string {
    const line = this.formatter.line(this.options.cursor);
    const count = this.countAgain();
    return count === undefined ? line : `${line} (told before; by now ${count === 1 ? 'once' : `${count} times`})`;
  }

  private object(): object {
    const object = this.formatter.object(this.options.cursor);
    return this.countAgain() === undefined ? object : { ...object, again: true };
  }

  /** A finding is recorded when it is new, and as it is at the end: then, how often it happened. */
  private countAgain(): number | undefined {
    const { cursor } = this.options;
    if (cursor.kind !== Kind.finding) return undefined;
    const finding = asFinding(cursor.value());
    if (finding === undefined) return undefined;
    if (this.findings.has(finding.id)) return finding.count;
    if (this.findings.size < MAX_FINDINGS) this.findings.add(finding.id);
    return undefined;
  }

  private flush(): void {
    if (this.lines.length === 0) return;
    this.options.terminal.print(this.lines.join('\n'));
    this.lines = [];
  }
}
