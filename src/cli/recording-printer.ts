/** Prints records one by one, as lines for people or as JSON lines. */
import type { RecordPredicate } from '../trace/event-filter.ts';
import type { RecordCursor } from '../trace/record-cursor.ts';
import { formatRecord, formatTime, toJson as recordToJson } from '../trace/record-format.ts';
import { AccessDecoder, formatAccess, isRegisterAccess } from './recording-access.ts';
import { RegisterMap } from './recording-registers.ts';
import { type Terminal, toJson } from './remote-access.ts';

/** Lines that are given to the terminal together. */
const LINES_AT_ONCE = 256;

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
      this.lines.push(json ? toJson(this.formatter.object(cursor)) : this.formatter.line(cursor));
      if (this.lines.length >= LINES_AT_ONCE) this.flush();
    }
    this.flush();
  }

  private flush(): void {
    if (this.lines.length === 0) return;
    this.options.terminal.print(this.lines.join('\n'));
    this.lines = [];
  }
}
