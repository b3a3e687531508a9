import type { StartedQemuGuestContainer, StartedViommuContainer } from 'viommu/testcontainers';
import { artefactsOnFailure, buildKernelModule, QemuGuestContainer, ViommuContainer } from 'viommu/testcontainers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import 'viommu/testing/vitest';

let server: StartedViommuContainer;
let guest: StartedQemuGuestContainer;

beforeAll(async () => {
  const module = await buildKernelModule({ source: 'driver', target: 'build/edu_dma.ko' });
  server = await new ViommuContainer().start();
  guest = await new QemuGuestContainer()
    .withServer(server)
    .withDevices('edu@01:00.0')
    .withModule(module, `bug=${process.env.BUG ?? 0}`)
    .start();
});

afterAll(async () => {
  await guest?.stop();
  await server?.stop();
});

it('gives back what was written', async test => {
  artefactsOnFailure(test, guest, 'artefacts');
  const { status, output } = await guest.run(
    'cd /tmp && head -c 4096 /dev/urandom >in && cat in >/dev/edu0 && cmp in /dev/edu0',
  );
  expect({ status, output }).toEqual({ status: 0, output: '' });
  await expect(guest.machine).toHaveNoFindings();
});
