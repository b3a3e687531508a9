/** The function behind its PCI function, as a client sees it. */
import { describe, expect, it } from 'vitest';
import { DmaIommuFunction } from '../../../../src/iommu/dma-iommu/function/function.ts';
import { dmaIommuFunctionDefinition, MSIX_BAR, VENDOR_ID } from '../../../../src/iommu/dma-iommu/function/identity.ts';
import { TranslationSwitch } from '../../../../src/iommu/dma-iommu/function/translation-switch.ts';
import { FakeClient, functionOf, readConfig, readRegion, writeConfig, writeRegion } from '../../../pci/fakes.ts';
import { at, encodeCommand, Frame, JobList, RecordingOperations, SlowMemory } from './support.ts';

const INTX = 0;
const MSIX = 2;

function served() {
  const { pci, trace } = functionOf(dmaIommuFunctionDefinition);
  const operations = new RecordingOperations().build();
  const memory = new SlowMemory(4096 * 256);
  const jobs = new JobList();
  const unit = new DmaIommuFunction({
    name: 'iommu',
    operations,
    memory,
    line: pci.line,
    jobs,
    trace,
    directory: { find: () => undefined, all: () => [] },
    translation: new TranslationSwitch(operations),
  });
  for (const [bar, handler] of unit.bars) pci.setHandler(bar, handler);
  const client = new FakeClient();
  const write = (name: string, value: number, bytes = 4) => writeRegion(pci, 0, at(name), bytes, value);
  const command = () => {
    write('COMMAND_BASE', Frame.commands * 4096, 8);
    write('COMMAND_SIZE', 2);
    write('COMPLETION_BASE', Frame.completions * 4096, 8);
    write('COMPLETION_SIZE', 2);
    write('INTERRUPT_ENABLE', 1);
    write('CONTROL', 1);
    memory.poke(Frame.commands * 4096, encodeCommand('flushDomain', { domain: 1 }));
    write('COMMAND_TAIL', 1);
    jobs.run();
  };
  return { pci, client, write, command };
}

describe('as a PCI function', () => {
  it('is found by its ids, with bus mastering always on', () => {
    const { pci, client } = served();
    pci.connected(client);
    expect(readConfig(pci, 0, 4)).toBe(VENDOR_ID | (0x444d << 16));
    expect(readConfig(pci, 8, 4) >>> 8).toBe(0x088000);
    expect(pci.busMaster).toBe(true);
    writeConfig(pci, 4, 2, 0);
    expect(pci.busMaster).toBe(true);
  });

  it('sends a completion by MSI-X', () => {
    const { pci, client, command } = served();
    client.arm(MSIX, 0, 1, 2);
    pci.connected(client);
    command();
    expect(client.triggered).toEqual([`${MSIX}:0`]);
    expect(readRegion(pci, 0, at('COMPLETION_TAIL'), 4)).toBe(1);
  });

  it('asserts INTx where there is no MSI-X, until software clears the pending bit', () => {
    const { pci, client, command, write } = served();
    client.arm(INTX, 0);
    pci.connected(client);
    command();
    expect(client.triggered).toEqual([`${INTX}:0`]);
    expect(readConfig(pci, 6, 2) & 8).toBe(8);
    write('INTERRUPT_PENDING', 1);
    expect(readConfig(pci, 6, 2) & 8).toBe(0);
  });

  it('has the MSI-X table in a BAR of its own', () => {
    const { pci, client } = served();
    pci.connected(client);
    writeRegion(pci, MSIX_BAR, 8, 4, 0x1234);
    expect(readRegion(pci, MSIX_BAR, 8, 4)).toBe(0x1234);
  });
});
