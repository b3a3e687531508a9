import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  chooseModules,
  loadOrder,
  moduleName,
  parseModulesBuiltin,
  parseModulesDep,
  unpackModule,
  VFIO_MODULES,
} from '../../images/guest/modules.ts';

/** As depmod writes it for Debian's kernel. */
const MODULES_DEP = `\
kernel/drivers/vfio/vfio.ko.xz:
kernel/drivers/vfio/vfio_iommu_type1.ko.xz: kernel/drivers/vfio/vfio.ko.xz
kernel/drivers/vfio/pci/vfio-pci-core.ko.xz: kernel/drivers/vfio/vfio.ko.xz kernel/virt/lib/irqbypass.ko.xz
kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/drivers/vfio/pci/vfio-pci-core.ko.xz kernel/drivers/vfio/vfio.ko.xz kernel/virt/lib/irqbypass.ko.xz
kernel/virt/lib/irqbypass.ko.xz:
kernel/drivers/net/dummy.ko.xz:
`;

const names = (files: readonly { path: string }[]) => files.map(file => moduleName(file.path));

describe('moduleName', () => {
  it.each([
    ['kernel/drivers/vfio/pci/vfio-pci.ko.xz', 'vfio_pci'],
    ['vfio-pci.ko', 'vfio_pci'],
    ['vfio_pci', 'vfio_pci'],
    ['vfio-pci', 'vfio_pci'],
    ['kernel/x/y.ko.gz', 'y'],
  ])('of %s is %s', (path, name) => {
    expect(moduleName(path)).toBe(name);
  });
});

describe('loadOrder', () => {
  const dependencies = parseModulesDep(MODULES_DEP);

  it('puts what a module needs before it', () => {
    const order = names(loadOrder(VFIO_MODULES, dependencies));
    expect(order.indexOf('vfio')).toBeLessThan(order.indexOf('vfio_iommu_type1'));
    expect(order.indexOf('irqbypass')).toBeLessThan(order.indexOf('vfio_pci_core'));
    expect(order.indexOf('vfio_pci_core')).toBeLessThan(order.indexOf('vfio_pci'));
  });

  it('takes exactly what the VFIO drivers need, each once', () => {
    expect(names(loadOrder(VFIO_MODULES, dependencies)).sort()).toEqual(
      ['irqbypass', 'vfio', 'vfio_iommu_type1', 'vfio_pci', 'vfio_pci_core'].sort(),
    );
  });

  it('gives parameters to the module that they are for, and to no other', () => {
    const order = loadOrder(VFIO_MODULES, dependencies);
    const given = order.filter(file => file.parameters !== '');
    expect(given.map(file => [moduleName(file.path), file.parameters])).toEqual([
      ['vfio_iommu_type1', 'allow_unsafe_interrupts=1'],
      ['vfio_pci', 'ids=1234:11e8'],
    ]);
  });

  it('gives parameters also to a module that another one needs', () => {
    const order = loadOrder([{ name: 'vfio-pci' }, { name: 'vfio', parameters: 'x=1' }], dependencies);
    expect(order.find(file => moduleName(file.path) === 'vfio')!.parameters).toBe('x=1');
  });

  it('does not care about - and _', () => {
    expect(loadOrder([{ name: 'vfio_pci' }], dependencies)).toEqual(loadOrder([{ name: 'vfio-pci' }], dependencies));
  });

  it('follows needs at second hand even if modules.dep lists only direct ones', () => {
    const direct = parseModulesDep('a.ko: b.ko\nb.ko: c.ko\nc.ko:\n');
    expect(names(loadOrder([{ name: 'a' }], direct))).toEqual(['c', 'b', 'a']);
  });

  it('leaves out what is built into the kernel', () => {
    const builtin = parseModulesBuiltin('kernel/drivers/block/loop.ko\nkernel/virt/lib/irqbypass.ko\n');
    expect(names(loadOrder([{ name: 'irqbypass' }], new Map(), builtin))).toEqual([]);
  });

  it('names a module that does not exist, and who needs it', () => {
    expect(() => loadOrder([{ name: 'nothing' }], dependencies)).toThrow('no module nothing, needed by the guest');
    expect(() => loadOrder([{ name: 'a' }], parseModulesDep('a.ko: b.ko\n'))).toThrow('no module b, needed by a');
  });

  it('notices a circle', () => {
    expect(() => loadOrder([{ name: 'a' }], parseModulesDep('a.ko: b.ko\nb.ko: a.ko\n'))).toThrow('circles');
  });

  it('orders any dependencies without circles, each module once', () => {
    // Module i may need modules with smaller numbers only.
    const graph = fc.array(fc.array(fc.nat(1000), { maxLength: 4 }), { minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(graph, needs => {
        const needed = (i: number) => (i === 0 ? [] : [...new Set(needs[i]!.map(n => n % i))]);
        const text = needs
          .map(
            (_, i) =>
              `m${i}.ko: ${needed(i)
                .map(n => `m${n}.ko`)
                .join(' ')}`,
          )
          .join('\n');
        const requests = needs.map((_, i) => ({ name: `m${needs.length - 1 - i}` }));
        const order = names(loadOrder(requests, parseModulesDep(text)));
        expect(order.length).toBe(needs.length);
        for (let i = 0; i < needs.length; i++) {
          for (const n of needed(i)) expect(order.indexOf(`m${n}`)).toBeLessThan(order.indexOf(`m${i}`));
        }
      }),
    );
  });
});

describe('files of modules', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'viommu-modules-'));
  });
  afterAll(async () => {
    await rm(folder, { recursive: true });
  });

  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  const script = async (name: string, text: string) => {
    const path = join(folder, name);
    await writeFile(path, `#!/bin/sh\n${text}\n`);
    await chmod(path, 0o755);
    return path;
  };

  it('are chosen by the lists beside them', async () => {
    await writeFile(join(folder, 'modules.dep'), MODULES_DEP);
    await writeFile(join(folder, 'modules.builtin'), 'kernel/fs/ext4/ext4.ko\n');
    const files = await chooseModules(folder, [{ name: 'vfio_iommu_type1' }, { name: 'ext4' }]);
    expect(files.map(file => file.path)).toEqual([
      'kernel/drivers/vfio/vfio.ko.xz',
      'kernel/drivers/vfio/vfio_iommu_type1.ko.xz',
    ]);
  });

  it('are taken as they are when not compressed', async () => {
    const path = join(folder, 'plain.ko');
    await writeFile(path, everyByte);
    expect(await unpackModule(path, '/nonexistent')).toEqual(everyByte);
  });

  it('are unpacked from gzip', async () => {
    const path = join(folder, 'packed.ko.gz');
    await writeFile(path, gzipSync(everyByte));
    expect(await unpackModule(path, '/nonexistent')).toEqual(everyByte);
  });

  it('are unpacked from xz by busybox, byte for byte', async () => {
    const path = join(folder, 'packed.ko.xz');
    await writeFile(path, everyByte);
    const busybox = await script('busybox', '[ "$1" = xzcat ] && exec cat "$2"');
    expect(await unpackModule(path, busybox)).toEqual(everyByte);
  });

  it('say what is wrong when busybox cannot unpack them', async () => {
    const busybox = await script('broken', 'echo corrupted data >&2; exit 1');
    await expect(unpackModule(join(folder, 'bad.ko.xz'), busybox)).rejects.toThrow(/bad\.ko\.xz.*corrupted data/);
  });

  it('are refused in a compression that is not known', async () => {
    await expect(unpackModule('a.ko.zst', '/nonexistent')).rejects.toThrow('not known');
  });
});
