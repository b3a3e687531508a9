import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkDescription, describeMachine, MAX_ENDPOINTS, parseDevice } from '../../src/machine/description.ts';
import { formatRequesterId } from '../../src/trace/record-fields.ts';

describe('parseDevice', () => {
  it('reads an address on the root bus', () => {
    expect(parseDevice('edu@04.0')).toEqual({ kind: 'edu', requesterId: 0x0020, options: {} });
  });

  it('reads an address behind a port, in hexadecimal, with id and options', () => {
    expect(parseDevice('edu@0a:1f.7,id=nic,dmaMask=32,express=off')).toEqual({
      kind: 'edu',
      id: 'nic',
      requesterId: 0x0aff,
      options: { dmaMask: 32, express: false },
    });
  });

  it.each(['edu', 'edu@', 'edu@4', 'edu@20.0', 'edu@04.8', '@04.0', 'edu@04.0,flag', 'edu@100:00.0'])(
    'refuses %s and says how to write it',
    text => {
      expect(() => parseDevice(text)).toThrow(/write KIND@|at most 1f|not NAME=VALUE/);
    },
  );
});

describe('describeMachine', () => {
  it('numbers endpoints by kind', () => {
    const machine = describeMachine('vtd', ['edu@04.0', 'edu@05.0']);
    expect(machine.endpoints.map(one => one.id)).toEqual(['edu0', 'edu1']);
    expect(machine.iommu).toEqual({ kind: 'vtd', cachingMode: false, compat: 'extended', checkStale: false });
  });

  it('keeps ids that are given', () => {
    const machine = describeMachine('vtd', ['edu@04.0,id=first', 'edu@05.0']);
    expect(machine.endpoints.map(one => one.id)).toEqual(['first', 'edu1']);
  });

  it.each([
    [['edu@04.0', 'edu@04.0'], /two endpoints have the address '00:04.0'/],
    [['edu@04.0,id=a', 'edu@05.0,id=a'], /two endpoints have the id 'a'/],
    [['edu@04.0,id=iommu'], /cannot be an id/],
    [['edu@04.0,id=../x'], /cannot be an id/],
    [['nothing@04.0'], /edu/],
    [['edu@04.0,colour=red'], /colour/],
  ])('refuses %j', (devices, message) => {
    expect(() => describeMachine('vtd', devices as string[])).toThrow(message as RegExp);
  });

  it('refuses an IOMMU that does not exist', () => {
    expect(() => describeMachine('smmu', [])).toThrow(/one of vtd, dma-iommu, none/);
  });
});

