/** Leases that outlive their connection, with device threads of their own, through a network that fails. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Leases, type LeaseOptions as ServerLeaseOptions } from '../../dist/src/inspector/leases.js';
import type { RemoteServer } from '../../dist/src/inspector/remote-server.js';
// The device thread is a worker, which runs compiled code.
import { RemoteServer as CompiledServer } from '../../dist/src/inspector/remote-server.js';
import { leasePulse, MAX_LEASE_GRACE_MILLISECONDS, type Pulse } from '../../src/inspector/limits.ts';
import type { RemoteEvent } from '../../src/inspector/protocol.ts';
import {
  ConnectionError,
  type LeasedMachine,
  type LeaseOptions,
  RemoteMachine,
} from '../../src/inspector/remote-client.ts';
import { describeMachine } from '../../src/machine/description.ts';
import { TestGuest } from '../../src/testing/guest.ts';
import { EventClass } from '../../src/trace/event-kinds.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { CuttingProxy } from '../vfio-user/websocket/cutting-proxy.ts';
import { connect, later, type RawClient, rawClient } from './support.ts';

/** A busy machine may take its time to start and end threads. */
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 20_000 });
const LONG_MS = 20_000;
const SHORT_MS = 300;
/** So that a silent network is noticed within a test. A busy machine may be as silent: others keep to the default. */
const quick: Pulse = { keepAliveMilliseconds: 100, silentIntervals: 3 };

const description = describeMachine('vtd', ['edu@01:00.0']);

interface Rig {
  readonly server: RemoteServer;
  readonly leases: Leases;
  readonly url: string;
  readonly directory: string;
  readonly proxy: CuttingProxy;
  /** Through the proxy. */
  readonly proxied: string;
  readonly notes: string[];
}

async function serve(options: Partial<ServerLeaseOptions> = {}, pulse: Pulse = leasePulse): Promise<Rig> {
  const { path: directory, remove } = temporaryDirectory();
  later(remove);
  let leases: Leases | undefined;
  const notes: string[] = [];
  const server = await CompiledServer.start({
    limits: { leasePulse: pulse },
    leases: shelf => {
      leases = new Leases({
        directory,
        shelf,
        description,
        note: (name, kind) => notes.push(`${name} ${kind}`),
        ...options,
      });
      return leases;
    },
  });
  later(() => server.close());
  const proxy = await CuttingProxy.start({ port: Number(new URL(server.url).port) });
  later(() => proxy.close());
  const proxied = `ws://127.0.0.1:${proxy.port}`;
  return { server, leases: leases!, url: server.url, directory, proxy, proxied, notes };
}

async function lease({ proxied }: Rig, options: LeaseOptions = {}): Promise<LeasedMachine> {
  const leased = await RemoteMachine.lease(proxied, { graceMilliseconds: LONG_MS, ...options });
  later(() => leased.machine.close());
  return leased;
}

interface RawLease {
  readonly client: RawClient;
  readonly lease: string;
  readonly grace: number;
  readonly machine: string;
}

async function rawLease(url: string, grace: unknown): Promise<RawLease> {
  const client = await rawClient(url);
  client.send({ id: 1, operation: 'lease', args: { grace } });
  return { client, ...((await client.receive()) as unknown as Omit<RawLease, 'client'>) };
}

const waiting = (promise: Promise<unknown>) => Promise.race([promise.then(() => 'settled'), Promise.resolve('waits')]);

/** As QEMU would be beside the server; has the device use an address that was never mapped. */
async function guestOf({ directory }: Rig, { sockets }: LeasedMachine): Promise<{ misuse(iova: bigint): void }> {
  const guest = new TestGuest(
    Object.fromEntries(Object.entries(sockets).map(([id, path]) => [id, join(directory, path)])),
  );
  later(() => guest.close());
  const vtd = guest.vtd();
  await vtd.attach('01:00.0', vtd.createDomain());
  const edu = guest.function('edu0');
  return {
    misuse(iova) {
      edu.write64(0, 0x80, 0x40000n);
      edu.write64(0, 0x88, iova);
      edu.write64(0, 0x90, 8n);
      edu.write64(0, 0x98, 3n);
    },
  };
}

