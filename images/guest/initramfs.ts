/** The guest's initramfs: busybox, an init, kernel modules and programs, in one archive. */
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { basename, isAbsolute, join } from 'node:path';
import { type CacheOptions, makeOnce } from '../../qemu/cache.ts';
import { megabytes } from '../../qemu/progress.ts';
import { type CpioEntry, writeCpio } from './cpio.ts';
import { chooseModules, type ModuleFile, type ModuleRequest, unpackModule, VFIO_MODULES } from './modules.ts';
import { buildProgram } from './programs.ts';
import { guestSource } from './sources.ts';

export interface InitramfsOptions extends CacheOptions {
  readonly kernel: {
    /** Holds modules.dep. */
    readonly modulesDir: string;
    readonly kernelRelease: string;
  };
  /** A static x86-64 busybox. */
  readonly busybox: string;
  /** Names of folders in images/guest/programs, or absolute paths of static programs. They go to /bin. */
  readonly programs: readonly string[];
  /** Absolute path in the guest to the file of the host that goes there, with mode 0755. */
  readonly extraFiles?: Readonly<Record<string, string>>;
  /** Loaded at the start, with what they need. Default: VFIO_MODULES. */
  readonly modules?: readonly ModuleRequest[];
}

/** Changes with anything below that changes the archive's content for the same inputs. */
const LAYOUT_VERSION = 1;

const FOLDERS = ['bin', 'dev', 'lib', 'lib/modules', 'proc', 'root', 'run', 'sbin', 'sys', 'tmp'] as const;

/** Everything that the archive is made from. Modules are still packed. */
interface Inputs {
  /** By path in the guest, without the leading slash. */
  readonly files: ReadonlyMap<string, Buffer>;
  readonly modules: readonly (ModuleFile & { readonly packed: Buffer })[];
}

/** Returns the path of the archive: from the cache when one was made from the same inputs, otherwise a new one. */
export async function buildInitramfs(options: InitramfsOptions): Promise<string> {
  const inputs = await collect(options);
  const name = `initramfs/${options.kernel.kernelRelease}-${digest(inputs)}`;
  const directory = await makeOnce(name, options, async partial => {
    options.progress(`Building the guest's initramfs for Linux ${options.kernel.kernelRelease}`);
    const archive = writeCpio(await layOut(inputs, options));
    await writeFile(join(partial, 'initramfs.cpio'), archive);
    options.progress(`The initramfs has ${megabytes(archive.length)}`);
  });
  return join(directory, 'initramfs.cpio');
}

async function collect(options: InitramfsOptions): Promise<Inputs> {
  const files = new Map<string, Buffer>();
  const add = async (guestPath: string, hostPath: string) => {
    if (files.has(guestPath)) throw new Error(`Two files for /${guestPath} in the guest`);
    files.set(guestPath, await readFile(hostPath));
  };
  await add('init', guestSource('init'));
  await add('sbin/agent', guestSource('agent'));
  await add('etc/shell', guestSource('shell'));
  await add('bin/busybox', options.busybox);
  for (const program of options.programs) {
    const path = isAbsolute(program) ? program : await buildProgram(program, options);
    await add(join('bin', basename(program)), path);
  }
  for (const [guestPath, hostPath] of Object.entries(options.extraFiles ?? {})) {
    if (!isAbsolute(guestPath)) throw new Error(`extraFiles: ${guestPath} must be an absolute path in the guest`);
    await add(join('/', guestPath).slice(1), hostPath);
  }
  const chosen = await chooseModules(options.kernel.modulesDir, options.modules ?? VFIO_MODULES);
  const modules = await Promise.all(
    chosen.map(async module => ({ ...module, packed: await readFile(join(options.kernel.modulesDir, module.path)) })),
  );
  return { files, modules };
}

function digest(inputs: Inputs): string {
  const hash = createHash('sha256').update(`layout ${LAYOUT_VERSION}\n`);
  const add = (label: string, data: Buffer) => hash.update(`${JSON.stringify(label)} ${data.length}\n`).update(data);
  for (const [path, data] of inputs.files) add(path, data);
  for (const module of inputs.modules) add(`${module.path} ${module.parameters}`, module.packed);
  return hash.digest('hex').slice(0, 24);
}

async function layOut(inputs: Inputs, options: InitramfsOptions): Promise<CpioEntry[]> {
  const entries = new Map<string, CpioEntry>();
  const addFolder = (path: string) => {
    const parent = path.includes('/') ? path.slice(0, path.lastIndexOf('/')) : '';
    if (parent !== '' && !entries.has(parent)) addFolder(parent);
    if (!entries.has(path)) entries.set(path, { kind: 'directory', path, mode: 0o755 });
  };
  const addFile = (path: string, mode: number, data: Buffer) => {
    const slash = path.lastIndexOf('/');
    if (slash > 0) addFolder(path.slice(0, slash));
    entries.set(path, { kind: 'file', path, mode, data });
  };
  for (const folder of FOLDERS) addFolder(folder);
  entries.set('bin/sh', { kind: 'symlink', path: 'bin/sh', mode: 0o777, target: 'busybox' });
  // The kernel opens the console for init before devtmpfs is there.
  entries.set('dev/console', { kind: 'character-device', path: 'dev/console', mode: 0o600, major: 5, minor: 1 });
  for (const [path, data] of inputs.files) addFile(path, 0o755, data);

  const list: string[] = [];
  for (const module of inputs.modules) {
    const file = basename(module.path).replace(/\.ko\.\w+$/, '.ko');
    const path = join(options.kernel.modulesDir, module.path);
    addFile(join('lib/modules', file), 0o644, await unpackModule(path, options.busybox));
    list.push(`${file} ${module.parameters}`.trimEnd());
  }
  addFile('lib/modules/load', 0o644, Buffer.from(list.map(line => `${line}\n`).join('')));
  return [...entries.values()];
}
