import { describe, expect, it } from 'vitest';
import { eduKind } from '../../../src/devices/edu/kind.ts';
import { PciFunction } from '../../../src/pci/function.ts';
import { InterruptIndex } from '../../../src/pci/interrupts.ts';
import { TraceLog } from '../../../src/trace/trace.ts';
import { FakeClient, noRegions, readConfig, readRegion, writeConfig, writeRegion } from '../../pci/fakes.ts';
import { FakeDma, fakePorts, JobList } from './fakes.ts';

/** An edu behind its PCI function, as a machine puts them together. */
function machine(options: Record<string, boolean> = {}) {
  const trace = new TraceLog();
  const pci = new PciFunction({ name: 'edu0', definition: eduKind.define(options), dma: noRegions, trace });
  const dma = new FakeDma();
  const jobs = new JobList();
  const ports = { ...fakePorts(), dma, line: pci.line, jobs, trace };
  const device = eduKind.create(ports, options);
  for (const [bar, handler] of device.bars) pci.setHandler(bar, handler);
  pci.onReset = () => device.reset();
  const client = new FakeClient();
  pci.connected(client);
  return { pci, client, jobs, dma, trace };
}

describe('edu as a PCI function', () => {
  it('identifies itself in BAR0', () => {
    expect(readRegion(machine().pci, 0, 0, 4)).toBe(0x010000ed);
  });

  it('asserts INTA until the driver acknowledges', () => {
    const { pci, client } = machine();
    client.arm(InterruptIndex.intx, 0);
    pci.armed(InterruptIndex.intx);
    writeRegion(pci, 0, 0x60, 4, 5);
    pci.unmasked(InterruptIndex.intx, 0);
    expect(client.triggered).toEqual(['0:0', '0:0']);
    writeRegion(pci, 0, 0x64, 4, readRegion(pci, 0, 0x24, 4));
    pci.unmasked(InterruptIndex.intx, 0);
    expect(client.triggered).toEqual(['0:0', '0:0']);
    expect(readConfig(pci, 0x06, 2) & 0x08).toBe(0);
  });

  it('sends its MSI for each cause once the driver enabled it', () => {
    const { pci, client, jobs } = machine();
    client.arm(InterruptIndex.msi, 0);
    pci.armed(InterruptIndex.msi);
    writeConfig(pci, 0x04, 2, 0x6);
    writeRegion(pci, 0, 0x20, 4, 0x80);
    writeRegion(pci, 0, 0x08, 4, 4);
    jobs.run();
    writeRegion(pci, 0, 0x60, 4, 2);
    expect(client.triggered).toEqual(['1:0', '1:0']);
    expect(readRegion(pci, 0, 0x24, 4)).toBe(3);
    expect(readRegion(pci, 0, 0x08, 4)).toBe(24);
  });

  it('takes 8-byte DMA registers in one access', () => {
    const { pci, jobs, dma } = machine();
    writeRegion(pci, 0, 0x80, 8, 0x123000n);
    writeRegion(pci, 0, 0x88, 8, 0x40000n);
    writeRegion(pci, 0, 0x90, 8, 64n);
    writeRegion(pci, 0, 0x98, 8, 1n);
    jobs.run();
    expect(dma.log).toEqual(['read 0x123000 64']);
  });

  it('forgets a queued transfer at a function-level reset', () => {
    const { pci, jobs, dma } = machine();
    writeRegion(pci, 0, 0x88, 8, 0x40000n);
    writeRegion(pci, 0, 0x90, 8, 64n);
    writeRegion(pci, 0, 0x98, 8, 1n);
    writeConfig(pci, pci.config.capability(0x10) + 8, 2, 0x8000);
    jobs.run();
    expect(dma.log).toEqual([]);
    expect(readRegion(pci, 0, 0x98, 8)).toBe(0);
  });

  it('as conventional PCI has 256 bytes of configuration space and no function-level reset', () => {
    const { pci } = machine({ express: false });
    expect(pci.regions[7]!.size).toBe(256);
    expect(pci.config.capability(0x10)).toBe(0);
  });
});
