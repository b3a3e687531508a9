import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import { MachineHost } from '../../dist/src/machine/host.js';
import { attachMachine, startMachine, watchMachine } from '../../dist/src/testing/machine.js';
import { writeRemoteFile } from '../../src/inspector/remote-file.ts';
import { describeMachine } from '../../src/machine/description.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { connect, IOVA, later, NEVER_MAPPED, serve, start, startRemote, WAYS } from './support.ts';

describe.each(WAYS)('a machine %s', (_way, begin) => {
  it('tells its description and its sockets', async () => {
    const machine = await begin();
    expect(machine.description.endpoints.map(({ id }) => id)).toEqual(['edu0', 'edu1']);
    expect(Object.keys(machine.sockets)).toEqual(['iommu', 'edu0', 'edu1']);
    for (const socket of Object.values(machine.sockets)) expect(existsSync(socket)).toBe(true);
  });

  it('lets events be waited for, also those that came before', async () => {
    const machine = await begin();
    machine.connectGuest().close();
    await machine.waitForEvent('client.connected');
    const last = await machine.waitForEvent(({ kind, source }) => kind === 'client.closed' && source === 'edu1');
    expect(last.source).toBe('edu1');
    expect(machine.events.map(({ kind }) => kind)).toContain('client.connected');
  });

  it('says which events there were when one does not come', async () => {
    const machine = await begin();
    machine.connectGuest().close();
    await machine.settle();
    await expect(machine.waitForEvent('no.such', { timeoutMs: 1 })).rejects.toThrow(
      /there was no event 'no\.such' within 1 ms; the last ones: .*edu1 /,
    );
  });

  it('has what came before `forget` come again before it is found', async () => {
    const { machine, edu } = await connect(await begin());
    await edu.write(IOVA, 8);
    await machine.settle();
    machine.forget();
    expect([...machine.records.all('dma.write')]).toEqual([]);
    await edu.write(IOVA, 16);
    const { fields } = await machine.waitForRecord(({ kind }) => kind === 'dma.write');
    expect(fields).toMatchObject({ iova: IOVA, length: 16 });
  });

  it('keeps records of what happened, by name', async () => {
    const { machine, edu } = await connect(await begin());
    await edu.read(IOVA + 4n, 8, 4n);
    await machine.settle();
    const kinds = [...machine.records.all()].map(({ kind }) => kind);
    for (const kind of ['attach', 'mapping.added', 'translation', 'dma.read', 'interrupt'])
      expect(kinds).toContain(kind);
    const [read] = machine.records.all('dma.read');
    expect(read).toMatchObject({ source: 'edu0', fields: { requesterId: 0x100, iova: IOVA + 4n, length: 8 } });
  });

  it('keeps the classes of records that are asked for', async () => {
    const { machine, edu } = await connect(await begin({ record: 'dma' }));
    await edu.write(IOVA, 8);
    await machine.settle();
    expect(new Set([...machine.records.all()].map(({ kind }) => kind))).toEqual(new Set(['dma.write']));
  });

  it('has all records after `settle`, and no more time passes for it than is needed', async () => {
    const { machine, edu } = await connect(await begin());
    for (let round = 1; round <= 20; round++) {
      await edu.write(IOVA, 8);
      await machine.settle();
      expect([...machine.records.all('dma.write')]).toHaveLength(round);
    }
  });

  it('knows what is mapped and attached', async () => {
    const { machine, vtd, guest, domain, page, edu } = await connect(await begin());
    const more = guest.memory.allocate(2);
    vtd.map(domain, 0x1000n, more, 2, 'read');
    await edu.write(IOVA, 8);
    await edu.read(0x1ff0n, 32);
    expect((await machine.mappings()).map(({ iova }) => iova)).toEqual([0x1000n, 0x2000n, IOVA]);
    expect(await machine.formatMappings()).toBe(
      [
        `domain ${domain.id}`,
        `  0x1000-0x2fff read -> 0x${more.toString(16)}`,
        `  0x4560000-0x4560fff read-write -> 0x${page.toString(16)}`,
      ].join('\n'),
    );
    expect(await machine.formatMappings({ addresses: false })).toMatchInlineSnapshot(`
      "domain 1
        0x1000-0x2fff read
        0x4560000-0x4560fff read-write"
    `);
    expect(await machine.attachments()).toMatchObject([{ device: 'edu0', requesterId: 0x100, domain: domain.id }]);
  });

  it('waits for findings', async () => {
    const { machine, edu } = await connect(await begin());
    const waiting = machine.waitForFinding('never-mapped', { device: '01:00.0' });
    await edu.write(NEVER_MAPPED, 8);
    expect(await waiting).toMatchObject({ detector: 'never-mapped', device: 'edu0', iova: NEVER_MAPPED });
  });

  it('says what was found instead', async () => {
    const { machine, edu } = await connect(await begin());
    await edu.write(NEVER_MAPPED, 8);
    await machine.settle();
    await expect(machine.waitForFinding('stale-iotlb', { iova: IOVA }, { timeoutMs: 1 })).rejects.toThrow(
      /no finding of stale-iotlb at 0x4560000 within 1 ms; there are:\n {2}F1 warning never-mapped: /,
    );
  });

  it('refuses to wait for a device that nobody has', async () => {
    const machine = await begin();
    await expect(machine.waitForFinding('stale-iotlb', { device: 'nic' })).rejects.toThrow("there is no device 'nic'");
  });

  it('decides what looked like a mistake before it is settled', async () => {
    const { machine, vtd, domain, edu } = await connect(await begin());
    await edu.write(IOVA, 8);
    vtd.clear(domain, IOVA);
    await edu.write(IOVA, 8);
    await machine.settle();
    expect((await machine.findings()).map(({ detector }) => detector)).toEqual(['stale-iotlb']);
  });

  it('tells statistics', async () => {
    const { machine, edu } = await connect(await begin());
    await edu.write(IOVA, 8);
    expect(await machine.statistics()).toMatchObject({ functions: { edu0: { connected: true, dma: { writes: 1 } } } });
  });
});

