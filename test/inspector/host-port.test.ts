import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { HostPort } from '../../src/inspector/host-port.ts';
import type { DomainHandle } from '../../src/iommu/dma-iommu/types.ts';
import type { MachineHost } from '../../src/machine/host.ts';

class FakeHost extends EventEmitter {
  readonly commands: object[] = [];

  async ask(command: object): Promise<unknown> {
    this.commands.push(command);
    return { status: 0 };
  }

  async statistics(): Promise<object> {
    return { functions: {} };
  }
}

function start() {
  const host = new FakeHost();
  return { host, port: new HostPort(host as unknown as MachineHost) };
}

describe('HostPort', () => {
  it('sends each question as its command', async () => {
    const { host, port } = start();
    const domain = 1 as DomainHandle;
    const probe = { requesterId: 1, logicalAddress: 2n, access: 1 };
    expect(await port.operate('flushDomain', { domain })).toEqual({ status: 0 });
    await port.probe(probe);
    await port.getInterface({ version: 1 });
    await port.snapshot();
    expect(host.commands).toEqual([
      { name: 'operate', operation: 'flushDomain', args: { domain } },
      { name: 'probe', args: probe },
      { name: 'interface', args: { version: 1 } },
      { name: 'snapshot' },
    ]);
    expect(await port.statistics()).toEqual({ functions: {} });
  });

  it('hears trace events and callbacks alike, until it is told not to', () => {
    const { host, port } = start();
    const heard: string[] = [];
    const listener = ({ kind }: { kind: string }) => heard.push(kind);
    port.events.on('event', listener);
    host.emit('event', { kind: 'fault.recorded' });
    host.emit('callback', { kind: 'callback.fault' });
    port.events.off('event', listener);
    host.emit('event', { kind: 'late' });
    host.emit('callback', { kind: 'late' });
    expect(heard).toEqual(['fault.recorded', 'callback.fault']);
  });
});
