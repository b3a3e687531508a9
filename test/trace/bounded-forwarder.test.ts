import { describe, expect, it } from 'vitest';
import { BoundedForwarder, MAX_EVENTS_UNDER_WAY } from '../../src/trace/bounded-forwarder.ts';
import type { TraceEvent } from '../../src/trace/trace.ts';

function make() {
  const taken = new SharedArrayBuffer(4);
  const heard: TraceEvent[] = [];
  const forwarder = new BoundedForwarder(taken, event => heard.push(event));
  return { forwarder, heard, take: (count: number) => Atomics.add(new Int32Array(taken), 0, count) };
}

describe('BoundedForwarder', () => {
  it('forwards events as they are', () => {
    const { forwarder, heard } = make();
    forwarder.note('fault.recorded', 'iommu', { iova: 4096n });
    expect(heard).toEqual([{ kind: 'fault.recorded', source: 'iommu', detail: { iova: 4096n } }]);
  });

  it('drops and counts what a reader that never reads cannot take', () => {
    const { forwarder, heard } = make();
    for (let n = 0; n < MAX_EVENTS_UNDER_WAY + 10; n++) forwarder.note('x', 'y', {});
    expect(heard.length).toBe(MAX_EVENTS_UNDER_WAY);
    expect(forwarder.dropped).toBe(10);
  });

  it('goes on when the reader has caught up', () => {
    const { forwarder, heard, take } = make();
    for (let n = 0; n < MAX_EVENTS_UNDER_WAY + 1; n++) forwarder.note('x', 'y', {});
    take(1);
    forwarder.note('x', 'y', {});
    forwarder.note('x', 'y', {});
    expect(heard.length).toBe(MAX_EVENTS_UNDER_WAY + 1);
    expect(forwarder.dropped).toBe(2);
  });
});
