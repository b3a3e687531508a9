/** What goes into the guest for one round: modules, programs and files as they are now. */
import { readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join, posix } from 'node:path';
import { type CpioEntry, writeCpio } from '../../../images/guest/cpio.ts';
import { type ModuleInfo, readModuleInfo } from '../../../images/guest/module-info.ts';
import { loadOrder, moduleName, unpackModule } from '../../../images/guest/modules.ts';
import { guestSource } from '../../../images/guest/sources.ts';
import { CommandFailure, UsageError } from '../errors.ts';
import { type KnownModules, knownModules, type TestKernel } from './kernel.ts';
import { GUEST_FOLDER, type TestPlan } from './plan.ts';
import type { ModuleBuilder } from './source.ts';

export interface GuestFile {
  readonly guestPath: string;
  /** Permission bits. */
  readonly mode: number;
  readonly bytes: Buffer;
}

export interface ModuleToLoad {
  /** For people: the path as the user wrote it, or the name. */
  readonly label: string;
  /** As the kernel and `rmmod` know it. */
  readonly name: string;
  readonly guestPath: string;
  readonly parameters: string;
  /** One that the user did not name: it is skipped where it is loaded already, and stays where it is. */
  readonly isNeeded: boolean;
}

export interface Payload {
  /** In the order in which they are loaded. */
  readonly modules: readonly ModuleToLoad[];
  readonly files: readonly GuestFile[];
}

/** Something is mounted there when the guest is up, and hides what the archive has. */
const MOUNTED_LATER = ['/tmp', '/run'];
const MODULE_FOLDER = posix.join(GUEST_FOLDER, 'modules');

interface OwnModule {
  readonly label: string;
  readonly fileName: string;
  readonly bytes: Buffer;
  readonly info: ModuleInfo;
}

/** Reads and builds everything. Throws a CommandFailure or a UsageError that says what is wrong with what. */
export async function makePayload(plan: TestPlan, kernel: TestKernel, builder: ModuleBuilder): Promise<Payload> {
  const known = kernel.modulesDir === undefined ? undefined : await knownModules(kernel.modulesDir);
  const own = await collectOwn(plan, kernel, known, builder);
  const files: GuestFile[] = [];
  const modules: ModuleToLoad[] = [];
  const add = (label: string, name: string, fileName: string, bytes: Buffer, isNeeded: boolean) => {
    const guestPath = posix.join(MODULE_FOLDER, fileName);
    if (modules.some(one => one.name === name)) {
      if (isNeeded) return;
      throw new UsageError(`${label}: there are two modules named ${name}`);
    }
    files.push({ guestPath, mode: 0o644, bytes });
    modules.push({ label, name, guestPath, parameters: plan.parameters.get(name) ?? '', isNeeded });
  };
  const ownNames = new Set(own.map(nameOf));
  for (const one of own) {
    for (const needed of neededOf(one, ownNames, known)) {
      const bytes = await unpackModule(join(kernel.modulesDir!, needed), kernel.busybox);
      add(moduleName(needed), moduleName(needed), plainName(needed), bytes, true);
    }
    add(one.label, nameOf(one), one.fileName, one.bytes, false);
  }
  checkParameters(plan, ownNames);
  const others = plan.files.map(async ({ hostPath, guestPath, mode }) => ({
    guestPath,
    mode,
    bytes: await readInput(hostPath),
  }));
  return { modules, files: [...files, ...(await Promise.all(others))] };
}

function nameOf({ info, fileName }: OwnModule): string {
  return info.name ?? moduleName(fileName);
}

