/** Which images are used, and that they are there. */
import { getContainerRuntimeClient, ImageName } from 'testcontainers';

/** With `serve --on-demand`; the environment's VIOMMU_SERVER_IMAGE names another. */
export function serverImage(environment: NodeJS.ProcessEnv = process.env): string {
  return environment.VIOMMU_SERVER_IMAGE || 'viommu-server';
}

/** With QEMU and a stock guest; the environment's VIOMMU_QEMU_IMAGE names another. */
export function qemuImage(environment: NodeJS.ProcessEnv = process.env): string {
  return environment.VIOMMU_QEMU_IMAGE || 'viommu-qemu';
}

/** Rejects with an Error that says how to make the image, where it is neither here nor in its registry. */
export async function requireImage(image: string): Promise<void> {
  const name = ImageName.fromString(image);
  const client = await getContainerRuntimeClient();
  if (await client.image.exists(name)) return;
  try {
    await client.image.pull(name);
  } catch (error) {
    throw new Error(missingImage(image, error), { cause: error });
  }
}

export function missingImage(image: string, error: unknown): string {
  const why = error instanceof Error ? error.message : String(error);
  return (
    `there is no image '${image}' here, and it cannot be pulled (${why}): build it from a checkout of viommu's ` +
    'repository as docs/containers.md says (the npm package has no sources for it), or name others by VIOMMU_SERVER_IMAGE and VIOMMU_QEMU_IMAGE'
  );
}
