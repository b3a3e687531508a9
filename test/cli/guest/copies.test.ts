import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UsageError } from '../../../src/cli/errors.ts';
import { copiesByPath, copyTo, parseCopy } from '../../../src/cli/guest/copies.ts';
import { commandLine } from '../../../src/cli/guest.ts';
import { temporaryDirectory } from '../../guest/support.ts';

let directory: ReturnType<typeof temporaryDirectory>;
let file: (name: string) => string;
beforeEach(() => {
  directory = temporaryDirectory();
  file = name => join(directory.path, name);
  for (const name of ['my.ko', 'test.sh', 'odd:name']) writeFileSync(file(name), name);
  mkdirSync(file('folder'));
});
afterEach(() => directory.remove());

describe('FILE[:GUEST-PATH]', () => {
  it('goes to the home of root by default', () => {
    expect(parseCopy(file('my.ko'))).toEqual({ file: file('my.ko'), guestPath: '/root/my.ko' });
  });

  it('goes to the path behind the colon', () => {
    expect(parseCopy(`${file('test.sh')}:/bin/../bin/t`)).toEqual({ file: file('test.sh'), guestPath: '/bin/t' });
  });

  it('may have a colon in its own name', () => {
    expect(parseCopy(file('odd:name')).guestPath).toBe('/root/odd:name');
    expect(parseCopy(`${file('odd:name')}:/etc/odd`)).toEqual({ file: file('odd:name'), guestPath: '/etc/odd' });
  });

  it.each([
    ['missing', /there is no file/],
    ['folder', /is no file/],
    ['my.ko:/root/', /name the file in the guest/],
    ['test.sh:bin/t.sh', /'bin\/t.sh' is relative: a path in the guest begins with \//],
  ])('%s is refused', (name, message) => {
    expect(() => parseCopy(file(name))).toThrow(UsageError);
    expect(() => parseCopy(file(name))).toThrow(message);
  });
});

describe('a file and its path apart', () => {
  it('may both have colons', () => {
    expect(copyTo(file('odd:name'), '/etc/a:b')).toEqual({ file: file('odd:name'), guestPath: '/etc/a:b' });
  });

  it.each([
    ['bin/t.sh', /'bin\/t.sh' is relative/],
    ['', /'' is relative/],
    ['/bin/', /name the file in the guest/],
  ])('are refused where the path is %j', (path, message) => {
    expect(() => copyTo(file('test.sh'), path)).toThrow(UsageError);
    expect(() => copyTo(file('test.sh'), path)).toThrow(message);
  });

  it('are refused where there is no such file', () => {
    expect(() => copyTo(file('missing'), '/bin/t')).toThrow(/there is no file .*missing$/);
  });
});

describe('several files', () => {
  it('are found by their paths in the guest', () => {
    expect(copiesByPath([file('my.ko'), `${file('test.sh')}:/bin/t`])).toEqual({
      '/root/my.ko': file('my.ko'),
      '/bin/t': file('test.sh'),
    });
  });

  it('must not have the same', () => {
    expect(() => copiesByPath([file('my.ko'), `${file('test.sh')}:/root/my.ko`])).toThrow(
      /two files for \/root\/my\.ko/,
    );
  });

  it.each(['/tmp', '/run', '/proc', '/sys', '/dev'])('must not go where the guest mounts something: %s', folder => {
    expect(() => copiesByPath([`${file('my.ko')}:${folder}/my.ko`])).toThrow(/mounts something/);
  });
});

describe('the command of guest exec', () => {
  it('is for the shell where it is one word', () => {
    expect(commandLine(['dmesg | grep DMAR'])).toBe('dmesg | grep DMAR');
  });

  it('is a program with its arguments where it is several', () => {
    expect(commandLine(['echo', 'a  b', "it's", '$HOME'])).toBe(`echo 'a  b' 'it'\\''s' '$HOME'`);
  });
});
