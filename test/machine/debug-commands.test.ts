/** What a machine's host asks its device thread of findings, records and injections. */
import { afterEach, describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import { MachineHost } from '../../dist/src/machine/host.js';
import { TestGuest } from '../../dist/src/testing/guest.js';
import { describeMachine } from '../../src/machine/description.ts';
import { EventClass, Kind } from '../../src/trace/event-kinds.ts';
import { RecordCursor } from '../../src/trace/record-cursor.ts';
import { parsePolicy } from '../../src/trace/sanitizer/policy.ts';
import { temporaryDirectory } from '../guest/support.ts';

const NEVER_MAPPED = 0x55000n;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(policy = 'on') {
  const { path, remove } = temporaryDirectory();
  cleanups.push(remove);
  const description = describeMachine('vtd', ['edu@01:00.0']);
  const host = await MachineHost.start(description, path, { sanitize: parsePolicy(policy) });
  cleanups.push(() => host.stop());
  const guest = new TestGuest(host.sockets);
  cleanups.push(() => guest.close());
  const vtd = guest.vtd();
  await vtd.attach('01:00.0', vtd.createDomain());
  const edu = guest.function('edu0');
  const isIdle = () => (edu.read32(0, 0x98) & 1) === 0;
  const begin = (iova = NEVER_MAPPED) => {
    edu.write64(0, 0x80, 0x40000n);
    edu.write64(0, 0x88, iova);
    edu.write64(0, 0x90, 8n);
    edu.write64(0, 0x98, 3n);
  };
  const write = async (iova?: bigint) => {
    begin(iova);
    await guest.until(isIdle);
  };
  return { host, guest, vtd, write, begin, isIdle };
}

describe('a host asks its machine', () => {
  it('for findings, and hears of the first occurrence by itself', async () => {
    const { host, write } = await start();
    const heard: string[] = [];
    host.on('finding', ({ id, detector }) => heard.push(`${id} ${detector}`));
    await write();
    await write();
    expect(await host.findings()).toMatchObject({ findings: [{ id: 'F1', count: 2 }], lost: 0 });
    expect(heard).toEqual(['F1 never-mapped']);
  });

  it('for mappings and attachments', async () => {
    const { host, write } = await start();
    // A VT-d unit learns of a context entry when a device makes use of it.
    await write();
    expect(await host.mappings()).toMatchObject({ mappings: [], attachments: [{ device: 'edu0' }] });
  });

  it('for records, and for no more of them', async () => {
    const { host, write } = await start();
    const kinds: number[] = [];
    const cursor = new RecordCursor();
    const tap = host.record(EventClass.fault, words => {
      cursor.load(words.slice());
      while (cursor.next()) kinds.push(cursor.kind);
    });
    await write();
    await expect.poll(() => kinds).toContain(Kind['dma.failed']);
    tap.stop();
    const before = kinds.length;
    await write();
    await host.findings();
    expect(kinds).toHaveLength(before);
  });

  it('for something to go wrong', async () => {
    const { host, write } = await start();
    const id = await host.inject({ kind: 'refuse', device: 'edu0', iova: NEVER_MAPPED, times: 2 });
    await write();
    expect(await host.injections()).toMatchObject([{ id, applied: 1, over: false, held: 0 }]);
    expect((await host.findings()).findings).toEqual([]);
    expect(await host.removeInjection(id)).toBe(true);
    expect(await host.removeInjection(id)).toBe(false);
    expect(await host.releaseInjection(id)).toBe(false);
    await write();
    expect((await host.findings()).findings).toHaveLength(1);
  });

  it('to hold a device, and to let it go', async () => {
    const { host, begin, isIdle, guest } = await start();
    const id = await host.inject({ kind: 'hold', device: 'edu0' });
    begin();
    expect(await host.injections()).toMatchObject([{ id, held: 1 }]);
    expect(isIdle()).toBe(false);
    expect(await host.releaseInjection(id)).toBe(true);
    await guest.until(isIdle);
    expect(await host.injections()).toMatchObject([{ id, held: 0, over: true }]);
  });

  it('and is told what it cannot have', async () => {
    const { host } = await start();
    await expect(host.inject({ kind: 'hold', device: 'nic' })).rejects.toThrow(/no endpoint 'nic'/);
    await expect(host.inject({ kind: 'flip', device: 'edu0' } as never)).rejects.toThrow(/bit/);
    await expect(host.inject(undefined as never)).rejects.toThrow();
    expect(await host.injections()).toEqual([]);
  });

  it('and goes on while its device is held when it stops', async () => {
    const { host, begin } = await start();
    await host.inject({ kind: 'hold', device: 'edu0' });
    begin();
    await host.stop();
    expect((await host.findings()).findings.filter(({ severity }) => severity !== 'note')).toEqual([]);
  });
});

describe('a host whose machine a finding stops', () => {
  it('hears of the finding, ends, and still has it', async () => {
    const { host, begin } = await start('never-mapped=stop');
    const finding = new Promise(resolve => host.once('finding', resolve));
    expect(host.stoppedByFinding).toBe(false);
    begin();
    await host.ended;
    expect(host.stoppedByFinding).toBe(true);
    expect(await finding).toMatchObject({ detector: 'never-mapped', severity: 'stop' });
    expect((await host.findings()).findings).toMatchObject([{ detector: 'never-mapped', severity: 'stop' }]);
    await expect(host.statistics()).rejects.toThrow(/stopped/);
    await host.stop();
  });

  it('is not stopped by a command', async () => {
    const { host } = await start('never-mapped=stop');
    await host.stop();
    expect(host.stoppedByFinding).toBe(false);
  });
});
