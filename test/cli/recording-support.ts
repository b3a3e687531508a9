import { Command } from 'commander';
import { addExplain } from '../../src/cli/explain.ts';
import { addRecord } from '../../src/cli/record.ts';
import type { Connect, TakeBatch, TracedMachine } from '../../src/cli/recording-live.ts';
import { addTrace } from '../../src/cli/trace.ts';
import type { SanitizerState } from '../../src/machine/debug-commands.ts';
import { EVENT_KINDS } from '../../src/trace/event-kinds.ts';
import type { Finding } from '../../src/trace/sanitizer/finding.ts';
import { MACHINE } from '../trace/recording/support.ts';

export { event, join32, MACHINE, named, note, open, record, scratch, text, write } from '../trace/recording/support.ts';

export interface Run {
  /** What was printed, line by line. */
  readonly lines: string[];
  readonly complaints: string[];
  readonly failed: boolean;
}

/** A machine whose records are what a test says. */
export class FakeMachine implements TracedMachine {
  readonly closed: Promise<Error>;
  close: (error: Error) => void = () => {};
  found: readonly Finding[] = [];
  state: SanitizerState = 'on';
  machine: unknown = MACHINE;
  kinds: unknown = EVENT_KINDS;
  classes: number | undefined;
  stopped = false;
  /** Told as soon as a recording begins, before it is answered. */
  early: readonly Int32Array[] = [];
  /** Called when a recording was answered. */
  begun: (take: TakeBatch) => void = () => {};

  constructor() {
    this.closed = new Promise(resolve => {
      this.close = resolve;
    });
  }

  async findings() {
    return { state: this.state, findings: this.found, lost: 0 };
  }

  async record(classes: number, take: TakeBatch) {
    this.classes = classes;
    for (const words of this.early) {
      const lent = words.slice();
      take(lent, 0);
      lent.fill(0);
    }
    setImmediate(() => this.begun(take));
    return {
      machine: this.machine,
      kinds: this.kinds as typeof EVENT_KINDS,
      stop: async () => {
        this.stopped = true;
      },
    };
  }
}

/** Runs `viommu` with these words. Rejects as the command does. */
export async function viommu(words: readonly string[], machine?: TracedMachine): Promise<Run> {
  const run = { lines: [] as string[], complaints: [] as string[], failed: false };
  const terminal = {
    print: (text: string) => run.lines.push(...text.split('\n')),
    complain: (message: string) => run.complaints.push(message),
    fail: () => {
      run.failed = true;
    },
    gone: false,
    behind: false,
    drained: async () => {},
  };
  const connect: Connect = (_flags, use) => {
    if (!machine) throw new Error('no machine was expected to be asked');
    return use(machine);
  };
  const program = new Command('viommu').exitOverride();
  const output = {
    writeOut: (text: string) => run.lines.push(...text.split('\n')),
    writeErr: (text: string) => run.complaints.push(text),
  };
  for (const add of [addTrace, addRecord, addExplain]) add(program, terminal, connect);
  for (const command of [program, ...program.commands]) command.exitOverride().configureOutput(output);
  await program.parseAsync([...words], { from: 'user' });
  return run;
}

/** A live machine: the address is never looked at. */
export const LIVE = ['--connect', 'ws://nowhere'];
