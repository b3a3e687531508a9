/**
 * The user's cache directory: things that are made once and used by every later run. A directory in it is either complete
 * or absent: it is built under another name and renamed. A lock of the kernel (flock) keeps two processes from building
 * the same thing; it ends with its holder, so that a killed process leaves nothing that must be cleaned by hand.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import type { Progress } from './progress.ts';
import { CommandMissing, run } from './run.ts';

/** `$XDG_CACHE_HOME/viommu`, or `~/.cache/viommu` (XDG Base Directory Specification: a relative path is ignored). */
export function cacheDirectory(environment: NodeJS.ProcessEnv = process.env): string {
  const configured = environment.XDG_CACHE_HOME;
  const base = configured !== undefined && isAbsolute(configured) ? configured : join(homedir(), '.cache');
  return join(base, 'viommu');
}

export interface CacheOptions {
  readonly progress: Progress;
  /** Default: `cacheDirectory()`. */
  readonly cache?: string;
}

/** File status of `flock -n` when somebody else holds the lock (util-linux and busybox agree). */
const LOCK_BUSY = 1;

/**
 * Holds the named lock while `work` runs. Waits without limit for another holder, saying so once. Works between processes,
 * between containers that share the directory, and between calls in one process.
 */
export async function withLock<T>(name: string, options: CacheOptions, work: () => Promise<T>): Promise<T> {
  const path = join(options.cache ?? cacheDirectory(), 'locks', `${name}.lock`);
  await mkdir(dirname(path), { recursive: true });
  const file = await open(path, 'a');
  try {
    await lock(file, path, name, options.progress);
    return await work();
  } finally {
    await file.close();
  }
}

async function lock(file: FileHandle, path: string, name: string, progress: Progress): Promise<void> {
  // flock(1) locks the open file description that it inherits as descriptor 3; ours is the same, so the lock stays with us.
  const attempt = async (wait: boolean) => {
    try {
      return await run(wait ? ['flock', '-x', '3'] : ['flock', '-x', '-n', '3'], { descriptor: file.fd });
    } catch (error) {
      if (error instanceof CommandMissing) {
        throw new Error('The command flock is missing: install util-linux (Debian, Ubuntu, Fedora) and try again.');
      }
      throw error;
    }
  };
  let result = await attempt(false);
  if (result.status === LOCK_BUSY && result.stderr === '') {
    progress(`Waiting for another process that is preparing ${name} (${path})`);
    result = await attempt(true);
  }
  if (result.status !== 0) throw new Error(`Cannot lock ${path}: ${result.stderr.trim() || `status ${result.status}`}`);
}

/**
 * The directory `name` in the cache; when it is not there, `make` fills an empty directory that then gets that name in one
 * step. If `make` throws, nothing remains and the error is passed on.
 */
export async function makeOnce(
  name: string,
  options: CacheOptions,
  make: (directory: string) => Promise<void>,
): Promise<string> {
  const final = join(options.cache ?? cacheDirectory(), name);
  if (await exists(final)) return final;
  return await withLock(name, options, async () => {
    if (await exists(final)) return final;
    const partial = `${final}.partial`;
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true });
    try {
      await make(partial);
      await rename(partial, final);
    } catch (error) {
      await rm(partial, { recursive: true, force: true });
      throw error;
    }
    return final;
  });
}

/** A small remembered fact, or undefined when there is none or what is there is not JSON (then it is made anew). */
export async function readFact(name: string, cache = cacheDirectory()): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(factPath(name, cache), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Remembers a fact; readers see the old or the new one, never a part. */
export async function writeFact(name: string, value: unknown, cache = cacheDirectory()): Promise<void> {
  const path = factPath(name, cache);
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`;
  await writeFile(temporary, `${JSON.stringify(value, null, 2)}\n`);
  await rename(temporary, path);
}

export async function forgetFact(name: string, cache = cacheDirectory()): Promise<void> {
  await rm(factPath(name, cache), { force: true });
}

/** A short name for everything that a fact depends on. */
export function fingerprint(parts: unknown): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 24);
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

function factPath(name: string, cache: string): string {
  return join(cache, 'facts', `${name}.json`);
}
