import { describe, expect, it } from 'vitest';
import type { FunctionDefinition } from '../../src/pci/definition.ts';
import { PciFunction } from '../../src/pci/function.ts';
import { InterruptIndex } from '../../src/pci/interrupts.ts';
import { EventClass } from '../../src/trace/event-kinds.ts';
import { FakeClient, full, noRegions, plain, writeConfig } from './fakes.ts';
import { RecordedEvents } from './recorded-events.ts';

const { intx, msi, msix } = InterruptIndex;
const MASTER = 0x4;
const INTERRUPT_DISABLE = 0x400;
const withMsi: FunctionDefinition = { ...plain, msi: { vectors: 4, wide: true, maskable: true } };

function running(definition: FunctionDefinition, client = new FakeClient(), mask: number = EventClass.interrupt) {
  const trace = new RecordedEvents(mask);
  const pci = new PciFunction({ name: 'fn', definition, dma: noRegions, trace });
  pci.connected(client);
  writeConfig(pci, 0x04, 2, MASTER);
  trace.forget();
  return { pci, client, trace };
}

describe('interrupt events of INTx', () => {
  it('tell that it is raised, and lowered', () => {
    const { pci, trace } = running(plain, new FakeClient().arm(intx, 0));
    pci.line.raise();
    pci.line.raise();
    pci.line.lower();
    pci.line.lower();
    expect(trace.recorded).toEqual([
      { kind: 'interrupt', source: 'fn', way: 'intx', action: 'raised', vector: 0 },
      { kind: 'interrupt', source: 'fn', way: 'intx', action: 'lowered', vector: 0 },
    ]);
  });

  it('tell each time the client is signalled', () => {
    const { pci, trace } = running(plain, new FakeClient().arm(intx, 0));
    pci.line.raise();
    pci.unmasked(intx, 0);
    expect(trace.recorded.map(event => event.action)).toEqual(['raised', 'raised']);
  });

  it('disabled in COMMAND is pending until it is enabled, and nothing to be noted', () => {
    const { pci, trace } = running(plain, new FakeClient().arm(intx, 0));
    writeConfig(pci, 0x04, 2, INTERRUPT_DISABLE);
    pci.line.raise();
    writeConfig(pci, 0x04, 2, 0);
    expect(trace.recorded.map(event => event.action)).toEqual(['pending', 'raised']);
    expect(trace.events).toEqual([]);
  });

  it('before a driver is there is pending, and nothing to be noted', () => {
    const { pci, trace } = running(plain);
    pci.line.raise();
    expect(trace.recorded.map(event => event.action)).toEqual(['pending']);
    expect(trace.events).toEqual([]);
  });

  it('without a pin is lost', () => {
    const { pci, trace } = running({ ...plain, interruptPin: 0 });
    pci.line.raise();
    expect(trace.recorded.map(event => event.action)).toEqual(['lost']);
    expect(trace.kinds()).toEqual(['interrupt.lost']);
  });
});

