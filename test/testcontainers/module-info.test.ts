import { describe, expect, it } from 'vitest';
import { checkModule, moduleRelease } from '../../src/testcontainers/module-info.ts';

const RELEASE = '6.12.107+deb13-amd64';

/** As the linker leaves it: other sections, then strings that end with NUL. */
function module(...strings: string[]): Buffer {
  return Buffer.from(
    `\x7fELF\x02\x01\0\0code${'\0'}${strings.map(one => `${one}\0`).join('')}__UNIQUE_ID_vermagic453\0`,
  );
}

describe('the kernel that a module was built for', () => {
  it('is the first word of its vermagic', () => {
    const built = module('license=GPL', `vermagic=${RELEASE} SMP preempt mod_unload modversions `, 'name=edu');
    expect(moduleRelease(built)).toBe(RELEASE);
  });

  it('is not taken from a string that only contains the word', () => {
    expect(moduleRelease(module('description=vermagic=5.10 is what to say', `vermagic=${RELEASE} SMP `))).toBe(RELEASE);
  });

  it('is not known where the module tells none', () => {
    expect(moduleRelease(module('license=GPL'))).toBeUndefined();
    expect(moduleRelease(module('vermagic='))).toBeUndefined();
    expect(moduleRelease(Buffer.alloc(0))).toBeUndefined();
  });
});

describe('a module for a guest', () => {
  it('is taken where the kernels agree', () => {
    expect(() => checkModule('/x/edu.ko', module(`vermagic=${RELEASE} SMP `), RELEASE)).not.toThrow();
  });

  it('is refused for another kernel, with what to do', () => {
    expect(() => checkModule('/x/edu.ko', module('vermagic=6.1.0-9-amd64 SMP '), RELEASE)).toThrow(
      `edu.ko was built for Linux 6.1.0-9-amd64, and the guest runs ${RELEASE}: build it for that kernel, e.g. by buildKernelModule({ ..., release: '${RELEASE}' })`,
    );
  });

  it('is refused where it is something else', () => {
    expect(() => checkModule('/x/edu.c', Buffer.from('#include'), RELEASE)).toThrow('/x/edu.c is no kernel module');
  });
});
