/**
 * For tests with testcontainers: a server, and guests in QEMU that lease their machines from it.
 *
 *     const server = await new ViommuContainer().start();
 *     const guest = await new QemuGuestContainer().withServer(server).withModule('my_driver.ko').start();
 *     const { status, output } = await guest.run('my-test');
 *     await expect(guest.machine).toHaveNoFindings(); // viommu/testing/vitest
 */
import { GenericContainer, Wait } from 'testcontainers';
import { newToken } from '../inspector/access.ts';
import { withBind } from './binds.ts';
import { requireImage, serverImage } from './images.ts';
import { SERVER_DIRECTORY, SERVER_PORT, StartedViommuContainer } from './started-viommu.ts';
import { createVolume } from './volume.ts';

export { artefactsOnFailure } from './artefacts.ts';
export { buildKernelModule } from './kernel-module.ts';
export { QemuGuestContainer } from './qemu-guest-container.ts';
export type { StartedQemuGuestContainer } from './started-qemu-guest.ts';
export type { StartedViommuContainer } from './started-viommu.ts';

/** Long for a server; short for a machine with nothing else to do. */
const STARTUP_TIMEOUT_MS = 60_000;

/** `viommu serve --on-demand`, with a volume for its sockets and a token of its own. */
export class ViommuContainer extends GenericContainer {
  private readonly image: string;
  private readonly token = newToken();

  /** Default: `viommu-server`, or what the environment's VIOMMU_SERVER_IMAGE names. */
  constructor(image: string = serverImage()) {
    super(image);
    this.image = image;
    this.withExposedPorts(SERVER_PORT)
      .withEnvironment({ VIOMMU_TOKEN: this.token })
      .withWaitStrategy(Wait.forHealthCheck())
      .withStartupTimeout(STARTUP_TIMEOUT_MS);
  }

  /** How many guests may have a machine at once. Default: as `viommu serve --on-demand` has it. */
  withMaxMachines(count: number): this {
    const listen = ['--listen', 'unix', '--listen', `0.0.0.0:${SERVER_PORT}`];
    return this.withCommand(['serve', '--dir', SERVER_DIRECTORY, '--on-demand', String(count), ...listen]);
  }

  override async start(): Promise<StartedViommuContainer> {
    await requireImage(this.image);
    const volume = await createVolume();
    try {
      this.hostConfig.Binds = withBind(this.hostConfig.Binds, volume.name, SERVER_DIRECTORY);
      return new StartedViommuContainer(await super.start(), volume, this.token);
    } catch (error) {
      await volume.remove();
      throw error;
    }
  }
}
