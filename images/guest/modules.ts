/** Kernel modules for the guest: which files, in which order, unpacked. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gunzipSync } from 'node:zlib';

export interface ModuleRequest {
  /** As `modprobe` takes it; `-` and `_` are the same. */
  readonly name: string;
  /** As `insmod` takes them, e.g. `ids=1234:11e8`. */
  readonly parameters?: string;
}

export interface ModuleFile {
  /** Below the folder with modules.dep, e.g. `kernel/drivers/vfio/vfio.ko.xz`. */
  readonly path: string;
  readonly parameters: string;
}

/** VFIO's type 1 back end and its PCI driver, bound to the edu device. */
export const VFIO_MODULES: readonly ModuleRequest[] = [
  // Without interrupt remapping the kernel wants to be told that a device may forge interrupts.
  { name: 'vfio_iommu_type1', parameters: 'allow_unsafe_interrupts=1' },
  { name: 'vfio-pci', parameters: 'ids=1234:11e8' },
];

/** A module is a few hundred kilobytes; more than this is not one. */
const MAX_MODULE_SIZE = 64 * 1024 * 1024;

/** Of a module in modules.dep: its file, and the files that it needs loaded before it, nearest first (modules.dep(5)). */
type Dependencies = ReadonlyMap<string, { readonly path: string; readonly needs: readonly string[] }>;

export function parseModulesDep(text: string): Dependencies {
  const modules = new Map<string, { path: string; needs: string[] }>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon < 0) continue;
    const path = line.slice(0, colon).trim();
    const needs = line
      .slice(colon + 1)
      .split(/\s+/)
      .filter(word => word !== '');
    modules.set(moduleName(path), { path, needs });
  }
  return modules;
}

/** From `modules.builtin`: names of what the kernel has without loading. */
export function parseModulesBuiltin(text: string): ReadonlySet<string> {
  return new Set(
    text
      .split('\n')
      .filter(line => line !== '')
      .map(moduleName),
  );
}

/**
 * The files to load, each after those that it needs, none twice. What is built into the kernel is left out.
 * Throws when a module does not exist or modules.dep goes in circles.
 */
export function loadOrder(
  requests: readonly ModuleRequest[],
  dependencies: Dependencies,
  builtin: ReadonlySet<string> = new Set(),
): ModuleFile[] {
  const parameters = new Map(requests.map(request => [moduleName(request.name), request.parameters ?? '']));
  const order: ModuleFile[] = [];
  const state = new Map<string, 'open' | 'done'>();
  const visit = (name: string, wantedBy: string): void => {
    if (state.get(name) === 'done') return;
    if (state.get(name) === 'open') throw new Error(`modules.dep goes in circles at ${name}, needed by ${wantedBy}`);
    const module = dependencies.get(name);
    if (module === undefined) {
      if (builtin.has(name)) return;
      throw new Error(`This kernel has no module ${name}, needed by ${wantedBy}`);
    }
    state.set(name, 'open');
    // The farthest first: depmod lists what is needed at second hand behind what needs it.
    for (const path of [...module.needs].reverse()) visit(moduleName(path), name);
    state.set(name, 'done');
    order.push({ path: module.path, parameters: parameters.get(name) ?? '' });
  };
  for (const request of requests) visit(moduleName(request.name), 'the guest');
  return order;
}

/** `kernel/drivers/vfio/pci/vfio-pci.ko.xz` and `vfio-pci` are both `vfio_pci`. */
export function moduleName(pathOrName: string): string {
  return basename(pathOrName)
    .replace(/\.ko(\.\w+)?$/, '')
    .replaceAll('-', '_');
}

/** @param modulesDir holds modules.dep, e.g. `/lib/modules/6.12.107+deb13-amd64`. */
export async function chooseModules(modulesDir: string, requests: readonly ModuleRequest[]): Promise<ModuleFile[]> {
  const dependencies = parseModulesDep(await readFile(join(modulesDir, 'modules.dep'), 'utf8'));
  const builtin = parseModulesBuiltin(await readFile(join(modulesDir, 'modules.builtin'), 'utf8'));
  return loadOrder(requests, dependencies, builtin);
}

/** The module as `insmod` wants it. `busybox` unpacks xz, so that the host need not have it. */
export async function unpackModule(path: string, busybox: string): Promise<Buffer> {
  if (path.endsWith('.ko')) return await readFile(path);
  if (path.endsWith('.ko.gz')) return gunzipSync(await readFile(path));
  if (path.endsWith('.ko.xz')) return await unxz(path, busybox);
  throw new Error(`${path}: this compression is not known here; .ko, .ko.gz and .ko.xz are`);
}

function unxz(path: string, busybox: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { encoding: 'buffer', maxBuffer: MAX_MODULE_SIZE } as const;
    execFile(busybox, ['xzcat', path], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${path} cannot be unpacked: ${stderr.toString().trim() || error.message}`));
    });
  });
}
