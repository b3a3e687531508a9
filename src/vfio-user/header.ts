import { HEADER_COMMAND, HEADER_ERROR, HEADER_FLAGS, HEADER_ID, HEADER_SIZE, HeaderFlag } from './spec.ts';

// The hot path's own names: the compiler folds constants of this file, and loads those of others each time.
const ID = HEADER_ID;
const COMMAND = HEADER_COMMAND;
const SIZE = HEADER_SIZE;
const FLAGS = HEADER_FLAGS;
const ERROR = HEADER_ERROR;
const TYPE_MASK = HeaderFlag.typeMask;

/** The header of one message (vfio-user, section "Header"); one object is reused, so read it before the next message. */
export class Header {
  id = 0;
  command = 0;
  /** Bytes of the whole message, this header included. */
  size = 0;
  flags = 0;
  error = 0;

  read(view: DataView, at: number): void {
    this.id = view.getUint16(at + ID, true);
    this.command = view.getUint16(at + COMMAND, true);
    this.size = view.getUint32(at + SIZE, true);
    this.flags = view.getInt32(at + FLAGS, true);
    this.error = view.getUint32(at + ERROR, true);
  }

  get type(): number {
    return this.flags & TYPE_MASK;
  }
}

export function writeHeader(
  view: DataView,
  at: number,
  id: number,
  command: number,
  size: number,
  flags: number,
  error: number,
): void {
  view.setUint16(at + ID, id, true);
  view.setUint16(at + COMMAND, command, true);
  view.setUint32(at + SIZE, size, true);
  view.setInt32(at + FLAGS, flags, true);
  view.setUint32(at + ERROR, error, true);
}
