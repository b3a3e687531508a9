/** Numbers of the records that a search found, in order; it grows at both ends, and shrinks where the oldest records go. */

const FIRST_CAPACITY = 1024;

class Numbers {
  private values = new Float64Array(FIRST_CAPACITY);
  length = 0;

  push(value: number): void {
    if (this.length === this.values.length) {
      const larger = new Float64Array(this.length * 2);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.length++] = value;
  }

  at(index: number): number {
    return this.values[index]!;
  }

  /** Takes away so many from the start. */
  shift(count: number): void {
    this.values.copyWithin(0, count, this.length);
    this.length -= count;
  }
}

export class SearchResults {
  /** Found on the way back: the newest first. */
  private readonly older = new Numbers();
  /** Came afterwards. */
  private readonly newer = new Numbers();

  get length(): number {
    return this.older.length + this.newer.length;
  }

  at(index: number): number {
    const { older, newer } = this;
    return index < older.length ? older.at(older.length - 1 - index) : newer.at(index - older.length);
  }

  /** The index of the first result from that number on; `length` where there is none. */
  indexFrom(number: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.at(middle) < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  addOlder(number: number): void {
    this.older.push(number);
  }

  addNewer(number: number): void {
    this.newer.push(number);
  }

  /** Forgets everything before that number; returns how many that were. */
  forgetBefore(number: number): number {
    const gone = this.indexFrom(number);
    const fromOlder = Math.min(gone, this.older.length);
    this.older.length -= fromOlder;
    if (gone > fromOlder) this.newer.shift(gone - fromOlder);
    return gone;
  }
}
