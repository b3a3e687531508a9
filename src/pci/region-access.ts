import type { Trace } from '../trace/trace.ts';
import type { RegisterAccess, RegisterHandler } from './registers.ts';

const MAXIMUM_WIDTH = 8;

/**
 * Turns an access to a BAR into register accesses: an aligned one of 1, 2, 4 or 8 bytes into exactly one, anything else into
 * naturally aligned pieces, lowest address first. One access object serves all.
 */
export class RegionAccess {
  private readonly access: RegisterAccess = { offset: 0, width: 0, low: 0, high: 0 };

  constructor(
    private readonly trace: Trace,
    private readonly source: string,
  ) {}

  read(handler: RegisterHandler | undefined, offset: number, target: Uint8Array, at: number, length: number): void {
    const { access } = this;
    for (let done = 0; done < length; done += access.width) {
      access.offset = offset + done;
      access.width = pieceWidth(offset + done, length - done);
      access.low = 0;
      access.high = 0;
      if (handler) handler.read(access);
      else this.trace.note('register.unknown', this.source, { offset: access.offset, access: 'read' });
      store(access, target, at + done);
    }
  }

  write(handler: RegisterHandler | undefined, offset: number, source: Uint8Array, at: number, length: number): void {
    const { access } = this;
    for (let done = 0; done < length; done += access.width) {
      access.offset = offset + done;
      access.width = pieceWidth(offset + done, length - done);
      load(access, source, at + done);
      if (handler) handler.write(access);
      else this.trace.note('register.unknown', this.source, { offset: access.offset, access: 'write' });
    }
  }
}

/** The widest naturally aligned access that starts at `offset` and does not pass `length`. */
function pieceWidth(offset: number, length: number): number {
  let width = MAXIMUM_WIDTH;
  while (width > length || (offset & (width - 1)) !== 0) width >>= 1;
  return width;
}

function load(access: RegisterAccess, source: Uint8Array, at: number): void {
  if (access.width === 4) {
    access.low = source[at]! | (source[at + 1]! << 8) | (source[at + 2]! << 16) | (source[at + 3]! << 24);
    access.high = 0;
    return;
  }
  let low = 0;
  let high = 0;
  for (let i = 0; i < access.width; i++) {
    if (i < 4) low |= source[at + i]! << (8 * i);
    else high |= source[at + i]! << (8 * (i - 4));
  }
  access.low = low;
  access.high = high;
}

function store(access: RegisterAccess, target: Uint8Array, at: number): void {
  if (access.width === 4) {
    const { low } = access;
    target[at] = low;
    target[at + 1] = low >> 8;
    target[at + 2] = low >> 16;
    target[at + 3] = low >> 24;
    return;
  }
  for (let i = 0; i < access.width; i++) {
    target[at + i] = i < 4 ? access.low >>> (8 * i) : access.high >>> (8 * (i - 4));
  }
}
