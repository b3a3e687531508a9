import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readModuleInfo } from '../../images/guest/module-info.ts';
import { moduleBytes } from './module-bytes.ts';

const RELEASE = '6.12.107+deb13-amd64';

describe('what a kernel module says of itself', () => {
  it('is its name and what it depends on', () => {
    expect(readModuleInfo(moduleBytes({ license: 'GPL', depends: 'a,b_c', name: 'my' }))).toEqual({
      name: 'my',
      depends: ['a', 'b_c'],
      release: undefined,
    });
  });

  it('is the kernel that it was built for: the first word of its vermagic', () => {
    const vermagic = `${RELEASE} SMP preempt mod_unload modversions `;
    expect(readModuleInfo(moduleBytes({ license: 'GPL', vermagic, name: 'edu' }))?.release).toBe(RELEASE);
  });

  it('is not taken from a text that only contains the word', () => {
    const texts = { description: 'vermagic=5.10 is what to say', vermagic: `${RELEASE} SMP ` };
    expect(readModuleInfo(moduleBytes(texts))?.release).toBe(RELEASE);
  });

  it('may be nothing', () => {
    expect(readModuleInfo(moduleBytes({}))).toEqual({ name: undefined, depends: [], release: undefined });
    expect(readModuleInfo(moduleBytes({ vermagic: '' }))?.release).toBeUndefined();
  });

  it('is looked for in a module only', () => {
    expect(readModuleInfo(Buffer.alloc(0))).toBeUndefined();
    expect(readModuleInfo(Buffer.from('#include <linux/module.h>'))).toBeUndefined();
  });

  it('is read without an exception, whatever the bytes are', () => {
    const whole = moduleBytes({ name: 'my', depends: '' });
    fc.assert(
      fc.property(
        fc.nat(whole.length - 1),
        fc.integer({ min: 0, max: 255 }),
        fc.nat(whole.length),
        (at, value, end) => {
          const bytes = Buffer.from(whole);
          bytes[at] = value;
          const info = readModuleInfo(bytes.subarray(0, end));
          if (info !== undefined) expect(Array.isArray(info.depends)).toBe(true);
        },
      ),
      { numRuns: 2000 },
    );
  });
});
