#!/usr/bin/env node
import { Command, CommanderError } from 'commander';
import { DescriptionError } from '../machine/description.ts';
import { addAcpi } from './acpi.ts';
import { addBoot } from './boot.ts';
import { addBridge } from './bridge.ts';
import { addDemo } from './demo.ts';
import { addDomain } from './domain.ts';
import { CommandFailure, ExitStatus, UsageError } from './errors.ts';
import { addExplain } from './explain.ts';
import { addFetch } from './fetch.ts';
import { addGuest } from './guest.ts';
import { addInspect } from './inspect.ts';
import { Interrupted } from './interrupt.ts';
import { addQemuArgs } from './qemu-args.ts';
import { addRecord } from './record.ts';
import { addServe } from './serve.ts';
import { addTest } from './test.ts';
import { addTrace } from './trace.ts';

const EXAMPLES = `
Examples:
  See the whole thing work: a stock Linux guest, an unmodified QEMU, real DMA through our VT-d:
    $ viommu demo
  Serve a machine to a QEMU that you start yourself:
    $ viommu serve --dir /tmp/m --device edu@01:00.0
    $ qemu-system-x86_64 ... $(viommu qemu-args --dir /tmp/m)
  Boot your own kernel with it:
    $ viommu boot --kernel bzImage --initrd initramfs.img --append "console=ttyS0"
  Record what happens, and have a mistake explained:
    $ viommu boot --record run.viommu
    $ viommu explain run.viommu F1
`;

function buildProgram(): Command {
  const program = new Command('viommu')
    .description(
      'A virtual IOMMU and DMA-capable devices for an unmodified guest in an unmodified QEMU, over vfio-user',
    )
    .version('0.1.0')
    .showHelpAfterError('(viommu COMMAND --help shows what it takes)')
    .addHelpText('after', EXAMPLES)
    .exitOverride();
  program.commandsGroup('Run a machine:');
  addDemo(program);
  addServe(program);
  addBridge(program);
  addBoot(program);
  addGuest(program);
  addTest(program);
  addQemuArgs(program);
  addAcpi(program);
  addDomain(program);
  addFetch(program);
  program.commandsGroup('Debug DMA:');
  addTrace(program);
  addRecord(program);
  addExplain(program);
  addInspect(program);
  for (const command of program.commands) command.exitOverride();
  return program;
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? ExitStatus.ok : ExitStatus.usage;
  if (error instanceof UsageError || error instanceof DescriptionError) {
    console.error(`viommu: ${error.message}`);
    return ExitStatus.usage;
  }
  if (error instanceof Interrupted) return error.signal === 'SIGINT' ? ExitStatus.interrupted : ExitStatus.terminated;
  console.error(`viommu: ${error instanceof Error ? error.message : String(error)}`);
  if (!(error instanceof CommandFailure) && error instanceof Error) {
    console.error(process.env.VIOMMU_STACK ? error.stack : '(VIOMMU_STACK=1 shows where it came from)');
  }
  return ExitStatus.failed;
}

// A reader that has seen enough (`viommu serve | head`) must not end a server.
process.stdout.on('error', error => {
  if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error;
});

try {
  await buildProgram().parseAsync();
} catch (error) {
  const status = report(error);
  // What was found before it went wrong counts for more.
  if (status !== ExitStatus.failed || process.exitCode !== ExitStatus.findings) process.exitCode = status;
  // Work that was interrupted must not go on behind the user's back; whatever it holds ends with the process.
  if (error instanceof Interrupted) process.exit();
}
