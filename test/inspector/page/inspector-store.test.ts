import { describe, expect, it, vi } from 'vitest';
import { parseRoute } from '../../../src/inspector/page/route.ts';
import { needsOf } from '../../../src/inspector/page/store/needs.ts';
import { plainState } from '../../../src/inspector/page/store/plain-state.ts';
import { traceRow } from '../../../src/inspector/page/store/trace-row.ts';
import { EventClass } from '../../../src/trace/event-kinds.ts';
import { connect, serve, storeOf } from './support.ts';

const until = (condition: () => void) => vi.waitFor(condition, { timeout: 20_000, interval: 10 });
const { dma, mapping, attach, fault } = EventClass;

describe('a connection', () => {
  it('answers requests by their ids', async () => {
    const connection = await connect(await serve());
    const [machines, findings] = await Promise.all([connection.request('machines'), connection.request('findings')]);
    expect(machines.machines).toEqual(['machine']);
    expect(findings.lost).toBe(0);
  });

  it('rejects what the server refuses, with its words', async () => {
    const connection = await connect(await serve());
    await expect(connection.request('step', { what: 'dma' })).rejects.toThrow('the machine is not paused');
  });

  it('hears the events that come before the answer to the subscription', async () => {
    const server = await serve();
    const connection = await connect(server);
    const batches: number[] = [];
    await connection.request('record', { classes: dma }, undefined, ({ detail }) => {
      batches.push((detail.words as Uint8Array).length);
    });
    await until(() => expect(batches.length).toBeGreaterThan(0));
  });

  it('gives the token as a subprotocol', async () => {
    const server = await serve({ token: 'secret' });
    await expect(connect(server)).rejects.toThrow('token');
    await expect((await connect(server, 'secret')).request('machines')).resolves.toMatchObject({
      machines: ['machine'],
    });
  });

  it('rejects everything that is under way when it ends, and what comes later', async () => {
    const server = await serve();
    const connection = await connect(server);
    const request = connection.request('machines');
    server.dropClients();
    await expect(request).rejects.toThrow();
    await expect(connection.request('machines')).rejects.toThrow();
  });
});

