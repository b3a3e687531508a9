/** A machine of one server, shown by another. */
import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import type { MachinePort, TakeBatch } from '../../src/inspector/machine-port.ts';
import { RecordingPort } from '../../src/inspector/recording-port.ts';
import type { RemoteMachine } from '../../src/inspector/remote-client.ts';
import { RemotePort } from '../../src/inspector/remote-port.ts';
import type { RemoteServer } from '../../src/inspector/remote-server.ts';
import { describeMachine } from '../../src/machine/description.ts';
import { RecordingReader } from '../../src/trace/recording/reader.ts';
import type { Finding } from '../../src/trace/sanitizer/finding.ts';
import { NIC, R, Rig, RW } from '../iommu/dma-iommu/support.ts';
import { event, named, write } from '../trace/recording/support.ts';
import { RigPort } from './rig-port.ts';
import { connect, FakePort, later, serve } from './support.ts';

/** A busy machine may take its time to start and end threads. */
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 20_000 });

interface Chain {
  readonly first: RemoteServer;
  readonly second: RemoteServer;
  readonly port: RemotePort;
  /** A client of the second server. */
  readonly client: RemoteMachine;
}

/** The machine behind a server, behind a port, behind another server. */
async function chain(machine: MachinePort): Promise<Chain> {
  const { server: first } = await serve({ machines: new Map([['m1', machine]]) });
  const port = await RemotePort.open(await connect(first.url, { machine: 'm1' }));
  const { server: second, url } = await serve({ machines: new Map([['m1', port]]) });
  return { first, second, port, client: await connect(url) };
}

/** Answers everything, and hands out what is recorded. */
class RichPort extends FakePort {
  readonly description = describeMachine('vtd', ['edu@01:00.0']);
  readonly newFindings = new EventEmitter<{ finding: [Finding] }>();
  readonly takers = new Map<number, TakeBatch>();
  rules = 0;

  async findings() {
    return { state: 'on', findings: [], lost: 3 };
  }

  async mappings() {
    return { mappings: [], attachments: [] };
  }

  async inject() {
    return ++this.rules;
  }

  async removeInjection(id: number) {
    return id <= this.rules;
  }

  async releaseInjection(id: number) {
    return id <= this.rules;
  }

  async injections() {
    return [];
  }

  record(classes: number, take: TakeBatch) {
    this.takers.set(classes, take);
    return { stop: () => this.takers.delete(classes) };
  }
}

