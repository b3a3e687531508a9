/** The page where machines come and go, before a real server with machines that are not. */
import { afterEach, describe, expect, it } from 'vitest';
import type { TakeBatch } from '../../../src/inspector/machine-port.ts';
import { parseRoute } from '../../../src/inspector/page/route.ts';
import { InspectorStore } from '../../../src/inspector/page/store/inspector-store.ts';
import { describeMachine } from '../../../src/machine/description.ts';
import { FakePort, serve } from '../support.ts';
import { openSocket } from './support.ts';

/** A busy machine may take its time to start and end threads. */
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 20_000 });

/** Knows its name, and who records it. */
class NamedPort extends FakePort {
  readonly description = describeMachine('vtd', ['edu@01:00.0']);
  taps = 0;

  constructor(readonly called: string) {
    super();
    const functions = [{ name: called, kind: 'edu', requesterId: 0x100, connected: true, busMaster: true }];
    this.answers.inspect = { registers: [], functions, state: 'running' };
  }

  async findings() {
    return { state: 'on', findings: [], lost: 0 };
  }

  async mappings() {
    return { mappings: [], attachments: [] };
  }

  record(_classes: number, _take: TakeBatch) {
    this.taps++;
    return { stop: () => this.taps-- };
  }
}

const stores: InspectorStore[] = [];
afterEach(() => {
  for (const store of stores.splice(0)) store.stop();
});

async function look(ports: readonly NamedPort[], hash = '#/trace?class=dma') {
  const { server, url } = await serve({ machines: new Map(ports.map(port => [port.called, port.port])) });
  const store = new InspectorStore({ url, open: openSocket });
  stores.push(store);
  store.show(parseRoute(hash));
  store.start();
  await eventually(() => store.link.value.state).toBe('open');
  return { server, store };
}

const shown = (store: InspectorStore) => store.inspection.value?.functions.map(({ name }) => name);

describe('the page of a server with many machines', () => {
  it('waits for the first machine, and shows it', async () => {
    const { server, store } = await look([]);
    expect(store.machine.value).toBeUndefined();
    expect(store.machineAbsence).toMatch(/no machine now/);
    const first = new NamedPort('m1');
    server.add('m1', first.port);
    await eventually(() => shown(store)).toEqual(['m1']);
    await eventually(() => first.taps).toBe(1);
    expect([store.machine.value, store.machineAbsence]).toEqual(['m1', undefined]);
  });

  it('lists those that come, and stays with the one that was chosen', async () => {
    const { server, store } = await look([new NamedPort('m1')]);
    server.add('m2', new NamedPort('m2').port);
    await eventually(() => store.machines.value).toEqual(['m1', 'm2']);
    expect(store.machine.value).toBe('m1');
  });

  it('keeps what it knew of one that ended, asks it nothing more, and lets another be chosen', async () => {
    const [one, two] = [new NamedPort('m1'), new NamedPort('m2')];
    const { server, store } = await look([one, two]);
    await eventually(() => shown(store)).toEqual(['m1']);
    await eventually(() => one.taps).toBe(1);
    server.remove('m1');
    await eventually(() => store.machineAbsence).toBe('m1 has ended. What you see is what was known before.');
    expect(shown(store)).toEqual(['m1']);
    expect(one.taps).toBe(0);
    const asked = one.asked.length;
    await store.chooseMachine('m2');
    await eventually(() => shown(store)).toEqual(['m2']);
    await eventually(() => two.taps).toBe(1);
    expect([one.asked.length, store.machineAbsence]).toEqual([asked, undefined]);
  });

  it('leaves no recording behind where another is chosen', async () => {
    const [one, two] = [new NamedPort('m1'), new NamedPort('m2')];
    const { store } = await look([one, two]);
    await eventually(() => one.taps).toBe(1);
    for (const name of ['m2', 'm1', 'm2']) await store.chooseMachine(name);
    await eventually(() => [one.taps, two.taps]).toEqual([0, 1]);
  });
});
