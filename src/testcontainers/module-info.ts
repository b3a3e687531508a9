/** For which kernel a module was built. */
import { basename } from 'node:path';
import { readModuleInfo } from '../../images/guest/module-info.ts';

/** Throws an Error that says what to do where the kernel would not load the module. */
export function checkModule(path: string, module: Buffer, kernelRelease: string): void {
  const release = readModuleInfo(module)?.release;
  if (release === undefined) throw new Error(`${path} is no kernel module: it tells no vermagic`);
  if (release === kernelRelease) return;
  throw new Error(
    `${basename(path)} was built for Linux ${release}, and the guest runs ${kernelRelease}: build it for that kernel, ` +
      `e.g. by buildKernelModule({ ..., release: '${kernelRelease}' })`,
  );
}
