/** What a kernel module for the guest is built with: its kernel's headers and its compiler, unpacked from Debian's packages. */
import { chmod, mkdir, open, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { PrivateApt } from './apt.ts';
import type { CacheOptions } from './cache.ts';
import { packageTree } from './packages.ts';

/** Names the tree to its programs: the tree is made under another name than it is used by, and a cache may be moved. */
const ROOT_VARIABLE = 'VIOMMU_MODULE_TOOLS';
/** Holds links to the programs that the kernel's makefiles call by name, and nothing else of the tree. */
const PROGRAMS = 'module-tools';
const CROSS_PREFIX = 'x86_64-linux-gnu-';
const ELF_MAGIC = Buffer.from('\x7fELF', 'latin1');

/**
 * The start of a command line of make that builds modules for this kernel: `M=FOLDER` and what else is wanted come behind it. Fetched
 * at the first call for this release. Throws an Error where the mirror has moved on to a newer kernel, or cannot be reached.
 * @param kernelRelease of Debian's package, e.g. `6.12.107+deb13-amd64`.
 */
export async function moduleMake(kernelRelease: string, options: CacheOptions): Promise<string[]> {
  const version = kernelRelease.replace(/-[^-]+$/, '');
  const compiler = 'gcc-14';
  const tree = await packageTree(
    `module-tools-${kernelRelease}`,
    async apt => [
      { suite: 'trixie', packages: await headerPackages(apt, kernelRelease, version), dependencies: false },
      { suite: 'trixie', packages: [compiler, 'make', 'libelf1t64'], dependencies: true },
    ],
    options,
    async root => {
      await wrapPrograms(root, version);
      await linkPrograms(root);
      // Debian's names its place on an installed system.
      const include = `include $(dir $(lastword $(MAKEFILE_LIST)))../linux-headers-${version}-common/Makefile\n`;
      await writeFile(join(root, 'usr/src', `linux-headers-${kernelRelease}`, 'Makefile'), include);
    },
  );
  const path = `${join(tree, PROGRAMS)}:${process.env.PATH ?? '/usr/bin:/bin'}`;
  const headers = join(tree, 'usr/src', `linux-headers-${kernelRelease}`);
  // Type information for BPF needs one more program, and no module needs it to work.
  return ['env', `${ROOT_VARIABLE}=${tree}`, `PATH=${path}`, 'make', '-C', headers, 'CONFIG_DEBUG_INFO_BTF_MODULES='];
}

async function headerPackages(apt: PrivateApt, kernelRelease: string, version: string): Promise<string[]> {
  const headers = `linux-headers-${kernelRelease}`;
  try {
    await apt.field(headers, 'Version', 'trixie');
  } catch (error) {
    throw new Error(
      `there are no headers of Linux ${kernelRelease} to be had any more: remove trees/guest-trixie from the cache, so that the ` +
        `newer kernel is fetched, and try again. ${(error as Error).message}`,
    );
  }
  return [headers, `linux-headers-${version}-common`, `linux-kbuild-${version}`];
}

/** They need Debian 13's C library, which this machine may not have: each becomes a script that starts it with the tree's own. */
async function wrapPrograms(root: string, version: string): Promise<void> {
  const folders = ['usr/libexec/gcc', `usr/lib/linux-kbuild-${version}`].map(folder => join(root, folder));
  for (const folder of folders) {
    for (const path of await executables(folder)) await wrap(path);
  }
  for (const path of await executables(join(root, 'usr/bin'))) {
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (name.startsWith(CROSS_PREFIX) || name === 'make') await wrap(path);
  }
}

async function executables(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  const files = entries
    .filter(entry => entry.isFile() && !/\.(?:so|elf|o|a)\b/.test(entry.name))
    .map(entry => join(entry.parentPath, entry.name));
  const flags = await Promise.all(files.map(isElf));
  return files.filter((_, index) => flags[index]);
}

async function isElf(path: string): Promise<boolean> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(ELF_MAGIC.length), 0, ELF_MAGIC.length, 0);
    return bytesRead === ELF_MAGIC.length && buffer.equals(ELF_MAGIC);
  } finally {
    await file.close();
  }
}

async function wrap(path: string): Promise<void> {
  await rename(path, `${path}.elf`);
  // The compiler finds its parts by the name that it was called by, the archive tools by where links lead.
  const script = [
    '#!/bin/sh',
    `root=$${ROOT_VARIABLE}`,
    'exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" --argv0 "$0" \\',
    '  "$(readlink -f "$0").elf" "$@"',
  ];
  await writeFile(path, `${script.join('\n')}\n`);
  await chmod(path, 0o755);
}

async function linkPrograms(root: string): Promise<void> {
  await mkdir(join(root, PROGRAMS));
  for (const name of await readdir(join(root, 'usr/bin'))) {
    if ((!name.startsWith(CROSS_PREFIX) && name !== 'make') || name.endsWith('.elf')) continue;
    await symlink(join('..', 'usr/bin', name), join(root, PROGRAMS, name));
  }
}

/** What kbuild says it has built, in the order of `obj-m`: absolute paths of `.ko` files (modules.order). */
export async function builtModules(sources: string): Promise<string[]> {
  const order = await readFile(join(sources, 'modules.order'), 'utf8');
  return order
    .split('\n')
    .filter(line => line !== '')
    .map(line => resolve(sources, line.replace(/\.o$/, '.ko')));
}
