/** Machines that are added to a running server, and taken from it. */
import { describe, expect, it } from 'vitest';
import type { MachineEnd } from '../../src/inspector/machine-port.ts';
import type { RemoteEvent } from '../../src/inspector/protocol.ts';
import type { StreamAcceptor } from '../../src/inspector/remote-server.ts';
import { connect, FakePort, rawClient, refusedStatus, serve } from './support.ts';

/** A busy machine may take its time to start and end threads. */
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 20_000 });

describe('a machine that is added', () => {
  it('answers from then on, and its events are heard', async () => {
    const { server, url } = await serve();
    const late = new FakePort();
    const machine = await connect(url, { machine: 'late' });
    await expect(machine.statistics()).rejects.toMatchObject({ code: 'unknown-machine' });
    server.add('late', late.port);
    await machine.statistics();
    const heard: string[] = [];
    await machine.subscribe({ kinds: ['a'] }, ({ event }) => heard.push(event));
    late.emit('a');
    await eventually(() => heard).toEqual(['a']);
    expect(server.machines).toEqual(['machine', 'late']);
  });

  it('must have a name of its own', async () => {
    const { server } = await serve();
    expect(() => server.add('machine', new FakePort().port)).toThrow(/already/);
  });

  it('is the one that is meant where there is but one', async () => {
    const { server, url } = await serve({ machines: new Map() });
    const machine = await connect(url);
    await expect(machine.statistics()).rejects.toThrow('the server has no machine now');
    server.add('m1', new FakePort().port);
    await machine.statistics();
  });
});

describe('a machine that is removed', () => {
  it('is told to its subscriptions, which end', async () => {
    const { server, fake, url } = await serve();
    const client = await rawClient(url);
    client.send({ id: 1, operation: 'subscribe', args: { kinds: ['nothing'], context: 'x' } });
    const { subscription } = (await client.receive()) as { subscription: number };
    server.remove('machine', 'because');
    expect(await client.receive()).toEqual({
      event: 'machine.removed',
      subscription,
      context: 'x',
      machine: 'machine',
      source: 'remote',
      detail: { reason: 'because' },
      dropped: 0,
    });
    // The next of that name is another.
    const next = new FakePort();
    server.add('machine', next.port);
    next.emit('nothing');
    fake.emit('nothing');
    client.send({ id: 2, operation: 'unsubscribe', args: { subscription } });
    expect(await client.receive()).toMatchObject({ id: 2, sent: 1, dropped: 0 });
    client.send({ id: 3, operation: 'unsubscribe', args: { subscription } });
    expect(await client.receive()).toMatchObject({ id: 3, error: { code: 'bad-arguments' } });
  });

  it('records nothing more', async () => {
    const { server, fake, url } = await serve();
    const taps = { stopped: 0 };
    Object.assign(fake, { description: {}, record: () => ({ stop: () => taps.stopped++ }) });
    const machine = await connect(url);
    const recording = await machine.record(1, () => {});
    server.remove('machine');
    await recording.stop();
    expect(taps.stopped).toBe(1);
  });

  it('leaves the subscriptions of others alone, and room for new ones', async () => {
    const { server, url } = await serve({ limits: { subscriptions: 2 } });
    const other = new FakePort();
    const client = await connect(url);
    const heard: RemoteEvent[] = [];
    server.add('other', other.port);
    await client.at('other').subscribe({ kinds: ['a'] }, event => heard.push(event));
    for (let round = 0; round < 5; round++) {
      const name = `n${round}`;
      server.add(name, new FakePort().port);
      await client.at(name).subscribe({ kinds: ['*'] }, event => heard.push(event));
      server.remove(name);
    }
    other.emit('a');
    await eventually(() => heard.filter(({ event }) => event === 'a')).toHaveLength(1);
    expect(heard.map(({ event, machine }) => `${machine} ${event}`)).toEqual([
      'n0 machine.removed',
      'n1 machine.removed',
      'n2 machine.removed',
      'n3 machine.removed',
      'n4 machine.removed',
      'other a',
    ]);
  });

  it('is not heard any more, and refuses', async () => {
    const { server, fake, url } = await serve();
    const machine = await connect(url, { machine: 'machine' });
    server.remove('machine');
    server.remove('machine');
    expect(fake.events.listenerCount('event')).toBe(0);
    await expect(machine.statistics()).rejects.toMatchObject({ code: 'unknown-machine' });
  });
});

