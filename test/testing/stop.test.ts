import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import '../../dist/src/testing/vitest.js';
import { type Bench, connect, IOVA, NEVER_MAPPED, start } from './support.ts';

async function stale(sanitize: string): Promise<Bench> {
  const bench = await connect(await start({ sanitize }));
  const { edu, vtd, domain, guest, page } = bench;
  guest.memory.write(page, Uint8Array.of(1));
  await edu.read(IOVA, 1);
  vtd.clear(domain, IOVA);
  // The device's entry is stale from here on.
  guest.memory.write(page + 1n, Uint8Array.of(9));
  edu.begin(IOVA + 1n, 1, 2n);
  return bench;
}

describe('a machine that a finding stops', () => {
  it('ends by itself, and its findings remain', async () => {
    const { machine } = await stale('stale-iotlb=stop');
    await expect.poll(() => machine.ended).toBe(true);
    expect(await machine.findings()).toMatchObject([{ detector: 'stale-iotlb', severity: 'stop', device: 'edu0' }]);
    await expect(machine).toHaveFinding('stale-iotlb', { device: 'edu0', iova: IOVA + 1n });
    await expect(machine).not.toHaveNoFindings();
    for (const socket of Object.values(machine.sockets)) expect(existsSync(socket)).toBe(false);
  });

  it.each(Array.from({ length: 5 }, (_, reads) => reads))(
    'answers who asks while it ends, after %d reads',
    async reads => {
      const { machine, edu, guest } = await connect(await start({ sanitize: 'never-mapped=stop' }));
      edu.begin(NEVER_MAPPED, 8, 2n);
      try {
        for (let read = 0; read < reads; read++) guest.function('edu0').read32(0, 0);
      } catch {
        // The machine has ended.
      }
      expect(await machine.waitForFinding('never-mapped')).toMatchObject({ id: 'F1', severity: 'stop' });
    },
  );

  it('says that it ended where something does not come any more', async () => {
    const { machine } = await stale('stale-iotlb=stop');
    await expect.poll(() => machine.ended).toBe(true);
    await expect(machine.waitForRecord(() => false)).rejects.toThrow('no such record before the machine ended');
    await expect(machine.waitForFinding('never-mapped')).rejects.toThrow(/before the machine ended; there are:\n.*F1/);
  });

  it('does not let the DMA go on', async () => {
    const { machine, guest, vtd, domain, edu, page } = await connect(await start({ sanitize: 'stale-iotlb=stop' }));
    const other = guest.memory.allocate();
    await edu.write(IOVA, 32);
    vtd.map(domain, IOVA, other);
    for (const place of [page, other]) guest.memory.write(place, new Uint8Array(32).fill(7));
    // By the entry in the IOTLB it would go to the page of before.
    edu.begin(IOVA, 32, 2n);
    await expect.poll(() => machine.ended).toBe(true);
    expect(await machine.findings()).toMatchObject([{ detector: 'stale-iotlb', severity: 'stop', iova: IOVA }]);
    for (const place of [page, other]) expect([...guest.memory.read(place, 32)]).toEqual(new Array(32).fill(7));
    expect([...machine.records.all('dma.write')]).toHaveLength(1);
  });

  it('tells records up to the end', async () => {
    const { machine } = await stale('stale-iotlb=stop');
    await expect.poll(() => machine.ended).toBe(true);
    expect([...machine.records.all('stale')]).toHaveLength(1);
  });

  it('goes on where the policy only warns', async () => {
    const { machine, edu } = await stale('stale-iotlb');
    await edu.done();
    await expect(machine).toHaveFinding('stale-iotlb');
    expect(machine.ended).toBe(false);
  });
});