describe('the store', () => {
  it('reads functions, findings, mappings and statistics for the overview', async () => {
    const server = await serve();
    const store = storeOf(server);
    await until(() => expect(store.mappings.value.mappings.length).toBe(server.machine.mappings.length));
    await until(() => expect(Object.keys(store.devices.value)).toEqual(['iommu', 'edu0', 'edu1']));
    await until(() => expect(store.findings.value.length).toBe(4));
    await until(() => expect(store.functionOf(0x100)).toBe('edu0'));
    expect(plainState(store)).toMatchObject({ link: { state: 'open' }, machine: 'machine', state: 'running' });
    expect(server.recordings).toBe(0);
  });

  it('records what the visible view needs, and nothing else', async () => {
    const server = await serve();
    const store = storeOf(server, '#/space');
    await until(() => expect(server.classes).toBe(dma | mapping | attach | fault));
    store.show(parseRoute('#/registers'));
    await until(() => expect(server.recordings).toBe(0));
    store.show(parseRoute('#/trace?class=dma'));
    await until(() => expect(server.classes).toBe(dma));
    store.show(parseRoute('#/trace?class=fault'));
    await until(() => expect(server.classes).toBe(fault));
    await until(() => expect(server.recordings).toBe(1));
  });

  it('keeps the records that come, and marks where it did not listen', async () => {
    const server = await serve();
    const store = storeOf(server, '#/trace?class=dma');
    await until(() => expect(server.classes).toBe(dma));
    for (let n = 0; n < 100; n++) server.machine.operate();
    server.flush();
    await until(() => expect(store.records.count).toBe(103));
    expect(store.touches.transfers).toBe(100);
    store.show(parseRoute('#/overview'));
    await until(() => expect(store.records.count).toBe(104));
    expect(plainState(store).record(103)).toMatchObject({ kind: 'dropped' });
  });

  it('marks where it begins to listen to more', async () => {
    const server = await serve();
    const store = storeOf(server, '#/trace?class=dma');
    await until(() => expect(store.records.count).toBe(3));
    store.show(parseRoute('#/trace?class=dma,fault'));
    await until(() => expect(server.classes).toBe(dma | fault));
    await until(() => expect(store.records.count).toBe(7));
    expect(traceRow(store.records, 3)).toMatchObject({ isGap: true, text: expect.stringMatching(/only.*: dma$/) });
    store.show(parseRoute('#/trace?class=dma'));
    await until(() => expect(server.classes).toBe(dma));
    await until(() => expect(store.records.count).toBe(10));
    expect(traceRow(store.records, 7)?.isGap).toBe(false);
  });

  it('asks for nothing while the page is hidden', async () => {
    const server = await serve();
    const store = storeOf(server, '#/trace?class=dma');
    await until(() => expect(server.recordings).toBe(1));
    store.setVisible(false);
    await until(() => expect(server.recordings).toBe(0));
    await until(() => expect(store.findings.value.length).toBe(4));
    const asked = server.asked.length;
    // Statistics would come twice a second; a request that must be answered shows that time has passed on both sides.
    store.show(parseRoute('#/rates'));
    await store.ask('machines');
    expect(server.asked.slice(asked).map(one => one.operation)).toEqual(['machines']);
    store.setVisible(true);
    await until(() => expect(server.asked.some(one => one.operation === 'statistics')).toBe(true));
  });

  it('pauses, steps and resumes the machine', async () => {
    const server = await serve();
    const store = storeOf(server);
    await until(() => expect(store.link.value.state).toBe('open'));
    await store.control('dma');
    expect(store.controlError.value).toBe('the machine is not paused');
    await store.control('pause');
    expect([store.state.value, server.machine.isPaused, store.controlError.value]).toEqual(['paused', true, '']);
    const before = server.machine.counters.devices[0]!.reads + server.machine.counters.devices[0]!.writes;
    await store.control('dma');
    const { devices } = server.machine.counters;
    expect(devices[0]!.reads + devices[0]!.writes + devices[1]!.reads + devices[1]!.writes).toBe(before + 1);
    expect(store.state.value).toBe('paused');
    await store.control('resume');
    expect([store.state.value, server.machine.isPaused]).toEqual(['running', false]);
  });

  it('comes back when the server does', async () => {
    const server = await serve();
    const store = storeOf(server, '#/trace?class=dma');
    await until(() => expect(server.recordings).toBe(1));
    server.dropClients();
    await until(() => expect(store.link.value.state).toBe('closed'));
    await until(() => expect(store.link.value.state).toBe('open'));
    await until(() => expect(server.classes).toBe(dma));
  });

  it('takes all records of a file once, and asks no hardware', async () => {
    const server = await serve({ recording: 500 });
    const store = storeOf(server, '#/trace?class=dma');
    await until(() => expect(store.touches.transfers).toBe(500));
    const { count } = store.records;
    for (const hash of ['#/registers', '#/overview', '#/trace?class=all']) store.show(parseRoute(hash));
    await until(() => expect(store.mappings.value.mappings.length).toBeGreaterThan(0));
    expect(store.records.count).toBe(count);
    expect(server.asked.filter(one => one.operation === 'record')).toHaveLength(1);
    expect(store.isRecording).toBe(true);
    expect(store.functionOf(0x200)).toBe('edu1');
    expect(server.asked.some(one => ['inspect', 'statistics', 'registers'].includes(one.operation))).toBe(false);
  });
});

describe('what views need', () => {
  it.each(['#/overview', '#/rates', '#/findings', '#/tables', '#/registers'])('is no record for %s', hash => {
    expect(needsOf(parseRoute(hash), false).classes).toBe(0);
  });

  it('is what the filter of the trace says', () => {
    expect(needsOf(parseRoute('#/trace?class=dma,fault'), false).classes).toBe(dma | fault);
    expect(needsOf(parseRoute('#/trace?class=none'), false).classes).toBe(0);
  });

  it('is more where latency is measured', () => {
    expect(needsOf(parseRoute('#/rates'), true).classes & dma).toBe(dma);
  });
});
