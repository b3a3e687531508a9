import { describe, expect, it } from 'vitest';
import { CommandFailure, UsageError } from '../../src/cli/errors.ts';
import { parseWhat } from '../../src/cli/explain.ts';
import { FaultCause, Kind } from '../../src/trace/event-kinds.ts';
import type { Finding } from '../../src/trace/sanitizer/finding.ts';
import { event, FakeMachine, join32, LIVE, named, text, viommu, write } from './recording-support.ts';

const MS = 1e6;
const names = join32(named(1, 'iommu'), named(2, 'edu0'), named(3, 'edu1'));
const PAGE_SELECTIVE = (2 << 4) | 0;

/** A page is mapped, used, unmapped, and used again. */
const story = () => [
  event('attach', 1, 1 * MS, 0x100, 7, 0, -1),
  event('mapping.added', 1, 2 * MS, 7, 0, 0x8000, 0x1234, 1, 3),
  event('dma.write', 2, 3 * MS, 0x100, 0, 0x8000, 64, -1),
  event('dma.write', 3, 3.5 * MS, 0x200, 0, 0x8000, 64, -1),
  event('mapping.added', 1, 4 * MS, 7, 0, 0x20000, 0x5678, 1, 3),
  event('invalidation', 1, 5 * MS, 7, 0, 0x8000, 1, PAGE_SELECTIVE),
  event('mapping.removed', 1, 5 * MS, 7, 0, 0x8000, 0x1234, 1, 3 | (2 << 8)),
  event('fault', 1, 8 * MS, 0x100 | (2 << 16) | (FaultCause.notPresent << 22), 0, 0x8000, 5, 7, -1, 1, 0, 0, 0, 0, 48),
  event('dma.failed', 2, 8 * MS, 0x100 | (1 << 16) | (1 << 20), 0, 0x8000, 64, -1),
];

const file = async (...records: Int32Array[]) => (await write([names, ...records])).path;

const finding: Finding = {
  id: 'F1',
  detector: 'use-after-unmap',
  severity: 'warning',
  summary: 'edu0 (01:00.0) wrote 64 bytes at 0x8000, which was unmapped 3.0 ms before',
  explanation: 'On hardware this may hit memory that somebody else has got since.',
  suggestion: 'wait for the device before unmapping',
  device: 'edu0',
  iova: 0x8000n,
  length: 64,
  domain: 7,
  first: 8 * MS,
  last: 9 * MS,
  count: 2,
  evidence: [
    { time: 5 * MS, kind: 'mapping.removed', source: 'iommu', text: 'mapping 0x8000 removed' },
    { time: 8 * MS, kind: 'fault', source: 'edu0', text: 'write of 64 bytes' },
  ],
};
const recorded = (value: object = finding) => text(Kind.finding, 2, 8 * MS, value);

