/** What a command that runs a machine does for the debugger: tells findings as they come, records, and writes the reports at the end. */
import { writeFileSync } from 'node:fs';
import type { MachineHost } from '../machine/host.ts';
import type { RecordTap } from '../machine/record-taps.ts';
import type { RecordingWriter } from '../trace/recording/writer.ts';
import { reportJson } from '../trace/report/json.ts';
import { reportJunit } from '../trace/report/junit.ts';
import { reportSarif } from '../trace/report/sarif.ts';
import { reportText } from '../trace/report/text.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { CommandFailure } from './errors.ts';
import { createRecording } from './recording-file.ts';
import { failsOn, type ReportFormat, type SanitizeFlags } from './sanitize-options.ts';

/** Where people read what happens: standard error, where a program reads the output or the guest has the terminal. */
export type Say = (line: string) => void;

export interface SessionOutcome {
  readonly findings: readonly Finding[];
  /** Whether the findings make the command fail, as --fail-on says. */
  readonly failed: boolean;
}

export class DebugSession {
  private tap: RecordTap | undefined;
  private writer: RecordingWriter | undefined;

  private constructor(
    private readonly host: MachineHost,
    private readonly flags: SanitizeFlags,
    private readonly say: Say,
  ) {}

  /** To be called before the guest starts, so that nothing is missed. Rejects where the recording's file cannot be made. */
  static async start(host: MachineHost, flags: SanitizeFlags, say: Say): Promise<DebugSession> {
    const session = new DebugSession(host, flags, say);
    host.on('finding', ({ id, detector, summary }) => say(`${id} ${detector}: ${summary}`));
    if (flags.record !== undefined) await session.record(flags.record);
    return session;
  }

  /** To be called when the machine has stopped: closes the recording, writes the reports, and says what was found in all. */
  async finish(): Promise<SessionOutcome> {
    const { findings, lost } = await this.host.findings();
    await this.closeRecording();
    const machine = this.host.description;
    for (const { path, format } of this.flags.report ?? []) {
      write(path, render[format](findings, { lost, machine }));
    }
    this.tell(findings, lost);
    return { findings, failed: findings.some(finding => failsOn(this.flags.failOn, finding)) };
  }

  private tell(findings: readonly Finding[], lost: number): void {
    // Good news is for those who asked.
    const isAsked = this.flags.failOn !== 'never' || this.flags.report !== undefined;
    if (findings.length > 0 || isAsked) this.say(`\n${reportText(findings, false, { lost }).trimEnd()}`);
    const { record } = this.flags;
    if (record === undefined || findings.length === 0) return;
    this.say(`'viommu explain ${record} ${findings[0]!.id}' shows the first of them with all that happened around it.`);
  }

  private async record(path: string): Promise<void> {
    const writer = await createRecording(path, this.host.description, this.flags.recordClasses);
    this.writer = writer;
    this.tap = this.host.record(this.flags.recordClasses, words => writer.append(words));
  }

  private async closeRecording(): Promise<void> {
    this.tap?.stop();
    if (this.writer === undefined) return;
    const path = this.flags.record!;
    try {
      const { records, dropped } = await this.writer.close();
      this.say(`${path}: ${records} records${dropped > 0 ? `, ${dropped} dropped` : ''}`);
    } catch (error) {
      throw new CommandFailure(`cannot write ${path}: ${(error as Error).message}`);
    }
  }
}

type Render = (findings: readonly Finding[], options: { readonly lost: number; readonly machine: unknown }) => string;

const render: Readonly<Record<ReportFormat, Render>> = {
  json: (findings, options) => `${JSON.stringify(reportJson(findings, options), undefined, 2)}\n`,
  sarif: (findings, options) => `${JSON.stringify(reportSarif(findings, options), undefined, 2)}\n`,
  junit: reportJunit,
  text: (findings, options) => reportText(findings, false, options),
};

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new CommandFailure(`cannot write the report ${path}: ${(error as Error).message}`);
  }
}
