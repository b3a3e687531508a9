import { describe, expect, it } from 'vitest';
import { connect, rawClient, serve } from './support.ts';

const words = [1n, 2n ** 64n - 1n];

describe('the services of the inspector', () => {
  it.each([
    ['inspect', undefined, { registers: [], functions: [], state: 'running' }, undefined],
    ['registers', { function: 'edu0' }, { blocks: [] }, 'edu0'],
    ['walk', { requesterId: 256, iova: 2n ** 64n - 1n }, { status: 'mapped' }, [256, 2n ** 64n - 1n, undefined]],
    ['walk', { requesterId: 1, iova: 5, pasid: 7 }, { status: 'mapped' }, [1, 5n, 7]],
    ['tlb', { limit: 10 }, { entries: [], total: 0 }, 10],
    ['queue', undefined, { entries: [] }, undefined],
    ['pause', undefined, { state: 'paused' }, undefined],
    ['step', { what: 'dma' }, { state: 'paused', stepped: true }, 'dma'],
    ['step', { what: 'register' }, { state: 'paused', stepped: false }, 'register'],
    ['resume', undefined, { state: 'running' }, undefined],
  ])('%s reaches the machine with %o', async (operation, args, answer, asked) => {
    const { fake, url } = await serve();
    fake.answers[operation] = answer;
    const client = await rawClient(url);
    client.send({ id: 1, operation, args });
    const expected = operation === 'walk' ? { walk: answer } : answer;
    expect(await client.receive()).toEqual({ id: 1, status: 0, statusName: 'STATUS_SUCCESS', ...expected });
    expect(fake.asked).toEqual([{ name: operation, args: asked }]);
  });

  it.each([
    ['inspect', { all: true }],
    ['registers', undefined],
    ['registers', { function: 5 }],
    ['registers', { function: 'x'.repeat(65) }],
    ['walk', { requesterId: 0x10000, iova: 0 }],
    ['walk', { requesterId: 1 }],
    ['walk', { requesterId: 1, iova: -1 }],
    ['walk', { requesterId: 1, iova: 1.5 }],
    ['walk', { requesterId: 1, iova: 0, pasid: 1 << 20 }],
    ['tlb', { limit: -1 }],
    ['tlb', { limit: 65537 }],
    ['tlb', {}],
    ['queue', { limit: 1 }],
    ['pause', { now: true }],
    ['step', {}],
    ['step', { what: 'instruction' }],
    ['resume', 5],
  ])('%s refuses %o', async (operation, args) => {
    const { fake, url } = await serve();
    const client = await rawClient(url);
    client.send({ id: 1, operation, args });
    expect(await client.receive()).toMatchObject({ id: 1, error: { code: 'bad-arguments' } });
    expect(fake.asked).toEqual([]);
  });

  it('tell why the machine has no answer', async () => {
    const { fake, url } = await serve();
    const refusal = Promise.reject(new Error('only vtd has one'));
    refusal.catch(() => {});
    fake.answers.queue = refusal;
    const client = await rawClient(url);
    client.send({ id: 1, operation: 'queue' });
    expect(await client.receive()).toMatchObject({ error: { code: 'failed', message: 'only vtd has one' } });
  });

  it('give a client typed answers', async () => {
    const { fake, url } = await serve();
    const bytes = Uint8Array.of(1, 2, 3);
    fake.answers.registers = { blocks: [{ function: 'edu0', block: 'edu', bytes }] };
    fake.answers.walk = {
      steps: [{ what: 'level 1', address: 8n, words, fields: [], present: true }],
      status: 'not present',
      agrees: true,
    };
    fake.answers.inspect = { registers: [], functions: [], state: 'paused' };
    fake.answers.tlb = { entries: [], total: 3 };
    fake.answers.queue = { enabled: true, base: 1n, bytes: 4096, head: 0, tail: 0, entries: [] };
    fake.answers.pause = { state: 'paused' };
    fake.answers.step = { state: 'paused', stepped: true };
    fake.answers.resume = { state: 'running' };
    const machine = await connect(url);
    expect([...(await machine.registers('edu0')).blocks[0]!.bytes]).toEqual([1, 2, 3]);
    expect(await machine.walk(1, 2n)).toEqual(fake.answers.walk);
    expect((await machine.inspect()).state).toBe('paused');
    expect((await machine.tlb(1)).total).toBe(3);
    expect((await machine.queue()).enabled).toBe(true);
    expect((await machine.pause()).state).toBe('paused');
    expect((await machine.step('dma')).stepped).toBe(true);
    expect((await machine.resume()).state).toBe('running');
  });
});
