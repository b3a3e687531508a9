import { describe, expect, it } from 'vitest';
import type { MsixDefinition } from '../../src/pci/definition.ts';
import { MsixBar, MsixTable } from '../../src/pci/msix.ts';
import type { RegisterAccess } from '../../src/pci/registers.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { MemoryHandler } from './fakes.ts';

const definition: MsixDefinition = {
  vectors: 70,
  table: { bar: 2, offset: 0x2000 },
  pending: { bar: 2, offset: 0x3000 },
};

function bar(): { bar: MsixBar; table: MsixTable; trace: TraceLog; inner: MemoryHandler } {
  const table = new MsixTable(definition);
  const trace = new TraceLog();
  const inner = new MemoryHandler(0x10000);
  const made = new MsixBar(2, definition, table, trace, 'fn');
  made.inner = inner;
  return { bar: made, table, trace, inner };
}

function read(handler: MsixBar, offset: number, width: number): RegisterAccess {
  const access = { offset, width, low: 0x55, high: 0x55 };
  handler.read(access);
  return access;
}

function write(handler: MsixBar, offset: number, width: number, low: number, high = 0): void {
  handler.write({ offset, width, low, high });
}

describe('MSI-X table', () => {
  it('starts with every vector masked, and zeros', () => {
    const { bar: handler } = bar();
    for (const vector of [0, 1, 69]) {
      const at = 0x2000 + 16 * vector;
      expect([0, 4, 8, 12].map(part => read(handler, at + part, 4).low)).toEqual([0, 0, 0, 1]);
    }
  });

  it('takes addresses, data and the mask bit, and nothing else', () => {
    const { bar: handler } = bar();
    for (const part of [0, 4, 8, 12]) write(handler, 0x2010 + part, 4, -1);
    expect([0, 4, 8, 12].map(part => read(handler, 0x2010 + part, 4).low)).toEqual([-4, -1, -1, 1]);
  });

  it('takes 8-byte accesses', () => {
    const { bar: handler } = bar();
    write(handler, 0x2020, 8, 0x1000, 0x2);
    write(handler, 0x2028, 8, 0x41, 0);
    expect(read(handler, 0x2020, 8)).toMatchObject({ low: 0x1000, high: 0x2 });
    expect(read(handler, 0x2028, 8)).toMatchObject({ low: 0x41, high: 0 });
  });

  it.each([1, 2])('reports accesses of %i bytes and leaves the table alone', width => {
    const { bar: handler, trace } = bar();
    write(handler, 0x200c, width, 0);
    expect(read(handler, 0x200c, width)).toMatchObject({ low: 0, high: 0 });
    expect(read(handler, 0x200c, 4).low).toBe(1);
    expect(trace.kinds()).toEqual(['msix.accessWidth', 'msix.accessWidth']);
  });

  it('masks nothing that software has not written', () => {
    expect(bar().table.isMasked(3)).toBe(false);
  });

  it('masks from the first write of an entry on', () => {
    const { bar: handler, table } = bar();
    write(handler, 0x2030, 4, 0xfee00000);
    expect(table.isMasked(3)).toBe(true);
    write(handler, 0x203c, 4, 0);
    expect(table.isMasked(3)).toBe(false);
  });

  it('tells when a vector is unmasked, once', () => {
    const { bar: handler, table } = bar();
    const unmasked: number[] = [];
    table.onUnmask = vector => unmasked.push(vector);
    write(handler, 0x203c, 4, 1);
    write(handler, 0x203c, 4, 0);
    write(handler, 0x203c, 4, 0);
    expect(unmasked).toEqual([3]);
  });

  it('forgets on reset', () => {
    const { bar: handler, table } = bar();
    write(handler, 0x2030, 8, 0x1000, 1);
    table.setPending(3, true);
    table.reset();
    expect(read(handler, 0x2030, 8)).toMatchObject({ low: 0, high: 0 });
    expect(table.isMasked(3)).toBe(false);
    expect(table.isPending(3)).toBe(false);
  });
});

describe('MSI-X pending bits', () => {
  it.each([
    [0, 0x3000, 1],
    [31, 0x3000, 1 << 31],
    [32, 0x3004, 1],
    [64, 0x3008, 1],
    [69, 0x3008, 32],
  ])('of vector %i are at %i', (vector, offset, bits) => {
    const { bar: handler, table } = bar();
    table.setPending(vector, true);
    expect(read(handler, offset, 4).low).toBe(bits);
    table.setPending(vector, false);
    expect(read(handler, offset, 4).low).toBe(0);
  });

  it('read 8 bytes at a time', () => {
    const { bar: handler, table } = bar();
    table.setPending(33, true);
    expect(read(handler, 0x3000, 8)).toMatchObject({ low: 0, high: 2 });
  });

  it('ignore and report writes', () => {
    const { bar: handler, trace } = bar();
    write(handler, 0x3000, 8, -1, -1);
    expect(read(handler, 0x3000, 8)).toMatchObject({ low: 0, high: 0 });
    expect(trace.kinds()).toEqual(['msix.pendingWrite']);
  });

  it('report accesses of odd widths', () => {
    const { bar: handler, trace } = bar();
    expect(read(handler, 0x3000, 2).low).toBe(0);
    expect(trace.kinds()).toEqual(['msix.accessWidth']);
  });
});

describe('a BAR with an MSI-X table', () => {
  it.each([0, 0x1ffc, 0x2460, 0x2ffc, 0x3010, 0xfffc])('leaves offset %i to the device', offset => {
    const { bar: handler, inner } = bar();
    write(handler, offset, 4, 0x1234);
    expect(read(handler, offset, 4).low).toBe(0x1234);
    expect(inner.log).toEqual([`write ${offset} 4`, `read ${offset} 4`]);
  });

  it.each([0x2000, 0x245c, 0x3000, 0x300c])('answers offset %i itself', offset => {
    const { bar: handler, inner } = bar();
    read(handler, offset, 4);
    write(handler, offset, 4, 0);
    expect(inner.log).toEqual([]);
  });

  it('that is not the pending bits’ leaves their offset to the device', () => {
    const split = { ...definition, pending: { bar: 4, offset: 0x3000 } };
    const inner = new MemoryHandler(0x10000);
    const handler = new MsixBar(2, split, new MsixTable(split), new TraceLog(), 'fn');
    handler.inner = inner;
    read(handler, 0x3000, 4);
    expect(inner.log).toEqual(['read 12288 4']);
  });

  it('reports what nobody answers', () => {
    const trace = new TraceLog();
    const handler = new MsixBar(2, definition, new MsixTable(definition), trace, 'fn');
    read(handler, 0, 4);
    write(handler, 0, 4, 1);
    expect(trace.kinds()).toEqual(['register.unknown', 'register.unknown']);
  });
});
