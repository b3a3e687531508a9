import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DETECTOR_NAMES } from '../../src/trace/sanitizer/detectors.ts';
import { repository } from '../support.ts';
import { blocksOf, masked, outputBlock, readPage } from './page.ts';

const page = readPage('first-dma-bug.md');
const sources = join(repository, 'images', 'guest', 'programs', 'first-bug');

describe('docs/first-dma-bug.md', () => {
  const quoted = blocksOf(page).filter(({ language }) => language === 'c');
  const files = readdirSync(sources)
    .filter(name => name.endsWith('.c'))
    .map(name => readFileSync(join(sources, name), 'utf8'));

  it('quotes the driver', () => {
    expect(quoted).toHaveLength(2);
  });

  it.each(quoted.map(({ lines }) => lines.join('\n')))('quotes it as it is: %s', text => {
    expect(files.some(file => file.includes(`${text}\n`))).toBe(true);
  });

  it('has an example of a test whose imports exist', async () => {
    const [example] = blocksOf(page).filter(({ language }) => language === 'ts');
    const text = example!.lines.join('\n');
    const { exports } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8'));
    const paths = [...text.matchAll(/'viommu(\/[^']+)'/g)].map(([, path]) => `.${path}`);
    expect(paths).toEqual(['./testing', './testing/vitest']);
    expect(Object.keys(exports)).toEqual(expect.arrayContaining(paths));
    const { attachMachine, TestMachine } = await import('../../src/testing/machine.ts');
    expect(attachMachine).toBeTypeOf('function');
    expect(TestMachine.prototype.stop).toBeTypeOf('function');
    await import('../../src/testing/vitest.ts');
    const machine = Object.create(TestMachine.prototype);
    // Whatever it says of this one, it knows the matcher.
    expect(expect(machine).toHaveNoFindings).toBeTypeOf('function');
  });

  it('names detectors that there are', () => {
    const named = [...page.matchAll(/--sanitize ([a-z-]+)=/g)].map(([, name]) => name);
    expect(named.length).toBeGreaterThan(0);
    expect(DETECTOR_NAMES).toEqual(expect.arrayContaining(named));
  });

  it('shows what explain prints within 100 columns', () => {
    const lines = outputBlock(page, 'viommu explain bug.viommu F1');
    expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(100);
  });
});

describe('README.md', () => {
  it('counts the detectors', () => {
    const readme = readFileSync(join(repository, 'README.md'), 'utf8');
    expect(readme).toContain(`${DETECTOR_NAMES.length} detectors look for`);
  });
});

describe('what is compared of output', () => {
  it('is all but times, memory addresses and line breaks', () => {
    expect(masked('   -8.2 ms  iommu  0x2003000-0x2003fff -> 0x195c6000 rw,\n   domain 2')).toBe(
      'TIME iommu 0x2003000-0x2003fff -> FRAME rw, domain 2',
    );
    expect(masked('[    3.401331] DMAR: addr 0x2003000')).toBe('[TIME] DMAR: addr 0x2003000');
    expect(masked('    5.684923800 [iommu] frame=0x195c6000 pages=1')).toBe('TIME [iommu] frame=FRAME pages=1');
  });
});
