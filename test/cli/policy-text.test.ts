import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { policyText } from '../../src/cli/policy-text.ts';
import { DETECTOR_NAMES } from '../../src/trace/sanitizer/detectors.ts';
import { parsePolicy, type SanitizePolicy } from '../../src/trace/sanitizer/policy.ts';

const policies = fc.record(
  Object.fromEntries(DETECTOR_NAMES.map(name => [name, fc.constantFrom('off', 'warn', 'stop')])),
) as fc.Arbitrary<SanitizePolicy>;

describe('the text of a policy', () => {
  it('is read back as the same policy', () => {
    fc.assert(
      fc.property(policies, policy => {
        expect(parsePolicy(policyText(policy))).toEqual(policy);
      }),
    );
  });

  it.each(['on', 'off'])('is short for %s', text => {
    expect(policyText(parsePolicy(text))).toBe(text);
  });

  it('names what is not as by default', () => {
    expect(policyText(parsePolicy('on,stale-iotlb=stop'))).toBe('on,stale-iotlb=stop');
  });
});
