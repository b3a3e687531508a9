/**
 * The guest's C programs: each folder of images/guest/programs is one, built as a static binary by the host's compiler with the
 * libraries of images/guest/lib that it names.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { type CacheOptions, cacheDirectory, makeOnce } from '../../qemu/cache.ts';
import { CommandMissing, type RunResult, run } from '../../qemu/run.ts';
import { guestSource } from './sources.ts';

const FLAGS = ['-std=gnu17', '-static', '-O2', '-s', '-Wall', '-Wextra', '-Werror'] as const;
const COMPILE_TIMEOUT_MS = 120_000;

const ADVICE = 'install gcc and the static C library (Debian, Ubuntu: gcc libc6-dev; Fedora: gcc glibc-static)';

const INCLUDE = guestSource('include');
const LIBRARIES = guestSource('lib');

export interface BuildProgramOptions extends CacheOptions {
  /** Default: `gcc`. It must build for x86-64 Linux. */
  readonly compiler?: string;
}

/**
 * Builds `images/guest/programs/<name>`, unless the cache has it from the same sources and compiler; returns its path. Where
 * there is no compiler, what the cache has from the same sources will do.
 */
export async function buildProgram(name: string, options: BuildProgramOptions): Promise<string> {
  return await buildProgramIn(guestSource(join('programs', name)), name, options);
}

/**
 * The same for the sources in any folder: all its .c files make one program, with those of the libraries that its file
 * `libraries` names, one a line. Headers are found in `images/guest/include` and, by library name, in `images/guest/lib`.
 */
export async function buildProgramIn(folder: string, name: string, options: BuildProgramOptions): Promise<string> {
  const compiler = options.compiler ?? 'gcc';
  const own = await sourcesIn(folder);
  if (!own.some(isSource)) throw new Error(`${folder} has no C sources`);
  const files = [...own, ...(await librarySources(folder, name)), ...(await sourcesIn(INCLUDE))];

  const names = files.map(file => relative(folder, file));
  const hash = createHash('sha256').update(JSON.stringify([compiler, FLAGS, names]));
  for (const file of files) hash.update(await readFile(file)).update('\0');
  const from = `${name}-${hash.digest('hex').slice(0, 24)}`;

  const version = await compilerVersion(compiler);
  if (version === undefined) {
    const before = await builtBefore(from, options);
    if (before === undefined) throw new Error(`The command ${compiler} is missing: ${ADVICE}.`);
    return join(before, name);
  }
  const by = createHash('sha256').update(version).digest('hex').slice(0, 8);
  const built = await makeOnce(`programs/${from}-${by}`, options, async directory => {
    options.progress(`Compiling ${name}`);
    const output = join(directory, name);
    const result = await run(
      [
        compiler,
        ...FLAGS,
        ...[INCLUDE, LIBRARIES].flatMap(path => ['-I', path]),
        ...['-o', output],
        ...files.filter(isSource),
      ],
      { timeoutMs: COMPILE_TIMEOUT_MS },
    );
    if (result.status !== 0) throw new Error(explain(compiler, name, result));
  });
  return join(built, name);
}

/** What it says of itself, or undefined where there is none. */
async function compilerVersion(compiler: string): Promise<string | undefined> {
  try {
    const { status, stdout } = await run([compiler, '--version'], { timeoutMs: COMPILE_TIMEOUT_MS });
    if (status !== 0) throw new Error(`${compiler} --version ends with status ${status}`);
    return stdout;
  } catch (error) {
    if (error instanceof CommandMissing) return undefined;
    throw error;
  }
}

/** Built from the same sources by whatever compiler: for machines, such as containers, that came with a cache but without one. */
async function builtBefore(from: string, options: CacheOptions): Promise<string | undefined> {
  const folder = join(options.cache ?? cacheDirectory(), 'programs');
  if (!existsSync(folder)) return undefined;
  const complete = new RegExp(`^${from}-[0-9a-f]+$`);
  const found = (await readdir(folder)).sort().find(entry => complete.test(entry));
  return found === undefined ? undefined : join(folder, found);
}

/** Of all libraries that the program in `folder` names. */
async function librarySources(folder: string, name: string): Promise<string[]> {
  const list = join(folder, 'libraries');
  if (!existsSync(list)) return [];
  const sources: string[] = [];
  for (const library of (await readFile(list, 'utf8')).split('\n').filter(line => line !== '')) {
    const path = join(LIBRARIES, library);
    if (!existsSync(path)) throw new Error(`${name} names the library ${library}, but there is no folder ${path}`);
    sources.push(...(await sourcesIn(path)));
  }
  return sources;
}

/** The C sources and headers in a folder, sorted; none where it does not exist. */
async function sourcesIn(folder: string): Promise<string[]> {
  if (!existsSync(folder)) return [];
  return (await readdir(folder))
    .filter(file => /\.[ch]$/.test(file))
    .sort()
    .map(file => join(folder, file));
}

function isSource(file: string): boolean {
  return file.endsWith('.c');
}

function explain(compiler: string, name: string, result: RunResult): string {
  const said = result.stderr.trim();
  if (/cannot find -lc\b|cannot find crt|stdio\.h: No such file/.test(said)) {
    return `${compiler} cannot build the static program ${name}: ${ADVICE}.\n${said}`;
  }
  return `${compiler} cannot build ${name} (status ${result.status}):\n${said}`;
}
