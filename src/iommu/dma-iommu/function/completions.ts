/**
 * What goes to the completion ring, in order: state changes and the answers to commands. At most one answer waits at a time, because
 * no command is taken before the one ahead of it has its completion in the ring.
 */
import { MemoryStatus } from '../../../memory/guest-memory.ts';
import {
  StateError,
  type StateValue,
  stateBytes,
  stateFields,
  stateFlag,
  stateList,
  stateNumber,
} from '../../../pci/state.ts';
import { HANDLE_MAX } from '../limits.ts';
import type { InterfaceStateChange } from '../types.ts';
import type { FunctionCore } from './core.ts';
import type { Interrupts } from './interrupts.ts';
import { CommandFlag, CompletionKind, completionLayout, stateChangeLayout } from './layout.ts';
import { RingError, Source } from './registers.ts';
import type { Ring } from './ring.ts';
import { Entry } from './struct.ts';

const { fields } = completionLayout;
const RESULT_OFFSET = fields.result.offset;
const FIRST_WORD_BYTES = 4;
/** In a saved state, in place of a device: the answer to a command. */
const ANSWER = -1;

interface Waiting {
  readonly entry: Entry;
  /** -1: none. */
  source: Source | -1;
  /** A state change of this registration. */
  readonly registration?: object;
}

export class Completions {
  private readonly answer: Waiting = { entry: new Entry(completionLayout.bytes), source: -1 };
  private readonly waiting: Waiting[] = [];
  /** The first that waits is on its way into memory: it does not change any more. */
  private writing = false;

  constructor(
    private readonly core: FunctionCore,
    private readonly ring: Ring,
    private readonly interrupts: Interrupts,
  ) {}

  /** After `drain`: another command may be taken, there is room for its answer. */
  get ready(): boolean {
    return this.ring.running && !this.ring.full;
  }

  /** Where a command puts its outputs, from `RESULT_OFFSET` on; all zero. */
  begin(): Entry {
    this.answer.entry.bytes.fill(0);
    return this.answer.entry;
  }

  /** The answer to a command, with what is in the entry of `begin`. */
  finish(opcode: number, commandFlags: number, cookie: bigint, status: number): void {
    const { entry } = this.answer;
    entry.set(fields.kind, CompletionKind.command);
    entry.set(fields.opcode, opcode);
    entry.set(fields.status, status);
    entry.set64(fields.cookie, cookie);
    this.answer.source = commandFlags & CommandFlag.noInterrupt ? -1 : Source.completion;
    this.waiting.push(this.answer);
  }

  /** A later state change of a registration whose earlier one still waits becomes one with it, so that few can wait. */
  stateChanged(registration: object, about: StateChangeAddress, change: InterfaceStateChange): void {
    let waiting = this.waiting[this.find(registration)];
    if (waiting === undefined) {
      waiting = { entry: new Entry(completionLayout.bytes), source: Source.stateChange, registration };
      this.waiting.push(waiting);
    }
    const { entry } = waiting;
    const { callback, device, presentFields, availableDomainTypes } = stateChangeLayout.fields;
    entry.set(fields.kind, CompletionKind.stateChange);
    entry.set(fields.opcode, about.opcode);
    entry.set64(fields.cookie, about.context);
    entry.set64(callback, about.callback, RESULT_OFFSET);
    entry.set(device, about.device, RESULT_OFFSET);
    entry.set(presentFields, entry.get(presentFields, RESULT_OFFSET) | change.presentFields, RESULT_OFFSET);
    entry.set(availableDomainTypes, change.availableDomainTypes, RESULT_OFFSET);
  }

  /** Forgets what a registration still had to say. */
  forget(registration: object): void {
    const at = this.find(registration);
    if (at >= 0) this.waiting.splice(at, 1);
  }

