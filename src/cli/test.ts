import { type Command, Option } from 'commander';
import { looksForAnything } from '../trace/sanitizer/policy.ts';
import { GUEST_FOLDER } from './driver-test/plan.ts';
import { type RunnerFlags, TestRunner } from './driver-test/runner.ts';
import { watchRounds } from './driver-test/watch.ts';
import { addGuestOptions, positive } from './guest-options.ts';
import { catchInterrupt, unlessInterrupted } from './interrupt.ts';
import { addMachineOptions } from './machine-options.ts';
import { addSanitizeOptions } from './sanitize-options.ts';
import { addServerOptions, SERVER_EXAMPLES } from './server-options.ts';

interface AllFlags extends RunnerFlags {
  readonly watch?: boolean;
}

const DEFAULT_TIMEOUT_SECONDS = 60;

const EXAMPLES = `
The modules are loaded in the order given, with what they need of the kernel's own; then each script runs in the guest, in ${GUEST_FOLDER}, where
the files of --file are too. The guest has a busybox shell and the stock kernel of Debian 13, or your --kernel. Devices that no module
takes are left to vfio-pci, for programs. The kernel's oopses and warnings, and what the sanitizer finds, count as failures.

Exit status: 0 all is well; 1 a module, a script or the kernel failed; 2 wrong use; 3 findings (--fail-on).

Examples:
  $ viommu test --module ./my.ko --run ./test.sh
  $ viommu test --module-source ./driver --module-params "my:debug=1" --run ./test.sh --watch
  $ viommu test --module ./my.ko --run ./a.sh --run ./b.sh --file data.bin:/data/input --report junit.xml
  $ viommu test --run ./program --device edu@01:00.0 --record run.viommu -- --iterations 100
  $ viommu test --kernel bzImage --modules-dir out/lib/modules/6.12.0 --module ./my.ko --run ./test.sh
`;

const list = (value: string, before: readonly string[] = []) => [...before, value];

export function addTest(program: Command): void {
  const command = program
    .command('test')
    .description(
      'boot a guest, load a driver into it, run scripts, and tell what went wrong: findings, kernel problems',
    )
    .argument('[arguments...]', 'arguments for the scripts, behind --')
    .option('--module <file>', "a kernel module to load, or the name of one of the kernel's; may be given again", list)
    .option(
      '--module-source <dir>',
      'sources of a module, with a Kbuild or Makefile: built for the stock kernel, then loaded',
      list,
    )
    .option('--module-params <module:parameters>', "parameters, such as 'my:debug=1 rings=4'; may be given again", list)
    .option('--run <file>', 'a script, or a static program, to run in the guest: a test case; may be given again', list)
    .option('--file <file[:path]>', 'a file to put into the guest (default: into /test); may be given again', list)
    .option(
      '--timeout <seconds>',
      'how long each script may take until it is killed',
      positive,
      DEFAULT_TIMEOUT_SECONDS,
    )
    .option('--unload', 'remove the modules at the end, which must succeed')
    .addOption(
      new Option(
        '--kernel-problems <what>',
        "what the kernel's oopses, warnings and the like are: failures, or only told",
      )
        .choices(['fail', 'tell'])
        .default('fail'),
    )
    .option('--kernel <file>', 'a Linux kernel of your own instead of the stock one')
    .option('--modules-dir <dir>', 'its modules, as make modules_install left them: .../lib/modules/RELEASE')
    .option('--append <text>', "more for the kernel's command line")
    .option('--watch', 'run again whenever one of the files changes, until Ctrl-C')
    .option('--json', 'print one JSON document (with --watch: one a round, each on a line) instead of the output')
    .option('--verbose', 'also print every event of the server, on the error output')
    .addHelpText('after', EXAMPLES + SERVER_EXAMPLES.replaceAll('COMMAND', 'test --module ./my.ko'));
  addSanitizeOptions(addServerOptions(addGuestOptions(addMachineOptions(command))));
  // Whoever tests wants to know.
  command.options.find(({ long }) => long === '--fail-on')?.default('warning', 'warning');
  command.setOptionValueWithSource('failOn', 'warning', 'default');
  command.action((args: string[], flags: AllFlags) => test(args, withFailOn(flags, command)));
}

/** Who looks for nothing finds nothing, and need not say that this is meant. */
function withFailOn(flags: AllFlags, command: Command): AllFlags {
  const isOwn = command.getOptionValueSource('failOn') !== 'default';
  return isOwn || looksForAnything(flags.sanitize) ? flags : { ...flags, failOn: 'never' };
}

async function test(scriptArguments: string[], flags: AllFlags): Promise<void> {
  const interruption = catchInterrupt();
  try {
    const runner = await unlessInterrupted(interruption, TestRunner.prepare(flags, scriptArguments));
    try {
      if (flags.watch) await watchRounds(runner, interruption);
      else process.exitCode = await runner.once(interruption);
    } finally {
      runner.removeFiles();
    }
  } finally {
    interruption.stop();
  }
}
