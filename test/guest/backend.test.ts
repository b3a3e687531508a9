/** A guest in a real QEMU whose one device is a backend program of its own. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { GuestAgent } from '../../images/guest/agent.ts';
import { launchQemu, type RunningQemu } from '../../qemu/launch.ts';
import { provisionQemu } from '../../qemu/provision.ts';
import { guestConfiguration } from '../../src/cli/guest-options.ts';
import { stockGuest } from '../../src/cli/stock-guest.ts';
import { describeMachine } from '../../src/machine/description.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { type RunningProgram, runProgram, startProgram } from '../support.ts';
import { READY_TIMEOUT_MS, temporaryDirectory } from './support.ts';

const START_TIMEOUT_MS = 20_000;
const COMMAND_TIMEOUT_MS = 120_000;
const DEVICE = '/sys/bus/pci/devices/0000:01:00.0';
/** edu's registers, as offsets in BAR 0. */
const IDENTIFICATION = 0x00;
const FACTORIAL = 0x08;
const DMA_SOURCE = 0x80;
const DMA_DESTINATION = 0x88;
const DMA_COUNT = 0x90;
const DMA_COMMAND = 0x98;
/** From memory to the device's buffer. */
const DMA_START = 1;
const BUFFER = 0x40000;
const BYTES = 64;

describe('a backend program', () => {
  const directory = temporaryDirectory();
  const socket = join(directory.path, 'edu.sock');
  const recording = join(directory.path, 'run.viommu');
  let backend: RunningProgram;
  let qemu: RunningQemu | undefined;
  let agent: GuestAgent | undefined;

  beforeAll(async () => {
    backend = startProgram(['backend', `--socket-path=${socket}`, '--device', 'edu,dmaMask=32', '--record', recording]);
    await vi.waitUntil(() => existsSync(socket), { timeout: START_TIMEOUT_MS });
    const installation = await provisionQemu({ progress: () => {} });
    const boot = await stockGuest('console=ttyS0 quiet iomem=relaxed');
    const flags = { memory: 'shared', firmware: 'bios', accel: 'auto', ram: 512, cpus: 2 } as const;
    const description = describeMachine('none', ['edu@01:00.0']);
    const machine = await guestConfiguration(flags, installation, description, boot);
    qemu = await launchQemu({ installation, machine, endpointSockets: { edu0: socket }, agent: true });
    agent = await GuestAgent.connect(qemu.agentSocket!);
    await agent.ready(READY_TIMEOUT_MS);
  });

  afterAll(async () => {
    agent?.close();
    await qemu?.quit();
    backend?.child.kill('SIGKILL');
    directory.remove();
  });

  async function inGuest(command: string): Promise<string> {
    const { status, output } = await agent!.run(command, { timeoutMs: COMMAND_TIMEOUT_MS });
    expect(status, output.join('\n')).toBe(0);
    return output.join('\n');
  }

  it('is the device of a guest, which reaches its registers and lets it read memory', async () => {
    await inGuest(`echo 1 >${DEVICE}/enable && printf '\\006' | dd of=${DEVICE}/config bs=1 seek=4 conv=notrunc 2>&1`);
    const bar = Number((await inGuest(`head -n 1 ${DEVICE}/resource`)).split(' ')[0]);
    const at = (offset: number) => `0x${(bar + offset).toString(16)}`;
    expect(Number(await inGuest(`devmem ${at(IDENTIFICATION)} 32`))).toBe(0x010000ed);
    const write = (offset: number, value: number, bits: number) => `devmem ${at(offset)} ${bits} ${value}`;
    await inGuest(write(FACTORIAL, 5, 32));
    expect(Number(await inGuest(`devmem ${at(FACTORIAL)} 32`))).toBe(120);
    const transfer = [
      write(DMA_SOURCE, 0, 64),
      write(DMA_DESTINATION, BUFFER, 64),
      write(DMA_COUNT, BYTES, 64),
      write(DMA_COMMAND, DMA_START, 64),
    ];
    await inGuest(transfer.join(' && '));
    // The bit that starts it reads as one until it is done.
    await inGuest(`until [ $(($(devmem ${at(DMA_COMMAND)} 32) & 1)) = 0 ]; do :; done`);
  });

  it('outlives the guest, takes the next client, and ends on SIGTERM', async () => {
    agent!.close();
    await qemu!.quit();
    const loop = new EventLoop(error => {
      throw error;
    });
    const useIt = () => {
      const client = new VfioUserClient(loop, socket);
      client.negotiate();
      client.close();
    };
    // The end of the one before may not have been seen yet.
    await vi.waitFor(useIt, { timeout: START_TIMEOUT_MS });
    loop.close();
    backend.child.kill('SIGTERM');
    const { status, stderr } = await backend.ended;
    expect(status, stderr).toBe(0);
    const { stdout: transfers } = await runProgram(['trace', recording, '--class', 'dma', '--json']);
    expect(
      transfers
        .trimEnd()
        .split('\n')
        .map(line => JSON.parse(line)),
    ).toContainEqual(expect.objectContaining({ kind: 'dma.read', source: 'edu' }));
    expect(stderr).toMatch(/client\.connected[\s\S]*client\.closed reason="end of stream"[\s\S]*client\.connected/);
  });
});
