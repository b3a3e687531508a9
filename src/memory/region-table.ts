/**
 * The DMA regions of one client, none overlapping another, in order of address. They lie in runs of bounded length, so that one
 * more costs the same however many there are.
 */

export interface Region {
  readonly firstFrame: number;
  readonly frames: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** The `PageFlag` of all its pages; set once it is in place. */
  flags: number;
  /** Open where the region is reached by positioned reads and writes, else -1. */
  descriptor: number;
  /** Where the region starts in the file behind it, in bytes. */
  readonly fileOffset: number;
  /** The failure last noted, so that a region that keeps failing is noted once; empty after a success. */
  failure: string;
}

/** A longer run is halved. */
const RUN_LIMIT = 256;

export class RegionTable {
  /** None is empty. */
  readonly #runs: Region[][] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  all(): readonly Region[] {
    return this.#runs.flat();
  }

  /** The region that holds this frame. */
  find(frame: number): Region | undefined {
    const region = this.#lastUpTo(frame);
    return region !== undefined && frame < region.firstFrame + region.frames ? region : undefined;
  }

  overlaps(frame: number, frames: number): boolean {
    const region = this.#lastUpTo(frame + frames - 1);
    return region !== undefined && region.firstFrame + region.frames > frame;
  }

  /** It overlaps none that is there. */
  add(region: Region): void {
    this.#size++;
    const at = Math.max(0, this.#runOf(region.firstFrame));
    const run = this.#runs[at];
    if (run === undefined) {
      this.#runs.push([region]);
      return;
    }
    insert(run, firstAfter(run, region.firstFrame), region);
    if (run.length > RUN_LIMIT) this.#runs.splice(at + 1, 0, run.splice(RUN_LIMIT >> 1));
  }

  remove(region: Region): void {
    const at = this.#runOf(region.firstFrame);
    const run = this.#runs[at];
    const index = run === undefined ? -1 : firstAfter(run, region.firstFrame) - 1;
    if (run === undefined || run[index] !== region) {
      throw new Error('a region that is not in the table was removed');
    }
    for (let i = index + 1; i < run.length; i++) run[i - 1] = run[i]!;
    run.pop();
    this.#size--;
    if (run.length > 0) return;
    if (at === this.#runs.length - 1) this.#runs.pop();
    else this.#runs.splice(at, 1);
  }

  clear(): void {
    this.#runs.length = 0;
    this.#size = 0;
  }

  #lastUpTo(frame: number): Region | undefined {
    const run = this.#runs[this.#runOf(frame)];
    return run?.[firstAfter(run, frame) - 1];
  }

  /** Index of the last run that starts at `frame` or before; -1 where none does. */
  #runOf(frame: number): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#runs[middle]![0]!.firstFrame <= frame) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** As `splice`, which for few regions costs several times as much. */
function insert(run: Region[], at: number, region: Region): void {
  run.push(region);
  for (let i = run.length - 1; i > at; i--) run[i] = run[i - 1]!;
  run[at] = region;
}

/** Index of the first region of the run that starts beyond `frame`. */
function firstAfter(run: readonly Region[], frame: number): number {
  let low = 0;
  let high = run.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (run[middle]!.firstFrame <= frame) low = middle + 1;
    else high = middle;
  }
  return low;
}
