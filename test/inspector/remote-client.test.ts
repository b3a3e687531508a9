import { once } from 'node:events';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { newToken } from '../../src/inspector/access.ts';
import { encodeMessage } from '../../src/inspector/codec.ts';
import { RemoteError, type RemoteEvent } from '../../src/inspector/protocol.ts';
import { ConnectionError, RemoteMachine } from '../../src/inspector/remote-client.ts';
import { NtStatus } from '../../src/iommu/dma-iommu/ntstatus.ts';
import type { DomainHandle } from '../../src/iommu/dma-iommu/types.ts';
import { NIC, R, Rig, RW } from '../iommu/dma-iommu/support.ts';
import { RigPort } from './rig-port.ts';
import { connect, FakePort, later, serve } from './support.ts';

const domain = 1 as DomainHandle;

/** A server that answers each message as the test says. */
async function oddServer(answer: (socket: WebSocket) => void): Promise<string> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'viommu.v1' });
  later(() => server.close());
  server.on('connection', socket => socket.on('message', () => answer(socket)));
  await once(server, 'listening');
  return `ws://127.0.0.1:${(server.address() as { port: number }).port}`;
}

describe('RemoteMachine', () => {
  it('operates, with typed answers', async () => {
    const { fake, url } = await serve();
    fake.answers.createDomain = { status: 0, domain: 7 };
    const machine = await connect(url);
    const answer = await machine.operate('createDomain', { osManagedPageTable: true });
    expectTypeOf(answer.domain).toEqualTypeOf<DomainHandle | undefined>();
    expect(answer).toEqual({ status: 0, statusName: 'STATUS_SUCCESS', domain: 7 });
  });

  it('takes an operation that failed for an answer, and a refused request for an error', async () => {
    const { fake, url } = await serve();
    fake.answers.flushDomain = { status: NtStatus.INVALID_HANDLE };
    const machine = await connect(url);
    expect((await machine.operate('flushDomain', { domain })).statusName).toBe('STATUS_INVALID_HANDLE');
    const refused = machine.operate('flushDomain', { domain: -1 as DomainHandle });
    await expect(refused).rejects.toThrow(RemoteError);
    await expect(refused).rejects.toMatchObject({ code: 'bad-arguments' });
  });

  it('sends page frames as they are', async () => {
    const { fake, url } = await serve();
    const machine = await connect(url);
    const pages = Int32Array.of(1, 0x7fffffff);
    await machine.operate('mapIdentityRangeEx', {
      domain,
      permissions: 3,
      physicalAddressToMap: { type: 'pfnArray', pages },
    });
    expect(fake.asked[0]?.args).toMatchObject({ physicalAddressToMap: { pages } });
  });

  it('means the machine that it was told', async () => {
    const [a, b] = [new FakePort(), new FakePort()];
    const { url } = await serve({
      machines: new Map([
        ['a', a.port],
        ['b', b.port],
      ]),
    });
    const machine = await connect(url, { machine: 'b' });
    await machine.statistics();
    expect([a.asked.length, b.asked.length]).toEqual([0, 1]);
    expect(await machine.machines()).toEqual(['a', 'b']);
  });

  it('gives its token', async () => {
    const token = newToken();
    const { url } = await serve({ token });
    await connect(url, { token });
    await expect(RemoteMachine.connect(url)).rejects.toThrow(`${url} refused: 401 a token is needed`);
    await expect(RemoteMachine.connect(url, { token: newToken() })).rejects.toThrow(ConnectionError);
  });

  it.each(['ws://127.0.0.1:1', 'nothing', '', 'http://[', 'ftp://127.0.0.1:1'])('cannot connect to %o', async url => {
    await expect(RemoteMachine.connect(url)).rejects.toThrow(ConnectionError);
  });

  it('hears the events of its subscriptions, each by its own listener', async () => {
    const { fake, url } = await serve();
    const machine = await connect(url);
    const heard: string[] = [];
    const first = await machine.subscribe({ kinds: ['a'], context: 'x' }, event =>
      heard.push(`1 ${event.event} ${event.context}`),
    );
    await machine.subscribe({ kinds: ['*'] }, event => heard.push(`2 ${event.event}`));
    fake.emit('a');
    fake.emit('b');
    expect(await machine.unsubscribe(first)).toEqual({ sent: 1, dropped: 0 });
    fake.emit('a');
    await expect.poll(() => heard).toEqual(['1 a x', '2 a', '2 b', '2 a']);
  });

  it('loses no event that comes before the answer to its subscription is looked at', async () => {
    const url = await oddServer(socket => {
      socket.send(
        encodeMessage({ event: 'early', subscription: 9, machine: 'm', source: 's', detail: {}, dropped: 0 }),
      );
      socket.send(encodeMessage({ id: 1, status: 0, subscription: 9 }));
      socket.send(encodeMessage({ event: 'late', subscription: 9, machine: 'm', source: 's', detail: {}, dropped: 0 }));
    });
    const machine = await connect(url);
    const heard: RemoteEvent[] = [];
    await machine.subscribe({ kinds: ['*'] }, event => heard.push(event));
    await expect.poll(() => heard.map(event => event.event)).toEqual(['early', 'late']);
  });

  it('has requests fail that are under way when the connection ends, and all later ones', async () => {
    const { fake, url, server } = await serve();
    fake.answers.flushDomain = new Promise(() => {});
    const machine = await connect(url);
    const waiting = machine.operate('flushDomain', { domain });
    waiting.catch(() => {});
    await expect.poll(() => fake.asked.length).toBe(1);
    await server.close();
    await expect(waiting).rejects.toThrow('the connection is closed: the server stops');
    await expect(machine.machines()).rejects.toThrow(ConnectionError);
    expect(await machine.closed).toBeInstanceOf(ConnectionError);
  });

  it('ends the connection to a server that says what is no message', async () => {
    const url = await oddServer(socket => socket.send(Uint8Array.of(0xc1)));
    const machine = await connect(url);
    await expect(machine.machines()).rejects.toThrow(ConnectionError);
  });

  it('does not mind answers that it did not ask for', async () => {
    const url = await oddServer(socket => {
      socket.send(encodeMessage({ id: 55, status: 0 }));
      socket.send(encodeMessage({ id: 1, status: 0, machines: ['m'] }));
    });
    expect(await (await connect(url)).machines()).toEqual(['m']);
  });
});

