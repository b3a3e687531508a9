/** The tracer and the sanitizer of one machine, on its device thread. */
import { EventRingWriter } from '../trace/event-ring.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { looksForAnything, needsChecks, type SanitizePolicy } from '../trace/sanitizer/policy.ts';
import { Sanitizer } from '../trace/sanitizer/sanitizer.ts';
import type { Trace } from '../trace/trace.ts';
import { Tracer } from '../trace/tracer.ts';
import type { DebugCommand, FindingsAnswer, MappingsAnswer, SanitizerState } from './debug-commands.ts';
import type { MachineDescription } from './description.ts';
import type { Injection } from './injection/injection.ts';

const FOREVER = -1;
const NANOSECONDS_PER_MILLISECOND = 1e6;
const SANITIZER_FAILED = 'the sanitizer failed: an event internal.error says why';
const NO_SANITIZER = 'the machine runs without the sanitizer: start it without --sanitize off';

export interface DebuggingOptions {
  /** Notes go there as well. */
  readonly forward: Trace;
  readonly ring: SharedArrayBuffer;
  readonly description: MachineDescription;
  /** Missing: nothing is looked for. */
  readonly policy: SanitizePolicy | undefined;
  /** Somebody waits for records, and there are some. */
  readonly wake: () => void;
  /** A new one. */
  readonly onFinding: (finding: Finding) => void;
  /** One that is to stop the machine: what caused it must not go on. */
  readonly onStop: () => void;
}

export class Debugging {
  readonly tracer: Tracer;
  /** Whether the IOMMU shall compare its caches with the tables. */
  readonly checks: boolean;
  stoppedBy: Finding | undefined;
  /** Some detector is on. */
  private readonly looks: boolean;
  private finished = false;
  private readonly sanitizer: Sanitizer | undefined;
  private readonly now: () => number;

  constructor({ forward, ring, description, policy, wake, onFinding, onStop }: DebuggingOptions) {
    const started = performance.now();
    this.now = () => (performance.now() - started) * NANOSECONDS_PER_MILLISECOND;
    this.tracer = new Tracer({ forward, ring: new EventRingWriter(ring, wake), now: this.now, rounds: true });
    this.checks = policy !== undefined && needsChecks(policy);
    this.looks = policy !== undefined && looksForAnything(policy);
    if (policy === undefined) return;
    this.sanitizer = new Sanitizer({
      policy,
      endpoints: new Map(description.endpoints.map(({ requesterId, id }) => [requesterId, id])),
      onFinding: (finding, isNew) => {
        if (!isNew) return;
        this.tracer.text('finding', 'sanitizer', finding);
        onFinding(finding);
      },
      onStop: finding => {
        this.stoppedBy ??= finding;
        // What halting brings about, resets and mappings left behind, is nobody's mistake.
        this.tracer.listener = undefined;
        onStop();
      },
    });
    this.tracer.listener = this.sanitizer;
  }

  /** To be called before the thread waits: returns for how many milliseconds at most. */
  beforeWaiting(): number {
    this.tracer.publish();
    if (this.stoppedBy !== undefined) return 0;
    const { sanitizer } = this;
    if (sanitizer === undefined || this.state === 'failed') return FOREVER;
    if (sanitizer.deadline === Number.POSITIVE_INFINITY) return FOREVER;
    const now = this.now();
    if (sanitizer.deadline <= now) {
      this.guarded(() => sanitizer.tick(now));
      return this.beforeWaiting();
    }
    return Math.ceil((sanitizer.deadline - now) / NANOSECONDS_PER_MILLISECOND);
  }

  /** Throws an Error that says why there is no answer. */
  answer(command: DebugCommand, injection: Injection): unknown {
    switch (command.name) {
      case 'findings':
        return this.findings();
      case 'mappings':
        return this.mappings();
      case 'classes':
        this.tracer.classes = command.classes;
        this.tracer.announceSources();
        return undefined;
      case 'inject':
        return injection.add(command.rule);
      case 'releaseInjection':
        return injection.release(command.id);
      case 'removeInjection':
        return injection.remove(command.id);
      case 'injections':
        return injection.list();
    }
  }

  /** The end: what was suspected is decided, and the last records are there to be read. */
  finish(): FindingsAnswer {
    if (this.finished) return this.findings();
    this.finished = true;
    // A guest that was cut off had no chance to clean up.
    const { sanitizer } = this;
    if (this.stoppedBy === undefined && this.state !== 'failed') this.guarded(() => sanitizer?.finish(this.now()));
    // Once more, as they are at the end: recordings have them with their first occurrence only.
    for (const finding of this.sanitizer?.findings ?? []) this.tracer.text('finding', 'sanitizer', finding);
    this.tracer.publish();
    return this.findings();
  }

  private findings(): FindingsAnswer {
    const { state } = this;
    const { findings = [], lost = 0, deadline = Number.POSITIVE_INFINITY } = this.sanitizer ?? {};
    // Who failed decides nothing any more.
    const undecided = state !== 'failed' && deadline !== Number.POSITIVE_INFINITY;
    return { state, findings, lost, undecided, time: this.now() };
  }

  private get state(): SanitizerState {
    if (!this.looks) return 'off';
    // The tracer, too, takes away a listener that throws.
    return this.tracer.listener === undefined && this.stoppedBy === undefined ? 'failed' : 'on';
  }

  /** The sanitizer's mistakes must not end the machine: it is taken away, and that is told. */
  private guarded<T>(ask: () => T): T | undefined {
    try {
      return ask();
    } catch (error) {
      this.tracer.dismiss(error);
      return undefined;
    }
  }

  private mappings(): MappingsAnswer {
    if (this.sanitizer === undefined) throw new Error(NO_SANITIZER);
    const { sanitizer } = this;
    const answer =
      this.state === 'failed'
        ? undefined
        : this.guarded(() => ({ mappings: sanitizer.mappings(), attachments: sanitizer.attachments() }));
    if (answer === undefined) throw new Error(SANITIZER_FAILED);
    return answer;
  }
}
