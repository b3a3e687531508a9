import { describe, expect, it } from 'vitest';
import { describeMachine } from '../../src/machine/description.ts';
import { describeExpectedFinding, describeFindings, deviceName, findFinding } from '../../src/testing/findings.ts';
import type { Finding } from '../../src/trace/sanitizer/finding.ts';

const finding: Finding = {
  id: 'F1',
  detector: 'use-after-unmap',
  severity: 'warning',
  summary: 'edu0 wrote to 0x8000, which is unmapped',
  explanation: '',
  evidence: [],
  suggestion: '',
  device: 'edu0',
  iova: 0x8000n,
  length: 16,
  domain: 3,
  first: 1,
  last: 2,
  count: 1,
};
const found = (expected: object, detector: Finding['detector'] = 'use-after-unmap') =>
  findFinding([finding], detector, expected) !== undefined;

describe('findFinding', () => {
  it.each([
    ['nothing but the detector', {}, true],
    ['the device', { device: 'edu0' }, true],
    ['another device', { device: 'edu1' }, false],
    ['the first address', { iova: 0x8000n }, true],
    ['the last address', { iova: 0x800fn }, true],
    ['another address of its page', { iova: 0x8fffn }, true],
    ['the page behind', { iova: 0x9000n }, false],
    ['the page before', { iova: 0x7fffn }, false],
    ['the domain', { domain: 3 }, true],
    ['another domain', { domain: 4 }, false],
    ['a text', { text: 'wrote to 0x8000' }, true],
    ['another text', { text: 'read' }, false],
    ['a pattern', { text: /unmapped$/ }, true],
    ['another pattern', { text: /^unmapped/ }, false],
    ['all of them', { device: 'edu0', iova: 0x8001n, domain: 3, text: 'edu0' }, true],
    ['all but one of them', { device: 'edu0', iova: 0x8001n, domain: 3, text: 'edu1' }, false],
  ])('goes by %s', (_what, expected, is) => {
    expect(found(expected)).toBe(is);
  });

  it('goes by the detector', () => {
    expect(found({}, 'stale-iotlb')).toBe(false);
  });

  it('gives the same answer twice for a global pattern', () => {
    const text = /edu0/g;
    expect([found({ text }), found({ text })]).toEqual([true, true]);
  });

  it('takes a finding without a length for one page, and one without an address for none', () => {
    const { length: _length, ...short } = finding;
    expect(findFinding([short], 'use-after-unmap', { iova: 0x9000n })).toBeUndefined();
    expect(findFinding([short], 'use-after-unmap', { iova: 0x8000n })).toBe(short);
    const { iova: _iova, ...nowhere } = short;
    expect(findFinding([nowhere], 'use-after-unmap', { iova: 0x8000n })).toBeUndefined();
  });

  it('knows all pages of a finding that crosses them', () => {
    const long = { ...finding, iova: 0x8ffcn, length: 8 };
    const pages = [0x7fffn, 0x8000n, 0x9fffn, 0xa000n];
    const hits = pages.map(iova => findFinding([long], 'use-after-unmap', { iova }) !== undefined);
    expect(hits).toEqual([false, true, true, false]);
  });
});

describe('deviceName', () => {
  const machine = describeMachine('vtd', ['edu@01:00.0', 'edu@02:00.0,id=nic']);

  it.each([
    ['edu0', 'edu0'],
    ['01:00.0', 'edu0'],
    ['02:00.0', 'nic'],
    ['iommu', 'iommu'],
    ['03:00.0', '03:00.0'],
  ])('of %s is %s', (device, name) => {
    expect(deviceName(machine, device)).toBe(name);
  });

  it.each(['edu1', 'EDU0', '', '3:0.0'])('knows nobody called %o', device => {
    expect(() => deviceName(machine, device)).toThrow(`there is no device '${device}': the machine has edu0, nic`);
  });

  it('says that there are none', () => {
    expect(() => deviceName(describeMachine('vtd', []), 'edu0')).toThrow('the machine has none');
  });
});

describe('messages', () => {
  it('list findings', () => {
    expect(describeFindings([])).toBe('  (none)');
    expect(describeFindings([finding, { ...finding, id: 'F2', severity: 'note', count: 3 }])).toBe(
      [
        '  F1 warning use-after-unmap: edu0 wrote to 0x8000, which is unmapped',
        '  F2 note use-after-unmap: edu0 wrote to 0x8000, which is unmapped (3 times)',
      ].join('\n'),
    );
  });

  it('say what was expected', () => {
    expect(describeExpectedFinding('stale-iotlb', {})).toBe('stale-iotlb');
    const all = { device: 'edu0', iova: 16n, domain: 2, text: 'x' };
    expect(describeExpectedFinding('stale-iotlb', all)).toBe(
      "stale-iotlb of edu0 at 0x10 in domain 2 with 'x' in its summary",
    );
    expect(describeExpectedFinding('stale-iotlb', { text: /x/i })).toBe('stale-iotlb with /x/i in its summary');
  });
});
