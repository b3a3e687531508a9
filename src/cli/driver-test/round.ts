/** One round in a guest that is up: loads the modules, runs the cases, and reads what the kernel says about it. */
import { GuestGone, GuestRestarted } from '../../../images/guest/agent.ts';
import { shellWord } from '../../../qemu/command-line.ts';
import { giveBackDevices, RELEASE_DEVICES } from '../guest/vfio-devices.ts';
import type { TestGuest } from './guest.ts';
import { type KernelProblem, kernelProblems } from './kernel-log.ts';
import { type ModuleToLoad, type Payload, RUNNER } from './payload.ts';
import { GUEST_FOLDER, type PlannedCase } from './plan.ts';

export type CaseOutcome = 'passed' | 'failed' | 'timed-out' | 'not-run';

export interface StepResult {
  /** For people: a script's path, `load my.ko`. */
  readonly name: string;
  readonly outcome: CaseOutcome;
  /** As shells count; undefined where it never ended, or never began. */
  readonly status: number | undefined;
  readonly milliseconds: number;
  /** Standard output and standard error, line by line. */
  readonly output: readonly string[];
  /** Why it did not pass, in one line; or in more where the guest's console is shown. */
  readonly reason: string | undefined;
  readonly kernelLog: readonly string[];
  readonly kernelProblems: readonly KernelProblem[];
}

export interface RoundResult {
  /** Of the guest's start, before anything of the user's was done. */
  readonly bootProblems: readonly KernelProblem[];
  readonly modules: readonly StepResult[];
  readonly cases: readonly StepResult[];
  /** With --unload. */
  readonly unloads: readonly StepResult[];
}

export interface RoundOptions {
  /** Of one case, in the guest's time. */
  readonly timeoutSeconds: number;
  readonly unload: boolean;
  /** Whether a problem that the kernel reports makes its step fail. */
  readonly kernelProblemsFail: boolean;
  /** Called before a step, for each line of its output, and behind it. */
  readonly onBegin: (name: string) => void;
  readonly onLine: (line: string) => void;
  readonly onEnd: (result: StepResult) => void;
}

/** How much longer than a case may take the guest may take to tell of its end: beyond that its kernel holds on to something. */
const GRACE_MS = 20_000;
/** Loading waits for the driver's probe, which may wait for a device. */
const MODULE_TIMEOUT_MS = 60_000;
const LOG_TIMEOUT_MS = 30_000;

interface Ended {
  readonly status: number;
  readonly output: readonly string[];
  readonly isLate: boolean;
}

export class TestRound {
  /** Why nothing more can be done in this guest. */
  private lost: string | undefined;

  constructor(
    private readonly guest: TestGuest,
    private readonly payload: Payload,
    private readonly options: RoundOptions,
  ) {}

  async run(cases: readonly PlannedCase[]): Promise<RoundResult> {
    const bootProblems = kernelProblems(await this.takeLog());
    const modules = await this.loadAll();
    if (modules.some(({ outcome }) => outcome !== 'passed')) this.lost ??= 'its modules were not all loaded';
    const results: StepResult[] = [];
    for (const one of cases) results.push(await this.runCase(one));
    const unloads: StepResult[] = [];
    if (this.options.unload) {
      const loaded = modules.filter(({ outcome }) => outcome === 'passed').map(({ name }) => name);
      const own = this.payload.modules.filter(one => !one.isNeeded && loaded.includes(loadName(one)));
      for (const module of own.reverse()) unloads.push(await this.unloadOne(module));
    }
    return { bootProblems, modules, cases: results, unloads };
  }

  private async loadAll(): Promise<StepResult[]> {
    const results: StepResult[] = [];
    const own = this.payload.modules.filter(({ isNeeded }) => !isNeeded);
    if (own.length === 0) return results;
    // The stock driver for user space has taken the devices when the guest came up.
    const back = giveBackDevices(await this.ask(RELEASE_DEVICES));
    for (const module of this.payload.modules) {
      const result = await this.loadOne(module);
      // Those that the user did not ask for are no news, unless they fail.
      if (!module.isNeeded || result.outcome !== 'passed') results.push(result);
      if (result.outcome !== 'passed') return results;
    }
    // What no module wanted is for programs again.
    if (back !== undefined) await this.ask(back);
    return results;
  }

  private loadOne(module: ModuleToLoad): Promise<StepResult> {
    const { name, guestPath, parameters, isNeeded } = module;
    const isThere = isNeeded ? `[ -d /sys/module/${name} ] || ` : '';
    const command = `${isThere}insmod ${shellWord(guestPath)} ${parameters}`.trimEnd();
    return this.step(loadName(module), command, status => {
      if (status === 139 || status === 137) return 'the kernel ended insmod: the module crashed in its init function';
      return 'the module could not be loaded';
    });
  }

  private unloadOne(module: ModuleToLoad): Promise<StepResult> {
    return this.step(
      `unload ${module.label}`,
      `rmmod ${shellWord(module.name)}`,
      () => 'the module could not be removed',
    );
  }

