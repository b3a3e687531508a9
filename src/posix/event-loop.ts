/**
 * The device thread's loop: poll(2), the callbacks of what is ready, then the jobs that they queued, and again.
 *
 * Why jobs are apart from callbacks: a register access must be answered before the work that it causes touches guest
 * memory (a client that waits for a register read serves no DMA). A job that waits for an answer calls `waitUntil`, which
 * serves callbacks but leaves other jobs where they are, so jobs never overlap.
 */
import { SystemError } from './errors.ts';
import { EINTR, errno, poll } from './libc.ts';
import { allocateNative, freeNative, type NativeBlock } from './native-memory.ts';

/** poll(2), `events` and `revents`. Error, hangup and invalid are reported whatever the interest. */
export const PollEvents = { in: 1, out: 4, error: 8, hangup: 16, invalid: 32 } as const;

const ALWAYS = PollEvents.error | PollEvents.hangup | PollEvents.invalid;
/** struct pollfd: descriptor (32 bits), events (16), revents (16). */
const POLLFD_BYTES = 8;
const INITIAL_WATCHES = 64;
const LONGEST_TIMEOUT_MS = 0x7fffffff;
/** Busy polls in a row that found nothing before busy-polling is given up. */
const SPIN_MISSES = 8;
/** Waits without it until it is tried once more. */
const SPIN_PAUSE = 64;

export interface Watch {
  /** `PollEvents.in`, `PollEvents.out`, both or neither. */
  interest: number;
  /** From here on `ready` is not called any more. Before the descriptor is closed, not after. May be called again. */
  stop(): void;
}

export class EventLoop {
  /**
   * How long to poll busily before blocking, in nanoseconds. It saves the other processor's wake-up where client and
   * server run on two; where that never succeeds it is given up for a while.
   */
  pollNanoseconds = 0;

  readonly #onError: (error: unknown, where: string) => void;
  /** In the order of the poll array; new ones at the end, stopped ones until the next poll. */
  #watches: LoopWatch[] = [];
  /** How many of them are in the poll array. */
  #polled = 0;
  #array: NativeBlock;
  #halfwords: Int16Array;
  #stopped = false;
  #changed = false;
  #jobs: (() => void)[] = [];
  /** The other half of a double buffer: the jobs of this round. */
  #running: (() => void)[] = [];
  #inJob = false;
  #depth = 0;
  #dispatches = 0;
  #closed = false;
  #spinMisses = 0;
  #spinPause = 0;

  /** `onError` hears of every exception out of a callback or a job; the loop goes on. */
  constructor(onError: (error: unknown, where: string) => void) {
    this.#onError = onError;
    this.#array = allocateNative(INITIAL_WATCHES * POLLFD_BYTES);
    this.#halfwords = new Int16Array(this.#array.bytes.buffer);
  }

  /** True while a job runs, also while it waits. */
  get inJob(): boolean {
    return this.#inJob;
  }

