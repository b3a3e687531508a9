import { closeDescriptor } from '../posix/socket.ts';

const NONE: number[] = [];

interface Arrival {
  /** Where in the input the last byte lies that came with them. */
  at: number;
  readonly descriptors: number[];
}

/** Descriptors that were received with the bytes of one input and not yet handed on, in order: one piece for each receive. */
export class Arrivals {
  private readonly arrivals: Arrival[] = [];

  get pieces(): number {
    return this.arrivals.length;
  }

  add(at: number, descriptors: number[]): void {
    this.arrivals.push({ at, descriptors });
  }

  countUpTo(end: number): number {
    let count = 0;
    for (const { at, descriptors } of this.arrivals) if (at < end) count += descriptors.length;
    return count;
  }

  /** Those of one message: the pieces in which it came may each have brought some. They are the caller's from here on. */
  takeUpTo(end: number): number[] {
    const { arrivals } = this;
    if (arrivals.length === 0 || arrivals[0]!.at >= end) return NONE;
    let { descriptors } = arrivals.shift()!;
    while (arrivals.length > 0 && arrivals[0]!.at < end)
      descriptors = descriptors.concat(arrivals.shift()!.descriptors);
    return descriptors;
  }

  /** The bytes of the input have been moved. */
  moveBy(bytes: number): void {
    for (const arrival of this.arrivals) arrival.at += bytes;
  }

  close(): void {
    for (const { descriptors } of this.arrivals.splice(0)) for (const one of descriptors) closeDescriptor(one);
  }
}
