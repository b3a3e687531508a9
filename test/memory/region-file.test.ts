import { ftruncateSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { FileCheck } from '../../src/memory/region-file.ts';
import { createMemfd, isSealedAgainstShrink, type MemfdOptions } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { at, PAGE } from './support.ts';

const opened: number[] = [];
afterEach(() => {
  for (const fd of opened.splice(0)) closeDescriptor(fd);
});

function file(pages: number, options: MemfdOptions = {}): number {
  const fd = createMemfd('guest', pages * PAGE, options);
  opened.push(fd);
  return fd;
}

describe('a file that is to be mapped', () => {
  it('will do for good where it is sealed', () => {
    const region = at(0, 4, { descriptor: file(4, { seal: true }) });
    const check = new FileCheck();
    expect([check.problem(region), check.cannotShrink(region)]).toEqual([undefined, true]);
  });

  it('gets the seal when it may be mapped, and not before', () => {
    const descriptor = file(4);
    const region = at(0, 4, { descriptor });
    const check = new FileCheck();
    expect([check.problem(region), isSealedAgainstShrink(descriptor)]).toEqual([undefined, false]);
    expect([check.cannotShrink(region), isSealedAgainstShrink(descriptor)]).toEqual([true, true]);
  });

  it('is not sealed where it does not hold the region', () => {
    const descriptor = file(3);
    expect(new FileCheck().problem(at(0, 4, { descriptor }))).toBe('reaches beyond the file');
    expect(isSealedAgainstShrink(descriptor)).toBe(false);
  });

  it('will not do where it has become shorter before it got the seal', () => {
    const descriptor = file(4);
    const region = at(0, 4, { descriptor });
    const check = new FileCheck();
    expect(check.problem(region)).toBeUndefined();
    ftruncateSync(descriptor, 3 * PAGE);
    expect(check.cannotShrink(region)).toBe(false);
  });

  it('will not do where it takes no seal', () => {
    const region = at(0, 4, { descriptor: file(4, { sealable: false }) });
    const check = new FileCheck();
    expect([check.problem(region), check.cannotShrink(region)]).toEqual([undefined, false]);
  });

  it('is looked at by itself, whatever the one before was', () => {
    const check = new FileCheck();
    const sealed = at(0, 4, { descriptor: file(4, { seal: true }) });
    const open = at(0, 4, { descriptor: file(4, { sealable: false }) });
    check.problem(sealed);
    check.problem(open);
    expect(check.cannotShrink(open)).toBe(false);
  });
});
