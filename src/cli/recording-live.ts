/** What commands need of a running machine; `RemoteMachine` has it, and tests have their own. */
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import type { EventKind } from '../trace/event-kinds.ts';
import { CommandFailure, UsageError } from './errors.ts';
import { type RemoteFlags, withMachine } from './remote-access.ts';

export interface LiveRecording {
  /** The machine's description. */
  readonly machine: unknown;
  readonly kinds: readonly EventKind[];
  stop(): Promise<void>;
}

/** Whole records, only good until the call returns; `dropped`: batches lost so far because this side did not read fast enough. */
export type TakeBatch = (words: Int32Array, dropped: number) => void;

export interface TracedMachine {
  /** Ends with the connection; tells why. */
  readonly closed: Promise<Error>;
  findings(): Promise<FindingsAnswer>;
  record(classes: number, take: TakeBatch): Promise<LiveRecording>;
}

/** Connects, does it, and disconnects. */
export type Connect = <T>(flags: RemoteFlags, use: (machine: TracedMachine) => Promise<T>) => Promise<T>;

export const connectRemote: Connect = withMachine;

/** A command takes a file or a running machine: the file, where both are named (a directory may come from the environment). */
export function checkOneSource(file: string | undefined, flags: RemoteFlags): void {
  if (file === undefined && flags.dir === undefined && flags.connect === undefined) {
    throw new UsageError(
      "say what to look at: a FILE of 'viommu record', or a running machine by --dir DIR of 'viommu serve --listen' or --connect ws://HOST:PORT",
    );
  }
}

export interface Feed {
  readonly recording: LiveRecording;
  /** Rejects when the connection ends. */
  readonly gone: Promise<never>;
}

/**
 * Begins a recording. `begin` is called once with what is known of the machine, before the first records, and gives what takes them: they
 * may come earlier than the answer that says what they mean.
 */
export async function feedFrom(
  machine: TracedMachine,
  classes: number,
  begin: (recording: LiveRecording) => TakeBatch | Promise<TakeBatch>,
): Promise<Feed> {
  const early: (readonly [Int32Array, number])[] = [];
  let take: TakeBatch = (words, dropped) => {
    early.push([words.slice(), dropped]);
  };
  const recording = await machine.record(classes, (words, dropped) => take(words, dropped));
  const taker = await begin(recording);
  for (const batch of early) taker(...batch);
  take = taker;
  const gone = machine.closed.then((error): never => {
    throw new CommandFailure(error.message);
  });
  // Whoever does not wait for it any more has ended the connection.
  gone.catch(() => {});
  return { recording, gone };
}