describe('RemotePort', () => {
  it.each([
    ['statistics', [], undefined],
    ['snapshot', [], undefined],
    ['probe', [{ requesterId: 1, logicalAddress: 5n, access: 1 }], { requesterId: 1, logicalAddress: 5n, access: 1 }],
    ['getInterface', [{ version: 3, ex: true }], { version: 3, ex: true }],
    ['inspect', [], undefined],
    ['registers', ['edu0'], 'edu0'],
    ['walk', [0x100, 0x1000n, 7], [0x100, 0x1000n, 7]],
    ['tlb', [64], 64],
    ['queue', [], undefined],
    ['pause', [], undefined],
    ['step', ['dma'], 'dma'],
    ['resume', [], undefined],
  ] as const)('asks %s as it is asked, and gives what it is answered', async (question, args, asked) => {
    const fake = new RichPort();
    const name = question === 'getInterface' ? 'interface' : question;
    fake.answers[name] = { status: 0, big: 0x1234_5678_9abcn, text: 'x' };
    const { client } = await chain(fake.port);
    const ask = client[question] as (...args: unknown[]) => Promise<object>;
    expect(await ask.apply(client, [...args])).toMatchObject({ big: 0x1234_5678_9abcn, text: 'x' });
    expect(fake.asked).toMatchObject([{ name, ...(asked === undefined ? {} : { args: asked }) }]);
  });

  it('is what the machine is', async () => {
    const fake = new RichPort();
    const { client, port } = await chain(fake.port);
    expect(port.description).toEqual(fake.description);
    expect(await client.describe()).toMatchObject({ machine: 'm1', description: fake.description, replays: false });
    expect(await client.findings()).toMatchObject({ state: 'on', lost: 3 });
    expect(await client.mappings()).toMatchObject({ mappings: [], attachments: [] });
  });

  it('gives answers of operations as they are, also where they failed', async () => {
    const { client } = await chain(new RigPort(new Rig()));
    const { domain } = await client.operate('createDomainEx', {
      domainType: 0,
      logicalAllocatorConfig: { logicalAllocatorType: 1, addressWidth: 40 },
    });
    const { dmaDevice } = await client.operate('createDevice', { physicalDeviceObject: NIC });
    expect((await client.operate('attachDeviceEx', { domain: domain!, dmaDevice: dmaDevice! })).status).toBe(0);
    const { logicalAddress } = await client.operate('mapLogicalRangeEx', {
      domain: domain!,
      permissions: RW,
      physicalAddressToMap: { type: 'pfnArray', pages: Int32Array.of(0x40, 0x99) },
    });
    const probe = { requesterId: NIC, logicalAddress: logicalAddress! + 0x1004n, access: R };
    expect(await client.probe(probe)).toMatchObject({ translated: true, frame: 0x99, permissions: RW });
    expect((await client.operate('deleteDomain', { domain: domain! })).statusName).not.toBe('STATUS_SUCCESS');
  });

  it('passes rules on, and says where there is none', async () => {
    const { client } = await chain(new RichPort().port);
    const id = await client.inject({ kind: 'hold', device: 'edu0' });
    await client.releaseInjection(id);
    await client.removeInjection(id);
    await expect(client.removeInjection(77)).rejects.toMatchObject({ code: 'bad-arguments' });
    await expect(client.releaseInjection(77)).rejects.toMatchObject({ code: 'bad-arguments' });
    expect(await client.injections()).toEqual([]);
  });

  it('says in the words of the machine why it does not answer', async () => {
    const fake = new RichPort();
    fake.answers.queue = Promise.reject(new Error('it has no queue'));
    (fake.answers.queue as Promise<object>).catch(() => {});
    const { client } = await chain(fake.port);
    await expect(client.queue()).rejects.toMatchObject({ code: 'failed', message: 'it has no queue' });
  });

  it('tells events and findings', async () => {
    const fake = new RichPort();
    const { client } = await chain(fake.port);
    const heard: unknown[] = [];
    await client.subscribe({ kinds: ['fault.*', 'finding'] }, ({ event: kind, source, detail }) =>
      heard.push([kind, source, detail]),
    );
    fake.emit('fault.recorded', { address: 0x5000n });
    fake.emit('other');
    fake.newFindings.emit('finding', { id: 'F1' } as Finding);
    await eventually(() => heard).toEqual([
      ['fault.recorded', 'fake', { address: 0x5000n }],
      ['finding', 'sanitizer', { finding: { id: 'F1' } }],
    ]);
  });

  it('records for each who wants records, and for nobody else', async () => {
    const fake = new RichPort();
    const { client } = await chain(fake.port);
    const seen: number[][] = [[], []];
    const one = await client.record(1, words => seen[0]!.push(words[0]!));
    const two = await client.record(2, words => seen[1]!.push(words[0]!));
    await eventually(() => [...fake.takers.keys()]).toEqual([1, 2]);
    fake.takers.get(1)!(Int32Array.of(11, 0, 0, 0, 0, 0, 0, 0));
    fake.takers.get(2)!(Int32Array.of(22, 0, 0, 0, 0, 0, 0, 0));
    await eventually(() => seen).toEqual([[11], [22]]);
    await one.stop();
    await eventually(() => [...fake.takers.keys()]).toEqual([2]);
    await two.stop();
    await eventually(() => fake.takers.size).toBe(0);
  });

  it('stops what had not begun yet', async () => {
    const fake = new RichPort();
    const { port } = await chain(fake.port);
    port.record(4, () => expect.fail('nothing was wanted')).stop();
    await port.statistics();
    await eventually(() => fake.takers.size).toBe(0);
  });

  it('tells where the other server refuses to record', async () => {
    const fake = new RichPort();
    const { server } = await serve({ machines: new Map([['m1', fake.port]]), limits: { subscriptions: 1 } });
    const port = await RemotePort.open(await connect(server.url));
    const heard: object[] = [];
    port.events.on('event', told => heard.push(told));
    port.record(1, () => {}).stop();
    await eventually(() => heard).toMatchObject([{ kind: 'remote.refused', source: 'remote' }]);
  });

  it('replays a recorded file whole, however slow its reader is', async () => {
    const records = Array.from({ length: 3000 }, (_, at) => event('dma.read', 1, at, 0x100, 0, 0, 4, -1));
    const { path } = await write([named(1, 'edu0'), ...records]);
    const reader = RecordingReader.open(path);
    later(() => reader.close());
    const { port } = await chain(new RecordingPort(reader));
    expect(port.replays).toBe(true);
    await expect(port.alive()).resolves.toBeUndefined();
    let slots = 0;
    let holding = 0;
    port.record(-1, async words => {
      expect(++holding).toBe(1);
      slots += words.length / 8;
      await new Promise(resolve => setImmediate(resolve));
      holding--;
    });
    await eventually(() => slots).toBeGreaterThanOrEqual(records.length);
  });

  it('hears nothing more after it is closed', async () => {
    const fake = new RichPort();
    const { port } = await chain(fake.port);
    const heard: object[] = [];
    port.events.on('event', told => heard.push(told));
    await port.close();
    await port.close();
    fake.emit('late');
    await port.statistics();
    expect(heard).toEqual([]);
  });

  it('ends with its machine, and with its server', async () => {
    const one = await chain(new RichPort().port);
    one.first.remove('m1', 'it was released');
    expect(await one.port.ended).toEqual({ reason: 'it was released', stoppedByFinding: false });
    const other = await chain(new RichPort().port);
    await other.first.close();
    expect((await other.port.ended).reason).toMatch(/the connection is closed/);
    await expect(other.port.alive()).rejects.toThrow(/the connection is closed/);
    await expect(other.client.statistics()).rejects.toMatchObject({ code: 'failed' });
  });
});
