import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { provisionTool } from '../../qemu/packages.ts';
import {
  type GuestPackages,
  isRecentEnough,
  parseVersion,
  provisionQemu,
  type QemuInstallation,
  realKernelPackage,
} from '../../qemu/provision.ts';
import { run } from '../../qemu/run.ts';
import { PROVISION_TIMEOUT_MS, realGuestPackages, realQemu, say, temporaryDirectory } from './support.ts';

const directory = temporaryDirectory();

describe('versions', () => {
  it('are read from what QEMU says', () => {
    expect(parseVersion('QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)\nCopyright')).toBe('11.1.3');
    expect(parseVersion('QEMU emulator version 10.2\n')).toBe('10.2');
    expect(parseVersion('GNU bash, version 5.2')).toBeUndefined();
  });

  it('count from 10.1 on', () => {
    expect(['7.2.0', '10.0.13', '10.1.0', '11.0.0', '9.9'].map(isRecentEnough)).toEqual([
      false,
      false,
      true,
      true,
      false,
    ]);
  });
});

describe('the kernel package', () => {
  it('is the one that the empty package depends on', () => {
    expect(realKernelPackage('linux-image-6.12.107+deb13-amd64 (= 6.12.107-1)')).toBe(
      'linux-image-6.12.107+deb13-amd64',
    );
    expect(realKernelPackage('linux-base-amd64, linux-image-7.3.4+deb13-amd64 (= 1)')).toBe(
      'linux-image-7.3.4+deb13-amd64',
    );
  });

  it('must be there', () => {
    expect(() => realKernelPackage('linux-base')).toThrow(/names no kernel package/);
  });
});

describe("a QEMU of the user's", () => {
  /** A program that answers as QEMU does. */
  async function pretend(name: string, version: string, devices: string): Promise<string> {
    const path = join(directory, name, 'qemu-system-x86_64');
    await mkdir(join(directory, name), { recursive: true });
    await writeFile(
      path,
      `#!/bin/sh\ncase "$1" in --version) echo 'QEMU emulator version ${version}';; *) echo '${devices}';; esac\n`,
    );
    await chmod(path, 0o755);
    return path;
  }
  const progress = () => {};

  it('is used as it is', async () => {
    const path = await pretend('new', '10.1.2', 'name "vfio-user-pci", bus PCI');
    expect(await provisionQemu({ path, progress })).toMatchObject({ argv: [path], version: '10.1.2' });
  });

  it('is found on PATH', async () => {
    const path = await pretend('on-path', '12.0.0', 'name "vfio-user-pci", bus PCI');
    const searchPath = `${join(directory, 'nowhere')}:${join(directory, 'on-path')}`;
    expect((await provisionQemu({ searchPath, progress })).argv).toEqual([path]);
  });

  it('is refused when it is too old', async () => {
    const path = await pretend('old', '7.2.19', 'name "vfio-user-pci"');
    await expect(provisionQemu({ path, progress })).rejects.toThrow(
      /is QEMU 7\.2\.19; vfio-user-pci needs 10\.1 or newer/,
    );
  });

  it('is refused without the device', async () => {
    const path = await pretend('without', '11.0.0', 'name "vfio-pci", bus PCI');
    await expect(provisionQemu({ path, progress })).rejects.toThrow(/built without vfio-user-pci/);
  });

  it('is refused when it is not there or something else', async () => {
    await expect(provisionQemu({ path: join(directory, 'none'), progress })).rejects.toThrow(
      /there is no such program/,
    );
    await expect(provisionQemu({ path: '/bin/echo', progress })).rejects.toThrow(/does not say a QEMU version/);
  });
});

describe('the provisioned QEMU', () => {
  let qemu: QemuInstallation;
  beforeAll(async () => {
    qemu = await realQemu();
  }, PROVISION_TIMEOUT_MS);

  it('has vfio-user-pci', async () => {
    expect(isRecentEnough(qemu.version)).toBe(true);
    const devices = await run([...qemu.argv, '-device', 'help']);
    expect(devices.stdout).toContain('"vfio-user-pci"');
  });

  it('has UEFI firmware', async () => {
    expect((await stat(qemu.ovmf!.code)).size).toBeGreaterThan(1_000_000);
    expect((await stat(qemu.ovmf!.vars)).size).toBeGreaterThan(100_000);
  });
});

describe('the provisioned guest packages', () => {
  let guest: GuestPackages;
  beforeAll(async () => {
    guest = await realGuestPackages();
  }, PROVISION_TIMEOUT_MS);

  it('have a kernel of that release', async () => {
    const image = await readFile(guest.vmlinuz);
    // Boot protocol header, "HdrS" at 0x202 (Linux, Documentation/arch/x86/boot.rst), and the version it points at.
    expect(image.toString('latin1', 0x202, 0x206)).toBe('HdrS');
    const version = 0x200 + image.readUInt16LE(0x20e);
    expect(image.toString('latin1', version, version + guest.kernelRelease.length)).toBe(guest.kernelRelease);
  });

  it('have the modules with their dependencies', async () => {
    const lines = (await readFile(join(guest.modulesDir, 'modules.dep'), 'utf8')).split('\n');
    const line = lines.find(one => /\/vfio-pci\.ko\.xz:/.test(one))!;
    expect(line).toMatch(/vfio-pci-core\.ko\.xz/);
    await stat(join(guest.modulesDir, line.split(':')[0]!));
  });

  it('have a busybox that runs here and unpacks modules', async () => {
    expect((await run([guest.busybox, 'echo', 'ok'])).stdout).toBe('ok\n');
    expect((await run([guest.busybox, '--list'])).stdout.split('\n')).toEqual(
      expect.arrayContaining(['unxz', 'sh', 'cpio']),
    );
  });
});

describe('provisionTool', () => {
  it('gives a program of PATH as it is', async () => {
    expect(await provisionTool('cat', 'coreutils', { progress: say })).toEqual(['cat']);
  });

  it('unpacks one that is not there', { timeout: PROVISION_TIMEOUT_MS }, async () => {
    const argv = await provisionTool('iasl', 'acpica-tools', { progress: say });
    expect((await run([...argv, '-v'])).stdout).toMatch(/ASL\+ Optimizing Compiler/);
  });
});
