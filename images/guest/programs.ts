/**
 * The guest's C programs: each folder of images/guest/programs is one, built as a static binary by the host's compiler with the
 * libraries of images/guest/lib that it names.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { type CacheOptions, makeOnce } from '../../qemu/cache.ts';
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

/** Builds `images/guest/programs/<name>`, unless the cache has it from the same sources and compiler; returns its path. */
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

  const version = await compile(compiler, ['--version']);
  if (version.status !== 0) throw new Error(`${compiler} --version ends with status ${version.status}`);
  const names = files.map(file => relative(folder, file));
  const hash = createHash('sha256').update(JSON.stringify([compiler, version.stdout, FLAGS, names]));
  for (const file of files) hash.update(await readFile(file)).update('\0');

  const built = await makeOnce(`programs/${name}-${hash.digest('hex').slice(0, 24)}`, options, async directory => {
    options.progress(`Compiling ${name}`);
    const output = join(directory, name);
    const result = await compile(compiler, [
      ...FLAGS,
      ...[INCLUDE, LIBRARIES].flatMap(path => ['-I', path]),
      ...['-o', output],
      ...files.filter(isSource),
    ]);
    if (result.status !== 0) throw new Error(explain(compiler, name, result));
  });
  return join(built, name);
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

async function compile(compiler: string, args: readonly string[]): Promise<RunResult> {
  try {
    return await run([compiler, ...args], { timeoutMs: COMPILE_TIMEOUT_MS });
  } catch (error) {
    if (error instanceof CommandMissing) throw new Error(`The command ${compiler} is missing: ${ADVICE}.`);
    throw error;
  }
}

function explain(compiler: string, name: string, result: RunResult): string {
  const said = result.stderr.trim();
  if (/cannot find -lc\b|cannot find crt|stdio\.h: No such file/.test(said)) {
    return `${compiler} cannot build the static program ${name}: ${ADVICE}.\n${said}`;
  }
  return `${compiler} cannot build ${name} (status ${result.status}):\n${said}`;
}
