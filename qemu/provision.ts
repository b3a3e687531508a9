/** An unmodified QEMU with vfio-user-pci, and Debian's kernel and busybox for a guest: what the user has, or unpacked ones. */
import { readdir, symlink } from 'node:fs/promises';
import { delimiter, dirname, join, resolve } from 'node:path';
import { type CacheOptions, exists } from './cache.ts';
import { packageTree, treeCommand } from './packages.ts';
import { CommandMissing, run } from './run.ts';

/** The first QEMU release with vfio-user-pci. */
export const MINIMUM_QEMU = [10, 1] as const;

const PROGRAM = 'qemu-system-x86_64';
/** How long QEMU may take to say its version or its devices, in milliseconds. */
const ANSWER_TIMEOUT_MS = 30_000;

export interface OvmfFirmware {
  readonly code: string;
  /** The template; every QEMU gets a copy of its own, because firmware writes to it. */
  readonly vars: string;
}

export interface QemuInstallation {
  /** What a command line starts with: loader and library path where needed, the program, directories with its data. */
  readonly argv: readonly string[];
  /** As the program says, e.g. `11.1.3`. */
  readonly version: string;
  /** Undefined when the user's own QEMU comes without UEFI firmware. */
  readonly ovmf: OvmfFirmware | undefined;
}

export interface ProvisionQemuOptions extends CacheOptions {
  /** A QEMU that the user wants; it is used or refused, never replaced silently. */
  readonly path?: string;
  /** Where to look for an installed QEMU; default `$PATH`. */
  readonly searchPath?: string;
}

export async function provisionQemu(options: ProvisionQemuOptions): Promise<QemuInstallation> {
  if (options.path !== undefined) {
    const verdict = await inspect([options.path], await systemFirmware(options.path));
    if (typeof verdict === 'string') throw new Error(`${options.path} cannot be used: ${verdict}`);
    return verdict;
  }
  const installed = await findOnPath(PROGRAM, options.searchPath ?? process.env.PATH ?? '');
  if (installed !== undefined) {
    const verdict = await inspect([installed], await systemFirmware(installed));
    if (typeof verdict !== 'string') return verdict;
    options.progress(`${installed} is not used: ${verdict}`);
  }
  return await unpackedQemu(options);
}

async function unpackedQemu(options: CacheOptions): Promise<QemuInstallation> {
  const tree = await packageTree(
    'qemu-trixie-backports',
    async () => [
      { suite: 'trixie-backports', packages: ['qemu-system-x86', 'seabios', 'ipxe-qemu', 'ovmf'], dependencies: true },
    ],
    options,
  );
  const data = ['usr/share/qemu', 'usr/share/seabios', 'usr/lib/ipxe/qemu'].map(path => join(tree, path));
  const argv = [...(await treeCommand(tree, join('usr/bin', PROGRAM))), ...data.flatMap(path => ['-L', path])];
  const firmware = join(tree, 'usr/share/OVMF');
  const ovmf = { code: join(firmware, 'OVMF_CODE_4M.fd'), vars: join(firmware, 'OVMF_VARS_4M.fd') };
  const verdict = await inspect(argv, ovmf);
  if (typeof verdict === 'string') throw new Error(`The QEMU unpacked in ${tree} cannot be used: ${verdict}`);
  return verdict;
}

/** The installation, or the reason why it will not do. */
async function inspect(argv: readonly string[], ovmf: OvmfFirmware | undefined): Promise<QemuInstallation | string> {
  let said: string;
  try {
    const result = await run([...argv, '--version'], { timeoutMs: ANSWER_TIMEOUT_MS });
    if (result.status !== 0) return `--version ends with status ${result.status}: ${result.stderr.trim()}`;
    said = result.stdout;
  } catch (error) {
    if (error instanceof CommandMissing) return 'there is no such program';
    return (error as Error).message;
  }
  const version = parseVersion(said);
  if (version === undefined) return `it does not say a QEMU version: ${said.trim().slice(0, 80)}`;
  if (!isRecentEnough(version)) return `it is QEMU ${version}; vfio-user-pci needs ${MINIMUM_QEMU.join('.')} or newer`;
  const devices = await run([...argv, '-device', 'help'], { timeoutMs: ANSWER_TIMEOUT_MS });
  if (!devices.stdout.includes('"vfio-user-pci"')) return `it is QEMU ${version}, but was built without vfio-user-pci`;
  return { argv, version, ovmf };
}

