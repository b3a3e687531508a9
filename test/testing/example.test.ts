import { startMachine, type TestMachine } from 'viommu/testing';
import type { TestGuest } from 'viommu/testing/guest';
import { afterEach, beforeEach, expect, it } from 'vitest';
import 'viommu/testing/vitest';

/** A driver of the edu device, as small as it can be: it copies bytes out of the device's buffer into memory. */
class Driver {
  constructor(private readonly guest: TestGuest) {}

  async receive(iova: bigint, bytes: number): Promise<void> {
    const edu = this.guest.function('edu0');
    edu.write64(0, 0x80, 0x40000n); // from the device's buffer
    edu.write64(0, 0x88, iova); // to memory
    edu.write64(0, 0x90, BigInt(bytes));
    edu.write64(0, 0x98, 0b111n); // start, to memory, interrupt at the end
    await this.guest.until(() => edu.takeInterrupts() > 0, 'the interrupt', 500);
  }
}

let machine: TestMachine;
let guest: TestGuest;

beforeEach(async () => {
  machine = await startMachine({ devices: ['edu@01:00.0'] });
  guest = machine.connectGuest();
});

afterEach(async () => {
  guest.close();
  await machine.stop();
});

it('receives into its buffer, and nowhere else', async () => {
  const vtd = guest.vtd();
  const domain = vtd.createDomain();
  const buffer = guest.memory.allocate();
  vtd.map(domain, 0x10000n, buffer);
  await vtd.attach('01:00.0', domain);

  await new Driver(guest).receive(0x10000n, 64);

  await expect(machine).toHaveTranslated({ device: 'edu0', iova: 0x10000n, access: 'write', to: buffer });
  expect(await machine.formatMappings({ addresses: false })).toMatchInlineSnapshot(`
    "domain 1
      0x10000-0x10fff read-write"
  `);
  await expect(machine).toHaveNoFindings();
});

it('is told that it forgot the invalidation', async () => {
  const vtd = guest.vtd();
  const domain = vtd.createDomain();
  vtd.map(domain, 0x10000n, guest.memory.allocate());
  await vtd.attach('01:00.0', domain);
  const driver = new Driver(guest);

  await driver.receive(0x10000n, 64);
  vtd.clear(domain, 0x10000n); // unmap() would also invalidate
  await driver.receive(0x10000n, 64);

  await expect(machine).toHaveFinding('stale-iotlb', { device: 'edu0', iova: 0x10000n });
});

it('notices that an interrupt is lost', async () => {
  const vtd = guest.vtd();
  const domain = vtd.createDomain();
  vtd.map(domain, 0x10000n, guest.memory.allocate());
  await vtd.attach('01:00.0', domain);
  const driver = new Driver(guest);

  await machine.inject({ kind: 'drop-interrupt', device: 'edu0' });
  await expect(driver.receive(0x10000n, 64)).rejects.toThrow('the interrupt did not come within 500 ms');
  await driver.receive(0x10000n, 64);
});
