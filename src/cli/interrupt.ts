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
    if (controller.signal.aborted) process.exit(128 + constants.signals[signal]);
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
