/** The DMA regions of one client, none overlapping another, in order of address. */

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

export class RegionTable {
  readonly #regions: Region[] = [];

  get size(): number {
    return this.#regions.length;
  }

  all(): readonly Region[] {
    return this.#regions;
  }

  /** The region that holds this frame. */
  find(frame: number): Region | undefined {
    const region = this.#regions[this.#firstAfter(frame) - 1];
    return region !== undefined && frame < region.firstFrame + region.frames ? region : undefined;
  }

  overlaps(frame: number, frames: number): boolean {
    const region = this.#regions[this.#firstAfter(frame + frames - 1) - 1];
    return region !== undefined && region.firstFrame + region.frames > frame;
  }

  /** It overlaps none that is there. */
  add(region: Region): void {
    this.#regions.splice(this.#firstAfter(region.firstFrame), 0, region);
  }

  remove(region: Region): void {
    const index = this.#firstAfter(region.firstFrame) - 1;
    if (this.#regions[index] !== region) throw new Error('a region that is not in the table was removed');
    this.#regions.splice(index, 1);
  }

  clear(): void {
    this.#regions.length = 0;
  }

  /** Index of the first region that starts beyond `frame`. */
  #firstAfter(frame: number): number {
    let low = 0;
    let high = this.#regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#regions[middle]!.firstFrame <= frame) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
