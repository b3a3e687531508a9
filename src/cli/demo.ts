import { type Command, Option } from 'commander';
import { GuestAgent } from '../../images/guest/agent.ts';
import { type MachineConfiguration, shellWord } from '../../qemu/command-line.ts';
import { provisionQemu } from '../../qemu/provision.ts';
import { describeTopology, TOPOLOGY_KINDS, type TopologyKind } from '../../qemu/topology.ts';
import { describeMachine, type MachineDescription } from '../machine/description.ts';
import type { MachineStatistics } from '../machine/statistics.ts';
import { formatRequesterId } from '../trace/record-fields.ts';
import { reportText } from '../trace/report/text.ts';
import type { TraceEvent } from '../trace/trace.ts';
import { ConsoleWatch } from './console-watch.ts';
import { DebugSession } from './debug-session.ts';
import { type CaseResult, type DemoSetting, judged, parseCase, printReport, type RoundResult } from './demo-report.ts';
import { CommandFailure, ExitStatus } from './errors.ts';
import { addGuestOptions, type GuestFlags, guestConfiguration, positive } from './guest-options.ts';
import { GuestRun } from './guest-run.ts';
import { catchInterrupt, unlessInterrupted } from './interrupt.ts';
import { judgeKernelLog } from './kernel-log.ts';
import type { GuestMachine } from './machine-access.ts';
import { addIommuOptions, addLimitOption, addPollOption, type MachineFlags, withServing } from './machine-options.ts';
import { printProgress } from './progress.ts';
import { addSanitizeOptions, checkSanitizeFlags, type SanitizeFlags } from './sanitize-options.ts';
import { addServerOptions, machineSource, type ServerFlags } from './server-options.ts';
import { stockGuest } from './stock-guest.ts';

interface DemoFlags
  extends GuestFlags,
    SanitizeFlags,
    ServerFlags,
    Pick<MachineFlags, 'cachingMode' | 'compat' | 'pollUs' | 'limit'> {
  readonly iommu: DemoIommu;
  readonly topology: TopologyKind;
  readonly rounds: number;
  readonly case?: readonly string[];
  readonly json?: boolean;
  readonly verbose?: boolean;
}

const DEMO_IOMMUS = ['vtd', 'dma-iommu'] as const;
type DemoIommu = (typeof DEMO_IOMMUS)[number];
const DEVICES = ['edu0', 'edu1'];
/** The program for dma-iommu also uses addresses and physical memory beyond the reach of the documented 28 bits. */
const DEVICE_OPTIONS: Readonly<Record<DemoIommu, string>> = { vtd: '', 'dma-iommu': ',dmaMask=64' };
/** The kernel's start under TCG takes seconds; this is for machines ten times slower. */
const READY_TIMEOUT_MS = 180_000;
/** Between two cases: with a server on a slow line, each register access takes as long as the way there and back. */
const CASE_TIMEOUT_MS = 180_000;
const APPEND = 'console=ttyS0 quiet';
/** Of the longest case's name, so that details line up. */
const NAME_WIDTHS: Readonly<Record<DemoIommu, number>> = { vtd: 18, 'dma-iommu': 38 };
/** The guest's program for each. */
const PROGRAMS: Readonly<Record<DemoIommu, string>> = { vtd: 'dma-demo', 'dma-iommu': 'dma-iommu-demo' };

const EXAMPLES = `
Examples:
  $ viommu demo
  $ viommu demo --memory message            # the server never maps guest memory
  $ viommu demo --firmware uefi --verbose   # with the guest kernel's own log
  $ viommu demo --topology root-bus         # needs intel_iommu=on, which is given
  $ viommu demo --iommu dma-iommu           # every operation of Windows' DMA_IOMMU_INTERFACE
  $ viommu demo --rounds 3                  # three times, rebooting the guest in between
  $ viommu demo --json | jq .passed
  $ viommu demo --server /run/viommu        # the same, with the machine in 'viommu serve --on-demand' there
  $ VIOMMU_TOKEN=... viommu demo --server ws://lab:7180
`;

export function addDemo(program: Command): void {
  const command = program
    .command('demo')
    .description(
      'boot a stock Linux guest with our IOMMU and two edu devices, and check what their DMA can and cannot do',
    )
    .addOption(
      new Option('--topology <kind>', 'endpoints behind external-facing root ports, or on the root bus')
        .choices([...TOPOLOGY_KINDS])
        .default('root-ports'),
    )
    .addOption(new Option('--iommu <kind>', 'which IOMMU the guest drives').choices([...DEMO_IOMMUS]).default('vtd'))
    .option('--rounds <count>', 'how often to run all cases; the guest reboots in between', positive, 1)
    .option('--case <name>', 'run this case only; may be given again', (value: string, before: string[] = []) => [
      ...before,
      value,
    ])
    .option('--json', 'print one JSON document instead of a table')
    .option('--verbose', "also print the guest kernel's log and every event of the server")
    .addHelpText('after', EXAMPLES);
  const machine = addLimitOption(addPollOption(addIommuOptions(command)));
  addSanitizeOptions(addServerOptions(addGuestOptions(machine))).action(demo);
}

async function demo(flags: DemoFlags): Promise<void> {
  const interruption = catchInterrupt();
  const run = await unlessInterrupted(interruption, prepareAndStart(flags));
  let rounds: RoundResult[] = [];
  let statistics: MachineStatistics | undefined;
  const { outcome } = await run.session.conclude(async () => {
    try {
      const all = Promise.race([runRounds(run, flags), run.guest.broken, run.console.panicked]);
      rounds = await unlessInterrupted(interruption, all);
      statistics = await run.guest.host.statistics();
    } catch (error) {
      // The finding says it better.
      if (!run.guest.host.stoppedByFinding) throw error;
    } finally {
      run.agent.close();
      await run.guest.close();
      interruption.stop();
    }
  });
  const { findings, status } = outcome;
  if (statistics === undefined) {
    console.error(reportText(findings));
    process.exitCode = ExitStatus.findings;
    return;
  }
  const report = judged({ ...setting(run, flags), rounds, statistics, findings });
  printReport(report, flags);
  process.exitCode = status === ExitStatus.ok && !report.passed ? ExitStatus.failed : status;
}

