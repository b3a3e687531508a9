/** Reads a file by position. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { RecordingError } from './format.ts';

export class FileWindow {
  /** As it was when the file was opened or refreshed. */
  size: number;
  private readonly file: number;

  /** Throws a `RecordingError` where it cannot be read. */
  constructor(readonly path: string) {
    try {
      this.file = openSync(path, 'r');
    } catch (error) {
      throw new RecordingError(`cannot read ${path}: ${(error as Error).message}`);
    }
    const facts = fstatSync(this.file);
    this.size = facts.size;
    if (facts.isFile()) return;
    this.close();
    throw new RecordingError(`${path} is not a file`);
  }

  /** Fills the target as far as the file goes; returns the number of bytes. */
  read(target: Uint8Array, offset: number): number {
    let filled = 0;
    while (filled < target.length) {
      const count = readSync(this.file, target, filled, target.length - filled, offset + filled);
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  /** The bytes from an offset on, at most so many. */
  bytes(offset: number, most: number): Buffer {
    const target = Buffer.alloc(Math.max(0, Math.min(most, this.size - offset)));
    return target.subarray(0, this.read(target, offset));
  }

  /** Looks how large the file is now. */
  refresh(): void {
    this.size = fstatSync(this.file).size;
  }

  close(): void {
    closeSync(this.file);
  }
}
