import { describe, expect, it } from 'vitest';
import { checkModule } from '../../src/testcontainers/module-info.ts';
import { moduleBytes } from '../images/module-bytes.ts';

const RELEASE = '6.12.107+deb13-amd64';

describe('a module for a guest', () => {
  it('is taken where the kernels agree', () => {
    expect(() => checkModule('/x/edu.ko', moduleBytes({ vermagic: `${RELEASE} SMP ` }), RELEASE)).not.toThrow();
  });

  it('is refused for another kernel, with what to do', () => {
    expect(() => checkModule('/x/edu.ko', moduleBytes({ vermagic: '6.1.0-9-amd64 SMP ' }), RELEASE)).toThrow(
      `edu.ko was built for Linux 6.1.0-9-amd64, and the guest runs ${RELEASE}: build it for that kernel, e.g. by buildKernelModule({ ..., release: '${RELEASE}' })`,
    );
  });

  it('is refused where it tells no kernel', () => {
    expect(() => checkModule('/x/edu.ko', moduleBytes({ license: 'GPL' }), RELEASE)).toThrow('it tells no vermagic');
  });

  it('is refused where it is something else', () => {
    expect(() => checkModule('/x/edu.c', Buffer.from('#include'), RELEASE)).toThrow('/x/edu.c is no kernel module');
  });
});
