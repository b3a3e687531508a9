/** The end of a round: ends the guest, has the debugger finish, writes the reports, and says what it came to. */
import { writeFileSync } from 'node:fs';
import { ExitStatus } from '../errors.ts';
import type { SanitizeFlags } from '../sanitize-options.ts';
import type { TestGuest } from './guest.ts';
import { testJunit } from './junit.ts';
import { hasPassed, type RoundTimings, type TestReport } from './report.ts';
import type { RoundResult } from './round.ts';

export interface RoundOutcome {
  readonly report: TestReport;
  readonly status: number;
}

/** JUnit's reports have the scripts in them too, and are not the debug session's. */
export function sessionFlags<Flags extends SanitizeFlags>(flags: Flags): Flags {
  return { ...flags, report: flags.report?.filter(({ format }) => format !== 'junit') };
}

export async function concludeRound(
  guest: TestGuest,
  flags: SanitizeFlags,
  work: () => Promise<{ readonly result: RoundResult; readonly timings: RoundTimings }>,
): Promise<RoundOutcome> {
  const { result: done, outcome } = await guest.session.conclude(async () => {
    try {
      return await work();
    } finally {
      await guest.close();
    }
  });
  const report: TestReport = { ...done, findings: outcome.findings };
  let { status }: { status: number } = outcome;
  for (const { path, format } of flags.report ?? []) {
    if (format !== 'junit') continue;
    try {
      writeFileSync(path, testJunit(report));
    } catch (error) {
      console.error(`viommu: cannot write the report ${path}: ${(error as Error).message}`);
      if (status === ExitStatus.ok) status = ExitStatus.failed;
    }
  }
  if (status === ExitStatus.ok && !hasPassed(done.result)) status = ExitStatus.failed;
  return { report, status };
}