interface DemoRun {
  readonly session: DebugSession;
  readonly guest: GuestRun<GuestMachine>;
  readonly agent: GuestAgent;
  readonly console: ConsoleWatch;
  readonly description: MachineDescription;
  readonly configuration: MachineConfiguration;
  readonly qemuVersion: string;
  readonly events: TraceEvent[];
}

async function prepareAndStart(flags: DemoFlags): Promise<DemoRun> {
  checkSanitizeFlags(flags);
  const source = machineSource(flags);
  const topology = describeTopology(flags.topology, DEVICES);
  const devices = topology.endpoints.map(
    ({ requesterId }) => `edu@${formatRequesterId(requesterId)}${DEVICE_OPTIONS[flags.iommu]}`,
  );
  const { cachingMode, compat } = flags;
  // The cases that forget a flush on purpose are told of.
  const checkStale = flags.iommu === 'dma-iommu';
  const described = describeMachine(flags.iommu, devices, { cachingMode, compat, checkStale });
  const description = withServing(described, flags);
  const installation = await provisionQemu({ progress: printProgress, ...(flags.qemu ? { path: flags.qemu } : {}) });
  const boot = await stockGuest(commandLine(flags));
  const configuration = await guestConfiguration(flags, installation, description, boot);
  const console = new ConsoleWatch();
  const events: TraceEvent[] = [];
  printProgress(`Starting QEMU ${installation.version} (${configuration.accelerator}) with Debian's stock kernel`);
  let session: DebugSession | undefined;
  const guest = await GuestRun.startFrom({
    source,
    description,
    sanitize: flags.sanitize,
    prepare: async host => {
      session = await DebugSession.start(host, flags, flags.verbose ? printProgress : () => {});
    },
    installation,
    configuration,
    progress: printProgress,
    agent: true,
    console: chunk => console.take(chunk),
    onEvent: event => {
      if (flags.verbose) events.push(event);
    },
  });
  try {
    const agent = await GuestAgent.connect(guest.qemu.agentSocket ?? '');
    const qemuVersion = installation.version;
    return { guest, session: session!, agent, console, description, configuration, qemuVersion, events };
  } catch (error) {
    await guest.close();
    throw error;
  }
}

/** Only with VT-d on the root bus does the stock kernel need to be told to use it. */
function commandLine({ iommu, topology }: DemoFlags): string {
  return iommu === 'vtd' && topology === 'root-bus' ? `${APPEND} intel_iommu=on` : APPEND;
}

async function runRounds(run: DemoRun, flags: DemoFlags): Promise<RoundResult[]> {
  const rounds: RoundResult[] = [];
  await ready(run);
  for (let round = 1; round <= flags.rounds; round++) {
    if (round > 1) {
      printProgress('Rebooting the guest');
      await run.agent.reboot(READY_TIMEOUT_MS);
    }
    rounds.push(await runRound(run, flags));
  }
  return rounds;
}

async function ready(run: DemoRun): Promise<void> {
  try {
    await run.agent.ready(READY_TIMEOUT_MS);
  } catch (error) {
    throw new CommandFailure(
      `${(error as Error).message}\nThe guest's console:\n${run.console.tail()}\n${run.guest.qemu.stderr()}`,
    );
  }
}

async function runRound({ agent, events }: DemoRun, flags: DemoFlags): Promise<RoundResult> {
  const commandLine = (await agent.run('cat /proc/cmdline')).output.join(' ').trim();
  if (!flags.json) console.log(`\nThe guest's kernel command line: ${commandLine}\n`);
  const cases: CaseResult[] = [];
  const chosen = (flags.case ?? []).map(name => ` --case ${shellWord(name)}`).join('');
  const { status, output } = await agent.run(`${PROGRAMS[flags.iommu]} --json${chosen}`, {
    quietMs: CASE_TIMEOUT_MS,
    onLine: line => {
      const result = parseCase(line);
      if (!result) return;
      cases.push(result);
      if (!flags.json) printCase(result, NAME_WIDTHS[flags.iommu]);
    },
  });
  if (cases.length === 0) throw new CommandFailure(`the guest's program ran no case:\n${output.join('\n')}`);
  const kernelLog = (await agent.run('dmesg')).output;
  const verdict = judgeKernelLog(kernelLog, flags.iommu);
  if (flags.verbose && !flags.json) console.log(['', ...kernelLog].join('\n'));
  const logIsGood = verdict.missing.length === 0 && verdict.bad.length === 0;
  const passed = status === 0 && logIsGood && cases.every(one => one.outcome === 'PASS');
  return { commandLine, cases, kernelLog, verdict, passed, events: events.splice(0) };
}

function printCase({ name, outcome, detail }: CaseResult, width: number): void {
  console.log(`  ${outcome}  ${name.padEnd(width)} ${detail}`);
}

function setting(run: DemoRun, flags: DemoFlags): DemoSetting {
  const { accelerator, firmware, memory } = run.configuration;
  const endpoints = run.description.endpoints.map(({ id, requesterId }) => `${id}@${formatRequesterId(requesterId)}`);
  return {
    iommu: flags.iommu,
    qemu: run.qemuVersion,
    accelerator,
    firmware,
    memory,
    topology: flags.topology,
    endpoints,
  };
}