describe('interrupt events of MSI', () => {
  it('tell the vector that is sent', () => {
    const { pci, trace } = running(withMsi, new FakeClient().arm(msi, 0, 1, 2, 3));
    pci.line.raise(2);
    expect(trace.lines()).toEqual(['interrupt way=msi action=raised vector=2']);
  });

  it('masked is pending and then raised, and nothing to be noted', () => {
    const { pci, trace } = running(withMsi, new FakeClient().arm(msi, 0, 1, 2, 3));
    const at = pci.config.capability(0x05);
    writeConfig(pci, at + 0x10, 4, 0b1000);
    pci.line.raise(3);
    writeConfig(pci, at + 0x10, 4, 0);
    expect(trace.lines()).toEqual([
      'interrupt way=msi action=pending vector=3',
      'interrupt way=msi action=raised vector=3',
    ]);
    expect(trace.events).toEqual([]);
  });

  it('pending when MSI goes off is lost', () => {
    const { pci, trace } = running(withMsi);
    const at = pci.config.capability(0x05);
    writeConfig(pci, at + 2, 2, 0x21);
    pci.line.raise(1);
    pci.line.raise(3);
    writeConfig(pci, at + 2, 2, 0);
    expect(trace.lines()).toEqual([
      'interrupt way=msi action=pending vector=1',
      'interrupt way=msi action=pending vector=3',
      'interrupt way=msi action=lost vector=1',
      'interrupt way=msi action=lost vector=3',
    ]);
  });

  it('beyond what the function has is lost, and noted', () => {
    const { pci, trace } = running(withMsi, new FakeClient().arm(msi, 0));
    pci.line.raise(4);
    expect(trace.lines()).toEqual(['interrupt way=msi action=lost vector=4']);
    expect(trace.kinds()).toEqual(['interrupt.vector']);
  });

  it('with fewer vectors allocated shares them, as it must, and that is nothing to be noted', () => {
    const { pci, trace } = running(withMsi, new FakeClient().arm(msi, 0, 1));
    writeConfig(pci, pci.config.capability(0x05) + 2, 2, 0x11);
    pci.line.raise(3);
    expect(trace.lines()).toEqual(['interrupt way=msi action=raised vector=1']);
    expect(trace.events).toEqual([]);
  });

  it('with more vectors allocated than there are is noted, once', () => {
    const { pci, trace } = running(withMsi);
    const at = pci.config.capability(0x05);
    writeConfig(pci, at + 2, 2, 0x31);
    writeConfig(pci, at + 2, 2, 0x30);
    expect(trace.events).toEqual([{ kind: 'interrupt.vector', source: 'fn', detail: { allocated: 8, vectors: 4 } }]);
  });

  it('without bus mastering is pending, and noted', () => {
    const { pci, trace } = running(withMsi, new FakeClient().arm(msi, 0));
    writeConfig(pci, 0x04, 2, 0);
    pci.line.raise(0);
    expect(trace.lines()).toEqual(['interrupt way=msi action=pending vector=0']);
    expect(trace.kinds()).toEqual(['interrupt.notBusMaster']);
  });
});

describe('interrupt events of MSI-X', () => {
  it('tell the vector, also when it is sent later', () => {
    const { pci, client, trace } = running(full, new FakeClient().arm(msix, 0, 69));
    pci.line.raise(69);
    pci.line.raise(33);
    client.arm(msix, 33);
    pci.armed(msix);
    expect(trace.lines()).toEqual([
      'interrupt way=msix action=raised vector=69',
      'interrupt way=msix action=pending vector=33',
      'interrupt way=msix action=raised vector=33',
    ]);
    expect(trace.events).toEqual([]);
  });

  it('pending when MSI-X goes off is lost', () => {
    const { pci, trace } = running(full);
    const control = pci.config.capability(0x11) + 2;
    writeConfig(pci, control, 2, 0x8000);
    for (const vector of [0, 31, 32, 69]) pci.line.raise(vector);
    trace.forget();
    writeConfig(pci, control, 2, 0);
    expect(trace.recorded.map(event => [event.action, event.vector])).toEqual([
      ['lost', 0],
      ['lost', 31],
      ['lost', 32],
      ['lost', 69],
    ]);
  });

  it('beyond the table is lost, and noted', () => {
    const { pci, trace } = running(full, new FakeClient().arm(msix, 0));
    pci.line.raise(70);
    expect(trace.lines()).toEqual(['interrupt way=msix action=lost vector=70']);
    expect(trace.kinds()).toEqual(['interrupt.vector']);
  });
});

describe('interrupt events', () => {
  it('are not emitted while only others are wanted', () => {
    const { pci, trace } = running(plain, new FakeClient().arm(intx, 0), EventClass.note | EventClass.connection);
    pci.line.raise();
    pci.line.lower();
    expect(trace.emitted).toBe(0);
  });
});
