/** For which kernel a module was built. */
import { basename } from 'node:path';

const VERMAGIC = Buffer.from('vermagic=');
/** The release is the first word of a module's vermagic (Linux, include/linux/vermagic.h). */
const RELEASE = /^[\x21-\x7e]{1,64}/;

/** As `uname -r` tells it; undefined: it is no kernel module. */
export function moduleRelease(module: Buffer): string | undefined {
  // The section .modinfo holds strings that end with NUL; the symbol's own name has no '=' behind it.
  for (let at = module.indexOf(VERMAGIC); at >= 0; at = module.indexOf(VERMAGIC, at + 1)) {
    const start = at + VERMAGIC.length;
    if (at > 0 && module[at - 1] !== 0) continue;
    const release = RELEASE.exec(module.toString('latin1', start, start + 64))?.[0];
    if (release !== undefined) return release;
  }
  return undefined;
}

/** Throws an Error that says what to do where the kernel would not load the module. */
export function checkModule(path: string, module: Buffer, kernelRelease: string): void {
  const release = moduleRelease(module);
  if (release === undefined) throw new Error(`${path} is no kernel module: it tells no vermagic`);
  if (release === kernelRelease) return;
  throw new Error(
    `${basename(path)} was built for Linux ${release}, and the guest runs ${kernelRelease}: build it for that kernel, ` +
      `e.g. by buildKernelModule({ ..., release: '${kernelRelease}' })`,
  );
}
