import { describe, expect, it } from 'vitest';
import { RECORDING_NAME, RecordingPort } from '../../src/inspector/recording-port.ts';
import { EventClass, Kind } from '../../src/trace/event-kinds.ts';
import { event, MACHINE, named, note, open, write } from '../trace/recording/support.ts';
import { connect, rawClient, serve } from './support.ts';

const ALL = Object.values(EventClass).reduce((mask, bit) => mask | bit, 0);
/** Domain, IOVA, frame, pages, permissions. */
const MAPPING = [3, 0, 0x10000, 0x55, 2, 3] as const;
const records = [named(1, 'edu0'), named(2, 'iommu'), event('dma.read', 1, 1000, 0x100, 0, 0x5000, 64, -1)];

async function port(batches: readonly Int32Array[] = records, options = {}) {
  const { path } = await write(batches, options);
  return new RecordingPort(open(path));
}

/** Kinds of the records, in order. */
function kinds(words: Int32Array): number[] {
  const all: number[] = [];
  for (let slot = 0; slot < words.length / 8; slot += (words[slot * 8]! >>> 8) & 0xff)
    all.push(words[slot * 8]! & 0xff);
  return all;
}

/** Until a batch comes that `enough` takes. */
function recordAll(one: RecordingPort, classes: number, enough: (batch: number) => boolean) {
  return new Promise<Int32Array[]>(resolve => {
    const batches: Int32Array[] = [];
    const tap = one.record(classes, words => {
      batches.push(words.slice());
      if (!enough(batches.length)) return;
      tap.stop();
      resolve(batches);
    });
  });
}

describe('a recording as a machine', () => {
  it('replays its records, with the names of their sources', async () => {
    const [words] = await recordAll(await port(), ALL, () => true);
    expect(kinds(words!)).toEqual([Kind.source, Kind.source, Kind['dma.read']]);
  });

  it('waits for whoever takes them', async () => {
    const one = await port([...records, ...Array.from({ length: 200 }, (_, i) => event('dma.read', 1, i))], {
      blockBytes: 4096,
    });
    let taken = 0;
    let release: () => void = () => {};
    one.record(ALL, () => {
      taken++;
      return new Promise<void>(resolve => {
        release = resolve;
      });
    });
    await expect.poll(() => taken).toBe(1);
    for (let i = 0; i < 10; i++) await new Promise(resolve => setImmediate(resolve));
    expect(taken).toBe(1);
    release();
    await expect.poll(() => taken).toBe(2);
    one.close();
    release();
    for (let i = 0; i < 10; i++) await new Promise(resolve => setImmediate(resolve));
    expect(taken).toBe(2);
  });

  it('knows its machine and kinds', async () => {
    const one = await port();
    expect(one.description).toEqual(MACHINE);
    expect(one.kinds.find(({ name }) => name === 'dma.read')?.code).toBe(Kind['dma.read']);
  });

  it('tells what is mapped and attached at its end, by name', async () => {
    const one = await port([
      ...records,
      event('attach', 2, 10, 0x100, 3, 0, -1),
      event('mapping.added', 2, 20, ...MAPPING),
    ]);
    const { mappings, attachments } = await one.mappings();
    expect(mappings).toMatchObject([{ domain: 3, iova: 0x10000n, pages: 2, frame: 0x55, permissions: 3 }]);
    expect(attachments).toMatchObject([{ requesterId: 0x100, domain: 3, device: 'edu0' }]);
  });

  it('finds what its notes and events show', async () => {
    const one = await port([
      ...records,
      note(2, 50, 'vtd.queueError', 'iommu', { error: 3, why: 'no such type', head: 0 }),
    ]);
    const { findings, lost } = await one.findings();
    expect(lost).toBe(0);
    expect(findings.length).toBeGreaterThan(0);
    expect(await one.findings()).toEqual({ state: 'on', findings, lost });
  });

  it.each(['statistics', 'snapshot', 'inspect', 'queue', 'pause', 'resume', 'injections'] as const)(
    'refuses %s, and says why',
    async name => {
      const one = await port();
      await expect(one[name]()).rejects.toThrow(/a recording has no /);
    },
  );

  it.each(['registers', 'walk', 'tlb', 'step', 'inject', 'operate', 'probe'] as const)('refuses %s', async name => {
    const one = await port();
    const ask = one[name] as () => Promise<unknown>;
    await expect(ask()).rejects.toThrow(/a recording has no /);
  });
});

describe('a served recording', () => {
  async function served(batches: readonly Int32Array[] = records, options = {}, limits = {}) {
    const { path } = await write(batches, options);
    const one = new RecordingPort(open(path));
    return await serve({ machines: new Map([[RECORDING_NAME, one]]), limits });
  }

  it('has its name, its kinds and its records', async () => {
    const { url } = await served();
    const machine = await connect(url);
    expect(await machine.machines()).toEqual(['recording']);
    const words: Int32Array[] = [];
    const { machine: description, kinds: table } = await machine.record(ALL, batch => words.push(batch));
    expect(description).toEqual(MACHINE);
    expect(table.length).toBeGreaterThan(10);
    await expect.poll(() => words.flatMap(kinds)).toEqual([Kind.source, Kind.source, Kind['dma.read']]);
  });

  it('tells a client that it has no hardware', async () => {
    const { url } = await served();
    const client = await rawClient(url);
    client.send({ id: 1, operation: 'registers', args: { function: 'iommu' } });
    expect(await client.receive()).toMatchObject({
      error: { code: 'failed', message: expect.stringMatching(/^a recording has no registers/) },
    });
  });

  it('loses nothing for a client that reads slowly', async () => {
    const count = 40_000;
    const all = Array.from({ length: count }, (_, i) => event('dma.read', 1, i, 0x100, 0, i, 64, -1));
    const { url, server } = await served([...records, ...all], { blockBytes: 65_536 }, { eventBytesWaiting: 100_000 });
    const client = await rawClient(url);
    client.send({ id: 1, operation: 'record', args: { classes: ALL } });
    await client.receive();
    client.socket.pause();
    // Whatever fits is on its way; what does not waits.
    for (let i = 0; i < 100; i++) await new Promise(resolve => setImmediate(resolve));
    client.socket.resume();
    let got = 0;
    while (got < count + records.length) {
      const { detail } = (await client.receive()) as { detail: { words: Uint8Array } };
      got += kinds(new Int32Array(detail.words.slice().buffer)).length;
    }
    expect(got).toBe(count + records.length);
    expect(server.counters.droppedEvents).toBe(0);
  });

  it('stops where the client unsubscribes or goes', async () => {
    const all = Array.from({ length: 20_000 }, (_, i) => event('dma.read', 1, i));
    const { url, server } = await served([...records, ...all], { blockBytes: 4096 }, { eventBytesWaiting: 10_000 });
    const client = await rawClient(url);
    client.send({ id: 1, operation: 'record', args: { classes: ALL } });
    await client.receive();
    client.socket.terminate();
    await expect.poll(() => server.clients).toBe(0);
    const { events } = server.counters;
    for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve));
    expect(server.counters.events).toBe(events);
  });
});
