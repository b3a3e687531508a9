import { describe, expect, it } from 'vitest';
import { checkDescription, DescriptionError, MAX_POLL_MICROSECONDS } from '../../src/machine/description.ts';
import { AUTO_POLL_MICROSECONDS, pollNanoseconds } from '../../src/machine/polling.ts';

describe('polling, of a machine description', () => {
  it.each([0, 1, 50, MAX_POLL_MICROSECONDS, 'auto'] as const)('may be %s', pollMicroseconds => {
    expect(checkDescription({ pollMicroseconds }).pollMicroseconds).toBe(pollMicroseconds);
  });

  it('is not there where nobody asks for it', () => {
    expect(checkDescription({})).not.toHaveProperty('pollMicroseconds');
  });

  it.each([-1, 0.5, MAX_POLL_MICROSECONDS + 1, Number.NaN, '50', 'on', null, true, [50]])(
    'cannot be %s',
    pollMicroseconds => {
      expect(() => checkDescription({ pollMicroseconds })).toThrow(DescriptionError);
    },
  );

  it('survives being written and read', () => {
    const machine = checkDescription({ pollMicroseconds: 'auto' });
    expect(checkDescription(JSON.parse(JSON.stringify(machine)))).toEqual(machine);
  });
});

describe('pollNanoseconds', () => {
  it.each([1, 2, 64])('is nothing unless asked for, on %d processors', processors => {
    expect(pollNanoseconds(undefined, processors)).toBe(0);
    expect(pollNanoseconds(0, processors)).toBe(0);
  });

  it('does as it is told, even on one processor', () => {
    expect(pollNanoseconds(75, 1)).toBe(75_000);
    expect(pollNanoseconds(75, 2)).toBe(75_000);
  });

  it("takes 'auto' for off on one processor alone", () => {
    expect(pollNanoseconds('auto', 1)).toBe(0);
    expect(pollNanoseconds('auto', 2)).toBe(AUTO_POLL_MICROSECONDS * 1000);
  });
});
