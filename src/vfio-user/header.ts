import { HEADER_COMMAND, HEADER_ERROR, HEADER_FLAGS, HEADER_ID, HEADER_SIZE, HeaderFlag } from './spec.ts';

/** The header of one message (vfio-user, section "Header"); one object is reused, so read it before the next message. */
export class Header {
  id = 0;
  command = 0;
  /** Bytes of the whole message, this header included. */
  size = 0;
  flags = 0;
  error = 0;

  read(view: DataView, at: number): void {
    this.id = view.getUint16(at + HEADER_ID, true);
    this.command = view.getUint16(at + HEADER_COMMAND, true);
    this.size = view.getUint32(at + HEADER_SIZE, true);
    this.flags = view.getInt32(at + HEADER_FLAGS, true);
    this.error = view.getUint32(at + HEADER_ERROR, true);
  }

  get type(): number {
    return this.flags & HeaderFlag.typeMask;
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
  view.setUint16(at + HEADER_ID, id, true);
  view.setUint16(at + HEADER_COMMAND, command, true);
  view.setUint32(at + HEADER_SIZE, size, true);
  view.setInt32(at + HEADER_FLAGS, flags, true);
  view.setUint32(at + HEADER_ERROR, error, true);
}
