/** How much of something all domains of a unit together may have: what they take, they give back. */

export class Budget {
  readonly limit: number;
  #used = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get left(): number {
    return this.limit - this.#used;
  }

  /** False where less than that is left: nothing is taken then. */
  take(count: number): boolean {
    if (count > this.left) return false;
    this.#used += count;
    return true;
  }

  give(count: number): void {
    this.#used -= count;
  }

  /** When all that was taken is gone at once. */
  reset(): void {
    this.#used = 0;
  }
}

/** For a part that stands alone. */
export function unlimited(): Budget {
  return new Budget(Number.POSITIVE_INFINITY);
}
