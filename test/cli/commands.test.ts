import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readRegisterBase } from '../../qemu/acpi/dmar.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { runProgram, startProgram } from '../support.ts';

const directory = mkdtempSync(join(tmpdir(), 'viommu-cli-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('viommu', () => {
  it('lists its commands with examples', async () => {
    const { status, stdout } = await runProgram(['--help']);
    expect(status).toBe(0);
    for (const word of ['demo', 'serve', 'boot', 'qemu-args', 'acpi', 'Examples:']) expect(stdout).toContain(word);
  });

  it.each(['demo', 'serve', 'boot', 'qemu-args', 'acpi'])('%s has help with examples', async name => {
    const { status, stdout } = await runProgram([name, '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/Examples:\n/);
  });

  it.each([
    [['no-such-command'], /no-such-command/],
    [['serve'], /--dir/],
    [['serve', '--dir', join(directory, 'x'), '--iommu', 'smmu'], /smmu.*vtd/s],
    [['serve', '--dir', join(directory, 'x'), '--device', 'edu'], /KIND@/],
    [['serve', '--dir', join(directory, 'x'), '--device', 'disk@01:00.0'], /edu/],
    [['serve', '--dir', join(directory, 'x'), '--machine', join(directory, 'none.json')], /none\.json/],
    [['boot', '--initrd', 'x'], /--initrd needs --kernel/],
    [['boot', '--disk', 'x', '--kernel', 'y'], /--disk boots by itself/],
    [['boot', '--ram', '-5'], /above zero/],
    [['demo', '--memory', 'none'], /shared.*message/s],
    [['acpi', '--base', '0x123', '--dmar', 'x'], /multiple of 4096/],
    [['acpi', '--base', '0xfeb00000'], /--dmar, --ssdt/],
    [['acpi', '--base', '0xfeb00000', '--device', 'edu@04.0', '--ssdt', 'x'], /no endpoint is behind a root port/],
    [['qemu-args', '--dir', join(directory, 'nothing')], /nothing is served/],
    [['boot', '--kernel', join(directory, 'no-kernel')], /there is no file/],
  ])('%j is refused with status 2 and says what to write', async (args, message) => {
    const { status, stderr } = await runProgram(args);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
  });
});

describe('viommu acpi', () => {
  it('writes the tables for an address', async () => {
    const dmar = join(directory, 'dmar.aml');
    const ssdt = join(directory, 'ssdt.aml');
    const { status } = await runProgram(['acpi', '--base', '0xfe801000', '--dmar', dmar, '--ssdt', ssdt]);
    expect(status).toBe(0);
    expect(readRegisterBase(readFileSync(dmar))).toBe(0xfe80_1000n);
    expect(readFileSync(ssdt).subarray(0, 4).toString()).toBe('SSDT');
  });
});

describe('viommu serve', () => {
  it.each([
    ['SIGINT', 0],
    ['SIGTERM', 0],
  ] as const)('says when it is ready, and ends cleanly on %s', async (signal, status) => {
    const dir = join(directory, signal);
    const server = startProgram(['serve', '--dir', dir, '--device', 'edu@04.0', '--device', 'edu@05.0,id=other']);
    await server.says(/^ready\n.*iommu\.sock\n.*edu0\.sock\n.*other\.sock\n/);
    expect(existsSync(join(dir, 'machine.json'))).toBe(true);
    server.child.kill(signal);
    const outcome = await server.ended;
    expect(outcome).toMatchObject({ status, stderr: '' });
    expect(
      ['iommu.sock', 'edu0.sock', 'other.sock', 'machine.json'].filter(name => existsSync(join(dir, name))),
    ).toEqual([]);
  });

  it('says readiness as JSON', async () => {
    const server = startProgram(['serve', '--dir', join(directory, 'json'), '--json']);
    await server.says(/\n/);
    expect(JSON.parse(server.stdout().split('\n')[0]!)).toMatchObject({
      kind: 'ready',
      sockets: { edu0: expect.any(String) },
    });
    server.child.kill('SIGTERM');
    await server.ended;
  });

  it('refuses a directory that another server serves', async () => {
    const dir = join(directory, 'twice');
    const first = startProgram(['serve', '--dir', dir]);
    await first.says(/^ready/);
    const second = await runProgram(['serve', '--dir', dir]);
    expect(second.status).toBe(1);
    expect(second.stderr).toMatch(/iommu\.sock/);
    first.child.kill('SIGTERM');
    expect((await first.ended).status).toBe(0);
  });

  it('goes on when the reader of its output has gone', async () => {
    const server = startProgram(['serve', '--dir', join(directory, 'pipe'), '--verbose']);
    await server.says(/^ready/);
    server.child.stdout!.destroy();
    const again = await runProgram(['serve', '--dir', join(directory, 'pipe')]);
    expect(again.status).toBe(1);
    server.child.kill('SIGTERM');
    expect((await server.ended).status).toBe(0);
  });
});

describe('viommu serve with tables in its directory', () => {
  it('says that a broken table is no table, and goes on', async () => {
    const dir = join(directory, 'broken');
    const server = startProgram(['serve', '--dir', dir, '--verbose']);
    await server.says(/^ready/);
    writeFileSync(join(dir, 'dmar.aml'), 'garbage');
    const loop = new EventLoop(error => {
      throw error;
    });
    const client = new VfioUserClient(loop, join(dir, 'iommu.sock'));
    client.negotiate();
    client.regionWrite(7, 0x10, Uint8Array.of(0, 0, 0xb0, 0xfe));
    client.regionWrite(7, 4, Uint8Array.of(2, 0));
    await server.says(/iommu\.placed/);
    client.close();
    loop.close();
    server.child.kill('SIGTERM');
    const outcome = await server.ended;
    expect(outcome.status).toBe(0);
    expect(outcome.stderr).toMatch(/dmar\.aml cannot be compared/);
  });
});
