import { describe, expect, it } from 'vitest';
import { ArgumentError } from '../../../src/machine/argument-checks.ts';
import { checkInjectionRule, DELAY_MILLISECONDS_MAX, FLIP_BIT_MAX } from '../../../src/machine/injection/rules.ts';

describe('checkInjectionRule', () => {
  it.each([
    { kind: 'refuse', device: 'edu0' },
    { kind: 'refuse', device: 'edu0', iova: 0x1000n, bytes: 0x2000n, access: 'write', times: 3 },
    { kind: 'refuse', device: 'edu0', iova: 0xffff_ffff_ffff_f000n, bytes: 0x1000n },
    { kind: 'flip', device: 'edu0', bit: 0 },
    { kind: 'flip', device: 'edu0', bit: FLIP_BIT_MAX, direction: 'read', times: 0xffffffff },
    { kind: 'drop-interrupt', device: 'iommu' },
    { kind: 'drop-interrupt', device: 'edu0', vector: 5, times: 1 },
    { kind: 'hold', device: 'edu0' },
    { kind: 'delay-invalidation' },
    { kind: 'delay-invalidation', milliseconds: DELAY_MILLISECONDS_MAX, times: 2 },
    { kind: 'drop-invalidation-completion' },
    { kind: 'drop-invalidation-completion', times: 2 },
  ])('takes $kind as it is (%#)', rule => {
    expect(checkInjectionRule(rule)).toEqual(rule);
  });

  it('takes small integers where addresses are wanted, and leaves out what is null', () => {
    expect(checkInjectionRule({ kind: 'refuse', device: 'edu0', iova: 4096, bytes: null })).toEqual({
      kind: 'refuse',
      device: 'edu0',
      iova: 4096n,
    });
  });

  it.each([
    ['nothing', undefined],
    ['text', 'refuse'],
    ['no kind', { device: 'edu0' }],
    ['an unknown kind', { kind: 'explode', device: 'edu0' }],
    ["an object's own member as kind", { kind: 'constructor', device: 'edu0' }],
    ['no device', { kind: 'refuse' }],
    ['a device that is no text', { kind: 'hold', device: 7 }],
    ['a long device', { kind: 'hold', device: 'x'.repeat(65) }],
    ['a misspelt member', { kind: 'refuse', device: 'edu0', adress: 1n }],
    ['a member of another kind', { kind: 'hold', device: 'edu0', times: 1 }],
    ['no times', { kind: 'refuse', device: 'edu0', times: 0 }],
    ['half a time', { kind: 'refuse', device: 'edu0', times: 1.5 }],
    ['too many times', { kind: 'refuse', device: 'edu0', times: 2 ** 32 }],
    ['an unknown access', { kind: 'refuse', device: 'edu0', access: 'execute' }],
    ['a negative address', { kind: 'refuse', device: 'edu0', iova: -1n }],
    ['an address beyond 64 bits', { kind: 'refuse', device: 'edu0', iova: 1n << 64n }],
    ['a length without an address', { kind: 'refuse', device: 'edu0', bytes: 1n }],
    ['an empty range', { kind: 'refuse', device: 'edu0', iova: 0n, bytes: 0n }],
    ['a range beyond 64 bits', { kind: 'refuse', device: 'edu0', iova: (1n << 64n) - 1n, bytes: 2n }],
    ['no bit', { kind: 'flip', device: 'edu0' }],
    ['a negative bit', { kind: 'flip', device: 'edu0', bit: -1 }],
    ['a bit too far', { kind: 'flip', device: 'edu0', bit: FLIP_BIT_MAX + 1 }],
    ['an unknown direction', { kind: 'flip', device: 'edu0', bit: 0, direction: 'up' }],
    ['a negative vector', { kind: 'drop-interrupt', device: 'edu0', vector: -1 }],
    ['no delay', { kind: 'delay-invalidation', milliseconds: 0 }],
    ['a long delay', { kind: 'delay-invalidation', milliseconds: DELAY_MILLISECONDS_MAX + 1 }],
  ])('refuses %s', (_what, value) => {
    expect(checkInjectionRule(value)).toBeInstanceOf(ArgumentError);
  });

  it('says what is wrong', () => {
    const problem = checkInjectionRule({ kind: 'explode' });
    expect((problem as ArgumentError).message).toBe(
      "'rule.kind' must be one of refuse, flip, drop-interrupt, hold, delay-invalidation, drop-invalidation-completion",
    );
  });
});
