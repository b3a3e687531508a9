/** `viommu test --watch`: a round after each change, in a guest that was booted ahead. */
import { CommandFailure, UsageError } from '../errors.ts';
import { type Interruption, unlessInterrupted } from '../interrupt.ts';
import { printProgress } from '../progress.ts';
import { FileWatch } from './file-watch.ts';
import type { TestGuest } from './guest.ts';
import type { Payload } from './payload.ts';
import { testDocument } from './report.ts';
import type { TestRunner } from './runner.ts';

/** Rejects with Interrupted, and with nothing else: whatever goes wrong in a round is told, and the next change is waited for. */
export async function watchRounds(runner: TestRunner, interruption: Interruption): Promise<never> {
  const { modules, files } = runner.plan;
  const watch = new FileWatch(
    [...modules.flatMap(one => (one.kind === 'file' ? [one.path] : [])), ...files.map(({ hostPath }) => hostPath)],
    modules.flatMap(one => (one.kind === 'source' ? [one.folder] : [])),
  );
  const rounds = new Rounds(runner, interruption);
  try {
    for (;;) {
      await watch.remember();
      await rounds.next();
      printProgress('Waiting for changes (Ctrl-C ends)');
      const changed = await unlessInterrupted(interruption, watch.changed());
      printProgress(`Changed: ${changed.join(', ')}`);
    }
  } finally {
    watch.close();
    await rounds.close();
  }
}

class Rounds {
  /** Boots or is up, for the next round. */
  private ahead: Promise<TestGuest> | undefined;

  constructor(
    private readonly runner: TestRunner,
    private readonly interruption: Interruption,
  ) {}

  async next(): Promise<void> {
    const { runner, interruption } = this;
    const start = performance.now();
    try {
      const payload = await unlessInterrupted(interruption, runner.payload());
      const prepared = performance.now();
      const guest = await unlessInterrupted(interruption, this.guest(payload));
      this.ahead = undefined;
      const { report, status } = await runner.round(guest, payload, { start, prepared }, interruption);
      if (runner.flags.json) console.log(JSON.stringify(testDocument(report, status)));
      this.bootAhead(payload);
    } catch (error) {
      // A source that does not compile, a guest that panics: the next change may mend it.
      if (!(error instanceof CommandFailure || error instanceof UsageError)) throw error;
      printProgress(error.message);
    }
  }

  async close(): Promise<void> {
    const guest = await this.ahead?.catch(() => undefined);
    this.ahead = undefined;
    await guest?.close();
  }

  /** With what is asked for in it: the one that was booted ahead, if it still can be used. */
  private async guest(payload: Payload): Promise<TestGuest> {
    const ahead = await this.ahead?.catch(() => undefined);
    if (ahead !== undefined) {
      try {
        if (ahead.canPush(payload)) {
          await ahead.push(payload);
          return ahead;
        }
      } catch {
        // It has not survived the wait; another one tells what is wrong, if anything is.
      }
      await this.close();
    }
    const guest = this.runner.boot(payload);
    this.ahead = guest;
    return await guest;
  }

  private bootAhead(payload: Payload): void {
    // A recording begins with its guest, and the last round's is still to be looked at.
    if (this.runner.flags.record !== undefined) return;
    this.ahead = this.runner.boot(payload);
    this.ahead.catch(() => {});
  }
}
