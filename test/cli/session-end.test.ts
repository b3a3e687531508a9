/** What a session tells, writes and answers where the machine, the sanitizer or the disk fails. */
import { EventEmitter } from 'node:events';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { DebugSession } from '../../src/cli/debug-session.ts';
import { createRecording } from '../../src/cli/recording-file.ts';
import { checkSanitizeFlags, type SanitizeFlags } from '../../src/cli/sanitize-options.ts';
import type { FindingsAnswer } from '../../src/machine/debug-commands.ts';
import { describeMachine } from '../../src/machine/description.ts';
import type { MachineHost } from '../../src/machine/host.ts';
import type { Finding } from '../../src/trace/sanitizer/finding.ts';
import { parsePolicy } from '../../src/trace/sanitizer/policy.ts';
import { temporaryDirectory } from '../guest/support.ts';

const FINDING: Finding = {
  id: 'F1',
  detector: 'never-mapped',
  severity: 'warning',
  summary: 'edu0 wrote to 0x5000, which was never mapped',
  explanation: '',
  suggestion: '',
  device: 'edu0',
  iova: 0x5000n,
  evidence: [],
  first: 1,
  last: 1,
  count: 1,
};
const DEFAULTS: SanitizeFlags = { sanitize: parsePolicy('on'), failOn: 'never', recordClasses: -1 };

const cleanups: (() => unknown)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function directory(): string {
  const { path, remove } = temporaryDirectory();
  cleanups.push(remove);
  return path;
}

/** A machine that answers so at its end, and told these findings before. */
async function session(flags: Partial<SanitizeFlags>, answer: FindingsAnswer | Error, told: readonly Finding[] = []) {
  const said: string[] = [];
  const complaints: string[] = [];
  const host = Object.assign(new EventEmitter(), {
    description: describeMachine('vtd', ['edu@01:00.0']),
    toldFindings: told,
    findings: async () => {
      if (answer instanceof Error) throw answer;
      return answer;
    },
    record: () => ({ stop() {} }),
  });
  const started = await DebugSession.start(
    host as unknown as MachineHost,
    { ...DEFAULTS, ...flags },
    line => said.push(line),
    line => complaints.push(line),
  );
  return { session: started, said, complaints };
}

const on = (...findings: Finding[]): FindingsAnswer => ({ state: 'on', findings, lost: 0 });

describe('the end of a session', () => {
  it('writes what was told before the machine broke down', async () => {
    const report = join(directory(), 'a.json');
    const { session: one, complaints } = await session(
      { failOn: 'warning', report: [{ path: report, format: 'json' }] },
      new Error('out of memory'),
      [FINDING],
    );
    expect(await one.finish()).toMatchObject({ status: 3, findings: [{ id: 'F1' }] });
    expect(JSON.parse(readFileSync(report, 'utf8')).findings).toMatchObject([{ id: 'F1' }]);
    expect(complaints.join('\n')).toMatch(/out of memory/);
  });

  it.each([
    ['never', 0],
    ['warning', 3],
  ] as const)(
    'is no success where the sanitizer failed and nothing was found: --fail-on %s',
    async (failOn, status) => {
      const { session: one, complaints } = await session({ failOn }, { state: 'failed', findings: [], lost: 0 });
      expect(await one.finish()).toEqual({ status, findings: [] });
      expect(complaints).toEqual([expect.stringMatching(/the sanitizer failed/)]);
    },
  );

  it('writes the other reports where one cannot be written, and then fails', async () => {
    const path = directory();
    mkdirSync(join(path, 'gone'));
    const report = ['gone/a.txt', 'b.txt'].map(name => ({ path: join(path, name), format: 'text' as const }));
    const { session: one, said, complaints } = await session({ report }, on(FINDING));
    rmSync(join(path, 'gone'), { recursive: true });
    expect(await one.finish()).toMatchObject({ status: 1 });
    expect(readFileSync(join(path, 'b.txt'), 'utf8')).toMatch(/never-mapped/);
    expect(said.join('\n')).toMatch(/never-mapped/);
    expect(complaints).toEqual([expect.stringMatching(/cannot write the report .*a\.txt/)]);
  });

  it('tells findings before the error of what failed', async () => {
    const { session: one, said } = await session({}, on(FINDING));
    const failing = one.conclude(() => Promise.reject(new Error('the guest is gone')));
    await expect(failing).rejects.toThrow('the guest is gone');
    expect(said.join('\n')).toMatch(/never-mapped/);
  });

  it('gives what the work gave', async () => {
    const { session: one } = await session({}, on());
    expect(await one.conclude(async () => 7)).toEqual({ result: 7, outcome: { findings: [], status: 0 } });
  });
});

describe('a recording', () => {
  it('does not begin where nothing can be written', async () => {
    await expect(session({ record: '/dev/full' }, on())).rejects.toThrow(/cannot write \/dev\/full: .*ENOSPC/);
  });

  it('tells once that nothing can be written any more', async () => {
    const errors: Error[] = [];
    const writer = await createRecording('/dev/full', {}, -1, undefined, error => errors.push(error));
    await expect(writer.close()).rejects.toThrow(/ENOSPC/);
    expect(errors.map(({ message }) => message)).toEqual([expect.stringMatching(/ENOSPC/)]);
  });
});

describe('flags that cannot work', () => {
  it('--fail-on without anything to look for', () => {
    const off = { ...DEFAULTS, sanitize: parsePolicy('off') };
    expect(() => checkSanitizeFlags({ ...off, failOn: 'note' })).toThrow(/--fail-on/);
    expect(() => checkSanitizeFlags(off)).not.toThrow();
    const some = { ...DEFAULTS, sanitize: parsePolicy('off,register-spin') };
    expect(() => checkSanitizeFlags({ ...some, failOn: 'note' })).not.toThrow();
  });

  it('files that cannot be written', () => {
    const path = directory();
    const report = (name: string) => ({ ...DEFAULTS, report: [{ path: join(path, name), format: 'text' as const }] });
    mkdirSync(join(path, 'b.txt'));
    expect(() => checkSanitizeFlags(report('nowhere/a.txt'))).toThrow(/cannot write the report .*nowhere/);
    expect(() => checkSanitizeFlags(report('b.txt'))).toThrow(/is a directory/);
    expect(() => checkSanitizeFlags(report('c.txt'))).not.toThrow();
    expect(() => checkSanitizeFlags({ ...DEFAULTS, record: join(path, 'nowhere', 'a') })).toThrow(/cannot write/);
  });
});
