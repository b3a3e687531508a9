import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CpioEntry, writeCpio } from '../../images/guest/cpio.ts';
import { provisionTool } from '../../qemu/packages.ts';
import { readCpio } from './read-cpio.ts';

const file = (path: string, text: string, mode = 0o644): CpioEntry => ({
  kind: 'file',
  path,
  mode,
  data: Buffer.from(text),
});
const folder = (path: string): CpioEntry => ({ kind: 'directory', path, mode: 0o755 });

describe('writeCpio', () => {
  it('stores a file with its bytes and mode', () => {
    const [member] = readCpio(writeCpio([file('init', 'hello', 0o755)]));
    expect(member).toMatchObject({ path: 'init', mode: 0o100755 });
    expect(member!.data.toString()).toBe('hello');
  });

  it('stores a directory', () => {
    expect(readCpio(writeCpio([folder('proc')]))).toMatchObject([{ path: 'proc', mode: 0o040755 }]);
  });

  it('stores where a symbolic link points', () => {
    const [member] = readCpio(writeCpio([{ kind: 'symlink', path: 'sh', mode: 0o777, target: 'busybox' }]));
    expect(member!.mode).toBe(0o120777);
    expect(member!.data.toString()).toBe('busybox');
  });

  it('stores the numbers of a character device', () => {
    const console = { kind: 'character-device', path: 'console', mode: 0o600, major: 5, minor: 1 } as const;
    expect(readCpio(writeCpio([console]))).toMatchObject([{ mode: 0o020600, major: 5, minor: 1 }]);
  });

  it('keeps the order, so that folders come before what is in them', () => {
    const members = readCpio(writeCpio([folder('a'), folder('a/b'), file('a/b/c', ''), file('d', '')]));
    expect(members.map(member => member.path)).toEqual(['a', 'a/b', 'a/b/c', 'd']);
  });

  it('gives each member an inode of its own, or the kernel takes them for hard links', () => {
    const members = readCpio(writeCpio([file('a', '1'), file('b', '2'), file('c', '3')]));
    expect(new Set(members.map(member => member.inode)).size).toBe(3);
  });

  it('is the same for the same entries, with no time in it', () => {
    const entries = [folder('bin'), file('bin/x', 'x')];
    expect(writeCpio(entries).equals(writeCpio(entries))).toBe(true);
    expect(readCpio(writeCpio(entries)).map(member => member.modified)).toEqual([0, 0]);
  });

  it('stores a part of a larger buffer as that part', () => {
    const data = Buffer.from('0123456789').subarray(3, 6);
    expect(readCpio(writeCpio([{ kind: 'file', path: 'f', mode: 0o644, data }]))[0]!.data.toString()).toBe('345');
  });

  it.each(['/init', 'a//b', '../a', 'a/./b', '', 'a\0b', 'TRAILER!!!'])('refuses the path %j', path => {
    expect(() => writeCpio([folder('a'), file(path, '')])).toThrow('no path for an archive');
  });

  it('refuses a path twice', () => {
    expect(() => writeCpio([file('a', ''), folder('a')])).toThrow('a comes twice');
  });

  it('refuses a file whose folder is missing, comes later or is no folder', () => {
    expect(() => writeCpio([file('a/b', '')])).toThrow('the folder a must come before it');
    expect(() => writeCpio([file('a/b', ''), folder('a')])).toThrow('the folder a must come before it');
    expect(() => writeCpio([file('a', ''), file('a/b', '')])).toThrow('the folder a must come before it');
  });

  it.each([-1, 0o10000, 1.5])('refuses the mode %d', mode => {
    expect(() => writeCpio([file('a', '', mode)])).toThrow('is not within');
  });

  it('gives back any files, whatever their names and lengths', () => {
    const name = fc
      .stringMatching(/^[^/\0.]+$/)
      .filter(text => text !== 'TRAILER!!!' && Buffer.from(text).toString() === text);
    const entries = fc.uniqueArray(
      fc.record({ kind: fc.constant('file' as const), path: name, mode: fc.nat(0o7777), data: fc.uint8Array() }),
      { selector: entry => entry.path },
    );
    fc.assert(
      fc.property(entries, files => {
        const back = readCpio(writeCpio(files)).map(({ path, mode, data }) => ({ path, mode, data: [...data] }));
        expect(back).toEqual(files.map(f => ({ path: f.path, mode: f.mode | 0o100000, data: [...f.data] })));
      }),
    );
  });

  it('is read by the cpio command', { timeout: 120_000 }, async () => {
    const [program = '', ...before] = await provisionTool('cpio', 'cpio', { progress: () => {} });
    const archive = writeCpio([folder('bin'), file('bin/tool', 'four', 0o755), file('odd', 'x')]);
    const listing = spawnSync(program, [...before, '-t', '--quiet'], { input: archive, encoding: 'utf8' });
    expect(listing.stderr).toBe('');
    expect(listing.stdout.trim().split('\n')).toEqual(['bin', 'bin/tool', 'odd']);
  });
});
