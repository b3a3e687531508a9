/** Builds kernel modules from their sources, for the stock guest's kernel. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, join, relative } from 'node:path';
import { builtModules, moduleMake } from '../../../qemu/kernel-headers.ts';
import { run } from '../../../qemu/run.ts';
import { CommandFailure, UsageError } from '../errors.ts';
import { printProgress } from '../progress.ts';

export interface BuiltModule {
  /** As in the sources' folder, e.g. `my.ko`. */
  readonly name: string;
  readonly bytes: Buffer;
}

/** A module that takes longer has a compiler that hangs. */
const BUILD_TIMEOUT_MS = 600_000;
/** What builds leave, and what is no source: neither copied nor watched. */
const PRODUCTS = /(?:\.(?:o|ko|a|mod|mod\.c|cmd|swp|tmp)|~|^Module\.symvers|^modules\.order|^\.git|^node_modules)$/;

export function isModuleSource(name: string): boolean {
  return !PRODUCTS.test(name);
}

/** Throws a UsageError where kbuild would find nothing to build. */
export function checkModuleSource(folder: string): void {
  if (!existsSync(folder)) throw new UsageError(`there is no folder ${folder}`);
  if (['Kbuild', 'Makefile'].some(name => existsSync(join(folder, name)))) return;
  throw new UsageError(`${folder} has no Kbuild or Makefile that says what to build, such as 'obj-m := my.o'`);
}

/** Builds what has changed since it was built the last time. */
export class ModuleBuilder {
  private readonly built = new Map<string, { readonly digest: string; readonly modules: readonly BuiltModule[] }>();

  /** @param scratch where builds take place: the sources are copied there, so that their folder stays as it is. */
  constructor(private readonly scratch: string) {}

  /**
   * The modules in the order in which the folder's makefile names them. Throws a CommandFailure with what the compiler says, in terms of
   * the folder.
   */
  async build(folder: string, kernelRelease: string): Promise<readonly BuiltModule[]> {
    const digest = await digestOf(folder);
    const before = this.built.get(folder);
    if (before?.digest === digest) return before.modules;
    const modules = await buildModules(folder, kernelRelease, this.scratch);
    this.built.set(folder, { digest, modules });
    return modules;
  }
}

async function digestOf(folder: string): Promise<string> {
  const hash = createHash('sha256');
  for (const path of (await moduleSources(folder)).sort()) {
    const bytes = await readFile(path);
    hash.update(`${JSON.stringify(path)} ${bytes.length}\n`).update(bytes);
  }
  return hash.digest('hex');
}

async function buildModules(folder: string, kernelRelease: string, scratch: string): Promise<BuiltModule[]> {
  const make = await moduleMake(kernelRelease, { progress: printProgress });
  const directory = await mkdtemp(join(scratch, 'build-'));
  try {
    // The name is in the modules' debug information and in the compiler's messages.
    const copy = join(directory, basename(folder));
    await cp(folder, copy, {
      recursive: true,
      filter: source => source === folder || isModuleSource(basename(source)),
    });
    // Warnings would name a file that is gone, and the same sources would give another module each time. What a debugger needs is
    // most of a module, and nobody in the guest reads it.
    const flags = `KCFLAGS=-g0 -ffile-prefix-map=${copy}/=`;
    const argv = [...make, `M=${copy}`, `-j${availableParallelism()}`, flags, 'modules'];
    const { status, stdout, stderr } = await run(argv, { timeoutMs: BUILD_TIMEOUT_MS });
    const said = stderr.replaceAll(copy, folder).trim();
    if (status !== 0)
      throw new CommandFailure(`${folder} cannot be built (make: ${status}):\n${said || stdout.trim()}`);
    if (said !== '') printProgress(`building ${folder}:\n${said}`);
    return await read(copy, folder);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function read(copy: string, folder: string): Promise<BuiltModule[]> {
  const modules = await Promise.all(
    (await builtModules(copy)).map(async path => ({ name: relative(copy, path), bytes: await readFile(path) })),
  );
  if (modules.length === 0) throw new CommandFailure(`${folder} builds no module: its obj-m is empty`);
  return modules;
}

/** Every source below the folder, for whoever watches them. */
export async function moduleSources(folder: string): Promise<string[]> {
  const paths: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!isModuleSource(entry.name)) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) paths.push(...(await moduleSources(path)));
    else if (entry.isFile()) paths.push(path);
  }
  return paths;
}
