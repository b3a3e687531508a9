/** `FILE[:GUEST-PATH]`: files of the host that go into a guest. */
import { statSync } from 'node:fs';
import { basename, posix } from 'node:path';
import { UsageError } from '../errors.ts';

/** Where a file goes if nothing is said. */
export const GUEST_FOLDER = '/root';

/** The guest mounts something over these when it starts. */
const MOUNTED_LATER = ['/dev', '/proc', '/run', '/sys', '/tmp'];

const WITH_PATH = /^(.+):(\/.*)$/s;
const WITH_RELATIVE_PATH = /^(.+):([^/].*)$/s;

export interface GuestCopy {
  readonly file: string;
  /** Absolute. */
  readonly guestPath: string;
}

/** Throws a UsageError: there is no such file, or the path is that of a folder. */
export function parseCopy(text: string): GuestCopy {
  const { file, guestPath } = splitCopy(text);
  return copyTo(file, guestPath ?? posix.join(GUEST_FOLDER, basename(file)));
}

/** The two parts as they stand there; a file's name may have colons in it. Throws a UsageError: the path is relative. */
export function splitCopy(text: string): { readonly file: string; readonly guestPath: string | undefined } {
  const [, file, guestPath] = WITH_PATH.exec(text) ?? [];
  if (file !== undefined && guestPath !== undefined) return { file, guestPath };
  const [, other, relative] = WITH_RELATIVE_PATH.exec(text) ?? [];
  if (relative !== undefined && !exists(text) && exists(other!)) checkAbsolute(relative);
  return { file: text, guestPath: undefined };
}

/** Throws a UsageError: there is no such file, or the path is relative, or that of a folder. */
export function copyTo(file: string, guestPath: string): GuestCopy {
  const kind = statSync(file, { throwIfNoEntry: false });
  if (kind === undefined) throw new UsageError(`there is no file ${file}`);
  if (!kind.isFile()) throw new UsageError(`${file} is no file`);
  checkAbsolute(guestPath);
  if (guestPath.endsWith('/')) throw new UsageError(`'${guestPath}': name the file in the guest, not its folder`);
  return { file, guestPath: posix.normalize(guestPath) };
}

function checkAbsolute(guestPath: string): void {
  if (!guestPath.startsWith('/')) {
    throw new UsageError(`'${guestPath}' is relative: a path in the guest begins with /`);
  }
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
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
