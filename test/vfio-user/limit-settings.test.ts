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

/** The values for what is not given that leave the most room: if these break a rule, all do. */
function roomiest(given: GivenLimits): Values {
  const smalls = new Set(limitRules.map(rule => rule.small));
  const larges = new Set(limitRules.map(rule => rule.large));
  const values = Object.fromEntries(
    limitNames.map(name => {
      const { least, most } = limitTable[name];
      return [name, given[name] ?? (larges.has(name) ? most : least)];
    }),
  ) as Record<LimitName, number>;
  // One that is on both sides has to be just large enough.
  for (const name of limitNames) {
    if (given[name] !== undefined || !smalls.has(name) || !larges.has(name)) continue;
    const needs = limitRules
      .filter(rule => rule.large === name)
      .map(rule => rule.factor * values[rule.small] + rule.spare);
    const needed = Math.max(limitTable[name].least, ...needs);
    values[name] = Math.min(needed, limitTable[name].most);
  }
  return values;
}

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

describe('the ids of DMA messages', () => {
  const IDS = 65536;

  it('suffice for all that are under way or given up, whatever the limits', () => {
    const { maxUnanswered, maxDmaMessages, streamDmaMessages } = limitTable;
    const atOnce = Math.max(maxDmaMessages.most, streamDmaMessages.most);
    // Those that may be given up, and one transfer more under way.
    expect((maxUnanswered.most + 1) * atOnce).toBeLessThan(IDS);
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

  it('draw one upwards as far as the largest of several needs', () => {
    expect(settleLimits({ maxDmaBytes: 4 * 1048576, streamDmaBytes: 8 * 1048576 })).toEqual({
      ...tableDefaults,
      maxDmaBytes: 4 * 1048576,
      streamDmaBytes: 8 * 1048576,
      maxQueuedBytes: 8 * 1048576 + 4096,
    });
  });

  it('are refused only where nothing could be put in for the others', () => {
    const drawn = { settled: 0, refused: 0 };
    fc.assert(
      fc.property(anyLimits, given => {
        const possible = broken(roomiest(given)).length === 0;
        expect(settled(given) !== undefined).toBe(possible);
        drawn[possible ? 'settled' : 'refused']++;
      }),
      { numRuns: 2000 },
    );
    expect(Math.min(drawn.settled, drawn.refused)).toBeGreaterThan(100);
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

  it.each([
    [{ maxDmaMaps: { toString: 1 } }, 'the limit maxDmaMaps must be a whole number, 1 to 65535 regions, not an object'],
    [{ maxDmaMaps: [[]] }, 'not an object'],
    [{ maxDmaMaps: 'x'.repeat(100_000) }, `not '${'x'.repeat(64)}...'`],
    [{ ['x'.repeat(100_000)]: 1 }, `no limit is called '${'x'.repeat(64)}...'`],
  ])('are named shortly, whatever they are (%#)', (given, message) => {
    let told = '';
    try {
      settleLimits(given as GivenLimits);
    } catch (error) {
      expect(error).toBeInstanceOf(LimitError);
      told = (error as LimitError).message;
    }
    expect(told).toContain(message);
    expect(told.length).toBeLessThan(1000);
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
