import { describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import '../../dist/src/testing/vitest.js';
import { connect, IOVA, start, WAYS } from './support.ts';

/** With an interrupt at the end. */
const INTERRUPT = 4n;

describe.each(WAYS)('faults on purpose, %s', (_way, begin) => {
  it('refuse: the IOMMU records a fault for the page, once, and nobody is blamed', async () => {
    const { machine, guest, edu, page } = await connect(await begin());
    guest.memory.write(page, Uint8Array.of(7));
    const refused = await machine.inject({ kind: 'refuse', device: 'edu0', iova: IOVA, access: 'write' });
    await edu.read(IOVA, 1);
    expect(await refused.state()).toMatchObject({ applied: 0, over: false });
    await edu.write(IOVA + 1n, 1);
    expect(guest.memory.read(page + 1n, 1)[0]).toBe(0);
    const fault = await machine.waitForRecord(({ kind }) => kind === 'fault');
    expect(fault.fields).toMatchObject({ requesterId: 0x100, access: 'write', iova: IOVA + 1n, cause: 'notPresent' });
    expect(await refused.state()).toMatchObject({ applied: 1, over: true });
    await edu.write(IOVA + 1n, 1);
    expect(guest.memory.read(page + 1n, 1)[0]).toBe(7);
    await expect(machine).toHaveNoFindings({ notes: true });
  });

  it('refuse: only a part of a transfer', async () => {
    const { machine, guest, vtd, domain, edu, page } = await connect(await begin());
    vtd.map(domain, IOVA + 4096n, guest.memory.allocate());
    guest.memory.write(page, Uint8Array.of(1, 2, 3, 4));
    await edu.read(IOVA, 4);
    await machine.inject({ kind: 'refuse', device: 'edu0', iova: IOVA + 4096n });
    await edu.write(IOVA + 4094n, 4);
    expect([...guest.memory.read(page + 4094n, 2)]).toEqual([1, 2]);
    await machine.waitForEvent('edu.dmaFailed');
  });

  it('flip: one bit of what the device writes is wrong', async () => {
    const { machine, guest, edu, page } = await connect(await begin());
    await machine.inject({ kind: 'flip', device: 'edu0', direction: 'write', bit: 9, times: 2 });
    for (const expected of [0b10, 0b10, 0]) {
      await edu.write(IOVA, 2);
      expect([...guest.memory.read(page, 2)]).toEqual([0, expected]);
    }
    await expect(machine).toHaveNoFindings({ notes: true });
  });

  it('flip: one bit of what the device reads is wrong', async () => {
    const { machine, guest, edu, page } = await connect(await begin());
    await machine.inject({ kind: 'flip', device: 'edu0', direction: 'read', bit: 0 });
    await edu.read(IOVA, 4);
    expect(guest.memory.read32(page)).toBe(0);
    await edu.write(IOVA, 4);
    expect(guest.memory.read32(page)).toBe(1);
  });

  it('drop-interrupt: the transfer is done, and nothing says so', async () => {
    const { machine, edu } = await connect(await begin());
    const dropped = await machine.inject({ kind: 'drop-interrupt', device: 'edu0' });
    await edu.write(IOVA, 4, INTERRUPT);
    expect(await dropped.state()).toMatchObject({ applied: 1, over: true });
    expect(edu.takeInterrupts()).toBe(0);
    await edu.write(IOVA, 4, INTERRUPT);
    expect(edu.takeInterrupts()).toBe(1);
  });

  it('hold: a buffer that is unmapped meanwhile is used after that, also where it was never used before', async () => {
    const { machine, edu, vtd, domain } = await connect(await begin());
    const held = await machine.inject({ kind: 'hold', device: 'edu0' });
    edu.begin(IOVA, 8, INTERRUPT | 2n);
    await held.applied();
    await vtd.unmap(domain, IOVA);
    await held.release();
    await expect(machine).toHaveFinding('use-after-unmap', { device: 'edu0', iova: IOVA });
    expect(await machine.findings()).toHaveLength(1);
  });

  it('hold: the device does nothing until it is released, then all in order', async () => {
    const { machine, guest, edu, page } = await connect(await begin());
    guest.memory.write(page, Uint8Array.of(5));
    await edu.read(IOVA, 1);
    const held = await machine.inject({ kind: 'hold', device: 'edu0' });
    edu.begin(IOVA + 1n, 1, INTERRUPT | 2n);
    await held.applied();
    expect(await held.state()).toMatchObject({ held: 1, over: false });
    expect(edu.busy).toBe(true);
    expect(guest.memory.read(page + 1n, 1)[0]).toBe(0);
    await held.release();
    await edu.done();
    expect(guest.memory.read(page + 1n, 1)[0]).toBe(5);
    expect(edu.takeInterrupts()).toBe(1);
  });

  it('hold: what goes on behind it is caught, as use after unmapping', async () => {
    const { machine, vtd, domain, edu } = await connect(await begin());
    await edu.write(IOVA, 4);
    const held = await machine.inject({ kind: 'hold', device: 'edu0' });
    edu.begin(IOVA, 4, 2n);
    await held.applied();
    await vtd.unmap(domain, IOVA);
    await held.release();
    await edu.done();
    await expect(machine).toHaveFinding('use-after-unmap', { device: 'edu0', iova: IOVA });
  });

  it('delay-invalidation: the driver waits, and what the device does meanwhile is a mistake', async () => {
    const { machine, guest, vtd, domain, edu, page } = await connect(await begin());
    await edu.write(IOVA, 1);
    const delayed = await machine.inject({ kind: 'delay-invalidation' });
    guest.memory.write(page, Uint8Array.of(7));
    vtd.clear(domain, IOVA);
    const completion = vtd.queueFlush(domain);
    await delayed.applied();
    await edu.write(IOVA, 1);
    expect(completion.done).toBe(false);
    expect(guest.memory.read(page, 1)[0]).toBe(0);
    await delayed.release();
    await vtd.completed(completion);
    await expect(machine).toHaveFinding('dma-before-flush', { device: 'edu0', iova: IOVA });
  });

  it('delay-invalidation: ends by itself after its time', async () => {
    const { machine, vtd, domain } = await connect(await begin());
    const delayed = await machine.inject({ kind: 'delay-invalidation', milliseconds: 5 });
    await vtd.flush(domain);
    expect(await delayed.state()).toMatchObject({ applied: 1, over: true, held: 0 });
    await expect(machine).toHaveNoFindings();
  });

  it('drop-invalidation-completion: one wait is never answered, the next is', async () => {
    const { machine, vtd, domain } = await connect(await begin());
    await machine.inject({ kind: 'drop-invalidation-completion' });
    const first = vtd.queueFlush(domain);
    const second = vtd.queueFlush(domain);
    await vtd.completed(second);
    expect(first.done).toBe(false);
    const waits = () => [...machine.records.all('invalidation.wait')].map(({ fields }) => fields.written);
    await machine.settle();
    expect(waits().slice(-2)).toEqual([false, true]);
  });

  it('leaves mistakes that are the guest’s own to be told, whatever their notes hold', async () => {
    const { machine, guest } = await connect(await begin());
    const { memory } = guest;
    const unit = guest.function('iommu');
    // Reserved bits in the upper half of a descriptor of 128 bits.
    const queue = unit.read64(0, 0x90);
    const tail = unit.read64(0, 0x88);
    memory.write64(queue + tail, 2n);
    memory.write64(queue + tail + 8n, 1n << 63n);
    unit.write64(0, 0x88, tail + 16n);
    const { detail } = await machine.waitForEvent('vtd.queueError');
    expect(detail).toMatchObject({ descriptor: `0x8${'0'.repeat(30)}2` });
    await expect(machine).toHaveFinding('invalidation-queue-misuse', { device: 'iommu' });
  });

  it('ends when it is removed, and is forgotten', async () => {
    const { machine, guest, edu, page } = await connect(await begin());
    const flip = await machine.inject({ kind: 'flip', device: 'edu0', bit: 0 });
    await flip.remove();
    await edu.write(IOVA, 1);
    expect(guest.memory.read(page, 1)[0]).toBe(0);
    expect(await flip.state()).toBeUndefined();
    await expect(flip.applied(1, 1)).rejects.toThrow(/did not apply 1 times within 1 ms: it was removed/);
  });

  it('waits until a fault has applied so often', async () => {
    const { machine, edu } = await connect(await begin());
    const flip = await machine.inject({ kind: 'flip', device: 'edu0', bit: 0, times: 3 });
    const twice = flip.applied(2);
    for (let round = 0; round < 2; round++) await edu.write(IOVA, 1);
    expect(await twice).toMatchObject({ applied: 2, over: false });
    await expect(flip.applied(3, 1)).rejects.toThrow(/within 1 ms: it applied 2 times/);
    expect(machine.events.filter(({ kind }) => kind === 'injection.applied')).toHaveLength(2);
  });

  it('is refused where the machine has no such thing', async () => {
    const machine = await begin();
    await expect(machine.inject({ kind: 'hold', device: 'nic' })).rejects.toThrow(
      "there is no endpoint 'nic': the machine has edu0, edu1",
    );
    await expect(machine.inject({ kind: 'burn' } as never)).rejects.toThrow(/refuse/);
    await expect(machine.inject({ kind: 'flip', device: 'edu0', bit: -1 })).rejects.toThrow(/bit/);
  });
});

describe('faults on purpose', () => {
  it('are refused where there is no such unit', async () => {
    const machine = await start({ iommu: 'dma-iommu' });
    await expect(machine.inject({ kind: 'drop-invalidation-completion' })).rejects.toThrow(/only vtd/);
    const bare = await start({ iommu: 'none' });
    await expect(bare.inject({ kind: 'delay-invalidation' })).rejects.toThrow(/no IOMMU/);
  });
});
