/** Does what docs/first-dma-bug.md does, and compares what it sees with what the page shows. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { masked, outputBlock, readPage } from '../docs/page.ts';
import { type Outcome, runProgram, startProgram } from '../support.ts';
import { temporaryDirectory } from './support.ts';

const page = readPage('first-dma-bug.md');
const directory = temporaryDirectory();
const recording = join(directory.path, 'bug.viommu');
const junit = join(directory.path, 'junit.xml');
const BUFFER = '0x2003000';

/** Boots the stock guest, gives its shell a command, and waits until the guest has ended by itself. */
async function boot(flags: readonly string[], command: string): Promise<Outcome> {
  const viommu = startProgram(['boot', ...flags], { input: true });
  try {
    await viommu.says(/so here is a shell/);
    viommu.child.stdin!.write(`${command}\n`);
    return await viommu.ended;
  } finally {
    viommu.child.kill('SIGTERM');
    await viommu.ended;
  }
}

/** The same with a command that does not end the guest. */
async function bootAndRun(flags: readonly string[], command: string): Promise<Outcome> {
  return await boot(flags, `${command}; echo ended with $?; poweroff`);
}

/** What the page shows of a guest's console, without what its user typed. */
function shown(output: string): string[] {
  return outputBlock(page, output)
    .filter(line => !line.startsWith('~ # '))
    .map(masked);
}

function linesOf({ stdout, stderr }: Outcome): string[] {
  return `${stdout}\n${stderr}`.split(/\r?\n/).map(masked);
}

afterAll(() => directory.remove());

describe('the driver with the bug', () => {
  let outcome: Outcome;

  beforeAll(async () => {
    outcome = await bootAndRun(['--record', recording, '--fail-on', 'warning', '--report', junit], 'first-bug');
  });

  it('loses messages, and guest, kernel and sanitizer say what the page shows', () => {
    expect(outcome.stdout).toMatch(/^ended with 1/m);
    expect(linesOf(outcome)).toEqual(expect.arrayContaining(shown('boot')));
  });

  it('is found at the moment of the access, before the kernel has its say', () => {
    const told = [...outcome.stderr.matchAll(/^(F\d+) ([\w-]+): .* at (0x[0-9a-f]+),/gm)].map(match =>
      match.slice(1, 4),
    );
    expect(told).toEqual([
      ['F1', 'use-after-unmap', BUFFER],
      ['F2', 'use-after-unmap', '0x2001000'],
    ]);
  });

  it('makes the command fail, and the report as well', () => {
    expect(outcome.status).toBe(3);
    expect(readFileSync(junit, 'utf8')).toMatch(/<failure type="use-after-unmap"/);
  });

  it.each([
    'viommu explain bug.viommu',
    'viommu explain bug.viommu F1',
    `viommu trace bug.viommu --iova ${BUFFER}+0x1000 --class mapping,dma,fault`,
  ])('%s prints what the page shows', async command => {
    const [typed, ...expected] = outputBlock(page, command);
    expect(typed).toBe(`$ ${command}`);
    const [, ...words] = command.split(' ');
    const { status, stdout } = await runProgram(words.map(word => (word === 'bug.viommu' ? recording : word)));
    expect(status).toBe(0);
    expect(masked(stdout)).toBe(masked(expected.join('\n')));
  });

  it('explain names the mapping, its removal and the access, in that order', async () => {
    const { stdout } = await runProgram(['explain', recording, 'F1', '--json']);
    const { findings, timeline } = JSON.parse(stdout);
    expect(findings).toMatchObject([{ detector: 'use-after-unmap', device: 'edu0', iova: BUFFER, length: 64 }]);
    const kinds = findings[0].evidence.map(({ kind }: { kind: string }) => kind);
    expect(kinds).toEqual(['mapping.added', 'invalidation', 'mapping.removed', 'fault']);
    const happened = timeline.map(({ kind }: { kind: string }) => kind);
    const order = ['mapping.added', 'dma.write', 'mapping.removed', 'fault', 'dma.failed'].map(kind =>
      happened.indexOf(kind),
    );
    expect(order).not.toContain(-1);
    expect(order).toEqual([...order].sort((a, b) => a - b));
  });
});

describe('a machine that is to stop at the bug', () => {
  it('stops at the first one, and the command says so', async () => {
    const { status, stdout, stderr } = await boot(['--sanitize', 'use-after-unmap=stop'], 'first-bug');
    expect(status).toBe(3);
    expect(stderr).toMatch(/^1 finding: 1 that stopped the machine$/m);
    expect(stderr).not.toMatch(/^viommu: the machine/m);
    expect(stdout).not.toMatch(/messages received/);
  });
});

describe('the driver without the bug', () => {
  let outcome: Outcome;

  beforeAll(async () => {
    outcome = await bootAndRun(['--fail-on', 'warning', '--report', junit], 'first-bug --fixed');
  });

  it('receives every message, as the page shows', () => {
    expect(outcome.stdout).toMatch(/^ended with 0/m);
    expect(linesOf(outcome)).toEqual(expect.arrayContaining(shown('boot fixed')));
  });

  it('gives no reason to complain, to the sanitizer or to the kernel', () => {
    expect(outcome.status).toBe(0);
    expect(outcome.stderr).toMatch(/^No findings\.$/m);
    expect(outcome.stdout).not.toMatch(/DMAR: \[DMA/);
    expect(readFileSync(junit, 'utf8')).not.toMatch(/<failure/);
  });
});
