import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkLimit,
  LimitError,
  limitRange,
  lowerLimits,
  settleLimits,
  tableDefaults,
} from '../../src/vfio-user/limit-settings.ts';
import {
  type GivenLimits,
  type LimitName,
  limitNames,
  limitRules,
  limitTable,
} from '../../src/vfio-user/limit-table.ts';
import { defaultLimits, largestMessage, streamLimits } from '../../src/vfio-user/limits.ts';

type Values = Readonly<Record<LimitName, number>>;

/** Rules that these values break. */
function broken(values: Values): string[] {
  return limitRules
    .filter(({ small, factor, spare, large }) => factor * values[small] + spare > values[large])
    .map(({ small, large }) => `${small} within ${large}`);
}

/** Some limits, each within its range, and more often near an end of it or the default. */
const anyLimits: fc.Arbitrary<GivenLimits> = fc.record(
  Object.fromEntries(
    limitNames.map(name => {
      const { least, most, default: usual } = limitTable[name];
      return [name, fc.oneof(fc.constantFrom(least, usual, most), fc.integer({ min: least, max: most }))];
    }),
  ),
  { requiredKeys: [] },
);

function settled(given: GivenLimits, base?: Values): Values | undefined {
  try {
    return settleLimits(given, base);
  } catch (error) {
    if (error instanceof LimitError) return undefined;
    throw error;
  }
}

describe('the table of limits', () => {
  it('has its defaults within the ranges', () => {
    const outside = limitNames.filter(name => {
      const { least, most, default: usual } = limitTable[name];
      return !(least <= usual && usual <= most && Number.isInteger(least) && Number.isInteger(most));
    });
    expect(outside).toEqual([]);
  });

  it('has defaults that go together', () => {
    expect(broken(tableDefaults)).toEqual([]);
    expect(settleLimits({})).toEqual(tableDefaults);
  });

  it('is where the limits of server and client come from', () => {
    expect(defaultLimits).toMatchObject(tableDefaults);
    expect(Object.keys(defaultLimits).filter(name => !(name in limitTable))).toEqual(['writeMultiple', 'replyTimeout']);
  });
});

describe('limits that are set', () => {
  it('are kept as they are where they go together', () => {
    const given = { maxDmaMaps: 12, dmaTimeout: 500 };
    expect(settleLimits(given)).toEqual({ ...tableDefaults, ...given });
  });

  it('draw others behind them, downwards', () => {
    expect(settleLimits({ maxDataTransfer: 65536 })).toEqual({
      ...tableDefaults,
      maxDataTransfer: 65536,
      maxDirtyBitmap: 65472,
      maxCoalescedWrites: 2728,
    });
  });

  it('draw others behind them, upwards', () => {
    const { maxDataTransfer, maxQueuedBytes } = settleLimits({ maxDirtyBitmap: 4 * 1048576 });
    expect(maxDataTransfer).toBe(4 * 1048576 + 64);
    expect(maxQueuedBytes).toBe(4 * 1048576 + 64 + 4096);
  });

  it('go together, however they were given, and are the given ones', () => {
    fc.assert(
      fc.property(anyLimits, given => {
        const values = settled(given);
        if (values === undefined) return;
        expect(broken(values)).toEqual([]);
        expect(values).toMatchObject(given);
        expect(largestMessage({ ...defaultLimits, ...values })).toBeLessThanOrEqual(values.maxQueuedBytes);
        for (const name of limitNames) checkLimit(name, values[name]);
        expect(settleLimits(values)).toEqual(values);
      }),
      { numRuns: 1000 },
    );
  });

  it('never fail where one alone is given', () => {
    fc.assert(
      fc.property(fc.constantFrom(...limitNames), fc.double({ min: 0, max: 1, noNaN: true }), (name, share) => {
        const { least, most } = limitTable[name];
        const value = Math.round(least + share * (most - least));
        expect(settleLimits({ [name]: value })[name]).toBe(value);
      }),
    );
  });

  it('are refused with both named where two do not go together', () => {
    expect(() => settleLimits({ maxDataTransfer: 1048576, maxQueuedBytes: 65536 })).toThrow(
      'the limits maxDataTransfer = 1048576 and maxQueuedBytes = 65536 do not go together, the largest message must fit: ' +
        'maxQueuedBytes must be at least 1052672, or maxDataTransfer at most 61440',
    );
  });

  it.each([
    ['maxDmaMap', /^no limit is called 'maxDmaMap': did you mean maxDmaMaps \(1 to 65535 regions\)\?/],
    ['MAXDMAMAPS', /did you mean maxDmaMaps /],
    ['timeout', /did you mean dmaTimeout /],
    ['', /did you mean /],
    ['constructor', /no limit is called 'constructor'/],
    ['__proto__', /no limit is called '__proto__'/],
    ['writeMultiple', /no limit is called 'writeMultiple'/],
  ])("with the name '%s' are refused, with what comes nearest", (name, message) => {
    expect(() => settleLimits(JSON.parse(`{"${name}":1}`))).toThrow(message);
  });

  it.each([0, 65536, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '7', true, null])(
    'must be whole numbers in their range: not %s',
    value => {
      expect(() => settleLimits({ maxDmaMaps: value as number })).toThrow(
        `the limit maxDmaMaps must be a whole number, ${limitRange('maxDmaMaps')}, not '${String(value)}'`,
      );
    },
  );
});

