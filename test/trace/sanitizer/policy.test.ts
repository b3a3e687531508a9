import { describe, expect, it } from 'vitest';
import { DETECTOR_NAMES, DETECTORS, detectorTable } from '../../../src/trace/sanitizer/detectors.ts';
import { defaultPolicy, needsChecks, PolicyError, parsePolicy } from '../../../src/trace/sanitizer/policy.ts';

const actions = (text: string) => new Set(Object.values(parsePolicy(text)));

describe('a policy', () => {
  it("'on' is the defaults", () => {
    expect(parsePolicy('on')).toEqual(defaultPolicy());
    for (const name of DETECTOR_NAMES) expect(parsePolicy('on')[name]).toBe(DETECTORS[name].action);
  });

  it("'off' is nothing, 'all' is everything", () => {
    expect(actions('off')).toEqual(new Set(['off']));
    expect(actions('all')).toEqual(new Set(['warn']));
    expect(actions('all=stop')).toEqual(new Set(['stop']));
  });

  it('a list changes the defaults', () => {
    const policy = parsePolicy('stale-iotlb=stop,-register-spin,use-after-unmap');
    expect(policy).toEqual({
      ...defaultPolicy(),
      'stale-iotlb': 'stop',
      'register-spin': 'off',
      'use-after-unmap': 'warn',
    });
  });

  it('a list may begin with nothing', () => {
    const policy = parsePolicy('off, never-mapped=stop');
    expect(Object.entries(policy).filter(([, action]) => action !== 'off')).toEqual([['never-mapped', 'stop']]);
  });

  it('is read from left to right', () => {
    expect(parsePolicy('never-mapped=stop,never-mapped=off')['never-mapped']).toBe('off');
    expect(parsePolicy('never-mapped=stop,off')['never-mapped']).toBe('off');
  });

  it.each([
    'nothing',
    '',
    'stale-iotlb,',
    '-',
    '-on',
    'stale-iotlb=loud',
    'stale-iotlb=',
    'a=b=c',
    '-stale-iotlb=stop',
    'toString',
  ])("'%s' is refused", text => {
    expect(() => parsePolicy(text)).toThrow(PolicyError);
  });

  it('names the detectors when it is refused', () => {
    expect(() => parsePolicy('stale')).toThrow(/no detector 'stale'.*stale-iotlb.*pasid-misuse/s);
  });

  it('says whether the IOMMU has to compare', () => {
    expect(needsChecks(parsePolicy('on'))).toBe(true);
    expect(needsChecks(parsePolicy('off'))).toBe(false);
    expect(needsChecks(parsePolicy('off,unknown-register'))).toBe(false);
    expect(needsChecks(parsePolicy('off,stale-context'))).toBe(true);
  });
});

describe('the table of detectors', () => {
  it('has a row for each, in order', () => {
    expect(detectorTable().map(row => row.name)).toEqual([...DETECTOR_NAMES]);
  });

  it('says something different of each', () => {
    for (const field of ['title', 'about', 'suggestion'] as const) {
      const texts = detectorTable().map(row => row[field]);
      expect(new Set(texts).size).toBe(texts.length);
      for (const text of texts) expect(text.length).toBeGreaterThan(10);
    }
  });
});
