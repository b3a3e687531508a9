import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { provisionQemu } from '../../qemu/provision.ts';
import { stockGuest } from '../../src/cli/stock-guest.ts';
import { program, type RunningProgram, startProgram } from '../support.ts';
import { temporaryDirectory } from './support.ts';

describe('viommu serve with a QEMU started by hand', () => {
  const directory = temporaryDirectory();
  let server: RunningProgram;

  beforeAll(async () => {
    server = startProgram(['serve', '--dir', directory.path, '--verbose', '--device', 'edu@01:00.0']);
    await server.says(/^ready/m);
  });

  let qemu: ChildProcess | undefined;

  afterAll(async () => {
    qemu?.kill('SIGKILL');
    server.child.kill('SIGTERM');
    await server.ended;
    directory.remove();
  });

  it('boots a guest with $(viommu qemu-args ...) in a shell command line, and ends cleanly on SIGTERM', async () => {
    const installation = await provisionQemu({ progress: () => {} });
    const boot = await stockGuest('console=ttyS0');
    if (boot.kind !== 'kernel') throw new Error('the stock guest is a kernel');
    const words = (list: readonly string[]) => list.map(word => `'${word}'`).join(' ');
    const command = [
      `exec ${words(installation.argv)} -nodefaults -display none -no-reboot -serial stdio -smp 2`,
      `$(${words([process.execPath, program])} qemu-args --dir ${directory.path})`,
      `-kernel '${boot.kernel}' -initrd '${boot.initrd}' -append 'console=ttyS0 panic=-1'`,
    ].join(' ');
    const guest = spawn('bash', ['-c', command], { stdio: ['pipe', 'pipe', 'inherit'] });
    qemu = guest;
    let console = '';
    guest.stdout.on('data', chunk => {
      console += chunk;
    });
    const sees = (pattern: RegExp) =>
      new Promise<void>((resolve, reject) => {
        const look = () => {
          if (pattern.test(console)) resolve();
        };
        guest.stdout.on('data', look);
        guest.once('close', () => reject(new Error(`QEMU ended:\n${console.slice(-4000)}`)));
        look();
      });
    // Without a second serial port the guest gives a shell on its console.
    await sees(/so here is a shell/);
    guest.stdin.write('dma-demo --case device-reads --case unmapped; echo ended with $?\n');
    await sees(/^ended with \d/m);
    guest.stdin.write('poweroff\n');
    await once(guest, 'close');

    expect(console).toMatch(/DMAR: dmar0: reg_base_addr/);
    expect(console).toMatch(/PASS device-reads/);
    expect(console).toMatch(/PASS unmapped/);
    expect(console).toMatch(/^ended with 0/m);
    expect(server.stdout()).toMatch(/\[iommu\] fault\.recorded .*reason=5/);

    server.child.kill('SIGTERM');
    const ended = await server.ended;
    // The case without a mapping is a mistake made on purpose, and the only one.
    expect(ended.stderr).toMatch(/^F1 never-mapped: edu0 \(01:00\.0\) tried to read 64 bytes at 0xbadc000/);
    expect(ended.stderr).toMatch(/^1 finding: 1 warning$/m);
    expect(ended.status).toBe(0);
  });
});
