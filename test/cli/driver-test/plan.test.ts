import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { planTest, type TestFlags } from '../../../src/cli/driver-test/plan.ts';
import { checkProgram } from '../../../src/cli/driver-test/program.ts';
import { UsageError } from '../../../src/cli/errors.ts';

let directory: string;
const at = (name: string) => join(directory, name);

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-plan-'));
  for (const name of ['my.ko', 'other-one.ko', 'data']) writeFileSync(at(name), 'x');
  for (const folder of ['a', 'b', 'source', 'empty']) mkdirSync(at(folder));
  for (const name of ['a/test.sh', 'b/test.sh']) writeFileSync(at(name), '#!/bin/sh\n', { mode: 0o755 });
  writeFileSync(at('source/Kbuild'), 'obj-m := made.o\n');
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const plan = (flags: TestFlags, args: string[] = []) => planTest(flags, args);

describe('planTest', () => {
  it('puts scripts into /test, and gives them the arguments', () => {
    const { cases } = plan({ run: [at('a/test.sh')] }, ['-n', '3']);
    expect(cases).toEqual([
      { name: at('a/test.sh'), guestPath: '/test/test.sh', arguments: ['-n', '3'], isForShell: false },
    ]);
  });

  it('finds another place for a second script of the same name', () => {
    const { cases, files } = plan({ run: [at('a/test.sh'), at('b/test.sh')] });
    expect(cases.map(({ guestPath }) => guestPath)).toEqual(['/test/test.sh', '/test/run2/test.sh']);
    expect(files.map(({ hostPath, mode }) => [hostPath, mode])).toEqual([
      [at('a/test.sh'), 0o755],
      [at('b/test.sh'), 0o755],
    ]);
  });

  it.each([
    ['', '/test/data'],
    [':/etc/input', '/etc/input'],
    [':/etc/', '/etc/data'],
    [':/etc/../tmp//x', '/tmp/x'],
  ])('puts --file data%s at %s, with its own mode', (place, guestPath) => {
    chmodSync(at('data'), 0o640);
    expect(plan({ run: [at('a/test.sh')], file: [`${at('data')}${place}`] }).files[0]).toEqual({
      hostPath: at('data'),
      guestPath,
      mode: 0o640,
    });
  });

  it('keeps the order of modules, with sources behind files', () => {
    const { modules } = plan({ module: [at('my.ko'), 'mdio'], moduleSource: [at('source')] });
    expect(modules).toEqual([
      { kind: 'file', path: at('my.ko') },
      { kind: 'stock', name: 'mdio' },
      { kind: 'source', folder: at('source') },
    ]);
  });

  it('takes parameters by any spelling of the name, and adds up those of one module', () => {
    const moduleParams = ['other-one:a=1', 'other_one:b=x:y'];
    const { parameters } = plan({ module: [at('other-one.ko')], moduleParams });
    expect([...parameters]).toEqual([['other_one', 'a=1 b=x:y']]);
  });

  it.each<[string, () => unknown, RegExp]>([
    ['nothing to do', () => plan({}), /nothing to test/],
    ['arguments for nobody', () => plan({ module: [at('my.ko')] }, ['x']), /name it with --run/],
    ['a missing module', () => plan({ module: [at('none.ko')] }), /there is no module .*none\.ko/],
    ['a missing script', () => plan({ run: [at('none.sh')] }), /there is no script .*none\.sh/],
    ['a missing file', () => plan({ run: [at('a/test.sh')], file: [at('none')] }), /there is no file .*none/],
    ['a folder as a script', () => plan({ run: [at('a')] }), /is not a file/],
    ['a missing source folder', () => plan({ moduleSource: [at('none')] }), /there is no folder/],
    ['sources without a makefile', () => plan({ moduleSource: [at('empty')] }), /no Kbuild or Makefile/],
    [
      'parameters of nobody',
      () => plan({ module: [at('my.ko')], moduleParams: ['you:a=1'] }),
      /no --module is named you \(my\)/,
    ],
    ['parameters without a module', () => plan({ module: [at('my.ko')], moduleParams: ['a=1'] }), /MODULE:PARAMETERS/],
    [
      'two files in one place',
      () => plan({ run: [at('a/test.sh')], file: [`${at('data')}:/x`, `${at('my.ko')}:/x`] }),
      /already goes to \/x/,
    ],
    [
      'a relative place',
      () => plan({ run: [at('a/test.sh')], file: [`${at('data')}:etc/x`] }),
      /'etc\/x' is relative: a path in the guest begins with \//,
    ],
    ['a file for the kernel', () => plan({ run: [at('a/test.sh')], file: [`${at('data')}:/sys/x`] }), /the kernel's/],
  ])('refuses %s', (_, make, message) => {
    expect(make).toThrow(UsageError);
    expect(make).toThrow(message);
  });
});

describe('checkProgram', () => {
  const check = (content: string | Buffer, others: string[] = []) => {
    writeFileSync(at('program'), content);
    return checkProgram(at('program'), others);
  };
  /** An ELF file with program headers of these types. */
  const elf = (types: number[], machine = 62) => {
    const bytes = Buffer.alloc(64 + types.length * 56);
    bytes.write('\x7fELF\x02\x01', 'latin1');
    bytes.writeUInt16LE(machine, 18);
    bytes.writeBigUInt64LE(64n, 32);
    bytes.writeUInt16LE(56, 54);
    bytes.writeUInt16LE(types.length, 56);
    for (const [index, type] of types.entries()) bytes.writeUInt32LE(type, 64 + index * 56);
    return bytes;
  };

  it('has the kernel start what says for whom it is, and the shell the rest', () => {
    expect(check('#!/bin/sh\necho\n')).toBe('kernel');
    expect(check('#! /bin/busybox sh\n')).toBe('kernel');
    expect(check('echo\n')).toBe('shell');
    expect(check('')).toBe('shell');
    expect(check(elf([1, 1, 7]))).toBe('kernel');
  });

  it('takes an interpreter that comes along', () => {
    expect(check('#!/test/lua -e\n', ['/test/lua'])).toBe('kernel');
  });

  it.each<[string, string | Buffer, RegExp]>([
    [
      'a script for a shell that is not there',
      '#!/usr/bin/env bash\n',
      /is for \/usr\/bin\/env .*busybox's shell only/,
    ],
    ['a script from Windows', '#!/bin/sh\r\n', /CR LF/],
    ['a program with shared libraries', elf([6, 3, 1]), /link it with -static/],
    ['a program for another machine', elf([1], 183), /not for x86-64/],
    ['the start of a program', elf([1]).subarray(0, 20), /not for x86-64/],
  ])('refuses %s', (_, content, message) => {
    expect(() => check(content)).toThrow(message);
  });
});
