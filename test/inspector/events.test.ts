import { describe, expect, it } from 'vitest';
import { connect, type RawClient, rawClient, serve } from './support.ts';

async function subscribed(kinds: readonly string[], limits = {}) {
  const served = await serve({ limits });
  const client = await rawClient(served.url);
  client.send({ id: 0, operation: 'subscribe', args: { kinds, context: 'mine' } });
  expect(await client.receive()).toMatchObject({ id: 0, status: 0, subscription: 1 });
  return { ...served, client };
}

/** Reads until that event comes; gives all that came. */
async function readUntil(client: RawClient, kind: string): Promise<Record<string, unknown>[]> {
  const events = [];
  for (;;) {
    const event = await client.receive();
    events.push(event);
    if (event.event === kind) return events;
  }
}

describe('events', () => {
  it('come to those who subscribed to their kind', async () => {
    const { fake, client } = await subscribed(['fault.*']);
    fake.emit('client.opened');
    fake.emit('fault.recorded', { address: 0x1000n, reason: 5 });
    expect(await client.receive()).toEqual({
      event: 'fault.recorded',
      subscription: 1,
      context: 'mine',
      machine: 'machine',
      source: 'fake',
      detail: { address: 0x1000n, reason: 5 },
      dropped: 0,
    });
  });

  it('of callbacks come with all that they tell', async () => {
    const { fake, client } = await subscribed(['callback.*']);
    const fault = { type: 2, isStage1: false, requesterId: 0x100, access: 2, x64: { faultAddress: 5n, flags: {} } };
    fake.emit('callback.fault', { context: 7n, fault });
    expect(await client.receive()).toMatchObject({ event: 'callback.fault', detail: { context: 7n, fault } });
  });

  it('come no more after unsubscribing, which tells how many there were', async () => {
    const { fake, client } = await subscribed(['*']);
    fake.emit('one');
    expect(await client.receive()).toMatchObject({ event: 'one' });
    client.send({ id: 1, operation: 'unsubscribe', args: { subscription: 1 } });
    expect(await client.receive()).toMatchObject({ id: 1, sent: 1, dropped: 0 });
    fake.emit('two');
    client.send({ id: 2, operation: 'unsubscribe', args: { subscription: 1 } });
    expect(await client.receive()).toMatchObject({ id: 2, error: { code: 'bad-arguments' } });
  });

  it('come once for each subscription', async () => {
    const { fake, client } = await subscribed(['a']);
    client.send({ id: 1, operation: 'subscribe', args: { kinds: ['a', '*'] } });
    await client.receive();
    fake.emit('a');
    expect([await client.receive(), await client.receive()]).toMatchObject([{ subscription: 1 }, { subscription: 2 }]);
  });

  it('have a limited number of subscriptions', async () => {
    const { client } = await subscribed(['*'], { subscriptions: 1 });
    client.send({ id: 1, operation: 'subscribe', args: { kinds: ['*'] } });
    expect(await client.receive()).toMatchObject({ id: 1, error: { code: 'limit' } });
  });

  it('that cannot be sent are lost, and hurt neither client nor machine', async () => {
    const errors: unknown[] = [];
    const served = await serve({ onInternalError: error => errors.push(error) });
    const client = await rawClient(served.url);
    client.send({ id: 0, operation: 'subscribe', args: { kinds: ['*'] } });
    await client.receive();
    served.fake.emit('bad', { handler: () => {} });
    served.fake.emit('good');
    expect(await client.receive()).toMatchObject({ event: 'good', dropped: 1 });
    expect(errors).toHaveLength(1);
  });

  it('are dropped and counted for a client that does not read, which then is told', async () => {
    const { fake, client, server } = await subscribed(['big', 'last'], { eventBytesWaiting: 100_000 });
    client.socket.pause();
    const text = 'x'.repeat(50_000);
    let emitted = 0;
    while (server.counters.droppedEvents < 10) {
      for (let index = 0; index < 100; index++) fake.emit('big', { text });
      emitted += 100;
      // The kernel's buffers fill up only while the loop runs.
      await new Promise(resolve => setImmediate(resolve));
    }
    client.socket.resume();
    const events = await readUntil(client, 'subscription.dropped');
    const { dropped } = events.at(-1) as { dropped: number };
    expect(dropped).toBeGreaterThan(0);
    expect(events.filter(one => one.event === 'big').length + dropped).toBe(emitted);
    fake.emit('last');
    expect(await client.receive()).toMatchObject({ event: 'last', dropped });
  });

  it('of a slow client cost others nothing', async () => {
    const { fake, url, client, server } = await subscribed(['big'], { eventBytesWaiting: 100_000 });
    const reader = await connect(url);
    let heard = 0;
    await reader.subscribe({ kinds: ['last'] }, () => heard++);
    client.socket.pause();
    const text = 'x'.repeat(50_000);
    while (server.counters.droppedEvents === 0) {
      fake.emit('big', { text });
      await new Promise(resolve => setImmediate(resolve));
    }
    fake.emit('last');
    await expect.poll(() => heard).toBe(1);
    expect(await reader.machines()).toEqual(['machine']);
  });
});

describe('answers', () => {
  it('to a client that does not read stop its requests, and only its', async () => {
    const { fake, url } = await serve({ limits: { answerBytesWaiting: 100_000 } });
    fake.answers.snapshot = { text: 'x'.repeat(100_000) };
    const client = await rawClient(url);
    client.socket.pause();
    const count = 500;
    for (let id = 0; id < count; id++) client.send({ id, operation: 'snapshot' });
    const other = await connect(url);
    // As many requests as it takes for the other's to stand still.
    let before = -1;
    while (fake.asked.length !== before) {
      before = fake.asked.length;
      for (let index = 0; index < 50; index++) await other.machines();
    }
    expect(before).toBeLessThan(count);
    client.socket.resume();
    for (let id = 0; id < count; id++) expect(await client.receive()).toMatchObject({ id, status: 0 });
  });
});
