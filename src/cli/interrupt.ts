import { constants } from 'node:os';

export type EndSignal = 'SIGINT' | 'SIGTERM';

export interface Interruption {
  /** Resolves with the first SIGINT or SIGTERM. */
  readonly signalled: Promise<EndSignal>;
  /** Aborted at the same moment, for whatever takes an AbortSignal. */
  readonly abort: AbortSignal;
  stop(): void;
}

/**
 * Takes over Ctrl-C so that a command can clean up. A second signal ends the process at once, for when cleaning up hangs.
 */
export function catchInterrupt(): Interruption {
  const controller = new AbortController();
  let resolve: (signal: EndSignal) => void = () => {};
  const signalled = new Promise<EndSignal>(done => {
    resolve = done;
  });
  const hear = (signal: EndSignal) => {
    if (controller.signal.aborted) endAtOnce(signal);
    controller.abort(signal);
    resolve(signal);
  };
  process.on('SIGINT', hear);
  process.on('SIGTERM', hear);
  return {
    signalled,
    abort: controller.signal,
    stop() {
      process.off('SIGINT', hear);
      process.off('SIGTERM', hear);
    },
  };
}

/** After what others do at the end of the process. */
function endAtOnce(signal: EndSignal): never {
  process.on('exit', () => {
    // `process.exit` waits for all threads, and one may be in a system call that never ends.
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
  process.exit(128 + constants.signals[signal]);
}

export class Interrupted extends Error {
  override readonly name = 'Interrupted';

  constructor(readonly signal: EndSignal) {
    super(`ended by ${signal}`);
  }
}

/** What `work` gives, unless a signal comes first: then it throws `Interrupted`, and what is left of `work` goes on unheard. */
export async function unlessInterrupted<T>(interruption: Interruption, work: Promise<T>): Promise<T> {
  // Its failure after the signal interests nobody.
  work.catch(() => {});
  const signalled = interruption.signalled.then((signal): never => {
    throw new Interrupted(signal);
  });
  return await Promise.race([work, signalled]);
}
