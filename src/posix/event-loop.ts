/**
 * The device thread's loop: a wait for what is ready, the callbacks of that, then the jobs that they queued, and again.
 *
 * Why jobs are apart from callbacks: a register access must be answered before the work that it causes touches guest
 * memory (a client that waits for a register read serves no DMA). A job that waits for an answer calls `waitUntil`, which
 * serves callbacks but leaves other jobs where they are, so jobs never overlap.
 */

import { BusyPoll } from './busy-poll.ts';
import { EVENTS_PER_WAIT } from './epoll.ts';
import { LoopWatch, NOTHING, Registration, type Watch, type WatchKeeper } from './loop-watch.ts';
import { Poller } from './poller.ts';
import { Timers } from './timers.ts';

/** poll(2) and epoll(7) number them alike. Error, hangup and invalid are reported whatever the interest. */
export const PollEvents = { in: 1, out: 4, error: 8, hangup: 16, invalid: 32 } as const;

const ALWAYS = PollEvents.error | PollEvents.hangup | PollEvents.invalid;
const LONGEST_TIMEOUT_MS = 0x7fffffff;
// The global name is a getter, which is asked at each use.
const clock = performance;

export class EventLoop implements WatchKeeper {
  /** How long to poll before blocking. */
  readonly busyPoll = new BusyPoll();

  /** Told when a job begins to wait, and when it has waited. Most jobs never do. */
  jobWaits: { begin(): void; end(): void } | undefined;

  private poller = new Poller();
  /** By descriptor: what the kernel has been told. */
  private registrations: (Registration | undefined)[] = [];
  private lastTag = 0;
  private watches = 0;
  /** For the next round, instead of a wait. */
  private due: (() => void)[] = [];
  /** Whose descriptor turned out not to be open; told in the next round. */
  private invalid: LoopWatch[] = [];
  /** The kernel reports something that cannot be taken from it any more. */
  private haunted = false;
  /** What is ready in this round, in the order of watching. */
  private readonly ready = new Array<Registration>(EVENTS_PER_WAIT).fill(NOTHING);
  private jobs: (() => void)[] = [];
  /** The other half of a double buffer: the jobs of this round. */
  private running: (() => void)[] = [];
  private readonly timers = new Timers();
  private jobRuns = false;
  private depth = 0;
  private dispatches = 0;
  private closed = false;

  /** `onError` hears of every exception out of a callback or a job; the loop goes on. Throws a SystemError (EMFILE). */
  constructor(private readonly onError: (error: unknown, where: string) => void) {}

  /** Jobs are queued that will be run as soon as the callbacks of this round are through. */
  get hasJobs(): boolean {
    return this.jobs.length > 0 && !this.jobRuns;
  }

  /** True while a job runs, also while it waits. */
  get inJob(): boolean {
    return this.jobRuns;
  }

  /**
   * Calls `ready` with the events, every time the loop finds the descriptor ready for what `interest` asks. Of what is ready
   * at once, what was watched first is called first. A descriptor may be watched more than once. One that is not open is
   * reported as `invalid` once and then forgotten; one that is closed under its watch is forgotten without a word. Throws a
   * SystemError for what cannot be waited for (EPERM: a regular file), and where the system allows no more (ENOSPC, ENOMEM).
   */
  watch(fd: number, interest: number, ready: (events: number) => void): Watch {
    if (this.closed) throw new Error('the event loop is closed');
    const watch = new LoopWatch(this, fd, interest, ready);
    const present = this.registrations[fd];
    if (present === undefined || !this.join(present, watch)) this.register(watch);
    this.watches++;
    return watch;
  }

  /** Calls `callback` in the next round, which waits for nothing; also where a job begins it. */
  soon(callback: () => void): void {
    if (!this.closed) this.due.push(callback);
  }

  /** Runs `job` after the callbacks of this round, behind the jobs already queued. */
  push(job: () => void): void {
    if (!this.closed) this.jobs.push(job);
  }

  /**
   * Queues `job` in the first round that begins after `milliseconds` (0 or more). Returns what calls it off; that may be called at
   * any time.
   */
  after(milliseconds: number, job: () => void): () => void {
    if (this.closed) return () => {};
    const timer = this.timers.add(clock.now() + milliseconds, job);
    return () => this.timers.remove(timer);
  }