describe('limits that a client of the server asks for', () => {
  const own = { maxDataTransfer: 65536, dmaTimeout: 20_000 };

  it("are the server's own where it asks for nothing", () => {
    expect(settleLimits(lowerLimits({}, own))).toEqual(settleLimits(own));
    expect(lowerLimits({}, {})).toEqual({});
  });

  it('may be lower', () => {
    expect(lowerLimits({ dmaTimeout: 100 }, own)).toMatchObject({ dmaTimeout: 100, maxDataTransfer: 65536 });
  });

  it.each([
    [{ dmaTimeout: 20_001 }, own, 'the limit dmaTimeout is at most 20000 ms here, not 20001'],
    [{ maxDmaMaps: 65535, maxDataTransfer: 1048576 }, own, 'the limit maxDataTransfer is at most 65536 bytes here'],
    // One that followed counts, too.
    [{ maxDirtyBitmap: 65473 }, own, 'the limit maxDirtyBitmap is at most 65472 bytes here'],
    [{ maxDescriptors: 17 }, {}, 'the limit maxDescriptors is at most 16 descriptors here'],
    [{ maxDmaMap: 1 }, {}, "no limit is called 'maxDmaMap'"],
  ])('may not be higher: %j', (asked, server, message) => {
    expect(() => lowerLimits(asked as GivenLimits, server)).toThrow(message);
  });

  it('never raise one, whatever is given on both sides', () => {
    fc.assert(
      fc.property(anyLimits, anyLimits, (server, client) => {
        const most = settled(server);
        if (most === undefined) return;
        const asked = Object.fromEntries(
          Object.entries(client).map(([name, value]) => [name, Math.min(value, most[name as LimitName])]),
        );
        if (settled(asked, most) === undefined) return;
        const values = settleLimits(lowerLimits(asked, server));
        expect(limitNames.filter(name => values[name] > most[name])).toEqual([]);
        expect(values).toMatchObject(asked);
      }),
      { numRuns: 1000 },
    );
  });
});

describe('limits over a stream', () => {
  it('keep messages to what carries the stream, however large they may be elsewhere', () => {
    const large = { ...defaultLimits, ...settleLimits({ maxDirtyBitmap: 8 * 1048576 }) };
    expect(largestMessage(streamLimits(large))).toBe(largestMessage(streamLimits(defaultLimits)));
    expect(streamLimits(large).maxDirtyBitmap).toBeLessThanOrEqual(1048576 - 64);
  });

  it('may be lower', () => {
    const small = { ...defaultLimits, ...settleLimits({ maxDataTransfer: 65536 }) };
    expect(streamLimits(small)).toMatchObject({ maxDataTransfer: 65536, maxDmaRead: 65536, maxDirtyBitmap: 65472 });
  });
});
