/** The C programs that stand for the floor, compiled on the spot so that both sides run on the same machine and compiler day. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A path in the package, from the compiled file or from the source. */
export function packagePath(...parts: string[]): string {
  let root = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(root, 'package.json'))) root = dirname(root);
  return join(root, ...parts);
}

/** Compiles `bench/native/<source>` into `directory`; returns the program's path. */
export function compileNative(source: string, directory: string): string {
  const program = join(directory, basename(source, '.c'));
  execFileSync('gcc', ['-O2', '-o', program, packagePath('bench', 'native', source)], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return program;
}
