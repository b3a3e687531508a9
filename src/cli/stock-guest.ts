/** The guest that comes with viommu: Debian's stock kernel with a busybox initramfs and our DMA programs in it. */
import { buildInitramfs } from '../../images/guest/initramfs.ts';
import type { Boot } from '../../qemu/command-line.ts';
import { provisionGuestPackages } from '../../qemu/provision.ts';
import { printProgress } from './progress.ts';

/** `files`: more of them, by their absolute path in the guest. */
export async function stockGuest(append: string, files: Readonly<Record<string, string>> = {}): Promise<Boot> {
  const packages = await provisionGuestPackages({ progress: printProgress });
  const initrd = await buildInitramfs({
    kernel: packages,
    busybox: packages.busybox,
    programs: ['dma-demo', 'dma-iommu-demo', 'dma-soak', 'first-bug', 'wrong-dma-iommu', 'wrong-vtd'],
    extraFiles: files,
    progress: printProgress,
  });
  return { kind: 'kernel', kernel: packages.vmlinuz, initrd, append };
}
