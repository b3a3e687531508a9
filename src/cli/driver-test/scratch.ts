/** A place for the files of one run of `viommu test`. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endWithProcess } from '../../../qemu/children.ts';

export interface Scratch {
  readonly path: string;
  remove(): void;
}

/** Goes with this process, whichever way that ends. */
export function makeScratch(): Scratch {
  const path = mkdtempSync(join(tmpdir(), 'viommu-driver-'));
  const remove = () => rmSync(path, { recursive: true, force: true });
  const release = endWithProcess({ endNow: remove, askToEnd() {} });
  return {
    path,
    remove() {
      remove();
      release();
    },
  };
}