  private async step(name: string, command: string, explain: (status: number) => string): Promise<StepResult> {
    return await this.measured(
      name,
      async () => {
        const { status, output } = await this.guest.agent.run(command, { timeoutMs: MODULE_TIMEOUT_MS });
        return { status, output, isLate: false };
      },
      ({ status, output }) => `${explain(status)}: ${output.join('; ')}`,
    );
  }

  private runCase(one: PlannedCase): Promise<StepResult> {
    const { timeoutSeconds, onLine } = this.options;
    const program = [...(one.isForShell ? ['sh'] : []), one.guestPath, ...one.arguments];
    const command = [RUNNER, String(timeoutSeconds), GUEST_FOLDER, ...program].map(shellWord).join(' ');
    return this.measured(
      one.name,
      async () => {
        const timeoutMs = timeoutSeconds * 1000 + GRACE_MS;
        const { status, output } = await this.guest.agent.run(command, { onLine, timeoutMs });
        const isLate = status === 137 && (await this.ask('cat /run/case-late 2>/dev/null')).includes('late');
        return { status, output, isLate };
      },
      ({ status, isLate }) => (isLate ? `killed after ${timeoutSeconds} s (--timeout)` : statusText(status)),
    );
  }

  /** Does the work and judges it; never rejects for what is the guest's fault. */
  private async measured(
    name: string,
    work: () => Promise<Ended>,
    explain: (ended: Ended) => string,
  ): Promise<StepResult> {
    if (this.lost !== undefined) return this.told({ ...NOT_RUN, name, reason: this.lost });
    this.options.onBegin(name);
    this.guest.said.length = 0;
    const start = performance.now();
    const output: string[] = [];
    try {
      const ended = await this.guest.alive(work());
      const milliseconds = performance.now() - start;
      output.push(...ended.output);
      const kernelLog = await this.takeLog();
      const problems = kernelProblems(kernelLog);
      const base = { name, status: ended.status, milliseconds, output, kernelLog, kernelProblems: problems };
      if (ended.isLate) return this.told({ ...base, outcome: 'timed-out', reason: explain(ended) });
      if (ended.status !== 0) return this.told({ ...base, outcome: 'failed', reason: explain(ended) });
      const [problem] = this.options.kernelProblemsFail ? problems : [];
      if (problem === undefined) return this.told({ ...base, outcome: 'passed', reason: undefined });
      return this.told({ ...base, outcome: 'failed', reason: `the kernel reported: ${problem.headline}` });
    } catch (error) {
      const milliseconds = performance.now() - start;
      return this.told(await this.lostIn({ name, status: undefined, milliseconds, output }, error as Error));
    }
  }

  /** The guest did not live to tell how the step ended. */
  private async lostIn(
    base: Pick<StepResult, 'name' | 'status' | 'milliseconds' | 'output'>,
    error: Error,
  ): Promise<StepResult> {
    const { said, run } = this.guest;
    const isPanic = /kernel panicked/.test(error.message);
    if (isPanic) await this.guest.lastWords();
    this.lost = `the guest was lost in ${base.name}`;
    const kernelLog = [...said];
    const log = { kernelLog, kernelProblems: kernelProblems(kernelLog) };
    if (run.host.stoppedByFinding) {
      return { ...base, ...log, outcome: 'failed', reason: 'the sanitizer stopped the machine at a finding' };
    }
    if (error instanceof GuestRestarted) return { ...base, ...log, outcome: 'failed', reason: 'the guest restarted' };
    if (isPanic) return { ...base, ...log, outcome: 'failed', reason: "the guest's kernel panicked" };
    const isHung = /^Not done within/.test(error.message);
    const stderr = error instanceof GuestGone ? run.qemu.stderr().trimEnd() : '';
    const reason = isHung
      ? "it could not even be killed: the guest's kernel holds on to it"
      : [error.message, stderr].filter(text => text !== '').join('\n');
    return { ...base, ...log, outcome: isHung ? 'timed-out' : 'failed', reason };
  }

  private told(result: StepResult): StepResult {
    this.options.onEnd(result);
    return result;
  }

  /** The kernel's log since the last time. */
  private takeLog(): Promise<string[]> {
    return this.ask('dmesg -c');
  }

  private async ask(command: string): Promise<string[]> {
    return (await this.guest.alive(this.guest.agent.run(command, { timeoutMs: LOG_TIMEOUT_MS }))).output;
  }
}

const NOT_RUN = {
  outcome: 'not-run',
  status: undefined,
  milliseconds: 0,
  output: [],
  kernelLog: [],
  kernelProblems: [],
} as const;

export function loadName({ label, parameters }: ModuleToLoad): string {
  return `load ${label} ${parameters}`.trimEnd();
}

function statusText(status: number): string {
  if (status === 127) return 'status 127: not found, or it calls a program that the guest does not have';
  if (status === 126) return 'status 126: it cannot be executed';
  return status > 128 ? `status ${status}: ended by signal ${status - 128}` : `status ${status}`;
}
