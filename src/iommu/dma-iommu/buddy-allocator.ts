/**
 * The allocator of logical addresses that IommuDmaLogicalAllocatorBuddy asks for: blocks of a power of two pages, aligned to their
 * size, the lowest address first. A binary tree over the address space, of which only the parts in use exist; each node knows the
 * largest free block below it.
 */
import { type Budget, unlimited } from './budget.ts';

const NO_NODE = 0;
/** No free block below. */
const FULL = -1;
/** Every allocator has room for so many nodes; the budget is for what goes beyond. */
export const FIRST_NODES = 16;
/** What `allocate` returns where there is space, but no node to say so. */
export const OUT_OF_NODES = -2;

/** An allocator that uses no more than this part of its nodes gives half of them back. */
const SPARSE = 4;

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
  /** Nodes in use, and NO_NODE. */
  #live = 2;
  #freePages: number;
  readonly #budget: Budget;

  /** `order` is log2 of the pages of the address space, 0 to 52. Throws a RangeError otherwise. */
  constructor(order: number, budget: Budget = unlimited()) {
    if (!Number.isInteger(order) || order < 0 || order > 52)
      throw new RangeError(`an address space of 2^${order} pages`);
    this.#order = order;
    this.#budget = budget;
    this.#largest[this.#root] = order;
    this.#freePages = 2 ** order;
  }

  get freePages(): number {
    return this.#freePages;
  }

  get order(): number {
    return this.#order;
  }

  get pages(): number {
    return 2 ** this.#order;
  }

  /**
   * Takes the lowest block that holds `pages`, of which these, from the block's start on, lie in the window. Returns its first page,
   * or -1, or `OUT_OF_NODES`; nothing has changed then. The block is of the next power of two.
   */
  allocate(pages: number, window: Window = { first: 0, end: this.pages }): number {
    const order = orderOf(pages);
    if (order > this.#order) return -1;
    return this.#take(this.#root, 0, this.#order, order, pages, window);
  }

  /** Gives a block back that `allocate` returned for as many pages. */
  free(start: number, pages: number): void {
    this.#release(this.#root, 0, this.#order, start, orderOf(pages));
    let length = this.#left.length;
    while (length > FIRST_NODES && this.#live <= length / SPARSE) length /= 2;
    if (length < this.#left.length) this.#shrink(length);
  }

  /** Gives all nodes back. The allocator must not be used any more. */
  dispose(): void {
    this.#budget.give(this.#left.length - FIRST_NODES);
  }

  /**
   * Takes what is free of these pages for good; pages beyond the address space do not matter. False where there are no nodes left:
   * some of the pages are taken then.
   */
  withhold(start: number, pages: number): boolean {
    return this.#withhold(this.#root, 0, this.#order, start, start + pages);
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
      // From here on down there is one split at each level, and none is in vain.
      if (!this.#ensure(2 * (at - order))) return OUT_OF_NODES;
      this.#split(node, at);
    }
    let found = this.#take(this.#left[node]!, base, at - 1, order, pages, window);
    if (found === -1) found = this.#take(this.#right[node]!, base + 2 ** (at - 1), at - 1, order, pages, window);
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

  #withhold(node: number, base: number, at: number, start: number, end: number): boolean {
    if (this.#largest[node] === FULL || end <= base || start >= base + 2 ** at) return true;
    if (start <= base && end >= base + 2 ** at && this.#largest[node] === at) {
      this.#largest[node] = FULL;
      this.#freePages -= 2 ** at;
      return true;
    }
    if (this.#left[node] === NO_NODE) {
      if (!this.#ensure(2)) return false;
      this.#split(node, at);
    }
    const done =
      this.#withhold(this.#left[node]!, base, at - 1, start, end) &&
      this.#withhold(this.#right[node]!, base + 2 ** (at - 1), at - 1, start, end);
    this.#update(node, at);
    return done;
  }

  /** Sees to it that there is room for so many nodes more. */
  #ensure(nodes: number): boolean {
    const { length } = this.#left;
    let wanted = length;
    while (this.#live + nodes > wanted) wanted *= 2;
    if (!this.#budget.take(wanted - length)) return false;
    if (wanted > length) this.#grow(wanted);
    return true;
  }

  /** `#ensure` has been called. */
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
    }
    this.#live++;
    this.#left[node] = NO_NODE;
    this.#right[node] = NO_NODE;
    this.#largest[node] = order;
    return node;
  }

  #drop(node: number): void {
    this.#left[node] = this.#spare;
    this.#spare = node;
    this.#live--;
  }

  #grow(length: number): void {
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

  /** Moves the tree into smaller arrays. */
  #shrink(length: number): void {
    const [left, right, largest] = [this.#left, this.#right, this.#largest];
    this.#budget.give(left.length - length);
    this.#left = new Int32Array(length);
    this.#right = new Int32Array(length);
    this.#largest = new Int8Array(length);
    this.#used = this.#root;
    this.#spare = NO_NODE;
    this.#live = 1;
    const move = (node: number): number => {
      if (node === NO_NODE) return NO_NODE;
      const moved = this.#node(largest[node]!);
      this.#left[moved] = move(left[node]!);
      this.#right[moved] = move(right[node]!);
      return moved;
    };
    move(this.#root);
  }
}

/** log2 of the smallest power of two that is at least as large. */
function orderOf(pages: number): number {
  let order = 0;
  while (2 ** order < pages) order++;
  return order;
}
