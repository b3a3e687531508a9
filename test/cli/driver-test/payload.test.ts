import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeCpio } from '../../../images/guest/cpio.ts';
import { readModuleInfo } from '../../../images/guest/module-info.ts';
import type { TestKernel } from '../../../src/cli/driver-test/kernel.ts';
import { isInArchive, makePayload, writeArchive } from '../../../src/cli/driver-test/payload.ts';
import { planTest, type TestFlags } from '../../../src/cli/driver-test/plan.ts';
import { ModuleBuilder } from '../../../src/cli/driver-test/source.ts';
import { moduleBytes } from '../../images/module-bytes.ts';
import { readCpio } from '../../images/read-cpio.ts';

let directory: string;
let kernel: TestKernel;
const at = (name: string) => join(directory, name);

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-payload-'));
  mkdirSync(at('kernel'));
  const depends = { far: '', near: 'far', wanted: 'near' };
  for (const [name, needs] of Object.entries(depends)) {
    writeFileSync(at(`kernel/${name}.ko`), moduleBytes({ name, depends: needs }));
  }
  writeFileSync(
    at('modules.dep'),
    'kernel/far.ko:\nkernel/near.ko: kernel/far.ko\nkernel/wanted.ko: kernel/near.ko kernel/far.ko\n',
  );
  writeFileSync(at('modules.builtin'), 'kernel/inside.ko\n');
  writeFileSync(at('my.ko'), moduleBytes({ name: 'my', depends: 'near,helper,inside,unheard' }));
  writeFileSync(at('helper.ko'), moduleBytes({ name: 'helper', depends: '' }));
  writeFileSync(at('again.ko'), moduleBytes({ name: 'my' }));
  writeFileSync(at('none.ko'), 'not a module');
  writeFileSync(at('run.sh'), 'true\n');
  kernel = {
    image: '',
    initramfs: '',
    append: '',
    modulesDir: directory,
    stockRelease: undefined,
    busybox: 'busybox',
  };
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const payload = (flags: TestFlags, on = kernel) => makePayload(planTest(flags, []), on, new ModuleBuilder(directory));

describe('makePayload', () => {
  it("loads what a module needs of the kernel's own before it, farthest first, and leaves the rest to the kernel", async () => {
    const { modules } = await payload({ module: [at('helper.ko'), at('my.ko')], moduleParams: ['my:a=1'] });
    expect(modules.map(({ name, isNeeded, parameters }) => [name, isNeeded, parameters])).toEqual([
      ['helper', false, ''],
      ['far', true, ''],
      ['near', true, ''],
      ['my', false, 'a=1'],
    ]);
  });

  it('has the bytes of each module where insmod looks for it', async () => {
    const { modules, files } = await payload({ module: ['wanted'] });
    const bytes = new Map(files.map(one => [one.guestPath, one.bytes]));
    expect(modules.map(({ guestPath }) => readModuleInfo(bytes.get(guestPath)!)?.name)).toEqual([
      'far',
      'near',
      'wanted',
    ]);
  });

  it('does not need modules of a kernel that came without', async () => {
    const { modules } = await payload({ module: [at('my.ko')] }, { ...kernel, modulesDir: undefined });
    expect(modules.map(({ name }) => name)).toEqual(['my']);
  });

  it('has nothing to load for what is built in', async () => {
    expect((await payload({ module: ['inside'] })).modules).toEqual([]);
  });

  it.each<[string, TestFlags, RegExp]>([
    ['a module that the kernel has not', { module: ['nowhere'] }, /no module nowhere/],
    ['two modules of one name', { module: ['./my.ko', './again.ko'] }, /two modules named my/],
    ['a file that is no module', { module: ['./none.ko'] }, /none\.ko is no kernel module/],
  ])('refuses %s', async (_, { module = [] }, message) => {
    const flags = { module: module.map(name => (name.startsWith('./') ? at(name) : name)) };
    await expect(payload(flags)).rejects.toThrow(message);
  });

  it('refuses to build for a kernel that it has no headers of', async () => {
    mkdirSync(at('source'), { recursive: true });
    writeFileSync(at('source/Kbuild'), '');
    await expect(payload({ moduleSource: [at('source')] })).rejects.toThrow(/name it with --module/);
  });
});

describe('writeArchive', () => {
  it('puts the files behind the initramfs, with the folders above them', async () => {
    const base = writeCpio([{ kind: 'directory', path: 'bin', mode: 0o755 }]);
    writeFileSync(at('base'), base);
    const file = { guestPath: '/a/b/c', mode: 0o640, bytes: Buffer.from('content') };
    await writeArchive(at('base'), [file], at('archive'));
    const written = readFileSync(at('archive'));
    expect(written.subarray(0, base.length)).toEqual(base);
    const members = new Map(readCpio(written.subarray(base.length)).map(one => [one.path, one]));
    expect([...members.keys()]).toEqual(expect.arrayContaining(['test', 'sbin/run-case', 'a', 'a/b', 'a/b/c']));
    expect(members.get('a/b/c')!.data.toString()).toBe('content');
    expect(members.get('a/b/c')!.mode & 0o7777).toBe(0o640);
    expect(members.get('sbin/run-case')!.mode & 0o7777).toBe(0o755);
  });

  it('is not for what the guest mounts something over', () => {
    expect(['/tmp/x', '/run/a/b', '/tmpx', '/test/tmp/x'].map(guestPath => isInArchive({ guestPath }))).toEqual([
      false,
      false,
      true,
      true,
    ]);
  });
});
