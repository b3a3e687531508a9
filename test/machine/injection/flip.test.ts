import { describe, expect, it } from 'vitest';
import { DmaStatus } from '../../../src/pci/ports.ts';
import { applications, injectionRig } from './support.ts';

describe('flip', () => {
  it('gives the device a wrong bit, and leaves memory alone', () => {
    const { injection, outside, ports, trace, rule } = injectionRig();
    const id = injection.add({ kind: 'flip', device: 'edu0', direction: 'read', bit: 17 });
    const target = new Uint8Array(8);
    expect(ports.dma.read(0, 0x100, target, 2, 4)).toBe(DmaStatus.ok);
    expect([...target]).toEqual([0, 0, 0, 0, 2, 0, 0, 0]);
    expect(outside.dma.memory.every(byte => byte === 0)).toBe(true);
    expect(applications(trace)).toEqual([
      { injection: id, rule: 'flip', applied: 1, direction: 'read', iova: 0x100n, bit: 17 },
    ]);
    ports.dma.read(0, 0x100, target, 2, 4);
    expect([...target]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    expect(rule(id)).toMatchObject({ applied: 1, over: true });
  });

  it('gives memory a wrong bit, and leaves the device alone', () => {
    const { injection, outside, ports } = injectionRig();
    injection.add({ kind: 'flip', device: 'edu0', direction: 'write', bit: 7, times: 2 });
    const source = new Uint8Array([1, 2, 3]);
    for (const low of [0x10, 0x20, 0x30]) ports.dma.write(0, low, source, 1, 2);
    expect([...source]).toEqual([1, 2, 3]);
    const { memory } = outside.dma;
    expect([memory[0x10], memory[0x11]]).toEqual([0x82, 3]);
    expect([memory[0x20], memory[0x21]]).toEqual([0x82, 3]);
    expect([memory[0x30], memory[0x31]]).toEqual([2, 3]);
  });

  it.each([
    ['read', 'write'],
    ['write', 'read'],
  ] as const)('of a %s lets a %s go by', (direction, other) => {
    const { injection, ports, trace } = injectionRig();
    injection.add({ kind: 'flip', device: 'edu0', direction, bit: 0 });
    const bytes = new Uint8Array(1);
    ports.dma[other](0, 0, bytes, 0, 1);
    expect(applications(trace)).toEqual([]);
    ports.dma[direction](0, 0, bytes, 0, 1);
    expect(applications(trace)).toHaveLength(1);
  });

  it('lets transfers go by that are too short', () => {
    const { injection, ports, trace } = injectionRig();
    injection.add({ kind: 'flip', device: 'edu0', bit: 32 });
    const bytes = new Uint8Array(16);
    ports.dma.write(0, 0, bytes, 0, 4);
    ports.dma.read(0, 0, bytes, 0, 4);
    expect(applications(trace)).toEqual([]);
    ports.dma.write(0, 0, bytes, 0, 5);
    expect(applications(trace)).toHaveLength(1);
  });

  it('lets reads go by that failed', () => {
    const { injection, outside, ports, trace } = injectionRig();
    injection.add({ kind: 'flip', device: 'edu0', bit: 0 });
    outside.dma.status = DmaStatus.fault;
    const target = new Uint8Array(4);
    expect(ports.dma.read(0, 0, target, 0, 4)).toBe(DmaStatus.fault);
    expect([...target]).toEqual([0, 0, 0, 0]);
    expect(applications(trace)).toEqual([]);
  });

  it('counts transfers with a PASID too', () => {
    const { injection, outside, ports } = injectionRig();
    const tagged = ports.dmaWithPasid(7);
    injection.add({ kind: 'flip', device: 'edu0', bit: 0 });
    tagged.write(0, 0, new Uint8Array(1), 0, 1);
    expect(outside.tagged[0]!.memory[0]).toBe(1);
    ports.dma.write(0, 0, new Uint8Array(1), 0, 1);
    expect(outside.dma.memory[0]).toBe(0);
  });
});