  /**
   * One round; waits up to `timeoutMs` (negative: for ever) where nothing is ready and no job is queued. Within a job or a
   * callback it leaves jobs alone. Jobs that jobs queue are for the next round, so that callbacks are never starved.
   */
  runOnce(timeoutMs: number): void {
    if (this.closed) throw new Error('the event loop is closed');
    const outermost = !this.jobRuns && this.depth === 0;
    if (this.due.length > 0) {
      this.callDue();
    } else {
      if (this.timers.size > 0) timeoutMs = this.untilTimer(timeoutMs);
      const ready = this.poll((outermost && this.jobs.length > 0) || this.invalid.length > 0 ? 0 : timeoutMs);
      if (ready > 0) this.dispatch(ready);
    }
    if (this.invalid.length > 0) this.tellInvalid();
    if (this.timers.size > 0) this.expire();
    if (outermost && this.jobs.length > 0) this.runJobs();
  }

  /**
   * Rounds until `done` says so, or `timeoutMs` (negative: never) is over, or the loop is closed. Returns what `done` said
   * last.
   */
  waitUntil(done: () => boolean, timeoutMs: number): boolean {
    const { jobWaits } = this;
    if (jobWaits === undefined || !this.jobRuns) return this.roundsUntil(done, timeoutMs);
    jobWaits.begin();
    try {
      return this.roundsUntil(done, timeoutMs);
    } finally {
      jobWaits.end();
    }
  }

  private roundsUntil(done: () => boolean, timeoutMs: number): boolean {
    const deadline = timeoutMs < 0 ? Number.POSITIVE_INFINITY : clock.now() + timeoutMs;
    let last = false;
    while (!done()) {
      if (last || this.closed) return false;
      const remaining = deadline - clock.now();
      last = remaining <= 0;
      this.runOnce(remaining === Number.POSITIVE_INFINITY ? -1 : Math.max(0, Math.ceil(remaining)));
    }
    return true;
  }

  /** Forgets all watches and jobs. Closes no descriptors that are watched. May be called from within, and again. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const registration of this.registrations) {
      for (const watch of registration?.watches ?? []) watch.stopped = true;
    }
    for (const watch of this.invalid) watch.stopped = true;
    this.registrations = [];
    this.due = [];
    this.invalid = [];
    this.watches = 0;
    this.jobs = [];
    this.timers.clear();
    this.dispatches++;
    this.poller.close();
  }

  /** For watches: one has stopped. */
  forget(watch: LoopWatch): void {
    this.watches--;
    const { registration } = watch;
    // What is there now may be another one's, with the same number.
    if (registration === undefined || this.registrations[watch.fd] !== registration) return;
    registration.watches = registration.watches.filter(one => one !== watch);
    if (registration.watches.length > 0) {
      this.update(registration);
    } else {
      this.registrations[watch.fd] = undefined;
      this.poller.remove(watch.fd);
    }
  }

  /** For watches: tells the kernel what the watches of one descriptor ask for by now. False where it is not open. */
  update(registration: Registration): boolean {
    if (this.registrations[registration.fd] !== registration) return false;
    const interest = registration.wanted();
    if (interest === registration.interest) return true;
    registration.interest = interest;
    if (this.poller.modify(registration.fd, interest, registration.tag)) return true;
    this.invalidate(registration);
    return false;
  }

  /** A second watch of one descriptor. False where the number now belongs to another file than the first one's. */
  private join(registration: Registration, watch: LoopWatch): boolean {
    // The kernel knows whether it is the same file.
    if (!this.poller.modify(registration.fd, registration.interest, registration.tag)) {
      this.invalidate(registration);
      return false;
    }
    registration.watches = [...registration.watches, watch];
    watch.registration = registration;
    return this.update(registration);
  }

  private register(watch: LoopWatch): void {
    const tag = (this.lastTag + 1) | 0;
    const registration = new Registration(watch.fd, tag, watch.interest, [watch]);
    if (!this.poller.add(watch.fd, watch.interest, tag)) {
      this.invalid.push(watch);
      return;
    }
    this.lastTag = tag;
    watch.registration = registration;
    this.registrations[watch.fd] = registration;
  }

  private invalidate(registration: Registration): void {
    this.registrations[registration.fd] = undefined;
    this.invalid.push(...registration.watches);
  }

