#!/usr/bin/env node
import { CommanderError } from 'commander';
import { DescriptionError } from '../machine/description.ts';
import { CommandFailure, ExitStatus, UsageError } from './errors.ts';
import { Interrupted } from './interrupt.ts';
import { buildProgram } from './program.ts';

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
