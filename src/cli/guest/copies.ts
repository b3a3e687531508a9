/** `FILE[:GUEST-PATH]`: files of the host that go into a guest. */
import { statSync } from 'node:fs';
import { basename, posix } from 'node:path';
import { UsageError } from '../errors.ts';

/** Where a file goes if nothing is said. */
export const GUEST_FOLDER = '/root';

/** The guest mounts something over these when it starts. */
const MOUNTED_LATER = ['/dev', '/proc', '/run', '/sys', '/tmp'];

const WITH_PATH = /^(.+):(\/.*)$/s;

export interface GuestCopy {
  readonly file: string;
  /** Absolute. */
  readonly guestPath: string;
}

/** Throws a UsageError: there is no such file, or the path is that of a folder. */
export function parseCopy(text: string): GuestCopy {
  const [, named, path] = WITH_PATH.exec(text) ?? [];
  const file = named ?? text;
  const kind = statSync(file, { throwIfNoEntry: false });
  if (kind === undefined) throw new UsageError(`there is no file ${file}`);
  if (!kind.isFile()) throw new UsageError(`${file} is no file`);
  if (path?.endsWith('/')) throw new UsageError(`'${text}': name the file in the guest, not its folder`);
  return { file, guestPath: posix.normalize(path ?? posix.join(GUEST_FOLDER, basename(file))) };
}

/** For a guest that is yet to start, by guest path. Throws a UsageError also where two files have the same, or nobody would see one. */
export function copiesByPath(texts: readonly string[]): Record<string, string> {
  const copies: Record<string, string> = {};
  for (const { file, guestPath } of texts.map(parseCopy)) {
    if (copies[guestPath] !== undefined) {
      throw new UsageError(`two files for ${guestPath} in the guest: ${copies[guestPath]} and ${file}`);
    }
    if (MOUNTED_LATER.some(folder => guestPath.startsWith(`${folder}/`))) {
      throw new UsageError(`${guestPath}: the guest mounts something over that folder when it starts; use another`);
    }
    copies[guestPath] = file;
  }
  return copies;
}
