/** Runs a program to its end: what its commands throw becomes a message and an exit status. */
import { type Command, CommanderError } from 'commander';
import { DescriptionError } from '../machine/description.ts';
import { CommandFailure, ExitStatus, UsageError } from './errors.ts';
import { Interrupted } from './interrupt.ts';

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

/** Of a process: once. Sets its exit status. */
export async function runToEnd(program: Command): Promise<void> {
  // A reader that has seen enough (`viommu serve | head`) must not end a server.
  process.stdout.on('error', error => {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error;
  });

  try {
    await program.parseAsync();
  } catch (error) {
    const status = report(error);
    // What was found before it went wrong counts for more.
    if (status !== ExitStatus.failed || process.exitCode !== ExitStatus.findings) process.exitCode = status;
    // Work that was interrupted must not go on behind the user's back; whatever it holds ends with the process.
    if (error instanceof Interrupted) process.exit();
  }
}
