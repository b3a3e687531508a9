/**
 * The migration states of one function (vfio-user, "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE"; linux/vfio.h, enum
 * vfio_device_mig_state) and its data on the way out and in. PRE_COPY and the peer-to-peer states are not offered.
 */
import { type DeviceMigration, Errno } from './device-model.ts';

export const MigrationState = { error: 0, stop: 1, running: 2, stopCopy: 3, resuming: 4 } as const;
export type MigrationState = (typeof MigrationState)[keyof typeof MigrationState];

/** A change of state is still under way (asm-generic/errno-base.h). */
const EBUSY = 16;
const NO_DATA = new Uint8Array(0);

export interface MigrationOptions {
  readonly device: DeviceMigration;
  /** Bytes of one state, in either direction. */
  readonly maxBytes: number;
  readonly note: (kind: string, detail: Readonly<Record<string, string | number>>) => void;
}

export class Migration {
  private current: MigrationState = MigrationState.running;
  /** What is read in STOP_COPY, and how far it has been. */
  private outgoing: Uint8Array = NO_DATA;
  private read = 0;
  /** What was written in RESUMING. */
  private incoming: Uint8Array[] = [];
  private written = 0;
  /** Grows with every reset: a change of state that was under way is void. */
  private life = 0;
  private changing = false;

  constructor(private readonly options: MigrationOptions) {}

  get state(): MigrationState {
    return this.current;
  }

  /**
   * Goes to a state, through others where the specification says so, and says how that ended: at once, or when work that is under way
   * is done. EINVAL: there is no way, or what was written in RESUMING is no state of this function (the state is ERROR then).
   */
  change(target: number, done: (errno: number) => void): void {
    if (this.changing) done(EBUSY);
    else if (!isTarget(target) || this.current === MigrationState.error) done(Errno.EINVAL);
    else this.step(target, done);
  }

  /** Copies the next bytes out and returns how many; fewer than asked for: that was all. -1: there is nothing to read in this state. */
  take(target: Uint8Array, at: number, length: number): number {
    if (this.current !== MigrationState.stopCopy) return -1;
    const count = Math.min(length, this.outgoing.length - this.read);
    target.set(this.outgoing.subarray(this.read, this.read + count), at);
    this.read += count;
    return count;
  }

  /** More of the state to come; the bytes are copied. */
  give(bytes: Uint8Array): number {
    if (this.current !== MigrationState.resuming) return Errno.EINVAL;
    if (this.written + bytes.length > this.options.maxBytes) return Errno.E2BIG;
    if (bytes.length === 0) return Errno.ok;
    // Each piece has its price beside its bytes, so what comes in small ones is put together.
    const last = this.incoming.at(-1);
    const room = last === undefined ? 0 : last.length - this.filled;
    if (bytes.length <= room) {
      last!.set(bytes, this.filled);
      this.filled += bytes.length;
    } else {
      if (last !== undefined) this.incoming[this.incoming.length - 1] = last.subarray(0, this.filled);
      const piece = new Uint8Array(Math.max(PIECE_BYTES, bytes.length));
      piece.set(bytes);
      this.incoming.push(piece);
      this.filled = bytes.length;
    }
    this.written += bytes.length;
    return Errno.ok;
  }

  /** The device was reset, or its client is gone: it runs. */
  reset(): void {
    this.life++;
    this.changing = false;
    if (this.current === MigrationState.running && !this.stopping) return;
    this.stopping = false;
    this.enter(MigrationState.running);
    this.options.device.run();
  }

  /** Bytes in the last of `incoming`. */
  private filled = 0;
  /** The device was told to stop. */
  private stopping = false;

  private step(target: MigrationState, done: (errno: number) => void): void {
    const { current, options } = this;
    if (current === target) {
      done(Errno.ok);
    } else if (current === MigrationState.running) {
      this.stop(target, done);
    } else if (current === MigrationState.stopCopy) {
      this.enter(MigrationState.stop);
      this.step(target, done);
    } else if (current === MigrationState.resuming) {
      this.endResuming(target, done);
    } else if (target === MigrationState.running) {
      this.stopping = false;
      this.enter(target);
      options.device.run();
      done(Errno.ok);
    } else if (target === MigrationState.stopCopy) {
      done(this.beginSaving());
    } else {
      this.enter(target);
      done(Errno.ok);
    }
  }

  private stop(target: MigrationState, done: (errno: number) => void): void {
    const { life } = this;
    this.changing = true;
    this.stopping = true;
    this.options.device.stop(() => {
      if (life !== this.life) {
        done(Errno.EIO);
        return;
      }
      this.changing = false;
      this.enter(MigrationState.stop);
      this.step(target, done);
    });
  }

  private beginSaving(): number {
    const { device, maxBytes, note } = this.options;
    const state = device.save();
    if (typeof state === 'string') {
      note('migration.notSaved', { why: state });
      return Errno.E2BIG;
    }
    if (state.length > maxBytes) {
      note('migration.tooLarge', { bytes: state.length, most: maxBytes });
      return Errno.E2BIG;
    }
    this.enter(MigrationState.stopCopy);
    this.outgoing = state;
    note('migration.saved', { bytes: state.length });
    return Errno.ok;
  }

  private endResuming(target: MigrationState, done: (errno: number) => void): void {
    const { device, note } = this.options;
    const bytes = this.written;
    const last = this.incoming.at(-1);
    if (last !== undefined) this.incoming[this.incoming.length - 1] = last.subarray(0, this.filled);
    const why = device.restore(Buffer.concat(this.incoming));
    if (why !== undefined) {
      note('migration.refused', { bytes, why });
      this.enter(MigrationState.error);
      done(Errno.EINVAL);
      return;
    }
    note('migration.restored', { bytes });
    this.enter(MigrationState.stop);
    this.step(target, done);
  }

  private enter(state: MigrationState): void {
    this.current = state;
    this.outgoing = NO_DATA;
    this.read = 0;
    this.incoming = [];
    this.written = 0;
    this.filled = 0;
  }
}

/** Pieces of less are put together to this many bytes. */
const PIECE_BYTES = 65_536;

function isTarget(state: number): state is MigrationState {
  return state >= MigrationState.stop && state <= MigrationState.resuming;
}
