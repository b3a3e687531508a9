/** Where this package keeps the files that go into the guest as they are: they are not compiled, so not beside us in dist. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Absolute path of a file or folder under images/guest. */
export function guestSource(path: string): string {
  return join(packageRoot(), 'images', 'guest', path);
}

function packageRoot(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let folder = start; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder;
    if (folder === dirname(folder)) throw new Error(`No package.json above ${start}: the installation is incomplete`);
  }
}
