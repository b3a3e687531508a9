import { describe, expect, it } from 'vitest';
import { PciFunction } from '../../src/pci/function.ts';
import { EventClass } from '../../src/trace/event-kinds.ts';
import { full, MemoryHandler, noRegions, plain, readConfig, readRegion, writeConfig, writeRegion } from './fakes.ts';
import { RecordedEvents } from './recorded-events.ts';

function watched(mask: number, definition = plain) {
  const trace = new RecordedEvents(mask);
  const pci = new PciFunction({ name: 'fn', definition, dma: noRegions, trace });
  const handler = new MemoryHandler(0x1000);
  pci.setHandler(0, handler);
  trace.forget();
  return { trace, pci, handler };
}

describe('register events', () => {
  it('tell reads with what was answered', () => {
    const { trace, pci, handler } = watched(EventClass.register);
    handler.bytes.set([0x78, 0x56, 0x34, 0x92], 0x10);
    readRegion(pci, 0, 0x10, 4);
    expect(trace.recorded).toEqual([
      { kind: 'register.read', source: 'fn', region: 0, width: 4, offset: '0x10', value: '0x92345678' },
    ]);
  });

  it.each([
    [1, '0x88'],
    [2, '0x7788'],
    [4, '0x55667788'],
    [8, '0x1122334455667788'],
  ])('tell writes of %i bytes with their value', (width, value) => {
    const { trace, pci } = watched(EventClass.register);
    writeRegion(pci, 0, 0x20, width, 0x1122334455667788n);
    expect(trace.lines()).toEqual([`register.write region=0 width=${width} offset=0x20 value=${value}`]);
  });

  it('tell a write before what it causes', () => {
    const { trace, pci } = watched(EventClass.register);
    const order: string[] = [];
    pci.setHandler(0, {
      read() {},
      write: () => order.push(...trace.lines(), 'the handler'),
    });
    writeRegion(pci, 0, 0, 4, 7);
    expect(order).toEqual(['register.write region=0 width=4 offset=0x0 value=0x7', 'the handler']);
  });

  it('tell configuration space as region 7', () => {
    const { trace, pci } = watched(EventClass.register);
    readConfig(pci, 0, 4);
    writeConfig(pci, 4, 2, 0x6);
    expect(trace.lines()).toEqual([
      'register.read region=7 width=4 offset=0x0 value=0x56781234',
      'register.write region=7 width=2 offset=0x4 value=0x6',
    ]);
  });

  it('tell what the guest sees of a hidden configuration space', () => {
    const { trace, pci } = watched(EventClass.register);
    pci.hidden = true;
    readConfig(pci, 0, 2);
    expect(trace.lines()).toEqual(['register.read region=7 width=2 offset=0x0 value=0xffff']);
  });

  it.each([3, 5, 16, 256])('tell an access of %i bytes once, without a value', length => {
    const { trace, pci } = watched(EventClass.register);
    readRegion(pci, 0, 0x40, length);
    writeRegion(pci, 0, 0x40, length, -1);
    expect(trace.lines()).toEqual([
      'register.read region=0 width=0 offset=0x40 value=0x0',
      'register.write region=0 width=0 offset=0x40 value=0x0',
    ]);
  });

  it('leave out accesses to a region that is not there', () => {
    const { trace, pci } = watched(EventClass.register);
    expect(pci.read(1, 0, new Uint8Array(4), 0, 4)).not.toBe(0);
    expect(pci.write(6, 0, new Uint8Array(4), 0, 4)).not.toBe(0);
    expect(trace.recorded).toEqual([]);
  });

  it('are not emitted while only others are wanted', () => {
    const { trace, pci } = watched(~EventClass.register);
    readRegion(pci, 0, 0, 4);
    writeRegion(pci, 0, 0, 4, 1);
    readConfig(pci, 0, 4);
    expect(trace.emitted).toBe(0);
  });

  it('start when somebody begins to want them', () => {
    const { trace, pci } = watched(0);
    readRegion(pci, 0, 0, 4);
    trace.records.mask = EventClass.register;
    readRegion(pci, 0, 4, 4);
    expect(trace.lines()).toEqual(['register.read region=0 width=4 offset=0x4 value=0x0']);
  });
});

describe('reset events', () => {
  it('tell which reset it was, before what it causes', () => {
    const { trace, pci } = watched(EventClass.connection, full);
    const order: string[] = [];
    pci.onReset = () => order.push(...trace.lines());
    pci.reset();
    expect(order).toEqual(['reset what=client']);
    trace.forget();
    order.length = 0;
    writeConfig(pci, pci.config.capability(0x10) + 8, 2, 0x8000);
    expect(order).toEqual(['reset what=functionLevel']);
    trace.forget();
    pci.disconnected();
    expect(trace.recorded).toEqual([{ kind: 'reset', source: 'fn', what: 'disconnected' }]);
  });

  it('are not emitted while only others are wanted', () => {
    const { trace, pci } = watched(~EventClass.connection & ~EventClass.register, full);
    pci.reset();
    pci.disconnected();
    expect(trace.lines()).toEqual([]);
  });
});
