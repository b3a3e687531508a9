/** Everything that the rounds of one `viommu test` share: what is to be done, on which kernel, with which QEMU. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Accelerator } from '../../../qemu/command-line.ts';
import { makeOwnDirectory } from '../../../qemu/own-directory.ts';
import { provisionQemu, type QemuInstallation } from '../../../qemu/provision.ts';
import type { MachineDescription } from '../../machine/description.ts';
import type { TemporaryDirectory } from '../../posix/temporary-directory.ts';
import type { GuestFlags } from '../guest-options.ts';
import { type Interruption, unlessInterrupted } from '../interrupt.ts';
import type { GuestMachine, MachineSource } from '../machine-access.ts';
import { type MachineFlags, machineFromFlags } from '../machine-options.ts';
import { printProgress } from '../progress.ts';
import { checkSanitizeFlags, type SanitizeFlags } from '../sanitize-options.ts';
import { machineSource, type ServerFlags } from '../server-options.ts';
import { TestGuest } from './guest.ts';
import { checkKernelFlags, type KernelFlags, prepareKernel, type TestKernel } from './kernel.ts';
import { concludeRound, type RoundOutcome, sessionFlags } from './outcome.ts';
import { makePayload, type Payload } from './payload.ts';
import { planTest, type TestFlags, type TestPlan } from './plan.ts';
import { problemLines, type RoundTimings, stepLines, summaryLine, testDocument } from './report.ts';
import { type RoundOptions, type RoundResult, TestRound } from './round.ts';
import { ModuleBuilder } from './source.ts';

export interface RunnerFlags extends TestFlags, KernelFlags, MachineFlags, GuestFlags, SanitizeFlags, ServerFlags {
  /** Seconds. */
  readonly timeout: number;
  readonly unload?: boolean;
  readonly kernelProblems: 'fail' | 'tell';
  readonly json?: boolean;
  readonly verbose?: boolean;
}

/** By `performance.now()`. */
export interface Began {
  readonly start: number;
  /** When the payload was there. */
  readonly prepared: number;
}

export class TestRunner {
  private guests = 0;
  /** As it was chosen for the first guest: once is enough to try, and to say. */
  private accelerator: Accelerator | undefined;
  private readonly builder: ModuleBuilder;

  private constructor(
    readonly flags: RunnerFlags,
    readonly plan: TestPlan,
    private readonly source: MachineSource<GuestMachine>,
    private readonly description: MachineDescription,
    private readonly installation: QemuInstallation,
    private readonly kernel: TestKernel,
    private readonly scratch: TemporaryDirectory,
  ) {
    this.builder = new ModuleBuilder(scratch.path);
  }

  static async prepare(flags: RunnerFlags, scriptArguments: readonly string[]): Promise<TestRunner> {
    const description = machineFromFlags(flags, ['edu@01:00.0', 'edu@02:00.0']);
    checkSanitizeFlags(flags);
    checkKernelFlags(flags);
    const source = machineSource(flags);
    const plan = planTest(flags, scriptArguments);
    const installation = await provisionQemu({ progress: printProgress, ...(flags.qemu ? { path: flags.qemu } : {}) });
    const kernel = await prepareKernel(flags);
    return new TestRunner(flags, plan, source, description, installation, kernel, makeOwnDirectory('driver'));
  }

  /** One round; resolves with the exit status. */
  async once(interruption: Interruption): Promise<number> {
    const start = performance.now();
    const payload = await unlessInterrupted(interruption, this.payload());
    const prepared = performance.now();
    const guest = await unlessInterrupted(interruption, this.boot(payload));
    const { status, report } = await this.round(guest, payload, { start, prepared }, interruption);
    if (this.flags.json) console.log(JSON.stringify(testDocument(report, status), undefined, 2));
    return status;
  }

  /** The files as they are now. */
  payload(): Promise<Payload> {
    return makePayload(this.plan, this.kernel, this.builder);
  }

  /** A guest with these files in it. */
  async boot(payload: Payload): Promise<TestGuest> {
    const { flags, description, installation, kernel } = this;
    const scratch = join(this.scratch.path, `guest${++this.guests}`);
    mkdirSync(scratch);
    if (this.guests === 1) printProgress(`Starting QEMU ${installation.version}`);
    const say = (line: string) => console.error(line);
    const { accelerator = flags.accel } = this;
    const guestFlags = { ...sessionFlags(flags), accel: accelerator };
    const options = { flags: guestFlags, source: this.source, description, installation, kernel, scratch, say };
    const guest = await TestGuest.start(options, payload);
    this.accelerator = guest.accelerator;
    return guest;
  }

  /** Runs everything in the guest, which is gone afterwards. */
  async round(guest: TestGuest, payload: Payload, began: Began, interruption: Interruption): Promise<RoundOutcome> {
    const booted = performance.now();
    const outcome = await concludeRound(guest, this.flags, async () => {
      const work = new TestRound(guest, payload, this.roundOptions()).run(this.plan.cases);
      const result = await unlessInterrupted(interruption, work);
      return { result, timings: timingsOf(result, began, booted) };
    });
    if (!this.flags.json) this.print(outcome);
    return outcome;
  }

  removeFiles(): void {
    this.scratch.remove();
  }

  private print({ report, status }: RoundOutcome): void {
    const { bootProblems } = report.result;
    if (bootProblems.length > 0) console.log('The kernel reported while it started:');
    for (const line of bootProblems.flatMap(problemLines)) console.log(line);
    console.log(summaryLine(report, status));
  }

  private roundOptions(): RoundOptions {
    const { timeout, unload = false, kernelProblems, json } = this.flags;
    const print = json ? () => {} : (line: string) => console.log(line);
    return {
      timeoutSeconds: timeout,
      unload,
      kernelProblemsFail: kernelProblems === 'fail',
      onBegin: name => print(`RUN   ${name}`),
      onLine: print,
      onEnd: result => stepLines(result).forEach(print),
    };
  }
}

function timingsOf({ modules, cases, unloads }: RoundResult, { start, prepared }: Began, booted: number): RoundTimings {
  const sum = (steps: RoundResult['cases']) => steps.reduce((total, { milliseconds }) => total + milliseconds, 0);
  return {
    prepare: Math.round(prepared - start),
    boot: Math.round(booted - prepared),
    load: Math.round(sum(modules)),
    run: Math.round(sum([...cases, ...unloads])),
    total: Math.round(performance.now() - start),
  };
}
