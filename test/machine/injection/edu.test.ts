import { describe, expect, it } from 'vitest';
import { eduKind } from '../../../src/devices/edu/kind.ts';
import { TranslatedDmaPort } from '../../../src/iommu/dma-port.ts';
import { Injection } from '../../../src/machine/injection/injection.ts';
import { LocalMemory } from '../../../src/memory/local-memory.ts';
import { PciFunction } from '../../../src/pci/function.ts';
import { InterruptIndex } from '../../../src/pci/interrupts.ts';
import { TraceLog } from '../../../src/trace/trace.ts';
import { JobList } from '../../devices/edu/fakes.ts';
import { FakeClient, noRegions, readRegion, writeConfig, writeRegion } from '../../pci/fakes.ts';
import { FakeIommu, FakeTime } from './support.ts';

const START = 1;
const TO_MEMORY = 2;
const INTERRUPT = 4;

/** An edu behind its function and an IOMMU, put together as a machine does. */
function machine() {
  const trace = new TraceLog();
  const iommu = new FakeIommu();
  const jobs = new JobList();
  const memory = new LocalMemory(0x10000);
  const injection = new Injection({ iommu: 'vtd', trace, after: new FakeTime().after });
  const pci = new PciFunction({ name: 'edu0', definition: eduKind.define({}), dma: noRegions, trace });
  const translator = injection.translator('edu0', iommu);
  const dma = new TranslatedDmaPort({ translator, memory, requesterId: 0x100, gate: pci });
  const ports = { name: 'edu0', dma, dmaWithPasid: () => dma, line: pci.line, clock: { now: () => 0 }, jobs, trace };
  const device = eduKind.create(injection.endpoint(ports), {});
  for (const [bar, handler] of device.bars) pci.setHandler(bar, handler);
  pci.onReset = () => device.reset();
  const client = new FakeClient().arm(InterruptIndex.msi, 0);
  pci.connected(client);
  writeConfig(pci, 0x04, 2, 0x6);
  const start = (address: number, command: number) => {
    writeRegion(pci, 0, command & TO_MEMORY ? 0x80 : 0x88, 8, 0x40000n);
    writeRegion(pci, 0, command & TO_MEMORY ? 0x88 : 0x80, 8, BigInt(address));
    writeRegion(pci, 0, 0x90, 8, 16n);
    writeRegion(pci, 0, 0x98, 8, BigInt(command | START));
  };
  const busy = () => readRegion(pci, 0, 0x98, 4) & START;
  const word = (address: number) => {
    memory.load64(address >> 12, address & 0xfff);
    return memory.low;
  };
  return { trace, iommu, jobs, memory, injection, pci, client, start, busy, word };
}

describe('injection into an edu', () => {
  it('does nothing without rules', () => {
    const { start, jobs, client, word, trace, memory } = machine();
    memory.write(
      1,
      0,
      Uint8Array.from({ length: 16 }, (_, i) => i),
      0,
      16,
    );
    start(0x1000, INTERRUPT);
    jobs.run();
    start(0x2000, TO_MEMORY | INTERRUPT);
    jobs.run();
    expect(word(0x2000)).toBe(0x03020100);
    expect(client.triggered).toEqual(['1:0', '1:0']);
    expect(trace.events).toEqual([]);
  });

  it('refused DMA is a fault of the IOMMU, and the next one works', () => {
    const { injection, start, jobs, iommu, trace, busy } = machine();
    injection.add({ kind: 'refuse', device: 'edu0', access: 'write' });
    start(0x3000, TO_MEMORY);
    jobs.run();
    expect(busy()).toBe(0);
    expect(iommu.log).toEqual(['refused 256 0x3000 2']);
    expect(trace.kinds()).toEqual(['injection.applied', 'edu.dmaFailed']);
    start(0x3000, TO_MEMORY);
    jobs.run();
    expect(trace.kinds()).toHaveLength(2);
  });

  it('a flipped bit arrives', () => {
    const { injection, start, jobs, word } = machine();
    injection.add({ kind: 'flip', device: 'edu0', bit: 31 });
    start(0x1000, TO_MEMORY);
    jobs.run();
    expect(word(0x1000)).toBe(-0x80000000);
  });

  it('a dropped completion leaves the driver waiting, with the transfer done', () => {
    const { injection, start, jobs, client, pci, busy } = machine();
    injection.add({ kind: 'drop-interrupt', device: 'edu0' });
    start(0x1000, TO_MEMORY | INTERRUPT);
    jobs.run();
    expect(busy()).toBe(0);
    expect(client.triggered).toEqual([]);
    expect(readRegion(pci, 0, 0x24, 4)).toBe(0x100);
  });

  it('held work leaves it busy until it is released', () => {
    const { injection, start, jobs, client, busy } = machine();
    const id = injection.add({ kind: 'hold', device: 'edu0' });
    start(0x1000, TO_MEMORY | INTERRUPT);
    jobs.run();
    expect(busy()).toBe(1);
    injection.release(id);
    jobs.run();
    expect(busy()).toBe(0);
    expect(client.triggered).toEqual(['1:0']);
  });

  it('held work of a device that was reset meanwhile does nothing when it is released', () => {
    const { injection, start, jobs, client, iommu, pci, busy } = machine();
    const id = injection.add({ kind: 'hold', device: 'edu0' });
    start(0x1000, TO_MEMORY | INTERRUPT);
    writeConfig(pci, pci.config.capability(0x10) + 8, 2, 0x8000);
    expect(busy()).toBe(0);
    injection.release(id);
    jobs.run();
    expect(iommu.log).toEqual([]);
    expect(client.triggered).toEqual([]);
  });
});
