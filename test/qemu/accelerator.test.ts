import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { chooseAccelerator, tryAccelerator } from '../../qemu/accelerator.ts';
import type { GuestPackages, QemuInstallation } from '../../qemu/provision.ts';
import { GUEST_TIMEOUT_MS, PROVISION_TIMEOUT_MS, realGuestPackages, realQemu, temporaryDirectory } from './support.ts';

const directory = temporaryDirectory();
let installation: QemuInstallation;
let guest: GuestPackages;

beforeAll(async () => {
  installation = await realQemu();
  guest = await realGuestPackages();
}, PROVISION_TIMEOUT_MS);

describe('a trial', { timeout: GUEST_TIMEOUT_MS }, () => {
  it('finds nothing wrong with a Linux guest that starts', async () => {
    expect(await tryAccelerator('tcg', installation, guest.vmlinuz, GUEST_TIMEOUT_MS)).toBeUndefined();
  });

  it('finds nothing wrong with firmware that starts', async () => {
    expect(await tryAccelerator('tcg', installation, undefined, GUEST_TIMEOUT_MS)).toBeUndefined();
  });

  it('says when nothing lives', async () => {
    // Too short for a kernel to start in, on any machine.
    expect(await tryAccelerator('tcg', installation, guest.vmlinuz, 1)).toMatch(/showed no life within 0\.001 s/);
  });

  it('says when QEMU does not start', async () => {
    const broken = { ...installation, argv: ['/bin/false'] };
    expect(await tryAccelerator('tcg', broken, undefined)).toMatch(/QEMU does not start with it: .*status 1/);
  });

  it('recognises the fault of a KVM that does not work', async () => {
    const script = join(directory, 'faulty.sh');
    // The real QEMU, which has just said what it says when KVM fails.
    writeFileSync(script, `echo 'KVM internal error. Suberror: 1' >&2\necho 'emulation failure' >&2\nexec "$@"\n`);
    const faulty = { ...installation, argv: ['/bin/sh', script, ...installation.argv] };
    const problem = await tryAccelerator('tcg', faulty, guest.vmlinuz);
    expect(problem).toBe('a trial guest failed with "KVM internal error. Suberror: 1".');
  });
});

describe('the choice', { timeout: GUEST_TIMEOUT_MS }, () => {
  it('is TCG with a reason where there is no KVM', async () => {
    const messages: string[] = [];
    const device = join(directory, 'no-kvm');
    const choice = await chooseAccelerator({
      installation,
      progress: text => messages.push(text),
      cache: directory,
      device,
    });
    expect(choice).toEqual({ accelerator: 'tcg', reason: `${device} does not exist.` });
    expect(messages).toEqual([`Without KVM, the guest runs slower (TCG): ${device} does not exist.`]);
  });

  it('is made by a trial once, and remembered', async () => {
    const messages: string[] = [];
    // A device that opens: the trial decides, whatever this machine's KVM is like.
    const options = {
      installation,
      progress: (text: string) => void messages.push(text),
      cache: directory,
      device: '/dev/null',
    };
    const first = await chooseAccelerator({ ...options, kernel: guest.vmlinuz });
    const second = await chooseAccelerator({ ...options, kernel: guest.vmlinuz });
    expect(second).toEqual(first);
    expect(messages.filter(text => text.startsWith('Trying whether KVM works'))).toHaveLength(1);
    expect(first.reason === undefined).toBe(first.accelerator === 'kvm');
  });
});