describe('viommu explain FILE', () => {
  it('lists recorded findings and faults', async () => {
    const { lines } = await viommu(['explain', await file(...story(), recorded())]);
    expect(lines).toEqual([
      'F1   use-after-unmap: edu0 (01:00.0) wrote 64 bytes at 0x8000, which was unmapped 3.0 ms before (2 times)',
      'fault:1    0.008000 s  edu0 write at 0x8000 refused: not mapped (reason 0x5)',
    ]);
  });

  it('finds what was not recorded', async () => {
    const { lines } = await viommu(['explain', await file(...story())]);
    expect(lines[0]).toMatch(/has no findings of its own/);
    expect(lines[1]).toMatch(/^F1 +use-after-unmap: edu0/);
  });

  it('looks again where it is asked to', async () => {
    const other = { ...finding, detector: 'never-mapped' };
    const path = await file(...story(), recorded(other));
    expect((await viommu(['explain', path])).lines[0]).toMatch(/never-mapped/);
    expect((await viommu(['explain', path, '--replay'])).lines[1]).toMatch(/use-after-unmap/);
  });

  it('takes the last word on a finding, and leaves out what is none', async () => {
    const path = await file(
      recorded({ ...finding, count: 1 }),
      recorded({ id: 'F2' }),
      recorded({ ...finding, count: 9 }),
    );
    const { lines } = await viommu(['explain', path]);
    expect(lines).toEqual([expect.stringMatching(/^F1 .*\(9 times\)$/), 'No faults.']);
  });

  it('says that there is nothing', async () => {
    const { lines } = await viommu(['explain', await file()]);
    expect(lines.slice(1)).toEqual(['No findings.', 'No faults.']);
  });

  it('tells at most twenty faults one by one', async () => {
    const faults = Array.from({ length: 30 }, (_, time) => event('fault', 1, time, 0x100, 0, 0x8000, 5, 7, -1));
    const { lines } = await viommu(['explain', await file(...faults)]);
    expect(lines.filter(line => line.startsWith('fault:'))).toHaveLength(20);
    expect(lines.at(-1)).toBe('... and 10 faults more');
  });

  it('explains a finding by its evidence and the records around it', async () => {
    const { lines } = await viommu(['explain', await file(...story(), recorded()), 'f1']);
    const whole = lines.join('\n');
    expect(lines.slice(0, 2)).toEqual(['F1 use-after-unmap', finding.summary]);
    expect(whole).toContain(finding.explanation);
    expect(whole).toContain('What to look for: wait for the device before unmapping');
    expect(lines).toContain('    0.005000 s  iommu  mapping 0x8000 removed');
    expect(whole).toContain('It happened 2 times, the last time 1.0 ms after the first.');
    const timeline = lines.slice(lines.indexOf('What happened around it:') + 1);
    expect(timeline).toEqual([
      '   -7.0 ms  iommu  attach           edu0 to domain 7',
      '   -6.0 ms  iommu  mapping.added    0x8000-0x8fff -> 0x1234000 rw, domain 7 (operation)',
      '   -5.0 ms  edu0   dma.write        64 bytes at 0x8000',
      '   -3.0 ms  iommu  invalidation     IOTLB, 0x8000-0x8fff of domain 7',
      '   -3.0 ms  iommu  mapping.removed  0x8000-0x8fff -> 0x1234000 rw, domain 7 (invalidation)',
      '>     0 ns  iommu  fault            edu0 write at 0x8000 refused: not mapped (reason 0x5)',
      '>     0 ns  edu0   dma.failed       write of 64 bytes at 0x8000: refused by the IOMMU',
    ]);
  });

  it('keeps within 100 columns, with what follows below the first line of its text', async () => {
    const long = 'a mapping with a long history, '.repeat(8).trim();
    const evidence = [{ time: 5 * MS, kind: 'mapping.removed', source: 'iommu', text: long }];
    const { lines } = await viommu(['explain', await file(...story(), recorded({ ...finding, evidence })), 'F1']);
    expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(100);
    const at = lines.findIndex(line => line.includes('a mapping with'));
    expect(lines[at + 1]).toMatch(/^ {23}\S/);
  });

  it('keeps a number and its unit together', async () => {
    const explanation = `${'x'.repeat(95)} 12 ms`;
    const { lines } = await viommu(['explain', await file(recorded({ ...finding, explanation })), 'F1']);
    expect(lines.slice(3, 5)).toEqual(['x'.repeat(95), '12 ms']);
  });

  it('leaves out what a client tells of its memory', async () => {
    const memory = event('memory.added', 2, 1 * MS, 3, 0, 0, 0, 0x1000);
    const reset = event('reset', 2, 1 * MS, 0);
    const { lines } = await viommu(['explain', await file(memory, reset, ...story(), recorded()), 'F1']);
    expect(lines.join('\n')).not.toContain('memory.added');
    expect(lines).toContain('   -7.0 ms  edu0   reset            function-level reset');
  });

  it('leaves out other pages and other devices', async () => {
    const { lines } = await viommu(['explain', await file(...story(), recorded()), 'F1']);
    expect(lines.join('\n')).not.toMatch(/0x20000|edu1/);
  });

  it('says how much of a long history it leaves out', async () => {
    const many = Array.from({ length: 100 }, (_, n) => event('dma.write', 2, 3 * MS + n, 0x100, 0, 0x8000, 64, -1));
    const [attach, added, ...rest] = story();
    const { lines } = await viommu(['explain', await file(attach!, added!, ...many, ...rest, recorded()), 'F1']);
    expect(lines.join('\n')).toMatch(/\.\.\. 77 earlier records are left out/);
  });

  it('explains a fault by its number, with the finding that is about it', async () => {
    const early = event('fault', 1, 1, 0x200, 0, 0x5000, 5, 9, -1);
    const { lines } = await viommu(['explain', await file(early, ...story()), 'fault:2']);
    expect(lines[0]).toBe('fault:2    0.008000 s  edu0 write at 0x8000 refused: not mapped (reason 0x5)');
    expect(lines[2]).toMatch(/^F[0-9]+ +use-after-unmap/);
    expect(lines.some(line => /^> .* fault +edu0 write at 0x8000/.test(line))).toBe(true);
  });

  it('explains a fault that is no finding', async () => {
    const { lines } = await viommu([
      'explain',
      await file(...story(), recorded({ ...finding, iova: 0x100000n })),
      'fault:1',
    ]);
    expect(lines.join('\n')).not.toContain('use-after-unmap');
    expect(lines).toContain('What happened around it:');
  });

  it('explains an address', async () => {
    const { lines } = await viommu(['explain', await file(...story(), recorded()), '0x8fff']);
    expect(lines[0]).toMatch(/^F1 /);
    expect(lines.join('\n')).toMatch(/edu1 +dma.write/);
    const elsewhere = await viommu(['explain', await file(...story(), recorded()), '0x20010']);
    expect(elsewhere.lines).toEqual([
      'No finding is about this address.',
      '',
      'What happened around it:',
      expect.stringMatching(/mapping.added +0x20000-0x20fff/),
    ]);
  });

  it('prints JSON', async () => {
    const path = await file(...story(), recorded());
    const list = JSON.parse((await viommu(['explain', path, '--json'])).lines.join('\n'));
    expect(list).toMatchObject({ findings: [{ id: 'F1', iova: '0x8000' }], replayed: false, faultCount: 1 });
    const one = JSON.parse((await viommu(['explain', path, 'F1', '--json'])).lines.join('\n'));
    expect(one.timeline.at(-1)).toMatchObject({ kind: 'dma.failed', time: 8 * MS });
    const fault = JSON.parse((await viommu(['explain', path, 'fault:1', '--json'])).lines.join('\n'));
    expect(fault.findings).toMatchObject([{ id: 'F1' }]);
  });

  it('does not let a file write to the terminal what is no text', async () => {
    const evil = { ...finding, summary: 'a\u001b[2Jb\nc', explanation: '\u001b[31mx' };
    const { lines } = await viommu(['explain', await file(recorded(evil)), 'F1']);
    expect(lines.join('\n')).not.toContain('\u001b');
    expect(lines[1]).toBe('a [2Jb c');
  });

  it.each([
    ['F9', /no finding F9: there are F1 to F1/],
    ['fault:0', /no fault:0: the file has 1 faults/],
    ['fault:2', /no fault:2: the file has 1 faults/],
    ['everything', /not a finding \(F3\), a fault/],
  ])('refuses %s', async (what, message) => {
    const run = viommu(['explain', await file(...story(), recorded()), what]);
    await expect(run).rejects.toThrow(UsageError);
    await expect(run).rejects.toThrow(message);
  });

  it('refuses what is no file', async () => {
    await expect(viommu(['explain', '/nowhere/a'])).rejects.toThrow(CommandFailure);
  });
});