  private callDue(): void {
    const { due } = this;
    this.due = [];
    this.depth++;
    try {
      for (const callback of due) {
        if (this.closed) return;
        try {
          callback();
        } catch (error) {
          this.onError(error, 'callback put off');
        }
      }
    } finally {
      this.depth--;
    }
  }

  private tellInvalid(): void {
    const told = this.invalid;
    this.invalid = [];
    this.depth++;
    try {
      for (const watch of told) {
        if (watch.stopped) continue;
        watch.stop();
        this.call(watch, PollEvents.invalid);
      }
    } finally {
      this.depth--;
    }
  }

  /**
   * A descriptor was closed before its watch was stopped, and its file is open elsewhere: the kernel goes on reporting it and
   * takes no order to stop, so everything but that moves to a new epoll instance.
   */
  private exorcise(): void {
    this.haunted = false;
    this.poller.close();
    this.poller = new Poller();
    for (const registration of this.registrations) {
      if (registration === undefined) continue;
      const { fd, interest, tag } = registration;
      if (!this.poller.add(fd, interest, tag)) this.invalidate(registration);
    }
  }

  /** How long a wait may be. */
  private untilTimer(timeoutMs: number): number {
    const remaining = Math.ceil(this.timers.remaining(clock.now()));
    return timeoutMs < 0 ? remaining : Math.min(timeoutMs, remaining);
  }

  private expire(): void {
    const now = clock.now();
    for (let timer = this.timers.take(now); timer; timer = this.timers.take(now)) this.push(timer.job);
  }

  private poll(timeoutMs: number): number {
    if (this.haunted) this.exorcise();
    if (timeoutMs < 0) {
      if (this.watches === 0) throw new Error('nothing is watched: this wait would never end');
      timeoutMs = -1;
    } else if (timeoutMs > LONGEST_TIMEOUT_MS) {
      timeoutMs = LONGEST_TIMEOUT_MS;
    }
    if (timeoutMs !== 0 && this.busyPoll.nanoseconds > 0) {
      const ready = this.busyPoll.wait(this.poller, timeoutMs);
      if (ready > 0) return ready;
    }
    return this.poller.wait(timeoutMs);
  }

  private dispatch(count: number): void {
    const dispatch = ++this.dispatches;
    const { ready } = this;
    const known = this.collect(count);
    this.depth++;
    try {
      for (let i = 0; i < known; i++) {
        const { events, watches } = ready[i]!;
        ready[i] = NOTHING;
        for (let k = 0; k < watches.length; k++) {
          const watch = watches[k]!;
          // The interest may have changed since the wait.
          if (!watch.stopped && (events & (watch.wanted | ALWAYS)) !== 0) this.call(watch, events);
          // A callback waited and dispatched: the events here are old, and what is still true the next wait finds again.
          if (this.dispatches !== dispatch) return;
        }
      }
    } finally {
      this.depth--;
    }
  }

  /** Before any callback can change what the descriptors mean. Returns how many are ready. */
  private collect(count: number): number {
    const { poller, ready, registrations } = this;
    let known = 0;
    for (let i = 0; i < count; i++) {
      const registration = registrations[poller.descriptor(i)];
      if (registration === undefined || registration.tag !== poller.tag(i)) {
        this.haunted = true;
        continue;
      }
      registration.events = poller.events(i);
      let at = known++;
      for (; at > 0 && ready[at - 1]!.tag > registration.tag; at--) ready[at] = ready[at - 1]!;
      ready[at] = registration;
    }
    return known;
  }

  private call(watch: LoopWatch, events: number): void {
    try {
      watch.ready(events & (watch.wanted | ALWAYS));
    } catch (error) {
      this.onError(error, `watch of descriptor ${watch.fd}`);
    }
  }

  private runJobs(): void {
    const jobs = this.jobs;
    if (jobs.length === 0) return;
    this.jobs = this.running;
    this.running = jobs;
    this.jobRuns = true;
    let next = 0;
    try {
      while (next < jobs.length && !this.closed) {
        const job = jobs[next++]!;
        try {
          job();
        } catch (error) {
          this.onError(error, 'job');
        }
      }
    } finally {
      this.jobRuns = false;
      // Only where `onError` itself threw is there anything left.
      if (next < jobs.length && !this.closed) this.jobs.unshift(...jobs.slice(next));
      jobs.length = 0;
    }
  }
}