describe('startMachine', () => {
  it('makes what the options say', async () => {
    const machine = await start({ iommu: 'dma-iommu', devices: ['edu@03:00.0,id=nic'] });
    expect(machine.description).toMatchObject({ iommu: { kind: 'dma-iommu' }, endpoints: [{ id: 'nic' }] });
  });

  it('takes a description', async () => {
    const machine = await start({ machine: describeMachine('none', ['edu@01:00.0']) });
    expect(Object.keys(machine.sockets)).toEqual(['edu0']);
  });

  it('leaves no files behind', async () => {
    const machine = await startMachine();
    const directory = join(machine.sockets.edu0!, '..');
    await machine.stop();
    expect(existsSync(directory)).toBe(false);
    expect(machine.ended).toBe(true);
  });

  it('leaves a directory that it was given', async () => {
    const { path, remove } = temporaryDirectory();
    later(remove);
    const machine = await startMachine({ directory: path });
    expect(machine.sockets.edu0).toBe(join(path, 'edu0.sock'));
    await machine.stop();
    expect(existsSync(path)).toBe(true);
    expect(existsSync(machine.sockets.edu0!)).toBe(false);
  });

  it('says why there cannot be such a machine', async () => {
    await expect(startMachine({ devices: ['disk@01:00.0'] })).rejects.toThrow(/disk/);
    await expect(startMachine({ directory: '/nonexistent' })).rejects.toThrow(/nonexistent/);
    await expect(startMachine({ sanitize: 'everything' })).rejects.toThrow(/everything/);
    await expect(startMachine({ record: 'everything' })).rejects.toThrow(/everything/);
  });

  it('looks for what the policy says', async () => {
    const { machine, edu } = await connect(await start({ sanitize: '-never-mapped' }));
    await edu.write(NEVER_MAPPED, 8);
    await machine.waitForEvent('fault.recorded');
    await machine.settle();
    expect(await machine.findings()).toEqual([]);
  });

  it('looks for nothing where it is told so', async () => {
    const { machine, edu } = await connect(await start({ sanitize: 'off' }));
    await edu.write(NEVER_MAPPED, 8);
    await machine.settle();
    expect(await machine.findings()).toEqual([]);
  });

  it('has findings also after the end, and nothing else', async () => {
    const { machine, edu } = await connect(await start());
    await edu.write(NEVER_MAPPED, 8);
    await machine.stop();
    expect((await machine.findings()).map(({ detector }) => detector)).toContain('never-mapped');
    await machine.settle();
    await expect(machine.statistics()).rejects.toThrow(/stopped/);
    await expect(machine.waitForEvent('never', { timeoutMs: 60_000 })).rejects.toThrow('before the machine ended');
  });
});

describe('watchMachine', () => {
  it('watches a machine that runs already, and stops it', async () => {
    const { path, remove } = temporaryDirectory();
    later(remove);
    const host = await MachineHost.start(describeMachine('vtd', ['edu@01:00.0']), path);
    const { machine, edu } = await connect(await watchMachine(host));
    await edu.write(IOVA, 8);
    await machine.waitForRecord(({ kind }) => kind === 'dma.write');
    await machine.stop();
    await host.ended;
  });
});

describe('attachMachine', () => {
  it('leaves the machine running', async () => {
    const first = await startRemote();
    await first.stop();
    expect(first.ended).toBe(true);
    expect(existsSync(first.sockets.edu0!)).toBe(true);
    await expect(first.findings()).rejects.toThrow(/connection is closed/);
  });

  it('wants to know which machine', async () => {
    await expect(attachMachine({})).rejects.toThrow(/say which machine/);
  });

  it('says that nothing is served in a directory', async () => {
    const { path, remove } = temporaryDirectory();
    later(remove);
    await expect(attachMachine({ directory: path })).rejects.toThrow(`no machine can be reached in ${path}`);
  });

  it('says that nobody listens', async () => {
    await expect(attachMachine({ url: 'ws://127.0.0.1:1' })).rejects.toThrow(/cannot connect/);
  });

  it('cannot connect a guest without knowing the sockets', async () => {
    const machine = await attachMachine({ url: (await serve()).url });
    expect(machine.sockets).toEqual({});
    expect(() => machine.connectGuest()).toThrow('attach with the directory of viommu serve');
    await machine.stop();
  });

  it('finds the address of `viommu serve --listen` in its directory', async () => {
    const { url, directory } = await serve();
    writeRemoteFile(directory, { url });
    const machine = await attachMachine({ directory });
    expect(Object.keys(machine.sockets)).toHaveLength(3);
    await machine.stop();
  });
});