describe('a lease with a grace time', () => {
  it('is told with a secret of its own, and no more grace than the server agrees to', async () => {
    const { url } = await serve();
    const first = await rawLease(url, 1234);
    const second = await rawLease(url, 3_600_000);
    expect(first.grace).toBe(1234);
    expect(second.grace).toBe(MAX_LEASE_GRACE_MILLISECONDS);
    for (const { lease: id } of [first, second]) expect(id).toMatch(/^[0-9a-f]{32}$/);
    expect(first.lease).not.toBe(second.lease);
  });

  it.each([-1, 0.5, 3_600_001, '4'])('is refused where that is %o', async grace => {
    const { url, leases } = await serve();
    const client = await connect(url);
    await expect(client.request('lease', { grace })).rejects.toMatchObject({ code: 'bad-arguments' });
    expect(leases.count).toBe(0);
  });

  it('goes on after its connection was cut, with the machine that it had', async () => {
    const rig = await serve();
    const leased = await lease(rig);
    const before = await leased.machine.statistics();
    for (let round = 0; round < 3; round++) {
      rig.proxy.cut();
      expect(Object.keys(await leased.machine.statistics())).toEqual(Object.keys(before));
    }
    expect(await waiting(leased.ended)).toBe('waits');
    expect(rig.server.machines).toEqual(['m1']);
    expect(rig.notes.filter(note => note === 'm1 lease.resumed')).toHaveLength(3);
    expect(await leased.release()).toMatchObject({ state: 'on', findings: [] });
    expect(rig.server.machines).toEqual([]);
  });

  it('tells its client when the connection is lost, and when it is back', async () => {
    const rig = await serve();
    const told: string[] = [];
    const leased = await lease(rig, { onConnection: (state, reason) => told.push(`${state} ${reason !== ''}`) });
    rig.proxy.cut();
    await leased.machine.machines();
    expect(told).toEqual(['lost true', 'resumed true']);
  });

  it('asks again what only asks, and rejects what may have been done', async () => {
    const rig = await serve();
    const leased = await lease(rig);
    rig.proxy.swallow();
    const asked = leased.machine.inspect();
    const done = leased.machine.inject({ kind: 'hold', device: 'edu0' });
    rig.proxy.cut();
    rig.proxy.swallow(false);
    await expect(done).rejects.toThrow(ConnectionError);
    await expect(done).rejects.toThrow(/broke while 'inject' was under way, so that it may be done or not/);
    expect((await asked).state).toBe('running');
    expect(await leased.machine.injections()).toEqual([]);
  });

  it('holds back what is asked during an outage, of whatever kind, and loses nothing of it', async () => {
    const rig = await serve();
    let lost: () => void = () => {};
    const away = new Promise<void>(resolve => {
      lost = resolve;
    });
    const leased = await lease(rig, { onConnection: () => lost() });
    rig.proxy.refuse();
    rig.proxy.cut();
    await away;
    const injected = leased.machine.inject({ kind: 'hold', device: 'edu0' });
    const subscribed = leased.machine.subscribe({ kinds: ['*'] }, () => {});
    expect(await waiting(Promise.race([injected, subscribed]))).toBe('waits');
    rig.proxy.allow();
    expect(await injected).toBeTypeOf('number');
    expect(await leased.machine.unsubscribe(await subscribed)).toMatchObject({ dropped: 0 });
  });

  it('ends when the connection does not come back in time, on both sides', async () => {
    const rig = await serve();
    const leased = await lease(rig, { graceMilliseconds: SHORT_MS });
    expect(leased.graceMilliseconds).toBe(SHORT_MS);
    rig.proxy.refuse();
    rig.proxy.cut();
    const asked = leased.machine.findings();
    await expect(asked).rejects.toThrow(/the connection is lost, and did not come back within 300 ms: /);
    expect((await leased.ended).reason).toMatch(/did not come back within 300 ms/);
    expect(await leased.machine.closed).toBeInstanceOf(ConnectionError);
    expect(await leased.release()).toBeUndefined();
    await eventually(() => [rig.leases.count, rig.server.machines, readdirSync(rig.directory)]).toEqual([0, [], []]);
    expect(rig.notes).toEqual(['m1 lease.lost', 'm1 lease.expired']);
  });

  it('is noticed by its client to be without a network, and goes on where that recovers', async () => {
    const rig = await serve();
    const told: string[] = [];
    const leased = await lease(rig, {
      limits: quick,
      onConnection: (state, reason) => told.push(`${state}: ${reason}`),
    });
    rig.proxy.swallow();
    await eventually(() => told).toHaveLength(1);
    expect(told[0]).toMatch(/^lost: .*silent for 300 ms/);
    rig.proxy.swallow(false);
    expect((await leased.machine.inspect()).state).toBe('running');
  });

  it('is noticed by the server to be without a network, and goes on where that recovers', async () => {
    const rig = await serve({}, quick);
    const leased = await lease(rig);
    rig.proxy.swallow();
    await eventually(() => rig.notes).toContain('m1 lease.lost');
    rig.proxy.swallow(false);
    expect((await leased.machine.inspect()).state).toBe('running');
    expect(rig.notes).toContain('m1 lease.resumed');
  });

  it('ends where the network swallows everything for longer', async () => {
    const rig = await serve({}, quick);
    const leased = await lease(rig, { limits: quick, graceMilliseconds: SHORT_MS });
    rig.proxy.swallow();
    expect((await leased.ended).reason).toMatch(/did not come back within/);
    await eventually(() => rig.leases.count).toBe(0);
  });

  it('counts as leased while its client is away', async () => {
    const rig = await serve({ maxMachines: 1 });
    const leased = await lease(rig);
    rig.proxy.refuse();
    rig.proxy.cut();
    await eventually(() => rig.notes).toEqual(['m1 lease.lost']);
    const other = await connect(rig.url);
    await expect(other.request('lease')).rejects.toMatchObject({ code: 'limit' });
    rig.proxy.allow();
    await leased.release();
    expect(await other.request('lease')).toMatchObject({ machine: 'm2' });
  });

  it.each([
    ['without a code', undefined],
    ['normally', 1000],
    ['because the page goes', 1001],
  ])('ends at once where its client closes %s', async (_how, code) => {
    const rig = await serve();
    const { client } = await rawLease(rig.url, LONG_MS);
    client.socket.close(code);
    await eventually(() => rig.leases.count).toBe(0);
    expect(rig.notes).toEqual([]);
  });

  it('ends with a server that stops, also in the middle of an outage', async () => {
    const rig = await serve();
    const [here, away] = [await lease(rig), await rawLease(rig.url, LONG_MS)];
    away.client.socket.terminate();
    await eventually(() => rig.notes).toEqual(['m2 lease.lost']);
    await rig.server.close();
    expect((await here.ended).reason).toMatch(/the server stops/);
    expect([rig.leases.count, readdirSync(rig.directory)]).toEqual([0, []]);
  });

  it('can be closed or given up during an outage, which ends the waiting', async () => {
    const rig = await serve();
    for (const end of ['close', 'abandon'] as const) {
      let lost: () => void = () => {};
      const away = new Promise<void>(resolve => {
        lost = resolve;
      });
      const leased = await lease(rig, { onConnection: () => lost() });
      rig.proxy.refuse();
      rig.proxy.cut();
      await away;
      const asked = leased.machine.findings();
      asked.catch(() => {});
      await leased.machine[end]();
      await expect(asked).rejects.toThrow(ConnectionError);
      await leased.ended;
      rig.proxy.allow();
    }
  });

  it('ends with its connection where no grace was asked for', async () => {
    const rig = await serve();
    const leased = await lease(rig, { graceMilliseconds: 0 });
    expect(leased.graceMilliseconds).toBe(0);
    rig.proxy.cut();
    expect((await leased.ended).reason).toMatch(/the connection is closed/);
    await eventually(() => rig.leases.count).toBe(0);
  });
});

