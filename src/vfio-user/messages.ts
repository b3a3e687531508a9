/** The payloads of one command and of its reply, as its handler sees them; one object of each is reused for all commands. */
import { closeDescriptor } from '../posix/socket.ts';
import type { Connection } from './connection.ts';

export const NO_DESCRIPTORS: readonly number[] = [];

export class Request {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  command = 0;
  /** Where the payload starts in `bytes`, and its length. */
  at = 0;
  length = 0;
  /** What came with the message and nobody has taken. */
  descriptors: readonly number[] = NO_DESCRIPTORS;

  constructor(connection: Connection) {
    this.bytes = connection.input;
    this.view = connection.inputView;
  }

  u32(offset: number): number {
    return this.view.getUint32(this.at + offset, true);
  }

  u64(offset: number): bigint {
    return this.view.getBigUint64(this.at + offset, true);
  }

  /** The descriptors, which the caller owns from here on. */
  takeDescriptors(): readonly number[] {
    const taken = this.descriptors;
    this.descriptors = NO_DESCRIPTORS;
    return taken;
  }

  closeDescriptors(): void {
    for (const descriptor of this.takeDescriptors()) closeDescriptor(descriptor);
  }
}

export class Reply {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Where the payload starts in `bytes`; `length` is what the handler has put there. */
  at = 0;
  length = 0;
  /** What goes with it; they stay the handler's, open until the connection has sent them. */
  descriptors: readonly number[] = NO_DESCRIPTORS;

  constructor(connection: Connection) {
    this.bytes = connection.output;
    this.view = connection.outputView;
  }

  /** None from here on; undefined where there are none. */
  takeDescriptors(): readonly number[] | undefined {
    if (this.descriptors.length === 0) return undefined;
    const taken = this.descriptors;
    this.descriptors = NO_DESCRIPTORS;
    return taken;
  }

  setU32(offset: number, value: number): void {
    this.view.setUint32(this.at + offset, value, true);
  }

  setU64(offset: number, value: bigint): void {
    this.view.setBigUint64(this.at + offset, value, true);
  }
}
