import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { UsageError } from '../../src/cli/errors.ts';
import { placesFrom, serveAt } from '../../src/cli/serve-remote.ts';
import { PAGE_DIRECTORY } from '../../src/inspector/page-files.ts';
import { RemoteMachine } from '../../src/inspector/remote-client.ts';
import { FakePort } from '../inspector/support.ts';
import { type RunningProgram, startProgram } from '../support.ts';
import { event, named, write } from '../trace/recording/support.ts';

describe('where the page is served', () => {
  it.each([
    [{}, []],
    [{ listen: '8123' }, ['8123']],
    [{ inspect: true as const }, ['0']],
    [{ inspect: '1.2.3.4:5' }, ['1.2.3.4:5']],
    [{ inspect: true as const, listen: '8123' }, ['8123']],
    [{ inspect: '8123', listen: '8123' }, ['8123']],
    [{ listen: ['unix', '1', '2'] }, ['unix', '1', '2']],
    [{ inspect: true as const, listen: ['unix'] }, ['unix', '0']],
    [{ inspect: '8123', listen: ['unix:/a'] }, ['unix:/a', '8123']],
    [{ inspect: true as const, listen: ['unix', '8123'] }, ['unix', '8123']],
  ])('%o is at %s', (flags, places) => {
    expect(placesFrom(flags)).toEqual(places);
  });

  it('is one place', () => {
    expect(() => placesFrom({ inspect: '1', listen: '2' })).toThrow(UsageError);
  });
});

describe('the inspector’s URL', () => {
  // The page itself is built by the release; whatever is there is served.
  const built = join(PAGE_DIRECTORY, 'index.html');
  let made = false;

  beforeAll(() => {
    try {
      readFileSync(built);
    } catch {
      mkdirSync(PAGE_DIRECTORY, { recursive: true });
      writeFileSync(built, '<!doctype html>');
      made = true;
    }
  });

  afterAll(() => {
    if (made) rmSync(PAGE_DIRECTORY, { recursive: true });
  });

  const programs: RunningProgram[] = [];
  const directories: string[] = [];

  afterEach(async () => {
    for (const program of programs.splice(0)) {
      program.child.kill('SIGINT');
      await program.ended;
    }
    for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
  });

  function directory(): string {
    const path = mkdtempSync(join(tmpdir(), 'viommu-inspect-'));
    directories.push(path);
    return path;
  }

  async function start(...args: string[]): Promise<{ program: RunningProgram; ready: Record<string, string> }> {
    const program = startProgram(args);
    programs.push(program);
    await program.says(/\n/);
    return { program, ready: JSON.parse(program.stdout().split('\n')[0]!) };
  }

  it('has no token on a loopback address, and one in its fragment on any other', async () => {
    const local = await serveAt('0', new FakePort().port, { page: true });
    expect(local.pageUrl).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
    const wide = await serveAt('0.0.0.0:0', new FakePort().port, { page: true });
    expect(wide.pageUrl).toMatch(/^http:\/\/0\.0\.0\.0:\d+\/#token=[\w-]{40,}$/);
    await local.close();
    await wide.close();
  });

  it('is printed by viommu serve --inspect, beside that of the remote API, at one address', async () => {
    const { program, ready } = await start('serve', '--dir', directory(), '--inspect', '--listen', '0', '--json');
    expect(ready.page).toBe(`${ready.remote!.replace('ws', 'http')}/`);
    const page = await fetch(ready.page!);
    expect(page.status).toBe(200);
    expect(page.headers.get('content-security-policy')).toContain("default-src 'self'");
    const machine = await RemoteMachine.connect(ready.remote!);
    expect((await machine.inspect()).state).toBe('running');
    await machine.close();
    program.child.kill('SIGINT');
    expect(await program.ended).toMatchObject({ status: 0 });
  });

  it('is not there where only the remote API is asked for', async () => {
    const { ready } = await start('serve', '--dir', directory(), '--listen', '0', '--json');
    expect(ready.page).toBeUndefined();
    expect((await fetch(ready.remote!.replace('ws', 'http'))).status).toBe(426);
  });

  it('is printed by viommu inspect, which shows a file until Ctrl-C', async () => {
    const { path } = await write([named(1, 'edu0'), event('dma.read', 1, 5, 0x100, 0, 0, 4, -1)]);
    const { program, ready } = await start('inspect', path, '--json');
    expect((await fetch(ready.page!)).status).toBe(200);
    const machine = await RemoteMachine.connect(ready.remote!);
    expect(await machine.machines()).toEqual(['recording']);
    expect((await machine.findings()).findings).toEqual([]);
    await expect(machine.pause()).rejects.toThrow(/a recording has no/);
    await machine.close();
    program.child.kill('SIGINT');
    expect(await program.ended).toMatchObject({ status: 0, stderr: '' });
  });

  it.each([
    [['inspect', '/nonexistent.viommu'], 1],
    [['inspect', import.meta.filename], 1],
    [['inspect', import.meta.filename, '--port', 'x'], 2],
    [['inspect'], 2],
  ])('%o ends with %i', async (args, status) => {
    const program = startProgram(args);
    expect(await program.ended).toMatchObject({ status });
  });
});
