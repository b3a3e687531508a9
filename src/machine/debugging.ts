/** The tracer and the sanitizer of one machine, on its device thread. */
import { EventRingWriter } from '../trace/event-ring.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { needsChecks, type SanitizePolicy } from '../trace/sanitizer/policy.ts';
import { Sanitizer } from '../trace/sanitizer/sanitizer.ts';
import type { Trace } from '../trace/trace.ts';
import { Tracer } from '../trace/tracer.ts';
import type { DebugCommand, FindingsAnswer, MappingsAnswer } from './debug-commands.ts';
import type { MachineDescription } from './description.ts';
import type { Injection } from './injection/injection.ts';

const FOREVER = -1;
const NANOSECONDS_PER_MILLISECOND = 1e6;
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
  private finished = false;
  private readonly sanitizer: Sanitizer | undefined;
  private readonly now: () => number;

  constructor({ forward, ring, description, policy, wake, onFinding, onStop }: DebuggingOptions) {
    const started = performance.now();
    this.now = () => (performance.now() - started) * NANOSECONDS_PER_MILLISECOND;
    this.tracer = new Tracer({ forward, ring: new EventRingWriter(ring, wake), now: this.now, rounds: true });
    this.checks = policy !== undefined && needsChecks(policy);
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
    const { sanitizer } = this;
    if (sanitizer === undefined || sanitizer.deadline === Number.POSITIVE_INFINITY) return FOREVER;
    const now = this.now();
    if (sanitizer.deadline <= now) {
      sanitizer.tick(now);
      return this.stoppedBy === undefined ? this.beforeWaiting() : 0;
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
    if (this.stoppedBy === undefined) this.sanitizer?.finish(this.now());
    // Once more, as they are at the end: recordings have them with their first occurrence only.
    for (const finding of this.sanitizer?.findings ?? []) this.tracer.text('finding', 'sanitizer', finding);
    this.tracer.publish();
    return this.findings();
  }

  private findings(): FindingsAnswer {
    const { findings = [], lost = 0, deadline = Number.POSITIVE_INFINITY } = this.sanitizer ?? {};
    return { findings, lost, undecided: deadline !== Number.POSITIVE_INFINITY, time: this.now() };
  }

  private mappings(): MappingsAnswer {
    if (this.sanitizer === undefined) throw new Error(NO_SANITIZER);
    return { mappings: this.sanitizer.mappings(), attachments: this.sanitizer.attachments() };
  }
}
