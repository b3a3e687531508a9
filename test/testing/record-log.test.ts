import { describe, expect, it } from 'vitest';
import { Arrivals } from '../../src/testing/arrivals.ts';
import { RecordLog } from '../../src/testing/record-log.ts';
import { batchOf, slotsOf, textSlotsOf } from '../trace/records.ts';

const NAMES = batchOf(textSlotsOf('source', [1, 'edu0'], 1), textSlotsOf('source', [2, 'iommu'], 2));
const read = (time: number, source = 1) =>
  slotsOf({ kind: 'dma.read', source, time, payload: [0x100, 0, 0x8000, 64, -1] });

function rig(...batches: Int32Array[]) {
  const arrivals = new Arrivals();
  const log = new RecordLog(arrivals);
  log.take(NAMES);
  for (const batch of batches) log.take(batch);
  return { arrivals, log, times: (...kinds: string[]) => [...log.all(...kinds)].map(({ time }) => time) };
}

describe('RecordLog', () => {
  it('decodes what it took', () => {
    const { log } = rig(read(5));
    const fields = { requesterId: 0x100, status: 'ok', iova: 0x8000n, length: 64, pasid: 'none' };
    expect([...log.all()]).toEqual([{ kind: 'dma.read', source: 'edu0', time: 5, fields }]);
  });

  it('keeps a copy: what it was given is not its own', () => {
    const words = read(5);
    const { log, times } = rig(words);
    words.fill(0);
    expect(times()).toEqual([5]);
    expect(log.lastTime).toBe(5);
  });

  it('gives the kinds that are asked for', () => {
    const { times } = rig(batchOf(read(1), slotsOf({ kind: 'interrupt', time: 2 })), read(3));
    expect(times()).toEqual([1, 2, 3]);
    expect(times('interrupt')).toEqual([2]);
    expect(times('interrupt', 'dma.read')).toEqual([1, 2, 3]);
    expect(times('dma.write')).toEqual([]);
  });

  it('knows no kinds that do not exist', () => {
    expect(() => rig(read(1)).times('dma')).toThrow("there is no kind of records 'dma'");
  });

  it('does not show records in words', () => {
    expect(rig(textSlotsOf('note', ['x', 'edu0', {}], 1, 4), read(5)).times()).toEqual([5]);
  });

  it('forgets records, but neither names nor losses', () => {
    const { log, times } = rig(slotsOf({ kind: 'dropped', source: 0, payload: [3] }), read(1));
    log.forget();
    expect(times()).toEqual([]);
    log.take(read(2, 2));
    expect([...log.all()].map(({ source }) => source)).toEqual(['iommu']);
    expect(log.lost).toBe(3);
  });

  it('counts what was lost in the ring, and on its way from a server', () => {
    const { log } = rig(
      batchOf(slotsOf({ kind: 'dropped', payload: [3] }), slotsOf({ kind: 'dropped', payload: [4] })),
    );
    log.take(read(1), 2);
    expect(log).toMatchObject({ lost: 7, lostBatches: 2 });
  });

  it('tells those who wait', async () => {
    const { arrivals, log } = rig();
    const found = arrivals.until(() => [...log.all()][0], 60_000);
    log.take(read(9));
    expect((await found)?.time).toBe(9);
  });
});