describe('a machine that ends by itself', () => {
  it('tells it, and can still be asked', async () => {
    let end: (end: MachineEnd) => void = () => {};
    const ended = new Promise<MachineEnd>(resolve => {
      end = resolve;
    });
    const port = Object.assign(new FakePort(), { ended });
    const { url } = await serve({ machines: new Map([['a', port.port]]) });
    const machine = await connect(url);
    const heard: RemoteEvent[] = [];
    await machine.subscribe({ kinds: ['machine.ended'] }, event => heard.push(event));
    end({ reason: 'a finding stopped it', stoppedByFinding: true });
    await eventually(() => heard).toMatchObject([
      { event: 'machine.ended', detail: { reason: 'a finding stopped it', stoppedByFinding: true } },
    ]);
    await machine.statistics();
  });
});

describe('who watches', () => {
  it('hears each time which machines there are', async () => {
    const { server, url } = await serve();
    const client = await connect(url);
    const heard: (readonly string[])[] = [];
    expect(await client.watchMachines(names => heard.push(names))).toEqual(['machine']);
    server.add('a', new FakePort().port);
    server.remove('machine');
    server.remove('a');
    await eventually(() => heard).toEqual([['machine', 'a'], ['a'], []]);
  });

  it('is not heard by a subscription to a machine', async () => {
    const { server, url } = await serve();
    const client = await connect(url, { machine: 'machine' });
    const heard: string[] = [];
    await client.subscribe({ kinds: ['*'] }, ({ event }) => heard.push(event));
    server.add('a', new FakePort().port);
    await client.machines();
    expect(heard).toEqual([]);
  });
});

describe('what a machine is', () => {
  it('is told with what its records mean', async () => {
    const { fake, url } = await serve();
    Object.assign(fake, { description: { iommu: 'x' }, replays: true });
    const facts = await (await connect(url)).describe();
    expect(facts).toMatchObject({ machine: 'machine', description: { iommu: 'x' }, replays: true });
    expect(facts.kinds.length).toBeGreaterThan(10);
  });
});

describe('vfio-user over WebSockets', () => {
  const acceptor = (asked: string[]) => (): StreamAcceptor => ({
    upgrade: (request, socket) => {
      asked.push(request.url ?? '');
      socket.end('HTTP/1.1 418 taken\r\nConnection: close\r\n\r\n');
    },
    close: async () => {},
  });

  it('is taken by its acceptor, with a path and by the rules of the API', async () => {
    const asked: string[] = [];
    const { url } = await serve({ token: 'token', acceptor: acceptor(asked) });
    const place = `${url}/vfio-user/m1/edu0?session=1`;
    const authorized = { headers: { Authorization: 'Bearer token' } };
    expect(await refusedStatus(place, ['vfio-user.v1'])).toBe(401);
    expect(await refusedStatus(place, ['vfio-user.v1'], { ...authorized, origin: 'https://evil.example' })).toBe(403);
    expect(asked).toEqual([]);
    expect(await refusedStatus(place, ['vfio-user.v1'], authorized)).toBe(418);
    expect(asked).toEqual(['/vfio-user/m1/edu0?session=1']);
    // Any other path is the API's, which wants its own subprotocol.
    expect(await refusedStatus(`${url}/vfio-users`, ['vfio-user.v1'], authorized)).toBe(400);
  });

  it('is not there without one', async () => {
    const { url } = await serve();
    expect(await refusedStatus(`${url}/vfio-user/m1/edu0`, ['vfio-user.v1'])).toBe(404);
  });

  it('reaches functions of machines that are there', async () => {
    let open: (machine: string, name: string) => Promise<number> = async () => -1;
    const streams = Object.assign(new FakePort(), { openStream: async (name: string) => name.length });
    const { server } = await serve({
      acceptor: opener => {
        open = opener;
        return acceptor([])();
      },
    });
    server.add('m1', streams.port);
    expect(await open('m1', 'edu0')).toBe(4);
    await expect(open('m2', 'edu0')).rejects.toThrow("there is no machine 'm2'");
    await expect(open('machine', 'edu0')).rejects.toThrow(/no functions/);
    server.remove('m1');
    await expect(open('m1', 'edu0')).rejects.toThrow("there is no machine 'm1'");
  });
});