/** From the first line of `--version`. */
export function parseVersion(said: string): string | undefined {
  return /^QEMU emulator version (\d+\.\d+(?:\.\d+)?)/m.exec(said)?.[1];
}

export function isRecentEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > MINIMUM_QEMU[0] || (major === MINIMUM_QEMU[0] && minor >= MINIMUM_QEMU[1]);
}

async function findOnPath(program: string, searchPath: string): Promise<string | undefined> {
  for (const directory of searchPath.split(delimiter)) {
    if (directory === '') continue;
    const candidate = join(directory, program);
    // A directory that may not be looked into holds nothing for us.
    if (await exists(candidate).catch(() => false)) return candidate;
  }
  return undefined;
}

/** Where distributions put OVMF (Debian, Fedora, Arch) and QEMU's own build of it, below a `share` directory. */
const OVMF_PLACES: readonly (readonly [code: string, vars: string])[] = [
  ['OVMF/OVMF_CODE_4M.fd', 'OVMF/OVMF_VARS_4M.fd'],
  ['edk2/ovmf/OVMF_CODE.fd', 'edk2/ovmf/OVMF_VARS.fd'],
  ['edk2/x64/OVMF_CODE.4m.fd', 'edk2/x64/OVMF_VARS.4m.fd'],
  ['qemu/edk2-x86_64-code.fd', 'qemu/edk2-i386-vars.fd'],
];

async function systemFirmware(program: string): Promise<OvmfFirmware | undefined> {
  const shares = [...new Set([resolve(dirname(program), '../share'), '/usr/share'])];
  for (const share of shares) {
    for (const [code, vars] of OVMF_PLACES) {
      const firmware = { code: join(share, code), vars: join(share, vars) };
      if ((await exists(firmware.code)) && (await exists(firmware.vars))) return firmware;
    }
  }
  return undefined;
}

export interface GuestPackages {
  /** The tree that the kernel package was unpacked in. */
  readonly kernelPackageRoot: string;
  readonly vmlinuz: string;
  /** `…/lib/modules/<kernelRelease>`, with modules.dep; the modules are `.ko.xz`. */
  readonly modulesDir: string;
  readonly kernelRelease: string;
  /** A static program: runs on the host too, e.g. `busybox unxz`. */
  readonly busybox: string;
}

const BUSYBOX = 'usr/bin/busybox';

/** Debian 13's stock kernel and busybox, unpacked. */
export async function provisionGuestPackages(options: CacheOptions): Promise<GuestPackages> {
  const tree = await packageTree(
    'guest-trixie',
    async apt => {
      const kernel = realKernelPackage(await apt.field('linux-image-amd64', 'Depends', 'trixie'));
      return [{ suite: 'trixie', packages: [kernel, 'busybox-static'], dependencies: false }];
    },
    options,
    async root => {
      const release = await kernelRelease(root);
      options.progress(`Reading the dependencies of the modules of Linux ${release}`);
      // The package has its modules in usr/lib; depmod looks in lib, which is a link on an installed system.
      await symlink('usr/lib', join(root, 'lib'));
      const result = await run([join(root, BUSYBOX), 'depmod', '-b', root, release]);
      if (result.status !== 0) throw new Error(`depmod failed: ${result.stderr.trim()}`);
    },
  );
  const release = await kernelRelease(tree);
  return {
    kernelPackageRoot: tree,
    vmlinuz: join(tree, 'boot', `vmlinuz-${release}`),
    modulesDir: join(tree, 'usr/lib/modules', release),
    kernelRelease: release,
    busybox: join(tree, BUSYBOX),
  };
}

/** `linux-image-amd64` is empty and depends on the package with the kernel: the one named first, without its version. */
export function realKernelPackage(depends: string): string {
  const name = depends
    .split(',')
    .map(part => part.trim().split(' ')[0]!)
    .find(part => /^linux-image-\d/.test(part));
  if (name === undefined) throw new Error(`linux-image-amd64 names no kernel package: ${depends}`);
  return name;
}

async function kernelRelease(tree: string): Promise<string> {
  const kernel = (await readdir(join(tree, 'boot'))).find(name => name.startsWith('vmlinuz-'));
  if (kernel === undefined) throw new Error(`No kernel in ${join(tree, 'boot')}`);
  return kernel.slice('vmlinuz-'.length);
}
