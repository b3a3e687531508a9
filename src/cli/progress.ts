import type { Progress } from '../../qemu/progress.ts';

/** Progress goes to the error output, so that the standard output stays what was asked for. */
export const printProgress: Progress = message => {
  console.error(`viommu: ${message}`);
};