  /** Calls `ready` with the events, every time the loop finds the descriptor ready for what `interest` asks. */
  watch(fd: number, interest: number, ready: (events: number) => void): Watch {
    if (this.#closed) throw new Error('the event loop is closed');
    const watch = new LoopWatch(fd, interest, ready, this.#onChange);
    this.#watches.push(watch);
    this.#changed = true;
    return watch;
  }

  /** Runs `job` after the callbacks of this round, behind the jobs already queued. */
  push(job: () => void): void {
    if (!this.#closed) this.#jobs.push(job);
  }

  /**
   * One round; waits up to `timeoutMs` (negative: for ever) where nothing is ready and no job is queued. Within a job or a
   * callback it leaves jobs alone. Jobs that jobs queue are for the next round, so that callbacks are never starved.
   */
  runOnce(timeoutMs: number): void {
    if (this.#closed) throw new Error('the event loop is closed');
    const outermost = !this.#inJob && this.#depth === 0;
    const ready = this.#poll(outermost && this.#jobs.length > 0 ? 0 : timeoutMs);
    if (ready > 0) this.#dispatch(ready);
    if (outermost) this.#runJobs();
  }

  /**
   * Rounds until `done` says so, or `timeoutMs` (negative: never) is over, or the loop is closed. Returns what `done` said
   * last.
   */
  waitUntil(done: () => boolean, timeoutMs: number): boolean {
    const deadline = timeoutMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    let last = false;
    while (!done()) {
      if (last || this.#closed) return false;
      const remaining = deadline - performance.now();
      last = remaining <= 0;
      this.runOnce(remaining === Number.POSITIVE_INFINITY ? -1 : Math.max(0, Math.ceil(remaining)));
    }
    return true;
  }

  /** Forgets all watches and jobs. Closes no descriptors. May be called from within, and again. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const watch of this.#watches) watch.stopped = true;
    this.#watches = [];
    this.#polled = 0;
    this.#jobs = [];
    this.#dispatches++;
    freeNative(this.#array);
  }

  readonly #onChange = (stopped: boolean): void => {
    this.#changed = true;
    if (stopped) this.#stopped = true;
  };

  #poll(timeoutMs: number): number {
    if (this.#changed) this.#rebuild();
    if (timeoutMs < 0 && this.#polled === 0) throw new Error('nothing is watched: this wait would never end');
    if (timeoutMs !== 0 && this.pollNanoseconds > 0) {
      const ready = this.#spin(timeoutMs);
      if (ready > 0) return ready;
    }
    return this.#pollNow(timeoutMs < 0 ? -1 : Math.min(timeoutMs, LONGEST_TIMEOUT_MS));
  }

  #pollNow(timeoutMs: number): number {
    const ready = poll(this.#array.address, this.#polled, timeoutMs);
    if (ready >= 0) return ready;
    const error = errno();
    if (error === EINTR) return 0;
    throw new SystemError('poll', error);
  }

  #spin(timeoutMs: number): number {
    if (this.#spinPause > 0) {
      this.#spinPause--;
      return 0;
    }
    const milliseconds = this.pollNanoseconds / 1e6;
    const end = performance.now() + (timeoutMs < 0 ? milliseconds : Math.min(milliseconds, timeoutMs));
    do {
      const ready = this.#pollNow(0);
      if (ready > 0) {
        this.#spinMisses = 0;
        return ready;
      }
    } while (performance.now() < end);
    this.#spinMisses++;
    if (this.#spinMisses >= SPIN_MISSES) {
      // One more miss after the pause gives up again at once.
      this.#spinMisses = SPIN_MISSES - 1;
      this.#spinPause = SPIN_PAUSE;
    }
    return 0;
  }

  #rebuild(): void {
    this.#changed = false;
    if (this.#stopped) {
      this.#stopped = false;
      this.#watches = this.#watches.filter(watch => !watch.stopped);
    }
    const count = this.#watches.length;
    this.#polled = count;
    if (count * POLLFD_BYTES > this.#array.bytes.length) {
      freeNative(this.#array);
      this.#array = allocateNative(2 * count * POLLFD_BYTES);
      this.#halfwords = new Int16Array(this.#array.bytes.buffer);
    }
    for (let i = 0; i < count; i++) {
      const watch = this.#watches[i]!;
      this.#array.words[2 * i] = watch.fd;
      this.#halfwords[4 * i + 2] = watch.interest;
      this.#halfwords[4 * i + 3] = 0;
    }
  }

  #dispatch(ready: number): void {
    const dispatch = ++this.#dispatches;
    let left = ready;
    this.#depth++;
    try {
      for (let i = 0; i < this.#polled && left > 0; i++) {
        const events = this.#halfwords[4 * i + 3]!;
        if (events === 0) continue;
        left--;
        const watch = this.#watches[i]!;
        // The interest may have changed since the poll.
        if (!watch.stopped && (events & (watch.interest | ALWAYS)) !== 0) this.#call(watch, events);
        // A callback polled and dispatched: the events here are old, and what is still true the next poll finds again.
        if (this.#dispatches !== dispatch) return;
      }
    } finally {
      this.#depth--;
    }
  }

  #call(watch: LoopWatch, events: number): void {
    // A closed descriptor would be "ready" for ever.
    if ((events & PollEvents.invalid) !== 0) watch.stop();
    try {
      watch.ready(events & (watch.interest | ALWAYS));
    } catch (error) {
      this.#onError(error, `watch of descriptor ${watch.fd}`);
    }
  }

  #runJobs(): void {
    const jobs = this.#jobs;
    if (jobs.length === 0) return;
    this.#jobs = this.#running;
    this.#running = jobs;
    this.#inJob = true;
    let next = 0;
    try {
      while (next < jobs.length && !this.#closed) {
        const job = jobs[next++]!;
        try {
          job();
        } catch (error) {
          this.#onError(error, 'job');
        }
      }
    } finally {
      this.#inJob = false;
      // Only where `onError` itself threw is there anything left.
      if (next < jobs.length && !this.#closed) this.#jobs.unshift(...jobs.slice(next));
      jobs.length = 0;
    }
  }
}

class LoopWatch implements Watch {
  readonly fd: number;
  readonly ready: (events: number) => void;
  stopped = false;
  #interest: number;
  readonly #onChange: (stopped: boolean) => void;

  constructor(fd: number, interest: number, ready: (events: number) => void, onChange: (stopped: boolean) => void) {
    this.fd = fd;
    this.ready = ready;
    this.#interest = interest;
    this.#onChange = onChange;
  }

  get interest(): number {
    return this.#interest;
  }

  set interest(interest: number) {
    if (this.#interest === interest) return;
    this.#interest = interest;
    this.#onChange(false);
  }

  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.#onChange(true);
  }
}
