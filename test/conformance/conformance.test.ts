import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { IommuKindName } from '../../src/machine/description.ts';
import { allRules } from '../../src/vfio-user/conformance/rules/all.ts';
import { runRule, selectRules } from '../../src/vfio-user/conformance/runner.ts';
import { broken, unseen } from './known.ts';
import { OfferingTarget, ServedTarget } from './targets.ts';

interface Function {
  readonly what: string;
  readonly iommu: IommuKindName;
  readonly name: string;
  readonly dma: boolean;
}

const FUNCTIONS: readonly Function[] = [
  { what: 'an edu device', iommu: 'none', name: 'edu0', dma: true },
  { what: 'the VT-d function', iommu: 'vtd', name: 'iommu', dma: false },
  { what: 'the dma-iommu function', iommu: 'dma-iommu', name: 'iommu', dma: false },
];

/** Rules that were not skipped at one function at least. */
const seen = new Set<string>();

describe.each(FUNCTIONS)('a vfio-user server in front of $what', ({ iommu, name, dma }) => {
  let served: ServedTarget;
  beforeAll(() => {
    served = new ServedTarget(iommu, name);
  });
  afterAll(() => served.close());

  for (const rule of allRules) {
    const known = broken[rule.id];
    const fails = known !== undefined && (dma || !known.needsDma);
    const test = fails ? it.fails : it;
    test(fails ? `${rule.id} (broken: ${known.why})` : rule.id, context => {
      const { verdict, why } = runRule(rule, served.target, served.device);
      if (verdict !== 'skip') seen.add(rule.id);
      else if (!fails) context.skip(why);
      expect({ verdict, why }).toEqual({ verdict: 'pass', why: '' });
    });
  }

  it('leaves no error in the loop', () => {
    expect(served.errors).toEqual([]);
  });
});

/** Of these rules a device that has more to offer shows more; the others it keeps as those above do. */
const OFFERS = [
  'version.',
  'region-info.',
  'region-io-fds.',
  'region-read.',
  'region-write.not-writable',
  'write-multi.',
];

describe('a vfio-user server in front of a device that offers memory and eventfds', () => {
  let served: OfferingTarget;
  beforeAll(() => {
    served = new OfferingTarget();
  });
  afterAll(() => served.close());

  it.each(selectRules(allRules, OFFERS))('$id', rule => {
    const { verdict, why } = runRule(rule, served.target, served.device);
    if (verdict !== 'skip') seen.add(rule.id);
    expect({ verdict, why }).not.toMatchObject({ verdict: 'fail' });
  });

  it('leaves no error in the loop', () => {
    expect(served.errors).toEqual([]);
  });
});

describe('the rules', () => {
  it('are seen at one function at least, or it is known why not', () => {
    const missing = allRules.map(({ id }) => id).filter(id => !seen.has(id));
    expect(missing.sort()).toEqual(Object.keys(unseen).sort());
  });
});
