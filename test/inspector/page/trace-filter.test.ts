import { describe, expect, it } from 'vitest';
import { RecordStore } from '../../../src/inspector/page/store/record-store.ts';
import {
  CLASS_NAMES,
  compileTraceFilter,
  DEFAULT_CLASSES,
  DEFAULT_FILTER,
  filterFromArgs,
  filterToArgs,
  kindsOfClasses,
  type TraceFilter,
} from '../../../src/inspector/page/store/trace-filter.ts';
import { FilterError } from '../../../src/trace/event-filter.ts';
import { standardDecoder } from '../../../src/trace/record-fields.ts';
import { batchOf, slotsOf, textSlotsOf } from '../../trace/records.ts';

const devices = new Map([['edu0', 0x100]]);
const store = new RecordStore();
store.append(
  batchOf(
    textSlotsOf('source', [2, 'edu0'], 0, 0),
    slotsOf({ kind: 'dma.read', source: 2, time: 1, payload: [0x100, 0, 0x1000, 64, -1] }),
    slotsOf({ kind: 'dma.write', source: 3, time: 2, payload: [0x200, 0, 0x5000, 4096, -1] }),
    slotsOf({ kind: 'register.write', source: 2, time: 3, payload: [0, 0x98, 0, 1] }),
    slotsOf({ kind: 'mapping.added', source: 1, time: 4, payload: [7, 0, 0x5000, 16, 1, 3] }),
    slotsOf({ kind: 'fault', source: 1, time: 5, payload: [0x100, 0, 0x9000, 5, 7, -1, 1] }),
    textSlotsOf('note', ['vtd.enabled', 'iommu', { levels: 4 }], 1, 6),
  ),
);

function passing(part: Partial<TraceFilter>): string[] {
  const passes = compileTraceFilter({ ...DEFAULT_FILTER, classes: CLASS_NAMES, ...part }, standardDecoder, devices);
  const kinds: string[] = [];
  for (let number = store.first; number < store.next; number++) {
    const cursor = store.at(number)!;
    if (passes(cursor)) kinds.push(standardDecoder.kind(cursor.kind)!.name);
  }
  return kinds;
}

describe('the filter of the trace', () => {
  it('leaves out how sources are called, unless that is asked for', () => {
    expect(passing({})).not.toContain('source');
    expect(passing({ kind: 'source' })).toEqual(['source']);
  });

  it('goes by class', () => {
    expect(passing({ classes: ['dma'] })).toEqual(['dma.read', 'dma.write']);
    expect(passing({ classes: [] })).toEqual([]);
  });

  it('takes a device by its name for its own records and for those about it', () => {
    expect(passing({ device: 'edu0' })).toEqual(['dma.read', 'register.write', 'fault']);
  });

  it('takes a device by its requester id', () => {
    expect(passing({ device: '01:00.0' })).toEqual(['dma.read', 'register.write', 'fault']);
    expect(passing({ device: '02:00.0' })).toEqual(['dma.write']);
  });

  it('goes by domain, address and text', () => {
    expect(passing({ domain: '7' })).toEqual(['mapping.added', 'fault']);
    expect(passing({ iova: '0x5fff' })).toEqual(['dma.write', 'mapping.added']);
    expect(passing({ text: 'VTD.ENABLED' })).toEqual(['note']);
    expect(passing({ text: 'length=4096' })).toEqual(['dma.write']);
  });

  it.each([{ iova: 'nonsense' }, { domain: 'x' }, { kind: 'no.such' }])('says what is wrong with %j', part => {
    expect(() => passing(part)).toThrow(FilterError);
  });
});

describe('the filter in the address', () => {
  it('is not there where nothing was chosen', () => {
    expect(filterFromArgs({})).toEqual(DEFAULT_FILTER);
    expect(Object.values(filterToArgs(DEFAULT_FILTER)).every(value => value === undefined || value === '')).toBe(true);
  });

  it.each([[[]], [['dma']], [[...CLASS_NAMES]], [[...DEFAULT_CLASSES]]] as const)('keeps the classes %j', classes => {
    const filter = { ...DEFAULT_FILTER, classes, device: 'edu0', iova: '0x1000+0x10', text: 'a b' };
    const args = Object.fromEntries(Object.entries(filterToArgs(filter)).filter(([, value]) => value !== undefined));
    expect(filterFromArgs(args as Record<string, string>)).toEqual(filter);
  });

  it('offers the kinds of the chosen classes', () => {
    expect(kindsOfClasses(['dma'])).toEqual(['dma.read', 'dma.write']);
  });
});
