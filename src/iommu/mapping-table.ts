/** Values by page, of which a few at a time can have their turn: whoever looks at them in pieces comes to all of them. */

export class MappingTable<T> {
  private readonly slots = new Map<number, number>();
  /** By slot, without gaps. */
  private readonly pages: number[] = [];
  private readonly values: T[] = [];
  /** Pages in slots from here on had their turn in this round: downwards, so that what fills a gap had it as well. */
  private turn = 0;

  get size(): number {
    return this.pages.length;
  }

  has(page: number): boolean {
    return this.slots.has(page);
  }

  get(page: number): T | undefined {
    const slot = this.slots.get(page);
    return slot === undefined ? undefined : this.values[slot];
  }

  set(page: number, value: T): void {
    const slot = this.slots.get(page);
    if (slot !== undefined) {
      this.values[slot] = value;
      return;
    }
    this.slots.set(page, this.pages.length);
    this.pages.push(page);
    this.values.push(value);
  }

  delete(page: number): boolean {
    const slot = this.slots.get(page);
    if (slot === undefined) return false;
    this.slots.delete(page);
    const lastPage = this.pages.pop()!;
    const lastValue = this.values.pop()!;
    if (slot < this.pages.length) {
      this.pages[slot] = lastPage;
      this.values[slot] = lastValue;
      this.slots.set(lastPage, slot);
    }
    return true;
  }

  /**
   * The page whose turn it is; -1 where there is none. What is there when a round begins has had its turn after as many calls as there
   * are pages, whatever comes and goes meanwhile.
   */
  next(): number {
    if (this.turn === 0 || this.turn > this.pages.length) this.turn = this.pages.length;
    return this.turn === 0 ? -1 : this.pages[--this.turn]!;
  }

  /** Not to be changed meanwhile. */
  forEach(visit: (page: number, value: T) => void): void {
    for (let slot = 0; slot < this.pages.length; slot++) visit(this.pages[slot]!, this.values[slot]!);
  }
}
