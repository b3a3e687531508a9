/** A recorded file, as the remote API sees a machine: its records as fast as they are taken, and what the sanitizer makes of them. */

import type { FindingsAnswer, MappingsAnswer } from '../machine/debug-commands.ts';
import { checkDescription, DescriptionError } from '../machine/description.ts';
import type { RecordTap } from '../machine/record-taps.ts';
import { EventClass, type EventKind } from '../trace/event-kinds.ts';
import type { RecordingReader } from '../trace/recording/reader.ts';
import { replay } from '../trace/recording/replay.ts';
import { parsePolicy } from '../trace/sanitizer/policy.ts';
import { Sanitizer } from '../trace/sanitizer/sanitizer.ts';
import type { MachineEvents, MachinePort, TakeBatch } from './machine-port.ts';

/** The machine's name where a server has a recording. */
export const RECORDING_NAME = 'recording';

/** Nothing happens in a file any more. */
const NO_EVENTS: MachineEvents = { on: () => undefined, off: () => undefined };

type Unanswered = (...question: never[]) => Promise<never>;

function hasNo(what: string): Unanswered {
  return () => Promise.reject(new Error(`a recording has no ${what}: they are there only while the machine runs`));
}

const noOperations = hasNo('operations');
const noInjections = hasNo('injections');
const noControl = hasNo('steps, pauses or resumes');

export class RecordingPort implements MachinePort {
  readonly replays = true;
  readonly events = NO_EVENTS;
  private seen: Replay | undefined;
  private closed = false;

  /** The reader stays the caller's, who closes it after `close`. `onError` is told where the file cannot be read any more. */
  constructor(
    private readonly reader: RecordingReader,
    private readonly onError: (error: unknown) => void = error => console.error(error),
  ) {}

  get description(): unknown {
    return this.reader.header.machine;
  }

  get kinds(): readonly EventKind[] {
    return this.reader.header.kinds;
  }

  async findings(): Promise<FindingsAnswer> {
    const { state, findings, lost } = this.replayed();
    return { state, findings, lost };
  }

  /** As they were at the end. */
  async mappings(): Promise<MappingsAnswer> {
    const { mappings, attachments } = this.replayed();
    return { mappings, attachments };
  }

  /** Blocks of the file with these classes, and with the names of sources; each when the one before it was taken. */
  record(classes: number, take: TakeBatch): RecordTap {
    const state = { stopped: false };
    // Whoever asks is answered first.
    setImmediate(() => this.play(classes | EventClass.note, take, state).catch(this.onError));
    return {
      stop() {
        state.stopped = true;
      },
    };
  }

  /** Nothing is read from the file after this. */
  close(): void {
    this.closed = true;
  }

  operate: MachinePort['operate'] = noOperations;
  probe: MachinePort['probe'] = noOperations;
  getInterface: MachinePort['getInterface'] = noOperations;
  snapshot: MachinePort['snapshot'] = hasNo('snapshots');
  statistics: MachinePort['statistics'] = hasNo('counters');
  inject: MachinePort['inject'] = noInjections;
  releaseInjection: MachinePort['releaseInjection'] = noInjections;
  removeInjection: MachinePort['removeInjection'] = noInjections;
  injections: MachinePort['injections'] = noInjections;
  inspect: MachinePort['inspect'] = hasNo('registers');
  registers: MachinePort['registers'] = hasNo('registers');
  walk: MachinePort['walk'] = hasNo('page tables');
  tlb: MachinePort['tlb'] = hasNo('TLB entries');
  queue: MachinePort['queue'] = hasNo('invalidation queues');
  pause: MachinePort['pause'] = noControl;
  step: MachinePort['step'] = noControl;
  resume: MachinePort['resume'] = noControl;

  private async play(classes: number, take: TakeBatch, state: { readonly stopped: boolean }): Promise<void> {
    // The words are those of the next block after the next step, so each is taken before that.
    for (const { words } of this.reader.read({ classes })) {
      if (state.stopped || this.closed) return;
      await take(words);
      // Others have their turn, also where this client takes everything at once.
      await nextTurn();
      if (state.stopped || this.closed) return;
    }
  }

  private replayed(): Replay {
    this.seen ??= replayAll(this.reader);
    return this.seen;
  }
}

function nextTurn(): Promise<void> {
  return new Promise(resolve => {
    setImmediate(resolve);
  });
}

type Replay = FindingsAnswer & MappingsAnswer;

function replayAll(reader: RecordingReader): Replay {
  const sanitizer = new Sanitizer({ policy: parsePolicy('on'), endpoints: endpointsOf(reader.header.machine) });
  const { time } = replay(reader, sanitizer, {
    before: now => {
      if (now >= sanitizer.deadline) sanitizer.tick(now);
    },
  });
  // Before the end, which takes everything down.
  const mappings = sanitizer.mappings();
  const attachments = sanitizer.attachments();
  sanitizer.finish(time);
  return { state: 'on', findings: sanitizer.findings, lost: sanitizer.lost, mappings, attachments };
}

/** Names by requester id; none where the file does not say. */
function endpointsOf(machine: unknown): Map<number, string> {
  try {
    return new Map(checkDescription(machine).endpoints.map(({ id, requesterId }) => [requesterId, id]));
  } catch (error) {
    if (error instanceof DescriptionError) return new Map();
    throw error;
  }
}
