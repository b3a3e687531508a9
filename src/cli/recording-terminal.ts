/** Where commands about recordings write: what was asked for, and beside it what is wrong or under way. */
import { processTerminal, type Terminal } from './remote-access.ts';

export interface RecordTerminal extends Terminal {
  /** To the error output, so that the standard output stays what was asked for. */
  complain(message: string): void;
  /** Nobody reads the output any more. */
  readonly gone: boolean;
  /** So much waits to be read that more would fill memory. */
  readonly behind: boolean;
  /** Resolves when more can be printed. */
  drained(): Promise<void>;
}

/** Output that waits for its reader. */
const MAX_BYTES_WAITING = 64 * 1024 * 1024;

export const recordTerminal: RecordTerminal = {
  ...processTerminal,
  complain: message => console.error(`viommu: ${message}`),
  get gone() {
    // The process's output is never destroyed.
    return process.stdout.errored !== null;
  },
  get behind() {
    return process.stdout.writableLength > MAX_BYTES_WAITING;
  },
  drained: () =>
    new Promise(resolve => {
      const { stdout } = process;
      // In any case after others had their turn: that the reader is gone is told as an event.
      const isFree = stdout.errored !== null || !stdout.writableNeedDrain;
      if (isFree) {
        setImmediate(resolve);
        return;
      }
      const done = () => {
        stdout.off('drain', done);
        stdout.off('error', done);
        resolve();
      };
      stdout.on('drain', done);
      stdout.on('error', done);
    }),
};
