import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import { MachineHost } from '../../dist/src/machine/host.js';
import { describeMachine } from '../../src/machine/description.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { type DmaRequest, VfioUserClient } from '../../src/vfio-user/client.ts';

const NIC = 0x0100;
const PATIENCE_MS = 20_000;
const FRAME_OF_ROOT = { first: 0x10, second: 0x20 } as const;
const PRESENT_WRITABLE_USER = 7n;

/** Commands that come while the device thread waits for guest memory must not disturb what waits. */
describe('remote commands to a machine whose memory is slow', () => {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-slow-'));
  const loop = new EventLoop(error => {
    throw error;
  });
  const held: DmaRequest[] = [];
  let host: MachineHost;
  let client: VfioUserClient;

  beforeAll(async () => {
    host = await MachineHost.start(describeMachine('dma-iommu', ['edu@01:00.0']), directory);
    client = new VfioUserClient(loop, host.sockets.iommu!);
    client.negotiate();
    client.dmaMap({ address: 0n, size: 1n << 30n, offset: 0n, descriptor: -1, readable: true, writable: true });
    client.onDmaRead = request => {
      held.push({ ...request, data: new Uint8Array(0) });
      return undefined;
    };
  });

  afterAll(async () => {
    client.close();
    await host.stop();
    loop.close();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Four levels at consecutive frames, whose last maps every page to the frame 0x100 above the table's own. */
  function answer({ id, address, count }: DmaRequest): void {
    const frame = Number(address >> 12n);
    const last = (frame & 0xf) === 3;
    const entry = (BigInt(last ? frame + 0x100 : frame + 1) << 12n) | PRESENT_WRITABLE_USER;
    const payload = new Uint8Array(16 + count);
    const view = new DataView(payload.buffer);
    view.setBigUint64(0, address, true);
    view.setBigUint64(8, BigInt(count), true);
    if (count === 8) view.setBigUint64(16, entry, true);
    else view.setUint32(16, Number((entry >> (8n * (address & 7n))) & 0xffff_ffffn), true);
    client.sendReply(id, 11, 0, payload);
  }

  async function settle<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const ended = work.finally(() => {
      done = true;
    });
    const deadline = performance.now() + PATIENCE_MS;
    while (!done && performance.now() < deadline) {
      loop.runOnce(5);
      for (const request of held.splice(0)) answer(request);
      await new Promise(resolve => setImmediate(resolve));
    }
    return await ended;
  }

  function operate(operation: string, args: object): Promise<Record<string, number>> {
    return settle(host.ask({ name: 'operate', operation, args } as never)) as Promise<Record<string, number>>;
  }

  function probe(logicalAddress: bigint): Promise<unknown> {
    return host.ask({ name: 'probe', args: { requesterId: NIC, logicalAddress, access: 1 } });
  }

  function configure(domain: number, root: number): Promise<unknown> {
    const configuration = { type: 1, firstLevelPageTableRoot: BigInt(root) << 12n, translationEnabled: true };
    return host.ask({ name: 'operate', operation: 'configureDomain', args: { domain, configuration } } as never);
  }

  it('answers them in order, each by the tables of its own moment', async () => {
    const { domain } = await operate('createDomain', { osManagedPageTable: false });
    const place = { physicalDeviceObject: NIC, inputMappingIdBase: 0, mappingCount: 1 };
    expect(await operate('attachDevice', { domain, ...place })).toMatchObject({ status: 0 });
    await settle(configure(domain!, FRAME_OF_ROOT.first));
    const answers = await settle(
      Promise.all([probe(0x1000n), configure(domain!, FRAME_OF_ROOT.second), probe(0x1000n), probe(0x2000n)]),
    );
    expect(answers).toMatchObject([
      { translated: true, frame: 0x113 },
      { status: 0 },
      { translated: true, frame: 0x123 },
      { translated: true, frame: 0x123 },
    ]);
  });
});