describe('viommu explain of a running machine', () => {
  const machine = () => Object.assign(new FakeMachine(), { found: [finding] });

  it('lists its findings', async () => {
    expect((await viommu(['explain', ...LIVE], machine())).lines).toEqual([expect.stringMatching(/^F1 /)]);
  });

  it('explains one of them by its evidence', async () => {
    const { lines } = await viommu(['explain', ...LIVE, 'F1'], machine());
    expect(lines.join('\n')).toContain('mapping 0x8000 removed');
  });

  it('finds those that are about an address', async () => {
    expect((await viommu(['explain', ...LIVE, '0x8004'], machine())).lines[0]).toMatch(/^F1 /);
    expect((await viommu(['explain', ...LIVE, '0x9000'], machine())).lines).toEqual([
      'No finding is about this address.',
    ]);
  });

  it('prints JSON', async () => {
    const { lines } = await viommu(['explain', ...LIVE, '--json'], machine());
    expect(JSON.parse(lines.join('\n'))).toMatchObject({ state: 'on', findings: [{ id: 'F1' }], lost: 0 });
  });

  it('has no numbers for faults', async () => {
    await expect(viommu(['explain', ...LIVE, 'fault:1'], machine())).rejects.toThrow(/in a recording only/);
  });

  it('is not asked where a file is named', async () => {
    const { lines } = await viommu(['explain', await file(recorded()), '--dir', '/nowhere']);
    expect(lines[0]).toMatch(/^F1 /);
  });
});

describe('what to explain', () => {
  it.each([
    ['F3', { finding: 'F3' }],
    ['f12', { finding: 'F12' }],
    ['fault:2', { fault: 2 }],
    ['0x1000', { iova: 0x1000n }],
    ['4096', { iova: 4096n }],
    ['0xffffffffffffffff', { iova: 0xffff_ffff_ffff_ffffn }],
    ['run.viommu', undefined],
    ['F', undefined],
    ['fault:', undefined],
  ])('is understood: %s', (words, what) => {
    expect(parseWhat(words)).toEqual(what);
  });
});

describe('a machine without a sanitizer that looks', () => {
  it.each([
    ['off', /looks for no mistakes/],
    ['failed', /the sanitizer failed/],
  ] as const)('is told of: %s', async (state, complaint) => {
    const machine = new FakeMachine();
    machine.state = state;
    const { lines, complaints } = await viommu(['explain', ...LIVE], machine);
    expect(lines).toEqual(['No findings.']);
    expect(complaints).toEqual([expect.stringMatching(complaint)]);
  });
});
