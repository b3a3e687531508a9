/** What an event loop knows of its descriptors, and who wants their events. */

export interface Watch {
  /** `PollEvents.in`, `PollEvents.out`, both or neither. */
  interest: number;
  /** From here on `ready` is not called any more. Before the descriptor is closed, not after. May be called again. */
  stop(): void;
}

/** Who tells the kernel what the watches ask for. */
export interface WatchKeeper {
  update(registration: Registration): boolean;
  forget(watch: LoopWatch): void;
}

/** One descriptor as the kernel knows it, and who watches it. */
export class Registration {
  /** What the last wait said of it. */
  events = 0;

  constructor(
    readonly fd: number,
    /** Grows from one to the next, and tells the events of this one from those of another with the same number. */
    readonly tag: number,
    public interest: number,
    /** Replaced, never changed: a round that is under way goes on with the old ones. */
    public watches: readonly LoopWatch[],
  ) {}

  wanted(): number {
    let interest = 0;
    for (const watch of this.watches) interest |= watch.wanted;
    return interest;
  }
}

export class LoopWatch implements Watch {
  stopped = false;
  registration: Registration | undefined;

  constructor(
    private readonly keeper: WatchKeeper,
    readonly fd: number,
    public wanted: number,
    readonly ready: (events: number) => void,
  ) {}

  get interest(): number {
    return this.wanted;
  }

  set interest(interest: number) {
    this.wanted = interest;
    if (!this.stopped && this.registration !== undefined) this.keeper.update(this.registration);
  }

  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.keeper.forget(this);
  }
}

/** In place of none. */
export const NOTHING = new Registration(-1, 0, 0, []);
