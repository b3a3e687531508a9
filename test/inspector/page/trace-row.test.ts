import { describe, expect, it } from 'vitest';
import { findingLinks, recordsAround } from '../../../src/inspector/page/store/finding-links.ts';
import { jumpsOf, traceRow } from '../../../src/inspector/page/store/trace-row.ts';
import { EventClass } from '../../../src/trace/event-kinds.ts';
import { batchOf, slotsOf, textSlotsOf } from '../../trace/records.ts';
import { fakeFindings } from './fake-findings.ts';
import { storeWith } from './support.ts';

const store = storeWith([]);
store.append(
  batchOf(
    textSlotsOf('source', [2, 'edu0'], 0, 0),
    slotsOf({ kind: 'dma.write', source: 2, time: 10, payload: [0x100, 0, 0x1040, 64, -1] }),
    slotsOf({ kind: 'register.write', source: 2, time: 20, payload: [0 | (8 << 4), 0x98, 0, 1] }),
    slotsOf({ kind: 'invalidation', source: 1, time: 30, payload: [-1, 0, 0, 0, 0] }),
    textSlotsOf('note', ['vtd.enabled', 'iommu', { levels: 4 }], 1, 40),
    slotsOf({ kind: 'dropped', source: 0, time: 50, payload: [12] }),
  ),
);
const context = {
  domainOf: (requesterId: number) => (requesterId === 0x100 ? 7 : undefined),
  functionOf: (requesterId: number) => (requesterId === 0x100 ? 'edu0' : undefined),
  hasHardware: true,
};
const row = (number: number) => traceRow(store, number)!;
const hrefs = (number: number, part = {}) => jumpsOf(row(number), { ...context, ...part }).map(one => one.href);

describe('rows of the trace', () => {
  it('name time, source, kind and fields', () => {
    expect(row(1)).toMatchObject({
      number: 1,
      time: 10,
      source: 'edu0',
      kind: 'dma.write',
      class: 'dma',
      isGap: false,
    });
    expect(row(1).fields.map(({ name, text }) => `${name}=${text}`)).toEqual([
      'requesterId=01:00.0',
      'status=ok',
      'iova=0x1040',
      'length=64',
      'pasid=none',
    ]);
  });

  it('show notes in words', () => {
    expect(row(4)).toMatchObject({ kind: 'note', text: 'vtd.enabled levels=4' });
  });

  it('show what was lost', () => {
    expect(row(5)).toMatchObject({ isGap: true, fields: [{ name: 'records', text: '12' }] });
  });

  it('say where this page itself did not listen', () => {
    const other = storeWith([{ kind: 'dma.read', time: 1, payload: [0, 0, 0, 4, -1] }]);
    other.markGap();
    expect(traceRow(other, 1)).toMatchObject({
      isGap: true,
      fields: [],
      text: expect.stringContaining('nothing was recorded'),
    });
  });

  it('say which classes were recorded where others were not', () => {
    const other = storeWith([{ kind: 'dma.read', time: 1, payload: [0, 0, 0, 4, -1] }]);
    other.markGap(EventClass.dma | EventClass.fault);
    expect(traceRow(other, 1)?.text).toBe('up to here only these were recorded: dma, fault');
  });

  it('are not there when the record is gone', () => {
    expect(traceRow(store, 99)).toBeUndefined();
  });
});

describe('jumps', () => {
  it('lead from a transfer to device, domain, page and page tables', () => {
    expect(hrefs(1)).toEqual([
      '#/registers?function=edu0',
      '#/trace?device=edu0&class=all',
      '#/space?domain=7',
      '#/space?domain=7&iova=0x1040',
      '#/tables?device=01:00.0&iova=0x1040',
      '#/trace?iova=0x1000%2B0x1000&class=all',
    ]);
  });

  it('do not lead to hardware that a recording does not have', () => {
    expect(hrefs(1, { hasHardware: false })).toEqual([
      '#/trace?device=edu0&class=all',
      '#/space?domain=7',
      '#/space?domain=7&iova=0x1040',
      '#/trace?iova=0x1000%2B0x1000&class=all',
    ]);
  });

  it('lead from an access to the register', () => {
    expect(hrefs(2)).toEqual(['#/registers?function=edu0&offset=0x98&region=0']);
  });

  it('do not take an invalidation of everything for one of a device or a domain', () => {
    expect(hrefs(3)).toEqual(['#/trace?iova=0x0%2B0x1000&class=all']);
  });
});

describe('from a finding', () => {
  const [finding] = fakeFindings();

  it('one can go to address, device, tables and trace', () => {
    expect(findingLinks(finding!, 0x100, true).map(one => one.href)).toEqual([
      '#/space?domain=1&iova=0x5680040',
      '#/tables?device=01:00.0&iova=0x5680040',
      '#/registers?function=edu0',
      `#/trace?at=${finding!.last}&class=all`,
      '#/trace?iova=0x5680000%2B0x1000&class=all',
    ]);
  });

  it('the records around it are shown, where they are kept', () => {
    expect(recordsAround(store, 30).map(one => one.number)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(recordsAround(store, 1000)).toEqual([]);
    expect(recordsAround(storeWith([{ kind: 'dma.read', time: 100, payload: [0, 0, 0, 4, -1] }]), 50)).toEqual([]);
    expect(recordsAround(storeWith([]), 0)).toEqual([]);
  });
});
