import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { buildInitramfs, type InitramfsOptions } from '../../images/guest/initramfs.ts';
import { guestSource } from '../../images/guest/sources.ts';
import { readCpio } from './read-cpio.ts';

let folder: string;
let options: InitramfsOptions;
let said: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'viommu-initramfs-'));
  const modulesDir = join(folder, 'modules');
  await mkdir(join(modulesDir, 'kernel/vfio'), { recursive: true });
  const files = ['vfio', 'vfio_iommu_type1', 'vfio-pci'];
  for (const name of files) await writeFile(join(modulesDir, `kernel/vfio/${name}.ko`), `module ${name}`);
  const dep = files.map(name => `kernel/vfio/${name}.ko: ${name === 'vfio' ? '' : 'kernel/vfio/vfio.ko'}\n`);
  await writeFile(join(modulesDir, 'modules.dep'), dep.join(''));
  await writeFile(join(modulesDir, 'modules.builtin'), '');
  await writeFile(join(folder, 'busybox'), 'the busybox');
  await writeFile(join(folder, 'tool'), 'the tool');
  said = [];
  options = {
    cache: join(folder, 'cache'),
    progress: message => void said.push(message),
    kernel: { modulesDir, kernelRelease: '6.12.0-test' },
    busybox: join(folder, 'busybox'),
    programs: [join(folder, 'tool')],
  };
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const members = async (path: string) =>
  new Map(readCpio(await readFile(path)).map(member => [member.path, member] as const));

describe('buildInitramfs', () => {
  it('has an executable init, the agent, busybox as the shell, and the programs', async () => {
    const found = await members(await buildInitramfs(options));
    expect(found.get('init')!.data).toEqual(await readFile(guestSource('init')));
    expect(found.get('sbin/agent')!.data).toEqual(await readFile(guestSource('agent')));
    for (const path of ['init', 'sbin/agent', 'bin/busybox', 'bin/tool']) expect(found.get(path)!.mode).toBe(0o100755);
    expect(found.get('bin/tool')!.data.toString()).toBe('the tool');
    expect(found.get('bin/sh')!.data.toString()).toBe('busybox');
  });

  it('has a console for init, before anything is mounted', async () => {
    const found = await members(await buildInitramfs(options));
    expect(found.get('dev/console')).toMatchObject({ mode: 0o020600, major: 5, minor: 1 });
  });

  it('has the modules, and a list that says in which order and how to load them', async () => {
    const found = await members(await buildInitramfs(options));
    expect(found.get('lib/modules/load')!.data.toString()).toBe(
      'vfio.ko\nvfio_iommu_type1.ko allow_unsafe_interrupts=1\nvfio-pci.ko ids=1234:11e8\n',
    );
    expect(found.get('lib/modules/vfio-pci.ko')!.data.toString()).toBe('module vfio-pci');
  });

  it('takes other modules on request', async () => {
    const found = await members(await buildInitramfs({ ...options, modules: [{ name: 'vfio' }] }));
    expect(found.get('lib/modules/load')!.data.toString()).toBe('vfio.ko\n');
    expect(found.has('lib/modules/vfio-pci.ko')).toBe(false);
  });

  it('puts extra files where they are wanted', async () => {
    const extraFiles = { '/opt/tests/one': join(folder, 'tool') };
    const found = await members(await buildInitramfs({ ...options, extraFiles }));
    expect(found.get('opt/tests/one')!.data.toString()).toBe('the tool');
    expect(found.get('opt/tests')!.mode).toBe(0o040755);
  });

  it('refuses two files in one place, and a place that is not absolute', async () => {
    const tool = join(folder, 'tool');
    await expect(buildInitramfs({ ...options, extraFiles: { '/bin/tool': tool } })).rejects.toThrow('Two files');
    await expect(buildInitramfs({ ...options, extraFiles: { 'bin/x': tool } })).rejects.toThrow('absolute');
  });

  it('comes from the cache for the same inputs', async () => {
    const first = await buildInitramfs(options);
    const words = said.length;
    expect(await buildInitramfs(options)).toBe(first);
    expect(said.length).toBe(words);
  });

  it.each(['busybox', 'tool', 'modules/kernel/vfio/vfio.ko'])('is made anew when %s changes', async changed => {
    const first = await buildInitramfs(options);
    await writeFile(join(folder, changed), 'something else');
    expect(await buildInitramfs(options)).not.toBe(first);
  });

  it('is made anew when a parameter changes', async () => {
    const first = await buildInitramfs({ ...options, modules: [{ name: 'vfio', parameters: 'a=1' }] });
    const second = await buildInitramfs({ ...options, modules: [{ name: 'vfio', parameters: 'a=2' }] });
    expect(second).not.toBe(first);
  });

  it('leaves nothing behind when it fails', async () => {
    const path = join(options.kernel.modulesDir, 'modules.dep');
    await writeFile(path, (await readFile(path, 'utf8')).replaceAll('vfio-pci.ko', 'vfio-pci.ko.zst'));
    await writeFile(join(options.kernel.modulesDir, 'kernel/vfio/vfio-pci.ko.zst'), '');
    await expect(buildInitramfs(options)).rejects.toThrow('compression');
    await writeFile(path, (await readFile(path, 'utf8')).replaceAll('vfio-pci.ko.zst', 'vfio-pci.ko'));
    expect((await members(await buildInitramfs(options))).size).toBeGreaterThan(0);
  });
});

describe('the scripts', () => {
  it.each(['init', 'agent'])('%s are well-formed shell', name => {
    const { status, stderr } = spawnSync('sh', ['-n', guestSource(name)], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});