  /** Writes what waits, as far as there is room. Guest memory may be slow: compare the core's cycle afterwards. */
  drain(): void {
    const { core, ring, waiting } = this;
    const { cycle } = core;
    while (waiting.length > 0 && ring.running && !ring.full) {
      const { entry, source } = waiting[0]!;
      this.writing = true;
      const written = this.write(entry, cycle);
      if (cycle !== core.cycle) return;
      this.writing = false;
      if (!written) {
        ring.fail(RingError.memory, { index: ring.tail });
        return;
      }
      waiting.shift();
      ring.advanceTail();
      if (source !== -1) this.interrupts.raise(source);
    }
  }

  /** The rings are disabled. State changes are still true, an answer is lost. */
  stop(): void {
    this.writing = false;
    const at = this.waiting.indexOf(this.answer);
    if (at < 0) return;
    this.waiting.splice(at, 1);
    this.core.note('dmaIommu.completionLost', { cookie: this.answer.entry.get64(fields.cookie) });
  }

  reset(): void {
    this.writing = false;
    this.waiting.length = 0;
  }

  /** `deviceOf`: whose registration it is; 0: nobody's any more. */
  save(deviceOf: (registration: object) => number): StateValue {
    return this.waiting.map(({ entry, source, registration }) => ({
      entry: entry.bytes.slice(),
      interrupt: source !== -1,
      device: registration === undefined ? ANSWER : deviceOf(registration),
    }));
  }

  /**
   * As `Saveable.restore`; `devices` are those with a registration, whose keys `keyOf` knows when the state is taken over. A
   * registration has one entry, or two of which the first could not be written.
   */
  restore(state: unknown, devices: ReadonlySet<number>, keyOf: (device: number) => object | undefined): () => void {
    const what = 'a completion that waits';
    const seen = new Set<number>();
    const list = stateList(state, 'the completions that wait', 2 + devices.size).map((one, place) => {
      const waiting = stateFields(one, what, ['entry', 'interrupt', 'device']);
      const device = stateNumber(waiting.device, what, ANSWER, HANDLE_MAX);
      const gone = device === 0 && place === 0;
      if (seen.has(device) || (device !== ANSWER && !gone && !devices.has(device)))
        throw new StateError(`${what} is for a registration that there is not`);
      if (place > 0 || device === ANSWER) seen.add(device);
      const interrupt = stateFlag(waiting.interrupt, what);
      if (!interrupt && device !== ANSWER) throw new StateError(`${what} is a state change without an interrupt`);
      const entry = new Entry(completionLayout.bytes);
      entry.bytes.set(stateBytes(waiting.entry, what, completionLayout.bytes));
      const kind = device === ANSWER ? CompletionKind.command : CompletionKind.stateChange;
      if (entry.get(fields.kind) !== kind) throw new StateError(`${what} is of another kind`);
      return { device, interrupt, entry };
    });
    return () => {
      for (const { device, interrupt, entry } of list) {
        if (device === ANSWER) {
          this.answer.entry.bytes.set(entry.bytes);
          this.answer.source = interrupt ? Source.completion : -1;
          this.waiting.push(this.answer);
        } else {
          this.waiting.push({ entry, source: Source.stateChange, registration: keyOf(device) ?? {} });
        }
      }
    };
  }

  private find(registration: object): number {
    return this.waiting.findIndex((one, at) => one.registration === registration && !(at === 0 && this.writing));
  }

  /** The word with the phase comes last: a guest that sees it sees the entry. */
  private write(entry: Entry, cycle: number): boolean {
    const { core, ring } = this;
    const frame = ring.frameOf(ring.tail);
    const offset = ring.offsetOf(ring.tail);
    entry.set(fields.phase, ring.phase);
    const rest = completionLayout.bytes - FIRST_WORD_BYTES;
    const status = core.memory.write(frame, offset + FIRST_WORD_BYTES, entry.bytes, FIRST_WORD_BYTES, rest);
    if (status !== MemoryStatus.ok || cycle !== core.cycle) return false;
    return core.memory.store32(frame, offset, entry.words[0]!) === MemoryStatus.ok;
  }
}

/** Whom a state change is for. */
export interface StateChangeAddress {
  readonly opcode: number;
  readonly device: number;
  readonly callback: bigint;
  readonly context: bigint;
}
