import { describe, expect, it } from 'vitest';
import { RegionMemory } from '../../src/memory/region-memory.ts';
import { WindowPool } from '../../src/posix/window-pool.ts';
import { EventClass } from '../../src/trace/event-kinds.ts';
import { RecordedEvents } from '../pci/recorded-events.ts';
import { at, pagesFile, unmap } from './support.ts';

function watched(mask: number = EventClass.connection) {
  const trace = new RecordedEvents(mask);
  return { trace, memory: new RegionMemory({ name: 'edu0', trace, pool: new WindowPool() }) };
}

describe('RegionMemory events', () => {
  it('tell of a region that is mapped, and of its end', () => {
    const { trace, memory } = watched();
    expect(memory.map(at(0x100, 4, { descriptor: pagesFile(4) }))).toBe(0);
    unmap(memory, 0x100, 4);
    const region = { source: 'edu0', writable: true, mapped: true, address: '0x100000', bytes: '0x4000' };
    expect(trace.recorded).toEqual([
      { kind: 'memory.added', ...region },
      { kind: 'memory.removed', ...region },
    ]);
  });

  it('tell of one that is reached by messages, and may not be written', () => {
    const { trace, memory } = watched();
    memory.map(at(0x10, 1, { writable: false }));
    expect(trace.lines()).toEqual(['memory.added writable=false mapped=false address=0x10000 bytes=0x1000']);
  });

  it('have room for the whole address space', () => {
    const { trace, memory } = watched();
    memory.map(at(0, 2 ** 31));
    unmap(memory, 0, 2 ** 31);
    memory.map(at(0x7fffffff, 1));
    memory.map(at(0x12345, 0x100001));
    expect(trace.recorded.map(event => [event.address, event.bytes])).toEqual([
      ['0x0', '0x80000000000'],
      ['0x0', '0x80000000000'],
      ['0x7fffffff000', '0x1000'],
      ['0x12345000', '0x100001000'],
    ]);
  });

  it('leave out what was refused', () => {
    const { trace, memory } = watched();
    memory.map(at(1, 1));
    trace.forget();
    memory.map(at(1, 1));
    unmap(memory, 2, 1);
    unmap(memory, 1, 2);
    expect(trace.recorded).toEqual([]);
  });

  it('tell of every region when the client goes', () => {
    const { trace, memory } = watched();
    memory.map(at(1, 1));
    memory.map(at(5, 2));
    trace.forget();
    memory.unmapAll();
    memory.unmapAll();
    memory.dispose();
    expect(trace.recorded.map(event => [event.kind, event.address])).toEqual([
      ['memory.removed', '0x1000'],
      ['memory.removed', '0x5000'],
    ]);
  });

  it('are not emitted while only others are wanted', () => {
    const { trace, memory } = watched(~EventClass.connection);
    memory.map(at(1, 1));
    memory.unmapAll();
    expect(trace.emitted).toBe(0);
  });
});
