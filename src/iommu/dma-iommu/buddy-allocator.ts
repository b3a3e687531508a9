/**
 * The allocator of logical addresses that IommuDmaLogicalAllocatorBuddy asks for: blocks of a power of two pages, aligned to their
 * size, the lowest address first. A binary tree over the address space, of which only the parts in use exist; each node knows the
 * largest free block below it.
 */

const NO_NODE = 0;
/** No free block below. */
const FULL = -1;
const FIRST_NODES = 64;

export interface Window {
  /** The first page that may be used. */
  readonly first: number;
  /** The first page after those that may be used. */
  readonly end: number;
}

export class BuddyAllocator {
  /** log2 of the pages of the address space. */
  readonly #order: number;
  readonly #root = 1;
  // By node. A node without children is free as a whole or taken as a whole.
  #left = new Int32Array(FIRST_NODES);
  #right = new Int32Array(FIRST_NODES);
  #largest = new Int8Array(FIRST_NODES);
  #used = 2;
  /** Nodes given back, linked by `#left`. */
  #spare = NO_NODE;
  #freePages: number;

  /** `order` is log2 of the pages of the address space, 0 to 52. Throws a RangeError otherwise. */
  constructor(order: number) {
    if (!Number.isInteger(order) || order < 0 || order > 52)
      throw new RangeError(`an address space of 2^${order} pages`);
    this.#order = order;
    this.#largest[this.#root] = order;
    this.#freePages = 2 ** order;
  }

  get freePages(): number {
    return this.#freePages;
  }

  get pages(): number {
    return 2 ** this.#order;
  }

  /**
   * Takes the lowest block that holds `pages`, of which these, from the block's start on, lie in the window. Returns its first page,
   * or -1. The block is of the next power of two.
   */
  allocate(pages: number, window: Window = { first: 0, end: this.pages }): number {
    const order = orderOf(pages);
    if (order > this.#order) return -1;
    return this.#take(this.#root, 0, this.#order, order, pages, window);
  }

  /** Gives a block back that `allocate` returned for as many pages. */
  free(start: number, pages: number): void {
    this.#release(this.#root, 0, this.#order, start, orderOf(pages));
  }

  /** Takes what is free of these pages for good; pages beyond the address space do not matter. */
  withhold(start: number, pages: number): void {
    this.#withhold(this.#root, 0, this.#order, start, start + pages);
  }

  #take(node: number, base: number, at: number, order: number, pages: number, window: Window): number {
    if (this.#largest[node]! < order) return -1;
    // No block that starts here or later, or before here, can do.
    if (base + pages > window.end || base + 2 ** at <= window.first) return -1;
    if (at === order) {
      if (base < window.first || this.#largest[node] !== at) return -1;
      this.#largest[node] = FULL;
      this.#freePages -= 2 ** order;
      return base;
    }
    if (this.#left[node] === NO_NODE) {
      // Nothing is split in vain: a window may leave no room in a free block.
      const size = 2 ** order;
      const first = Math.max(base, Math.ceil(window.first / size) * size);
      if (first + pages > window.end || first + size > base + 2 ** at) return -1;
      this.#split(node, at);
    }
    let found = this.#take(this.#left[node]!, base, at - 1, order, pages, window);
    if (found < 0) found = this.#take(this.#right[node]!, base + 2 ** (at - 1), at - 1, order, pages, window);
    if (found >= 0) this.#update(node, at);
    return found;
  }

  #release(node: number, base: number, at: number, start: number, order: number): void {
    if (at === order) {
      this.#largest[node] = at;
      this.#freePages += 2 ** order;
      return;
    }
    const middle = base + 2 ** (at - 1);
    if (start < middle) this.#release(this.#left[node]!, base, at - 1, start, order);
    else this.#release(this.#right[node]!, middle, at - 1, start, order);
    this.#update(node, at);
  }

  #withhold(node: number, base: number, at: number, start: number, end: number): void {
    if (this.#largest[node] === FULL || end <= base || start >= base + 2 ** at) return;
    if (start <= base && end >= base + 2 ** at && this.#largest[node] === at) {
      this.#largest[node] = FULL;
      this.#freePages -= 2 ** at;
      return;
    }
    if (this.#left[node] === NO_NODE) this.#split(node, at);
    this.#withhold(this.#left[node]!, base, at - 1, start, end);
    this.#withhold(this.#right[node]!, base + 2 ** (at - 1), at - 1, start, end);
    this.#update(node, at);
  }

  #split(node: number, at: number): void {
    const left = this.#node(at - 1);
    const right = this.#node(at - 1);
    this.#left[node] = left;
    this.#right[node] = right;
  }

  /** After a change below: two free halves become one block again. */
  #update(node: number, at: number): void {
    const left = this.#left[node]!;
    const right = this.#right[node]!;
    if (this.#largest[left] === at - 1 && this.#largest[right] === at - 1) {
      this.#drop(left);
      this.#drop(right);
      this.#left[node] = NO_NODE;
      this.#right[node] = NO_NODE;
      this.#largest[node] = at;
      return;
    }
    this.#largest[node] = Math.max(this.#largest[left]!, this.#largest[right]!);
  }

  #node(order: number): number {
    let node = this.#spare;
    if (node !== NO_NODE) {
      this.#spare = this.#left[node]!;
    } else {
      node = this.#used++;
      if (node === this.#left.length) this.#grow();
    }
    this.#left[node] = NO_NODE;
    this.#right[node] = NO_NODE;
    this.#largest[node] = order;
    return node;
  }

  #drop(node: number): void {
    this.#left[node] = this.#spare;
    this.#spare = node;
  }

  #grow(): void {
    const length = this.#left.length * 2;
    const left = new Int32Array(length);
    const right = new Int32Array(length);
    const largest = new Int8Array(length);
    left.set(this.#left);
    right.set(this.#right);
    largest.set(this.#largest);
    this.#left = left;
    this.#right = right;
    this.#largest = largest;
  }
}

/** log2 of the smallest power of two that is at least as large. */
function orderOf(pages: number): number {
  let order = 0;
  while (2 ** order < pages) order++;
  return order;
}
