import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import '../../dist/src/testing/vitest.js';
import { TestGuest } from '../../dist/src/testing/guest.js';
import { GuestRam } from '../../dist/src/testing/guest-memory.js';
import { connect, IOVA, later, NEVER_MAPPED, start } from './support.ts';

describe('GuestRam', () => {
  function ram(bytes = 2 * 1024 * 1024): GuestRam {
    const memory = new GuestRam(bytes);
    later(() => memory.close());
    return memory;
  }

  it('reads what was written, in words of either size', () => {
    const memory = ram();
    memory.write64(0x1000n, 0x1122334455667788n);
    expect([memory.read32(0x1000n), memory.read32(0x1004n)]).toEqual([0x55667788, 0x11223344]);
    memory.write32(0x1000n, 0xffffffff);
    expect(memory.read64(0x1000n)).toBe(0x11223344ffffffffn);
    expect([...memory.read(0x1002n, 3)]).toEqual([0xff, 0xff, 0x44]);
  });

  it('hands out pages once, until there are none', () => {
    const memory = ram(0x100000 + 3 * 4096);
    expect([memory.allocate(), memory.allocate(2)]).toEqual([0x100000n, 0x101000n]);
    expect(() => memory.allocate()).toThrow(/are used up/);
  });

  it.each([-1n, 0x200000n, 0x1ffff9n, 1n << 64n])('has nothing at %d', address => {
    expect(() => ram().read64(address)).toThrow(RangeError);
    expect(() => ram().write64(address, 0n)).toThrow(RangeError);
  });

  it.each([0, -4096, 0x100000, 0x200001, Number.NaN])('cannot be of %d bytes', bytes => {
    expect(() => new GuestRam(bytes)).toThrow(RangeError);
  });
});

describe('TestGuest', () => {
  it('drives a device behind its IOMMU', async () => {
    const { guest, edu, page } = await connect(await start());
    guest.memory.write(page, Uint8Array.of(1, 2, 3, 4));
    await edu.read(IOVA, 4);
    await edu.write(IOVA + 100n, 4);
    expect([...guest.memory.read(page + 99n, 6)]).toEqual([0, 1, 2, 3, 4, 0]);
  });

  it('takes interrupts', async () => {
    const { edu } = await connect(await start());
    expect(edu.takeInterrupts()).toBe(0);
    await edu.write(IOVA, 4, 4n);
    await edu.write(IOVA, 4, 4n);
    expect(edu.takeInterrupts()).toBe(2);
    expect(edu.takeInterrupts()).toBe(0);
  });

  it('knows no function that the machine does not have', async () => {
    const { guest } = await connect(await start());
    expect(() => guest.function('nic')).toThrow("there is no function 'nic': the machine has iommu, edu0, edu1");
  });

  it('is refused what is not mapped, and what is another device’s', async () => {
    const { guest, machine, vtd, edu, page } = await connect(await start());
    const other = vtd.createDomain();
    await vtd.attach('02:00.0', other);
    guest.memory.write(page, Uint8Array.of(9));
    await edu.write(NEVER_MAPPED, 1);
    await expect(machine).toHaveFinding('never-mapped', { device: 'edu0', iova: NEVER_MAPPED });
    expect(guest.memory.read(page, 1)[0]).toBe(9);
  });

  it('is refused bus mastering while it is off', async () => {
    const { guest, machine, edu, page } = await connect(await start());
    guest.function('edu0').busMaster = false;
    guest.memory.write(page, Uint8Array.of(9));
    await edu.write(IOVA, 1);
    expect(guest.memory.read(page, 1)[0]).toBe(9);
    await expect(machine).toHaveFinding('bus-master-off', { device: 'edu0' });
    guest.function('edu0').busMaster = true;
    await edu.write(IOVA, 1);
    expect(guest.memory.read(page, 1)[0]).toBe(0);
  });

  it('can reset a device', async () => {
    const { guest, edu, page } = await connect(await start());
    guest.memory.write(page, Uint8Array.of(7));
    await edu.read(IOVA, 1);
    guest.function('edu0').reset();
    await edu.write(IOVA, 1);
    expect(guest.memory.read(page, 1)[0]).toBe(0);
  });

  it('can do everything that the protocol has', async () => {
    const { guest } = await connect(await start());
    expect(guest.function('edu0').client.getDeviceInfo().regions).toBe(9);
  });

  it('says what did not come', async () => {
    const { guest } = await connect(await start());
    await expect(guest.until(() => false, 'the end of the world', 1)).rejects.toThrow(
      'the end of the world did not come within 1 ms',
    );
  });

  it('leaves no descriptor open, also where it cannot connect', async () => {
    const machine = await start();
    const sockets = { ...machine.sockets, none: '/nonexistent/socket' };
    // Those of the machine, which is in this process, go a little later.
    const descriptors = () => readdirSync('/proc/self/fd').length;
    const before = descriptors();
    for (let round = 0; round < 3; round++) {
      machine.connectGuest().close();
      expect(() => new TestGuest(sockets)).toThrow(/nonexistent/);
    }
    await expect.poll(descriptors).toBeLessThanOrEqual(before);
  });
});

describe('VtdDriver', () => {
  it('makes no mistake', async () => {
    const { machine, guest, vtd, domain, edu } = await connect(await start());
    const pages = guest.memory.allocate(3);
    vtd.map(domain, 0x7ffff000n, pages, 3);
    vtd.map(domain, (0x40000000000n >> 20n) << 20n, pages, 1, 'read');
    await edu.write(IOVA, 4096);
    const other = vtd.createDomain(77);
    vtd.map(other, IOVA, pages);
    await vtd.unmap(domain, IOVA);
    await vtd.unmap(domain, 0x7ffff000n, 3);
    await vtd.detach('01:00.0', domain);
    await vtd.attach('01:00.0', other);
    await edu.write(IOVA, 4);
    await vtd.unmap(other, IOVA);
    await vtd.detach('01:00.0', other);
    await expect(machine).toHaveNoFindings();
    expect(await machine.formatMappings()).toBe('');
  });

  it('knows more invalidations than its queue has places', async () => {
    const { vtd, domain, machine } = await connect(await start());
    for (let round = 0; round < 300; round++) await vtd.flush(domain);
    await expect(machine).toHaveNoFindings();
  });

  it('gives what a permission says', async () => {
    const { machine, guest, vtd, domain, edu } = await connect(await start());
    vtd.map(domain, 0x5000n, guest.memory.allocate(), 1, 'read');
    await edu.read(0x5000n, 8);
    await expect(machine).toHaveNoFindings();
    await edu.write(0x5000n, 8);
    await expect(machine).toHaveFinding('wrong-direction', { device: 'edu0', iova: 0x5000n });
  });

  it('takes addresses of devices only', async () => {
    const { vtd, domain } = await connect(await start());
    await expect(vtd.attach('edu0', domain)).rejects.toThrow("'edu0' is not an address such as 01:00.0");
  });

  it('says that the unit does not answer', async () => {
    const { machine, vtd, domain } = await connect(await start());
    await machine.inject({ kind: 'drop-invalidation-completion' });
    await expect(vtd.completed(vtd.queueFlush(domain), 50)).rejects.toThrow('completed no invalidation within 50 ms');
  });
});