describe('a real unit behind the remote API', () => {
  const start = async () => {
    const rig = new Rig();
    const { url } = await serve({ machines: new Map([['machine', new RigPort(rig)]]) });
    return { rig, machine: await connect(url) };
  };

  it('maps for DMA, reports its faults, and shows what there is', async () => {
    const { rig, machine } = await start();
    const { domain } = await machine.operate('createDomainEx', {
      domainType: 0,
      logicalAllocatorConfig: { logicalAllocatorType: 1, addressWidth: 40 },
    });
    const { dmaDevice } = await machine.operate('createDevice', { physicalDeviceObject: NIC });
    expect((await machine.operate('attachDeviceEx', { domain: domain!, dmaDevice: dmaDevice! })).status).toBe(0);
    const { logicalAddress, statusName } = await machine.operate('mapLogicalRangeEx', {
      domain: domain!,
      permissions: RW,
      physicalAddressToMap: { type: 'contiguousRange', base: 0x40_000n, size: 0x2000n },
      minLogicalAddress: 0x10_0000_0000n,
    });
    expect(statusName).toBe('STATUS_SUCCESS');
    expect(logicalAddress).toBeTypeOf('bigint');
    const probe = { requesterId: NIC, logicalAddress: logicalAddress! + 0x1004n, access: R };
    expect(await machine.probe(probe)).toMatchObject({ translated: true, frame: 0x41, permissions: RW, stale: false });
    expect(await machine.snapshot()).toMatchObject({
      domains: [{ handle: domain, ranges: [{ logicalAddress, numberOfPages: 2, permissions: RW }] }],
      devices: [{ handle: dmaDevice, physicalDeviceObject: NIC, domain }],
    });

    const events: RemoteEvent[] = [];
    await machine.subscribe({ kinds: ['callback.fault'] }, event => events.push(event));
    const enabled = await machine.operate('setDeviceFaultReportingEx', {
      dmaDevice: dmaDevice!,
      inputMappingIdBase: 0,
      enable: true,
      faultConfig: { faultContext: 'nic' },
    });
    expect(enabled.statusName).toBe('STATUS_SUCCESS');
    rig.unit.translate(NIC, 0, 0x5000, R, rig.out);
    rig.jobs.run();
    await expect
      .poll(() => events)
      .toMatchObject([
        { detail: { context: 'nic', fault: { requesterId: NIC, access: R, x64: { faultAddress: 0x5000n } } } },
      ]);
  });

  it('hands out its interfaces', async () => {
    const { machine } = await start();
    expect(await machine.getInterface({ version: 3, ex: true })).toMatchObject({ size: 0xe8, version: 3 });
    expect((await machine.getInterface({ version: 2 })).statusName).toBe('STATUS_INVALID_PARAMETER_1');
  });
});