describe('to resume a lease', () => {
  it('takes its secret', async () => {
    const rig = await serve();
    const { lease: id } = await rawLease(rig.url, LONG_MS);
    const thief = await connect(rig.url);
    const last = id.endsWith('0') ? '1' : '0';
    for (const wrong of ['', 'm1', '0'.repeat(32), id.slice(1), `${id.slice(0, -1)}${last}`]) {
      await expect(thief.request('resumeLease', { lease: wrong })).rejects.toMatchObject({
        code: 'bad-arguments',
        message: 'there is no such lease, or not any more',
      });
    }
    for (const args of [undefined, {}, { lease: 7 }, { lease: id, subscriptions: [-1] }, { lease: 'x'.repeat(65) }]) {
      await expect(thief.request('resumeLease', args)).rejects.toMatchObject({ code: 'bad-arguments' });
    }
    await expect(thief.request('release', { machine: 'm1', lease: '0'.repeat(32) })).rejects.toMatchObject({
      code: 'bad-arguments',
    });
    expect(rig.notes).toEqual([]);
  });

  it('is possible while the connection before still looks alive, which is closed', async () => {
    const rig = await serve();
    const first = await rawLease(rig.url, LONG_MS);
    const second = await rawClient(rig.url);
    second.send({ id: 1, operation: 'resumeLease', args: { lease: first.lease } });
    expect(await second.receive()).toMatchObject({
      machine: 'm1',
      lease: first.lease,
      grace: LONG_MS,
      subscriptions: [],
    });
    expect(await first.client.closed).toBe(1008);
    expect(rig.server.machines).toEqual(['m1']);
    second.send({ id: 2, operation: 'release', args: { machine: 'm1' } });
    expect(await second.receive()).toMatchObject({ event: 'machine.ended' });
    expect(rig.notes).toEqual(['m1 lease.resumed']);
  });

  it('leaves the other leases of the connection before to their grace time', async () => {
    const rig = await serve();
    const first = await rawLease(rig.url, LONG_MS);
    first.client.send({ id: 2, operation: 'lease', args: { grace: LONG_MS } });
    const other = (await first.client.receive()) as { lease: string };
    const second = await rawClient(rig.url);
    second.send({ id: 1, operation: 'resumeLease', args: { lease: first.lease } });
    await eventually(() => rig.notes).toEqual(['m1 lease.resumed', 'm2 lease.lost']);
    second.send({ id: 2, operation: 'resumeLease', args: { lease: other.lease } });
    expect(await second.receive()).toMatchObject({ machine: 'm1' });
    expect(await second.receive()).toMatchObject({ machine: 'm2' });
    expect(rig.server.machines).toEqual(['m1', 'm2']);
  });

  it('has no more subscriptions than a connection may have', async () => {
    const rig = await serve();
    const { client, lease: id } = await rawLease(rig.url, LONG_MS);
    const next = await connect(rig.url);
    const all = Array.from({ length: 64 }, (_, index) => index);
    await expect(next.request('resumeLease', { lease: id, subscriptions: all })).rejects.toMatchObject({
      code: 'limit',
    });
    expect(client.socket.readyState).toBe(client.socket.OPEN);
    const answer = await next.request('resumeLease', { lease: id, subscriptions: [7, 7] });
    expect(answer).toMatchObject({ subscriptions: [null, null] });
  });

  it('has one winner where two try at once, and the other is told not to try again', async () => {
    const rig = await serve();
    const { client, lease: id } = await rawLease(rig.url, LONG_MS);
    const [one, two] = [await rawClient(rig.url), await rawClient(rig.url)];
    client.socket.terminate();
    await eventually(() => rig.notes).toEqual(['m1 lease.lost']);
    for (const racer of [one, two]) racer.send({ id: 1, operation: 'resumeLease', args: { lease: id } });
    for (const racer of [one, two]) expect(await racer.receive()).toMatchObject({ machine: 'm1' });
    expect(await Promise.race([one.closed, two.closed])).toBe(1008);
    expect(rig.leases.count).toBe(1);
    const stays = [one, two].filter(({ socket }) => socket.readyState === socket.OPEN);
    expect(stays).toHaveLength(1);
    stays[0]!.socket.terminate();
    await eventually(() => rig.notes.filter(note => note === 'm1 lease.lost')).toHaveLength(2);
  });

  it('is refused when it is over, and its client then ends', async () => {
    const rig = await serve();
    const leased = await lease(rig);
    rig.proxy.refuse();
    rig.proxy.cut();
    await eventually(() => rig.notes).toEqual(['m1 lease.lost']);
    await rig.leases.close();
    rig.proxy.allow();
    expect((await leased.ended).reason).toMatch(/there is no such lease/);
  });

  it('gives the answer to a release that was lost with the connection', async () => {
    const rig = await serve();
    const { client, lease: id } = await rawLease(rig.url, LONG_MS);
    client.send({ id: 2, operation: 'release', args: { machine: 'm1' } });
    client.socket.terminate();
    await eventually(() => [rig.leases.count, existsSync(join(rig.directory, 'm1'))]).toEqual([0, false]);
    const next = await connect(rig.url);
    const answer = { state: 'on', findings: [] };
    expect(await next.request('release', { machine: 'm1', lease: id })).toMatchObject(answer);
    await expect(next.request('release', { machine: 'm1' })).rejects.toMatchObject({ code: 'bad-arguments' });
  });
});

