/** What runs a case in the guest, with the host's shell. A case that waited for `sleep 1000` would be the end of its test. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { run } from '../../../qemu/run.ts';
import { temporaryDirectory } from '../../guest/support.ts';
import { repository } from '../../support.ts';

const RUN_CASE = join(repository, 'images/guest/run-case');
const LONG_SECONDS = '1000';

let directory: ReturnType<typeof temporaryDirectory>;
beforeEach(() => {
  directory = temporaryDirectory();
  mkdirSync(join(directory.path, 'state'));
});
afterEach(() => directory.remove());

async function runCase(script: string, seconds = LONG_SECONDS) {
  const state = join(directory.path, 'state');
  writeFileSync(join(directory.path, 'case.sh'), script);
  const command = ['env', `RUN_CASE_STATE=${state}`, 'sh', RUN_CASE, seconds, directory.path, 'sh', 'case.sh'];
  const { status, stdout } = await run(command);
  return { status, stdout, isLate: existsSync(join(state, 'case-late')) };
}

/** The process whose number the case has left in a file. */
function isAlive(name: string): boolean {
  const pid = readFileSync(join(directory.path, name), 'utf8').trim();
  try {
    // One that is dead, but not waited for yet, does nothing any more.
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toMatch(/ENOENT|ESRCH/);
    return false;
  }
}

describe('a case', () => {
  it('gives its status and its output, standard error included', async () => {
    expect(await runCase('echo one; echo two >&2; exit 7')).toEqual({ status: 7, stdout: 'one\ntwo\n', isLate: false });
  });

  it('may end without a line end, or without a word', async () => {
    expect((await runCase('printf "a\\nb"')).stdout).toBe('a\nb\n');
    expect((await runCase('true')).stdout).toBe('');
  });

  it('ends when it has ended itself, and what it leaves is killed', async () => {
    const ended = await runCase('sleep 1000 & echo $! >left; echo done');
    expect(ended).toEqual({ status: 0, stdout: 'done\n', isLate: false });
    await expect.poll(() => isAlive('left')).toBe(false);
  });

  it('leaves nothing in another session either', async () => {
    const ended = await runCase(
      `setsid sh -c 'echo $$ >left; exec sleep 1000' & until [ -s left ]; do :; done; echo done`,
    );
    expect(ended).toEqual({ status: 0, stdout: 'done\n', isLate: false });
    await expect.poll(() => isAlive('left')).toBe(false);
  });

  it('is killed after its time, with what it started, and what it said is not lost', async () => {
    const ended = await runCase(`setsid sh -c 'echo $$ >left; exec sleep 1000' & echo begun; sleep 1000`, '1');
    expect(ended).toEqual({ status: 137, stdout: 'begun\n', isLate: true });
    await expect.poll(() => isAlive('left')).toBe(false);
  });
});