async function collectOwn(
  plan: TestPlan,
  kernel: TestKernel,
  known: KnownModules | undefined,
  builder: ModuleBuilder,
): Promise<OwnModule[]> {
  const own: OwnModule[] = [];
  const add = (label: string, fileName: string, bytes: Buffer) => {
    const info = readModuleInfo(bytes);
    if (info === undefined) throw new CommandFailure(`${label} is no kernel module: it has no section .modinfo`);
    own.push({ label, fileName, bytes, info });
  };
  for (const module of plan.modules) {
    switch (module.kind) {
      case 'file':
        add(module.path, plainName(module.path), await unpack(module.path, kernel));
        break;
      case 'stock': {
        const path = stockPath(module.name, known);
        if (path !== undefined) {
          add(module.name, plainName(path), await unpackModule(join(kernel.modulesDir!, path), kernel.busybox));
        }
        break;
      }
      case 'source': {
        if (kernel.stockRelease === undefined) {
          throw new UsageError(
            '--module-source builds for the stock kernel: build yours for your --kernel, and name it with --module',
          );
        }
        for (const { name, bytes } of await builder.build(module.folder, kernel.stockRelease)) {
          add(`${module.folder}/${name}`, basename(name), bytes);
        }
      }
    }
  }
  return own;
}

/** Undefined for one that is built into the kernel. */
function stockPath(name: string, known: KnownModules | undefined): string | undefined {
  const plain = moduleName(name);
  const path = known?.files.get(plain)?.path;
  if (path !== undefined || known?.builtin.has(plain)) return path;
  throw new UsageError(
    `the guest's kernel has no module ${name}, and a file would be named with its folder, such as ./${name}.ko`,
  );
}

/** What the kernel's own modules must be there before, farthest first. What is nowhere, the kernel will tell. */
function neededOf({ info }: OwnModule, own: ReadonlySet<string>, known: KnownModules | undefined): string[] {
  if (known === undefined) return [];
  const names = info.depends.map(moduleName).filter(name => !own.has(name) && known.files.has(name));
  return loadOrder(
    names.map(name => ({ name })),
    known.files,
    known.builtin,
  ).map(({ path }) => path);
}

function checkParameters({ parameters }: TestPlan, names: ReadonlySet<string>): void {
  const lost = [...parameters.keys()].find(name => !names.has(name));
  if (lost === undefined) return;
  throw new UsageError(
    `--module-params '${lost}:...': no module is named ${lost} (${[...names].join(', ') || 'there are none'})`,
  );
}

/** Compressed modules are known by their name. */
function plainName(path: string): string {
  return basename(path).replace(/\.ko\.\w+$/, '.ko');
}

async function unpack(path: string, { busybox }: TestKernel): Promise<Buffer> {
  try {
    return await unpackModule(path, busybox);
  } catch (error) {
    throw new CommandFailure(`cannot read the module ${path}: ${(error as Error).message}`);
  }
}

async function readInput(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new CommandFailure(`cannot read ${path}: ${(error as Error).message}`);
  }
}

/** Whether the file can be in the guest's archive, or comes into the guest when it is up. */
export function isInArchive({ guestPath }: Pick<GuestFile, 'guestPath'>): boolean {
  return !MOUNTED_LATER.some(folder => guestPath.startsWith(`${folder}/`));
}

/** Writes the initramfs with the files behind it: the kernel unpacks one archive after the other (buffer-format.rst). */
export async function writeArchive(initramfs: string, files: readonly GuestFile[], path: string): Promise<void> {
  const runner = { guestPath: RUNNER, mode: 0o755, bytes: await readFile(guestSource('run-case')) };
  await writeFile(path, Buffer.concat([await readFile(initramfs), writeCpio(entriesOf([runner, ...files]))]));
}

/** Runs a case in the guest: images/guest/run-case. */
export const RUNNER = '/sbin/run-case';

function entriesOf(files: readonly GuestFile[]): CpioEntry[] {
  const entries = new Map<string, CpioEntry>();
  const addFolder = (path: string) => {
    if (path === '.' || entries.has(path)) return;
    addFolder(dirname(path));
    entries.set(path, { kind: 'directory', path, mode: 0o755 });
  };
  // Cases start there, even where no file goes there.
  addFolder(GUEST_FOLDER.slice(1));
  for (const { guestPath, mode, bytes } of files) {
    const path = guestPath.slice(1);
    addFolder(dirname(path));
    entries.set(path, { kind: 'file', path, mode, data: bytes });
  }
  return [...entries.values()];
}
