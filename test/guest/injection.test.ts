/** Drivers in a real guest meet faults that were made on purpose. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import { GuestRun } from '../../dist/src/cli/guest-run.js';
import { type TestMachine, watchMachine } from '../../dist/src/testing/machine.js';
import '../../dist/src/testing/vitest.js';
import { GuestAgent } from '../../images/guest/agent.ts';
import { buildInitramfs } from '../../images/guest/initramfs.ts';
import { provisionGuestPackages, provisionQemu } from '../../qemu/provision.ts';
import { guestConfiguration } from '../../src/cli/guest-options.ts';
import { describeMachine } from '../../src/machine/description.ts';
import { READY_TIMEOUT_MS } from './support.ts';

const PROGRAMS = ['dma-demo', 'dma-soak'];
const CASE_TIMEOUT_MS = 60_000;
/** Where dma-demo has the device read. */
const SOURCE_IOVA = 0x1230000n;
const quiet = () => {};

interface Report {
  readonly pass: boolean;
  readonly detail: string;
  readonly [fact: string]: unknown;
}

let run: GuestRun | undefined;
let agent: GuestAgent;
let machine: TestMachine;

beforeAll(async () => {
  const packages = await provisionGuestPackages({ progress: quiet });
  const { busybox, vmlinuz } = packages;
  const initrd = await buildInitramfs({ kernel: packages, busybox, programs: PROGRAMS, progress: quiet });
  const description = describeMachine('vtd', ['edu@01:00.0', 'edu@02:00.0']);
  const installation = await provisionQemu({ progress: quiet });
  const boot = { kind: 'kernel', kernel: vmlinuz, initrd, append: 'console=ttyS0 quiet' } as const;
  const flags = { memory: 'shared', firmware: 'bios', accel: 'auto', ram: 512, cpus: 2 } as const;
  run = await GuestRun.start({
    description,
    installation,
    configuration: await guestConfiguration(flags, installation, description, boot),
    progress: quiet,
    agent: true,
    console: quiet,
    onEvent: quiet,
  });
  machine = await watchMachine(run.host);
  agent = await GuestAgent.connect(run.qemu.agentSocket ?? '');
  await agent.ready(READY_TIMEOUT_MS);
});

afterAll(async () => {
  agent?.close();
  await run?.close();
});

/** What a program says of itself. */
async function program(command: string): Promise<Report> {
  const { output } = await agent.run(`${command} --json`, { timeoutMs: CASE_TIMEOUT_MS });
  const [line] = output.filter(one => one.startsWith('{'));
  return JSON.parse(line ?? '{}');
}

async function kernelLog(): Promise<string> {
  return (await agent.run('dmesg', { timeoutMs: CASE_TIMEOUT_MS })).output.join('\n');
}

describe('a driver in the guest', () => {
  it('is right as long as nothing is made to go wrong', async () => {
    expect(await program('dma-demo --case device-reads')).toMatchObject({ pass: true });
    expect(await program('dma-soak --seconds 1 --seed 1')).toMatchObject({ pass: true });
    await expect(machine).toHaveNoFindings();
  });

  it('meets a refused IOVA: the kernel reports the fault, the next try works', async () => {
    const refused = await machine.inject({ kind: 'refuse', device: 'edu0', iova: SOURCE_IOVA, access: 'read' });
    const failed = await program('dma-demo --case device-reads');
    expect(failed).toMatchObject({ pass: false });
    expect(failed.detail).toMatch(/expected/);
    expect(await refused.state()).toMatchObject({ applied: 1, over: true });
    expect(await kernelLog()).toMatch(/DMA Read NO_PASID\] Request device \[01:00\.0\] fault addr 0x1230000/);
    expect(await program('dma-demo --case device-reads')).toMatchObject({ pass: true });
  });

  it('meets a flipped bit: the corruption is detected', async () => {
    const flip = await machine.inject({ kind: 'flip', device: 'edu0', direction: 'write', bit: 3 });
    const soak = await program('dma-soak --seconds 10 --seed 2');
    expect(await flip.state()).toMatchObject({ applied: 1, over: true });
    expect(soak).toMatchObject({ pass: false });
    expect(soak.detail).toMatch(/was written|written to|expected/);
    expect(await program('dma-soak --seconds 1 --seed 2')).toMatchObject({ pass: true });
  });

  it('meets a dropped completion: no interrupt came for a transfer that is done', async () => {
    // The first one is raised by hand.
    const dropped = await machine.inject({ kind: 'drop-interrupt', device: 'edu0' });
    const failed = await program('dma-demo --case msi');
    expect(await dropped.state()).toMatchObject({ applied: 1 });
    expect(failed).toMatchObject({ pass: false });
    expect(failed.detail).toMatch(/expected 1 interrupt within .* seen 0/);
    expect(await program('dma-demo --case msi')).toMatchObject({ pass: true });
  });

  it('meets a held DMA: it waits, and goes on when it is let go', async () => {
    const held = await machine.inject({ kind: 'hold', device: 'edu0' });
    const finished = program('dma-demo --case device-writes');
    await held.applied();
    expect(await held.state()).toMatchObject({ held: 1 });
    await held.release();
    expect(await finished).toMatchObject({ pass: true });
  });

  it('meets a slow IOMMU: its kernel waits for invalidations, and nothing is used meanwhile', async () => {
    const delayed = await machine.inject({ kind: 'delay-invalidation', milliseconds: 20, times: 10 });
    expect(await program('dma-soak --seconds 2 --seed 3')).toMatchObject({ pass: true });
    expect(await delayed.state()).toMatchObject({ applied: 10, over: true, held: 0 });
  });

  it('is blamed for none of it', async () => {
    await expect(machine).toHaveNoFindings();
  });
});
