import { describe, expect, it } from 'vitest';
import { provisionGuestPackages } from '../../qemu/provision.ts';
import { stockGuest } from '../../src/cli/stock-guest.ts';
import { runProgram, startProgram } from '../support.ts';

describe('viommu boot', () => {
  it("boots the user's own kernel and initrd, with the console on the terminal, until the guest powers off", async () => {
    const { vmlinuz } = await provisionGuestPackages({ progress: () => {} });
    const stock = await stockGuest('');
    if (stock.kind !== 'kernel') throw new Error('the stock guest is a kernel');
    const boot = startProgram(
      ['boot', '--kernel', vmlinuz, '--initrd', stock.initrd!, '--append', 'console=ttyS0', '--device', 'edu@01:00.0'],
      { input: true },
    );
    await boot.says(/so here is a shell/);
    boot.child.stdin!.write('dma-demo --case device-writes; echo ended with $?\n');
    await boot.says(/^ended with 0/m);
    boot.child.stdin!.write('poweroff\n');
    const outcome = await boot.ended;
    expect(outcome.stdout).toMatch(/PASS device-writes/);
    expect(outcome.status, outcome.stderr).toBe(0);
  });

  it('ends with a clear error, and leaves nothing running, when QEMU refuses an argument', async () => {
    const outcome = await runProgram(['boot', '--', '-device', 'no-such-device']);
    expect(outcome.status).not.toBe(0);
    expect(outcome.stderr).toMatch(/no-such-device/);
  });

  it('ends with status 130 on Ctrl-C and cleans up', async () => {
    const boot = startProgram(['boot', '--memory', 'message'], { input: true });
    await boot.says(/Linux version/);
    boot.child.kill('SIGINT');
    expect((await boot.ended).status).toBe(130);
  });
});
