/**
 * Stops a machine and lets it go on step by step: no client is served and no work of endpoints or of the IOMMU is done, while the
 * control channel goes on. What comes meanwhile waits in its order.
 *
 * Where guest memory is reached by messages, a job that reads it must wait for a client, and a client that waits for its own register
 * access answers nobody. So clients are served for as long as such a job waits, also while paused.
 */
import type { JobQueue } from '../pci/ports.ts';
import type { EventLoop } from '../posix/event-loop.ts';
import type { Trace } from '../trace/trace.ts';
import type { RunState } from './inspection.ts';

/** Jobs that wait while the machine is paused. Beyond it the machine goes on by itself: nothing is lost. */
export const WAITING_JOBS_MAX = 65_536;
/** Jobs that one step runs at most until a transfer comes. */
export const STEP_JOBS_MAX = 4096;
/** Jobs that are done are forgotten at the latest when there are more of them, and more than wait. */
const DONE_JOBS_MAX = 1024;
/** How long a step waits for a guest to access a register, in milliseconds. */
export const STEP_REGISTER_MS = 1000;

const SOURCE = 'machine';

/** Whoever serves clients. */
export interface Pausable {
  pause(): void;
  /** `accessed` is told of each access to a region, when it is answered. */
  resume(accessed?: () => void): void;
}

export interface RunControlOptions {
  readonly loop: EventLoop;
  readonly trace: Trace;
  readonly servers: () => Iterable<Pausable>;
  /** Transfers of all endpoints so far, failed ones included. */
  readonly transfers: () => number;
}

interface RegisterStep {
  readonly done: (stepped: boolean) => void;
  readonly cancelTimer: () => void;
}

export class RunControl implements JobQueue {
  private current: RunState = 'running';
  /** Jobs go straight to the loop: the machine runs, and nothing waits. */
  private direct = true;
  /** Orders to pause that have arrived and are not carried out yet. */
  private announced = 0;
  /** From `first` on; before it they are done. */
  private waiting: (() => void)[] = [];
  private first = 0;
  private draining = false;
  private serving = true;
  private jobsInWait = 0;
  private step: RegisterStep | undefined;

  constructor(private readonly options: RunControlOptions) {
    options.loop.jobWaits = {
      begin: () => {
        this.jobsInWait++;
        this.serve();
      },
      end: () => {
        this.jobsInWait--;
        this.serve();
      },
    };
  }

  get state(): RunState {
    return this.current;
  }

  /** Jobs that wait. */
  get held(): number {
    return this.waiting.length - this.first;
  }

  push(job: () => void): void {
    if (this.direct) this.options.loop.push(job);
    else this.hold(job);
  }

  /**
   * To be called when the order to pause arrives, `pause` then in a job: what is queued in between waits already, what was queued before
   * still runs.
   */
  announcePause(): void {
    this.announced++;
    this.direct = false;
  }

  /** In a job. */
  pause(): void {
    if (this.announced > 0) this.announced--;
    this.endStep(false);
    const wasRunning = this.current === 'running';
    this.current = 'paused';
    this.direct = false;
    this.serve();
    if (wasRunning) this.note('machine.paused', { jobs: this.held });
  }

  resume(): void {
    this.endStep(false);
    if (this.current === 'running') return;
    this.note('machine.resumed', { jobs: this.held });
    this.current = 'running';
    // Those that wait come before those that a message may cause now.
    this.drain();
    this.serve();
  }

  /**
   * In a job: does what waits, job by job, until an endpoint has made a transfer. False: there was none to be made. Throws an Error while
   * the machine runs, or waits for a register access.
   */
  stepDma(): boolean {
    this.mustBePaused();
    const { transfers } = this.options;
    const before = transfers();
    let jobs = 0;
    while (this.held > 0 && jobs < STEP_JOBS_MAX && transfers() === before) {
      jobs++;
      this.runFirst();
    }
    const made = transfers() - before;
    this.note('machine.stepped', { what: 'dma', transfers: made, jobs });
    return made > 0;
  }

  /**
   * Serves clients until one of them has accessed a register, then says `done(true)`; if none does within `STEP_REGISTER_MS`, or somebody
   * else decides otherwise meanwhile, `done(false)`. Throws an Error while the machine runs, or takes such a step already.
   */
  stepRegister(done: (stepped: boolean) => void): void {
    this.mustBePaused();
    const cancelTimer = this.options.loop.after(STEP_REGISTER_MS, () => this.endStep(false));
    this.step = { done, cancelTimer };
    this.serve();
  }

  private readonly accessed = (): void => this.endStep(true);

  private endStep(stepped: boolean): void {
    const { step } = this;
    if (step === undefined) return;
    this.step = undefined;
    step.cancelTimer();
    this.serve();
    this.note('machine.stepped', { what: 'register', accesses: stepped ? 1 : 0 });
    step.done(stepped);
  }

  /** Lets the servers serve or not, as all that is known now demands. */
  private serve(): void {
    const { step } = this;
    const serving = this.current === 'running' || step !== undefined || this.jobsInWait > 0;
    if (serving === this.serving) return;
    this.serving = serving;
    for (const server of this.options.servers()) {
      if (!serving) server.pause();
      else server.resume(step === undefined ? undefined : this.accessed);
      // What was served may have been the step, and the rest is paused again.
      if (this.serving !== serving) return;
    }
  }

  private hold(job: () => void): void {
    this.waiting.push(job);
    if (this.current !== 'paused' || this.held !== WAITING_JOBS_MAX) return;
    this.note('machine.overflow', { jobs: this.held });
    this.options.loop.push(() => this.resume());
  }

  /** Runs what waits, in jobs of the loop, until nothing does or it is paused again. */
  private drain(): void {
    if (!this.goesOn) return;
    if (this.held === 0) {
      this.direct = true;
      return;
    }
    if (this.draining) return;
    this.draining = true;
    this.options.loop.push(() => {
      this.draining = false;
      for (let left = this.held; left > 0 && this.goesOn; left--) this.runFirst();
      if (!this.goesOn) return;
      // Those that these caused are for the next round, so that clients are heard in between; what comes from now on is behind them.
      for (const job of this.waiting.splice(0).slice(this.first)) this.options.loop.push(job);
      this.first = 0;
      this.direct = true;
    });
  }

  private get goesOn(): boolean {
    return this.current === 'running' && this.announced === 0;
  }

  private runFirst(): void {
    const job = this.waiting[this.first++]!;
    if (this.first === this.waiting.length || (this.first > DONE_JOBS_MAX && this.first * 2 > this.waiting.length)) {
      this.waiting.splice(0, this.first);
      this.first = 0;
    }
    try {
      job();
    } catch (error) {
      // The loop's own error handler gets to hear of it.
      this.options.loop.push(() => {
        throw error;
      });
    }
  }

  private mustBePaused(): void {
    if (this.current !== 'paused') throw new Error('the machine runs: pause it first');
    if (this.step !== undefined) throw new Error('a step is under way already');
  }

  private note(kind: string, detail: Readonly<Record<string, string | number>>): void {
    this.options.trace.note(kind, SOURCE, detail);
  }
}
