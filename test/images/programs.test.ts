import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildProgram, buildProgramIn } from '../../images/guest/programs.ts';
import { run } from '../../qemu/run.ts';
import { operationNames } from '../../src/iommu/dma-iommu/opcodes.ts';

const COMPILING_MS = 60_000;

let cache: string;
let said: string[];
const options = () => ({ cache, progress: (message: string) => void said.push(message) });

beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), 'viommu-programs-'));
});
afterAll(async () => {
  await rm(cache, { recursive: true });
});
beforeEach(() => {
  said = [];
});

describe('dma-demo', { timeout: COMPILING_MS }, () => {
  it('is built without warnings, as a static program', async () => {
    const path = await buildProgram('dma-demo', options());
    const { stdout } = await run(['readelf', '-l', path]);
    expect(stdout).toContain('LOAD');
    expect(stdout).not.toContain('INTERP');
  });

  it('lists its cases', async () => {
    const { status, stdout } = await run([await buildProgram('dma-demo', options()), '--list']);
    const names = stdout
      .trim()
      .split('\n')
      .map(line => line.split(/\s+/)[0]);
    expect(status).toBe(0);
    expect(names).toEqual([
      'device-reads',
      'device-writes',
      'scattered',
      'large-pages',
      'two-domains',
      'read-only',
      'read-only-cached',
      'msi',
      'remap',
      'intx',
      'use-after-unmap',
      'unmapped',
    ]);
  });

  it('fails a case, in one JSON object, for a device that is not there', async () => {
    const program = await buildProgram('dma-demo', options());
    const { status, stdout } = await run([program, '--json', '--case', 'device-reads', 'fe:1f.7']);
    expect(status).toBe(1);
    const result = JSON.parse(stdout) as { name: string; pass: boolean; detail: string; title: string };
    expect(result).toMatchObject({ name: 'device-reads', pass: false });
    expect(result.title).not.toBe('');
    expect(result.detail).not.toBe('');
  });

  it('skips what one device cannot show, and does not count that as passed', async () => {
    const program = await buildProgram('dma-demo', options());
    const { status, stdout } = await run([program, '--json', '--case', 'two-domains', '0000:fe:1f.7']);
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ name: 'two-domains', pass: false, skipped: true });
  });

  it.each([
    [['--case', 'nothing'], 'no case "nothing"'],
    [['nonsense'], 'no PCI address'],
    [['01:00.0x'], 'no PCI address'],
    [['--unknown'], 'usage:'],
  ])('refuses %j as wrong use', async (args, message) => {
    const { status, stderr } = await run([await buildProgram('dma-demo', options()), ...args]);
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe('dma-iommu-demo', { timeout: COMPILING_MS }, () => {
  const wdmNames = operationNames.map(name => name.charAt(0).toUpperCase() + name.slice(1));
  const list = async () => {
    const { stdout } = await run([await buildProgram('dma-iommu-demo', options()), '--list']);
    return stdout
      .trim()
      .split('\n')
      .map(line => line.split(/\s+/)[0]!);
  };

  it('is built without warnings, as a static program', async () => {
    const path = await buildProgram('dma-iommu-demo', options());
    const { stdout } = await run(['readelf', '-l', path]);
    expect(stdout).toContain('LOAD');
    expect(stdout).not.toContain('INTERP');
  });

  it('has a case for every operation of the interface', async () => {
    expect((await list()).filter(name => /^[A-Z]/.test(name)).sort()).toEqual([...wdmNames].sort());
  });

  it('lists its other cases', async () => {
    expect((await list()).filter(name => /^[a-z]/.test(name))).toEqual([
      'get-interface',
      'buddy-allocator',
      'two-domains',
      'tables-x64',
      'tables-x64-5-levels',
      'tables-arm64-4k',
      'tables-arm64-16k',
      'tables-arm64-64k',
      'tables-arm64-ttbr1',
      'bad-commands',
      'bad-index',
      'interrupt-pending',
    ]);
  });

  it('says so where there is no dma-iommu function, and runs no case', async () => {
    const { status, stdout, stderr } = await run([await buildProgram('dma-iommu-demo', options()), '--json']);
    expect(status).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toContain('no dma-iommu function (1234:444d)');
  });

  it.each([
    [['--case', 'nothing'], 'no case "nothing"'],
    [['nonsense'], 'no PCI address'],
    [['--unknown'], 'usage:'],
  ])('refuses %j as wrong use', async (args, message) => {
    const { status, stderr } = await run([await buildProgram('dma-iommu-demo', options()), ...args]);
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });
});

describe('buildProgram', { timeout: COMPILING_MS }, () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'viommu-source-'));
    return async () => await rm(folder, { recursive: true });
  });

  const source = async (text: string) => await writeFile(join(folder, 'main.c'), text);

  it('builds the same sources once, and changed ones again', async () => {
    await source('int main(void) { return 3; }\n');
    const first = await buildProgramIn(folder, 'small', options());
    const again = await buildProgramIn(folder, 'small', options());
    expect(again).toBe(first);
    expect(said).toEqual(['Compiling small']);
    await source('int main(void) { return 4; }\n');
    const changed = await buildProgramIn(folder, 'small', options());
    expect(changed).not.toBe(first);
    expect([(await run([first])).status, (await run([changed])).status]).toEqual([3, 4]);
  });

  it('takes every .c file of the folder, and notices a change in a header', async () => {
    await writeFile(join(folder, 'value.h'), '#define VALUE 5\nint value(void);\n');
    await writeFile(join(folder, 'value.c'), '#include "value.h"\nint value(void) { return VALUE; }\n');
    await source('#include "value.h"\nint main(void) { return value(); }\n');
    expect((await run([await buildProgramIn(folder, 'parts', options())])).status).toBe(5);
    await writeFile(join(folder, 'value.h'), '#define VALUE 6\nint value(void);\n');
    expect((await run([await buildProgramIn(folder, 'parts', options())])).status).toBe(6);
  });

  it('adds the libraries that it names, and finds headers by library name', async () => {
    await writeFile(join(folder, 'libraries'), 'memory\nreport\n');
    const include = '#include "memory/patterns.h"\n#include "dma_iommu.h"\n';
    const check = 'all_bytes("aaa", 3, 97, "text") && !all_bytes("aab", 3, 97, "text")';
    await source(`${include}int main(void) { return ${check} ? sizeof(struct dma_iommu_fault) : 1; }\n`);
    expect((await run([await buildProgramIn(folder, 'parts', options())])).status).toBe(64);
  });

  it('builds again when the list of libraries changes', async () => {
    await source('int main(void) { return 0; }\n');
    const without = await buildProgramIn(folder, 'small', options());
    await writeFile(join(folder, 'libraries'), 'report\n');
    expect(await buildProgramIn(folder, 'small', options())).not.toBe(without);
  });

  it('refuses a library that does not exist', async () => {
    await source('int main(void) { return 0; }\n');
    await writeFile(join(folder, 'libraries'), 'nowhere\n');
    await expect(buildProgramIn(folder, 'small', options())).rejects.toThrow(/names the library nowhere/);
  });

  it('fails on a warning, with what the compiler said, and leaves nothing in the cache', async () => {
    await source('int main(void) { int unused; return 0; }\n');
    await expect(buildProgramIn(folder, 'warned', options())).rejects.toThrow(/cannot build warned.*unused/s);
    await source('int main(void) { return 0; }\n');
    const path = await buildProgramIn(folder, 'warned', options());
    expect((await stat(path)).isFile()).toBe(true);
  });

  it('says what to install when there is no compiler', async () => {
    await source('int main(void) { return 0; }\n');
    const missing = { ...options(), compiler: 'no-such-gcc' };
    await expect(buildProgramIn(folder, 'any', missing)).rejects.toThrow(/no-such-gcc is missing: install gcc/);
  });

  it('takes what it has built from the same sources where there is no compiler any more', async () => {
    await source('int main(void) { return 0; }\n');
    const compiler = join(folder, 'compiler');
    await writeFile(compiler, '#!/bin/sh\nexec gcc "$@"\n', { mode: 0o755 });
    const built = await buildProgramIn(folder, 'kept', { ...options(), compiler });
    await rm(compiler);
    expect(await buildProgramIn(folder, 'kept', { ...options(), compiler })).toBe(built);
    await source('int main(void) { return 1; }\n');
    await expect(buildProgramIn(folder, 'kept', { ...options(), compiler })).rejects.toThrow(/is missing: install gcc/);
  });

  it('says what to install when there is no static C library', async () => {
    await source('int main(void) { return 0; }\n');
    const compiler = join(folder, 'gcc');
    const text = '[ "$1" = --version ] && echo "gcc 1" && exit 0\necho "ld: cannot find -lc" >&2\nexit 1\n';
    await writeFile(compiler, `#!/bin/sh\n${text}`, { mode: 0o755 });
    await expect(buildProgramIn(folder, 'any', { ...options(), compiler })).rejects.toThrow(/glibc-static/);
  });

  it('refuses a folder without C sources', async () => {
    await expect(buildProgramIn(folder, 'none', options())).rejects.toThrow('has no C sources');
  });
});
