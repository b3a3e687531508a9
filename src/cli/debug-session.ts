/** What a command that runs a machine does for the debugger: tells findings as they come, records, and writes the reports at the end. */
import { writeFileSync } from 'node:fs';
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import type { RecordTap } from '../machine/record-taps.ts';
import type { RecordingWriter } from '../trace/recording/writer.ts';
import type { ReportOptions } from '../trace/report/counts.ts';
import { reportJson } from '../trace/report/json.ts';
import { reportJunit } from '../trace/report/junit.ts';
import { reportSarif } from '../trace/report/sarif.ts';
import { reportText } from '../trace/report/text.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { CommandFailure, ExitStatus } from './errors.ts';
import type { DebuggedMachine } from './machine-access.ts';
import { createRecording } from './recording-file.ts';
import { failsOn, type ReportFormat, type SanitizeFlags } from './sanitize-options.ts';

/** Where people read what happens: standard error, where a program reads the output or the guest has the terminal. */
export type Say = (line: string) => void;

export interface SessionOutcome {
  readonly findings: readonly Finding[];
  /** `findings` where they make the command fail, as --fail-on says, `failed` where something could not be written. */
  readonly status: typeof ExitStatus.ok | typeof ExitStatus.failed | typeof ExitStatus.findings;
}

export class DebugSession {
  private tap: RecordTap | undefined;
  private writer: RecordingWriter | undefined;
  private readonly problems: string[] = [];

  private constructor(
    private readonly host: DebuggedMachine,
    private readonly flags: SanitizeFlags,
    private readonly say: Say,
    private readonly complain: Say,
  ) {}

  /**
   * To be called before the guest starts, so that nothing is missed. Rejects where the recording's file cannot be made. What goes wrong
   * later is told by `complain`, at once.
   */
  static async start(
    host: DebuggedMachine,
    flags: SanitizeFlags,
    say: Say,
    complain: Say = line => console.error(`viommu: ${line}`),
  ): Promise<DebugSession> {
    const session = new DebugSession(host, flags, say, complain);
    host.on('finding', ({ id, detector, summary }) => say(`${id} ${detector}: ${summary}`));
    if (flags.record !== undefined) await session.record(flags.record);
    return session;
  }

  /**
   * Does the work, at whose end the machine has stopped, then finishes. Where the work fails, what was found is told and written before
   * its error, and the process' exit status is that of the findings if they make the command fail.
   */
  async conclude<Result>(
    work: () => Promise<Result>,
  ): Promise<{ readonly result: Result; readonly outcome: SessionOutcome }> {
    let result: Result;
    try {
      result = await work();
    } catch (error) {
      const { status } = await this.finish();
      if (status === ExitStatus.findings) process.exitCode = status;
      throw error;
    }
    return { result, outcome: await this.finish() };
  }

  /** To be called when the machine has stopped: says what was found in all, writes the reports, and closes the recording. */
  async finish(): Promise<SessionOutcome> {
    const { state, findings, lost } = await this.lastAnswer();
    const machine = this.host.description;
    for (const { path, format } of this.flags.report ?? []) {
      this.write(path, render[format](findings, { lost, machine, artifact: this.flags.record ?? path }));
    }
    await this.closeRecording();
    this.tell(findings, lost);
    const { failOn } = this.flags;
    let failed = findings.some(finding => failsOn(failOn, finding));
    if (state === 'failed') {
      this.complain('the sanitizer failed before the end: there may be more mistakes than it found');
      // Who wants to be told of mistakes must not take this for none.
      if (failOn !== 'never') failed = true;
    }
    if (failed) return { findings, status: ExitStatus.findings };
    return { findings, status: this.problems.length > 0 ? ExitStatus.failed : ExitStatus.ok };
  }

  /** Where the device thread ended by an error, there is what it told until then. */
  private async lastAnswer(): Promise<FindingsAnswer> {
    try {
      return await this.host.findings();
    } catch (error) {
      this.complain(`the machine cannot be asked any more: ${(error as Error).message}`);
      return { state: 'failed', findings: this.host.toldFindings, lost: 0 };
    }
  }

  private tell(findings: readonly Finding[], lost: number): void {
    // Good news is for those who asked.
    const isAsked = this.flags.failOn !== 'never' || this.flags.report !== undefined;
    if (findings.length > 0 || isAsked) this.say(`\n${reportText(findings, false, { lost }).trimEnd()}`);
    const { record } = this.flags;
    if (record === undefined || findings.length === 0 || this.writer?.error !== undefined) return;
    this.say(`'viommu explain ${record} ${findings[0]!.id}' shows the first of them with all that happened around it.`);
  }

  private async record(path: string): Promise<void> {
    const { description, kinds } = this.host;
    let isStarting = true;
    const onError = (error: Error) => {
      if (!isStarting) this.problem(`the recording stops: cannot write ${path}: ${error.message}`);
    };
    const writer = await createRecording(path, description, this.flags.recordClasses, kinds, onError);
    try {
      await writer.settled();
    } catch (error) {
      await writer.close().catch(() => {});
      throw new CommandFailure(`cannot write ${path}: ${(error as Error).message}`);
    }
    isStarting = false;
    this.writer = writer;
    const take = (words: Int32Array) => writer.append(words);
    this.tap = await this.host.record(this.flags.recordClasses, take, batches => writer.lost(batches));
  }

  private async closeRecording(): Promise<void> {
    this.tap?.stop();
    if (this.writer === undefined) return;
    const path = this.flags.record!;
    try {
      const { records, dropped } = await this.writer.close();
      this.say(`${path}: ${records} records${dropped > 0 ? `, ${dropped} dropped` : ''}`);
    } catch (error) {
      // What could not be written has been told when it happened.
      if (this.writer.error !== error) this.problem(`cannot write ${path}: ${(error as Error).message}`);
    }
  }

  private write(path: string, text: string): void {
    try {
      writeFileSync(path, text);
    } catch (error) {
      this.problem(`cannot write the report ${path}: ${(error as Error).message}`);
    }
  }

  private problem(text: string): void {
    this.problems.push(text);
    this.complain(text);
  }
}

type Render = (findings: readonly Finding[], options: ReportOptions) => string;

const render: Readonly<Record<ReportFormat, Render>> = {
  json: (findings, options) => `${JSON.stringify(reportJson(findings, options), undefined, 2)}\n`,
  sarif: (findings, options) => `${JSON.stringify(reportSarif(findings, options), undefined, 2)}\n`,
  junit: reportJunit,
  text: (findings, options) => reportText(findings, false, options),
};
