/** The kernel that a test runs on, with the initramfs that goes with it. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { buildInitramfs } from '../../../images/guest/initramfs.ts';
import {
  type ModuleRequest,
  moduleName,
  parseModulesBuiltin,
  parseModulesDep,
  VFIO_MODULES,
} from '../../../images/guest/modules.ts';
import { provisionGuestPackages } from '../../../qemu/provision.ts';
import { UsageError } from '../errors.ts';
import { printProgress } from '../progress.ts';
import { stockGuest } from '../stock-guest.ts';

export interface KernelFlags {
  readonly kernel?: string;
  readonly modulesDir?: string;
  readonly append?: string;
}

export interface TestKernel {
  readonly image: string;
  readonly initramfs: string;
  readonly append: string;
  /** With modules.dep; undefined for a kernel of the user's that came without. */
  readonly modulesDir: string | undefined;
  /** Of Debian's package; undefined for a kernel of the user's. */
  readonly stockRelease: string | undefined;
  /** A static program that unpacks modules. */
  readonly busybox: string;
}

/**
 * Errors and worse reach the console, where they are seen even when the guest cannot be asked any more. `iommu=soft` is no less of an
 * IOMMU: it makes bounce buffers, which every kernel has on a machine with more than 4 GiB. Without them the kernel refuses to map
 * anything but whole pages for a device that it does not trust, as those behind our root ports (Linux, drivers/iommu/dma-iommu.c).
 */
const APPEND = 'console=ttyS0 quiet iommu=soft';

export function checkKernelFlags({ kernel, modulesDir }: KernelFlags): void {
  if (kernel !== undefined && !existsSync(kernel)) throw new UsageError(`there is no kernel ${kernel}`);
  if (modulesDir === undefined) return;
  if (kernel === undefined) throw new UsageError('--modules-dir belongs to a --kernel of your own');
  for (const name of ['modules.dep', 'modules.builtin']) {
    if (existsSync(join(modulesDir, name))) continue;
    throw new UsageError(
      `${modulesDir} has no ${name}: it is to be the folder that 'make modules_install' makes, lib/modules/RELEASE`,
    );
  }
}

export async function prepareKernel({ kernel, modulesDir, append = '' }: KernelFlags): Promise<TestKernel> {
  const packages = await provisionGuestPackages({ progress: printProgress });
  const { busybox } = packages;
  const line = `${APPEND} ${append}`.trimEnd();
  if (kernel === undefined) {
    const boot = await stockGuest(line);
    if (boot.kind !== 'kernel') throw new Error('the stock guest is no kernel');
    return {
      image: boot.kernel,
      initramfs: boot.initrd!,
      append: line,
      modulesDir: packages.modulesDir,
      stockRelease: packages.kernelRelease,
      busybox,
    };
  }
  const folder = modulesDir === undefined ? undefined : resolve(modulesDir);
  const initramfs = await buildInitramfs({
    kernel: {
      modulesDir: folder ?? packages.modulesDir,
      kernelRelease: folder === undefined ? 'own-kernel' : basename(folder),
    },
    busybox,
    programs: [],
    modules: folder === undefined ? [] : await availableModules(folder),
    progress: printProgress,
  });
  return { image: resolve(kernel), initramfs, append: line, modulesDir: folder, stockRelease: undefined, busybox };
}

/** A kernel made for one driver may do without VFIO. */
async function availableModules(modulesDir: string): Promise<ModuleRequest[]> {
  const modules = await knownModules(modulesDir);
  return VFIO_MODULES.filter(({ name }) => modules.files.has(moduleName(name)));
}

export interface KnownModules {
  readonly files: ReturnType<typeof parseModulesDep>;
  readonly builtin: ReadonlySet<string>;
}

export async function knownModules(modulesDir: string): Promise<KnownModules> {
  const read = (name: string) => readFile(join(modulesDir, name), 'utf8');
  return {
    files: parseModulesDep(await read('modules.dep')),
    builtin: parseModulesBuiltin(await read('modules.builtin')),
  };
}