describe('a release', () => {
  it('gives what was found although the connection breaks before its answer', async () => {
    const rig = await serve();
    const leased = await lease(rig);
    rig.proxy.delay(200, 'to-client');
    const released = leased.release();
    await eventually(() => rig.leases.count).toBe(0);
    rig.proxy.delay(0);
    rig.proxy.cut();
    expect(await released).toMatchObject({ state: 'on', findings: [] });
  });
});

describe('subscriptions of a lease', () => {
  it('go on by their numbers, with what they lost counted', async () => {
    const rig = await serve();
    const leased = await lease(rig);
    const heard: RemoteEvent[] = [];
    const other = await leased.machine.subscribe({ kinds: ['nothing'] }, () => {});
    const id = await leased.machine.subscribe({ kinds: ['machine.paused', 'machine.resumed'], context: 'c' }, event =>
      heard.push(event),
    );
    await leased.machine.unsubscribe(other);
    const onlooker = await connect(rig.url, { machine: 'm1' });
    await onlooker.pause();
    await eventually(() => heard).toHaveLength(1);
    rig.proxy.refuse();
    rig.proxy.cut();
    await eventually(() => rig.notes).toEqual(['m1 lease.lost']);
    await onlooker.resume();
    await onlooker.pause();
    rig.proxy.allow();
    await leased.machine.machines();
    await eventually(() => heard).toHaveLength(2);
    await onlooker.resume();
    await eventually(() => heard).toHaveLength(3);
    expect(heard).toMatchObject([
      { event: 'machine.paused', subscription: id, context: 'c', machine: 'm1', dropped: 0 },
      { event: 'subscription.dropped', subscription: id, context: 'c', machine: 'm1', dropped: 2 },
      { event: 'machine.resumed', subscription: id, context: 'c', machine: 'm1', dropped: 2 },
    ]);
    expect(await leased.machine.unsubscribe(id)).toEqual({ sent: 2, dropped: 2 });
  });

  it('count what was on its way when the connection broke', async () => {
    const rig = await serve();
    const leased = await lease(rig);
    const heard: RemoteEvent[] = [];
    await leased.machine.subscribe({ kinds: ['machine.*'] }, event => heard.push(event));
    rig.proxy.swallow();
    const onlooker = await connect(rig.url, { machine: 'm1' });
    await onlooker.pause();
    rig.proxy.cut();
    rig.proxy.swallow(false);
    await eventually(() => heard).toMatchObject([{ event: 'subscription.dropped', dropped: 1 }]);
  });

  it('to other things than the machine are made anew', async () => {
    const rig = await serve();
    const leased = await lease(rig);
    const heard: (readonly string[])[] = [];
    expect(await leased.machine.watchMachines(names => heard.push(names))).toEqual(['m1']);
    const other = await RemoteMachine.lease(rig.url);
    later(() => other.machine.close());
    await eventually(() => heard).toEqual([['m1', 'm2']]);
    const removed: string[] = [];
    await leased.machine.at('m2').subscribe({ kinds: ['x'] }, ({ event }) => removed.push(event));
    rig.proxy.refuse();
    rig.proxy.cut();
    await eventually(() => rig.notes).toEqual(['m1 lease.lost']);
    await other.release();
    rig.proxy.allow();
    await eventually(() => heard).toEqual([['m1', 'm2'], ['m1']]);
    await eventually(() => removed).toEqual(['machine.removed']);
    const third = await RemoteMachine.lease(rig.url);
    later(() => third.machine.close());
    await eventually(() => heard.at(-1)).toEqual(['m1', 'm3']);
  });

  it('are told each finding once, also those of an outage', async () => {
    const rig = await serve();
    const leased = await lease(rig, { sanitize: 'all' });
    const guest = await guestOf(rig, leased);
    const found: string[] = [];
    const take = ({ event, detail }: RemoteEvent) => {
      if (event === 'finding') found.push((detail.finding as { id: string }).id);
    };
    guest.misuse(0x55000n);
    const { machine } = leased;
    await expect.poll(async () => (await machine.findings()).findings, { timeout: 20_000 }).not.toEqual([]);
    const before = (await machine.findings()).findings.map(({ id }) => id);
    await machine.subscribe({ kinds: ['*'] }, take);
    await machine.machines();
    rig.proxy.refuse();
    rig.proxy.cut();
    await eventually(() => rig.notes).toEqual(['m1 lease.lost']);
    const onlooker = await connect(rig.url, { machine: 'm1' });
    const ids = async () => (await onlooker.findings()).findings.map(({ id }) => id).slice(before.length);
    guest.misuse(0x66000n);
    await expect.poll(ids, { timeout: 20_000 }).not.toEqual([]);
    rig.proxy.allow();
    await eventually(() => found).toEqual(await ids());
    rig.proxy.cut();
    await machine.machines();
    guest.misuse(0x77000n);
    await expect
      .poll(async () => found.length === (await ids()).length && found.length > 1, { timeout: 20_000 })
      .toBe(true);
    expect(found).toEqual(await ids());
  });

  it('hear the end of a machine that came during an outage', async () => {
    const rig = await serve();
    const leased = await lease(rig, { sanitize: 'never-mapped=stop' });
    const guest = await guestOf(rig, leased);
    const heard: RemoteEvent[] = [];
    await leased.machine.subscribe({ kinds: ['machine.ended', 'finding'] }, event => heard.push(event));
    rig.proxy.refuse();
    rig.proxy.cut();
    await eventually(() => rig.notes).toEqual(['m1 lease.lost']);
    const onlooker = await connect(rig.url, { machine: 'm1' });
    const stopped: string[] = [];
    await onlooker.subscribe({ kinds: ['machine.ended'] }, ({ event }) => stopped.push(event));
    guest.misuse(0x55000n);
    await eventually(() => stopped).toEqual(['machine.ended']);
    rig.proxy.allow();
    expect(await leased.ended).toEqual({ reason: 'a finding stopped it', stoppedByFinding: true });
    await eventually(() =>
      heard
        .map(({ event }) => event)
        .filter(event => event !== 'subscription.dropped')
        .sort(),
    ).toEqual(['finding', 'machine.ended']);
    expect(await leased.release()).toMatchObject({ findings: [{ detector: 'never-mapped' }] });
  });

  it('whose listener takes its time are not taken for a lost connection', async () => {
    const rig = await serve({}, quick);
    const told: string[] = [];
    const leased = await lease(rig, { limits: quick, onConnection: state => told.push(state) });
    let taken: () => void = () => {};
    const heard: string[] = [];
    await leased.machine.subscribe({ kinds: ['machine.*'] }, ({ event }) => {
      heard.push(event);
      // Nothing more is read meanwhile, for many intervals between pings.
      return new Promise<void>(resolve => {
        taken = resolve;
        setTimeout(resolve, 10 * quick.keepAliveMilliseconds);
      });
    });
    const onlooker = await connect(rig.url, { machine: 'm1' });
    later(() => taken());
    await onlooker.pause();
    await eventually(() => heard).toEqual(['machine.paused']);
    await leased.machine.resume();
    expect(heard).toEqual(['machine.paused', 'machine.resumed']);
    expect(told).toEqual([]);
  });

  it('to records go on with the lost ones counted, and name their sources again', async () => {
    const rig = await serve();
    const leased = await lease(rig);
    const guest = await guestOf(rig, leased);
    const batches: { readonly words: number; readonly dropped: number }[] = [];
    const recording = await leased.machine.record(EventClass.dma | EventClass.fault, (words, dropped) => {
      batches.push({ words: words.length, dropped });
    });
    guest.misuse(0x55000n);
    await eventually(() => batches.reduce((sum, { words }) => sum + words, 0)).toBeGreaterThan(0);
    rig.proxy.refuse();
    rig.proxy.cut();
    await eventually(() => rig.notes).toEqual(['m1 lease.lost']);
    const onlooker = await connect(rig.url, { machine: 'm1' });
    const seen: number[] = [];
    await onlooker.record(EventClass.dma, words => seen.push(words.length));
    const first = seen.length;
    guest.misuse(0x66000n);
    await eventually(() => seen.length).toBeGreaterThan(first);
    const before = batches.length;
    rig.proxy.allow();
    await eventually(() => batches.length).toBeGreaterThan(before);
    expect(batches[before - 1]!.dropped).toBe(0);
    expect(batches[before]).toMatchObject({ words: 0, dropped: expect.any(Number) });
    expect(batches[before]!.dropped).toBeGreaterThan(0);
    const after = batches.length;
    guest.misuse(0x77000n);
    await eventually(() => batches.slice(after).reduce((sum, { words }) => sum + words, 0)).toBeGreaterThan(0);
    expect(batches.at(-1)!.dropped).toBe(batches[before]!.dropped);
    await recording.stop();
  });
});
