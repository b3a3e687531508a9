/** A temporary directory that goes with this process, whichever way that ends: by SIGKILL, with the next command that makes one. */
import { makeTemporaryDirectory, type TemporaryDirectory } from '../src/posix/temporary-directory.ts';
import { endWithProcess } from './children.ts';

/** @param purpose small letters: it becomes part of the name. */
export function makeOwnDirectory(purpose: string): TemporaryDirectory {
  const { path, remove } = makeTemporaryDirectory(purpose);
  const release = endWithProcess({ endNow: remove, askToEnd() {} });
  return {
    path,
    remove() {
      remove();
      release();
    },
  };
}