describe('checkDescription', () => {
  it('takes a JSON file written by hand', () => {
    const machine = checkDescription({
      iommu: 'vtd',
      endpoints: [{ kind: 'edu', address: '01:00.0', options: { dmaMask: 40 } }, 'edu@02:00.0'],
    });
    expect(machine.endpoints).toEqual([
      { kind: 'edu', id: 'edu0', requesterId: 0x0100, options: { dmaMask: 40 } },
      { kind: 'edu', id: 'edu1', requesterId: 0x0200, options: {} },
    ]);
  });

  it('reads back what it wrote', () => {
    const machine = describeMachine('vtd', ['edu@04.0,dmaMask=32', 'edu@05.0,id=b'], { cachingMode: true });
    expect(checkDescription(JSON.parse(JSON.stringify(machine)))).toEqual(machine);
  });

  it.each([
    [undefined],
    [[]],
    [{ endpoints: 'edu' }],
    [{ iommu: 7 }],
    [{ iommu: { kind: 'vtd', cachingMode: 'yes' } }],
    [{ iommu: { kind: 'vtd', compat: 'windows' } }],
    [{ iommu: { kind: 'dma-iommu', cachingMode: true } }],
    [{ iommu: { kind: 'vtd', checkStale: true } }],
    [{ iommu: 'vtd', devices: ['edu@01:00.0'] }],
    [{ iommu: { kind: 'vtd', cachingmode: true } }],
    [{ endpoints: [{ kind: 'edu', address: '01:00.0', dmaMask: 64 }] }],
    [{ endpoints: [{ kind: 'edu', address: '01:00.0,dmaMask=64' }] }],
    [{ iommu: { kind: 'dma-iommu', compat: 'linux' } }],
    [{ endpoints: [{ kind: 'edu' }] }],
    [{ endpoints: [{ kind: 'edu', requesterId: -1 }] }],
    [{ endpoints: [{ kind: 'edu', requesterId: 0x10000 }] }],
    [{ endpoints: [null] }],
  ])('refuses %j', value => {
    expect(() => checkDescription(value)).toThrow(expect.objectContaining({ name: 'DescriptionError' }));
  });

  /** What MessagePack and JSON can bring, and what has no text of its own. */
  const anything = fc.oneof(
    fc.anything(),
    fc.constantFrom({ toString: 1 }, { toString: 1, valueOf: 1 }, Object.create(null)),
  );
  it('refuses what makes no sense in its own words, whatever it is', () => {
    const endpoint = fc.record(
      {
        kind: fc.oneof(fc.constant('edu'), anything),
        id: anything,
        address: anything,
        requesterId: anything,
        options: anything,
      },
      { requiredKeys: [] },
    );
    const limits = fc.oneof(anything, fc.dictionary(fc.constantFrom('maxDmaMaps', 'toString', 'x'), anything));
    const machine = fc.record(
      {
        iommu: fc.oneof(anything, fc.record({ kind: anything })),
        endpoints: fc.oneof(anything, fc.array(fc.oneof(anything, endpoint), { maxLength: 3 })),
        pollMicroseconds: anything,
        limits,
      },
      { requiredKeys: [] },
    );
    const refused = new Set<string>();
    fc.assert(
      fc.property(fc.oneof(anything, machine), value => {
        try {
          checkDescription(value);
        } catch (error) {
          refused.add((error as Error).name);
        }
      }),
      { numRuns: 3000 },
    );
    expect([...refused]).toEqual(['DescriptionError']);
  });

  it('limits the number of endpoints', () => {
    const endpoints = Array.from({ length: MAX_ENDPOINTS + 1 }, (_, index) => ({ kind: 'edu', requesterId: index }));
    expect(() => checkDescription({ endpoints })).toThrow(/at most 64/);
  });
});

describe('limits in a description', () => {
  it('are kept as they are given', () => {
    const machine = checkDescription({ iommu: 'none', limits: { maxDmaMaps: 7, dmaTimeout: 100 } });
    expect(machine.limits).toEqual({ maxDmaMaps: 7, dmaTimeout: 100 });
    expect(checkDescription(JSON.parse(JSON.stringify(machine)))).toEqual(machine);
  });

  it('are missing where they are not given', () => {
    expect(checkDescription({})).not.toHaveProperty('limits');
  });

  it.each([
    [{ maxDmaMap: 1 }, /did you mean maxDmaMaps \(1 to 65535 regions\)/],
    [{ maxDmaMaps: 0 }, /the limit maxDmaMaps must be a whole number, 1 to 65535 regions, not '0'/],
    [{ maxDmaMaps: '7' }, /must be a whole number/],
    [{ maxDataTransfer: 65536, maxQueuedBytes: 65536 }, /do not go together, the largest message must fit/],
    [7, /'limits' must be an object/],
    [null, /'limits' must be an object/],
    [[], /'limits' must be an object/],
  ])('are refused: %j', (limits, message) => {
    expect(() => checkDescription({ limits })).toThrow(
      expect.objectContaining({ name: 'DescriptionError', message: expect.stringMatching(message) }),
    );
  });
});

describe('formatRequesterId', () => {
  it.each([
    [0x0020, '00:04.0'],
    [0x0100, '01:00.0'],
    [0xffff, 'ff:1f.7'],
  ])('%i is %s', (id, text) => {
    expect(formatRequesterId(id)).toBe(text);
  });
});
