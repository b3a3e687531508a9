import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryDirectory } from '../guest/support.ts';
import { type RunningProgram, runProgram, startProgram } from '../support.ts';

/** The program is started a dozen times. */
const TIMEOUT_MS = 30_000;

describe('viommu serve --listen with viommu domain', { timeout: TIMEOUT_MS }, () => {
  const directory = temporaryDirectory();
  let server: RunningProgram;

  beforeAll(async () => {
    const machine = ['--iommu', 'dma-iommu', '--device', 'edu@01:00.0'];
    server = startProgram(['serve', '--dir', directory.path, ...machine, '--listen', '0']);
    await server.says(/^ready\n(.*\n)*.*ws:\/\/127\.0\.0\.1:\d+\n/);
  });

  afterAll(async () => {
    server.child.kill('SIGTERM');
    await server.ended;
    directory.remove();
  });

  const domain = (...words: string[]) => runProgram(['domain', ...words, '--dir', directory.path]);

  it('makes a domain, maps memory in it, and asks what a device would reach', async () => {
    const untranslated = await domain('probe', '01:00.0', '0x1000');
    expect(untranslated).toMatchObject({ status: 0, stdout: expect.stringContaining('attached to no domain') });
    expect((await domain('probe', '01:00.0', '0xffffffffffffffff1')).status).toBe(2);
    expect((await domain('create')).stdout).toMatch(/STATUS_SUCCESS\n {2}domain 1\n/);
    expect((await domain('attach', '1', '01:00.0')).status).toBe(0);
    expect((await domain('map', '1', '0x100000+0x4000', '--at', '0x80000000', '--permissions', 'r')).status).toBe(0);
    const reached = await domain('probe', '01:00.0', '0x80000123', '--json');
    expect(JSON.parse(reached.stdout)).toMatchObject({ translated: true, domain: 1 });
    const refused = await domain('delete', '1');
    expect(refused.status).toBe(1);
    expect(refused.stdout).toMatch(/STATUS_RESOURCE_IN_USE/);
    expect((await domain('unmap', '1', '0x80000000', '4')).status).toBe(0);
    expect((await domain('probe', '01:00.0', '0x80000123')).status).toBe(1);
    expect((await domain('detach', '01:00.0', '1')).status).toBe(0);
    expect((await domain('delete', '1')).status).toBe(0);
  });
});
