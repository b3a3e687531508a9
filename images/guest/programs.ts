/** The guest's C programs: each folder of images/guest/programs is one, built as a static binary by the host's compiler. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CacheOptions, makeOnce } from '../../qemu/cache.ts';
import { CommandMissing, type RunResult, run } from '../../qemu/run.ts';
import { guestSource } from './sources.ts';

const FLAGS = ['-std=gnu17', '-static', '-O2', '-s', '-Wall', '-Wextra', '-Werror'] as const;
const COMPILE_TIMEOUT_MS = 120_000;

const ADVICE = 'install gcc and the static C library (Debian, Ubuntu: gcc libc6-dev; Fedora: gcc glibc-static)';

export interface BuildProgramOptions extends CacheOptions {
  /** Default: `gcc`. It must build for x86-64 Linux. */
  readonly compiler?: string;
}

/** Builds `images/guest/programs/<name>`, unless the cache has it from the same sources and compiler; returns its path. */
export async function buildProgram(name: string, options: BuildProgramOptions): Promise<string> {
  return await buildProgramIn(guestSource(join('programs', name)), name, options);
}

/** The same for the sources in any folder: all its .c files make one program. */
export async function buildProgramIn(folder: string, name: string, options: BuildProgramOptions): Promise<string> {
  const compiler = options.compiler ?? 'gcc';
  const files = (await readdir(folder)).filter(file => /\.[ch]$/.test(file)).sort();
  const sources = files.filter(file => file.endsWith('.c'));
  if (sources.length === 0) throw new Error(`${folder} has no C sources`);

  const version = await compile(compiler, ['--version']);
  if (version.status !== 0) throw new Error(`${compiler} --version ends with status ${version.status}`);
  const hash = createHash('sha256').update(JSON.stringify([compiler, version.stdout, FLAGS, files]));
  for (const file of files) hash.update(await readFile(join(folder, file))).update('\0');

  const built = await makeOnce(`programs/${name}-${hash.digest('hex').slice(0, 24)}`, options, async directory => {
    options.progress(`Compiling ${name}`);
    const output = join(directory, name);
    const result = await compile(compiler, [...FLAGS, '-o', output, ...sources.map(file => join(folder, file))]);
    if (result.status !== 0) throw new Error(explain(compiler, name, result));
  });
  return join(built, name);
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
