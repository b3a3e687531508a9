/** What a command that runs a guest needs of the machine behind it, wherever that is served. */
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import { MachineHost } from '../machine/host.ts';
import type { RecordTap, TakeRecords } from '../machine/record-taps.ts';
import type { MachineStatistics } from '../machine/statistics.ts';
import type { EventKind } from '../trace/event-kinds.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { SanitizePolicy } from '../trace/sanitizer/policy.ts';
import type { TraceEvent } from '../trace/trace.ts';

/** What is told at the end of a run, and while it goes on. */
export interface DebuggedMachine {
  readonly description: MachineDescription;
  /** What its records mean. Missing: the kinds of this program. */
  readonly kinds?: readonly EventKind[];
  /** The findings that came here so far: what is left where nobody can be asked any more. */
  readonly toldFindings: readonly Finding[];
  on(event: 'finding', listener: (finding: Finding) => void): unknown;
  /** After the end: what was found in all. Rejects where nobody can be asked any more. */
  findings(): Promise<FindingsAnswer>;
  /** `lost` is told of batches that did not come, each at least one record. */
  record(classes: number, take: TakeRecords, lost?: (batches: number) => void): RecordTap | Promise<RecordTap>;
}

export interface GuestMachine extends DebuggedMachine {
  /** By which name a server elsewhere knows it. */
  readonly name?: string | undefined;
  /** Path of the unix socket for QEMU, by function name. */
  readonly sockets: Readonly<Record<string, string>>;
  /** Resolves when the machine has been stopped, by whomever; rejects where it went away by itself, saying what can be done. */
  readonly ended: Promise<void>;
  /** The machine ended because of a finding that was to stop it. */
  readonly stoppedByFinding: boolean;
  on(event: 'finding', listener: (finding: Finding) => void): unknown;
  on(event: 'event', listener: (event: TraceEvent) => void): unknown;
  /** The first event that the predicate takes; rejects when the machine ends before. */
  waitFor(predicate: (event: TraceEvent) => boolean): Promise<TraceEvent>;
  statistics(): Promise<MachineStatistics>;
  resume(): Promise<unknown>;
  /** Ends the machine, or gives it back; nothing of it remains. */
  stop(): Promise<void>;
}

export interface MachineRequest {
  readonly description: MachineDescription;
  /** A directory of this process, which goes when the run has ended. */
  readonly directory: string;
  /** Which mistakes to look for. Default: as `MachineHost` has it. */
  readonly sanitize?: SanitizePolicy | undefined;
}

/** Where machines come from. */
export interface MachineSource<Machine extends GuestMachine = GuestMachine> {
  start(request: MachineRequest): Promise<Machine>;
  /** Milliseconds for which QEMU must wait for an answer; undefined: as long as it does by itself. */
  readonly answerMilliseconds?: number;
}

/** Served by this process. */
export const localMachines: MachineSource<MachineHost> = {
  start: ({ description, directory, sanitize }) => MachineHost.start(description, directory, { sanitize }),
};
