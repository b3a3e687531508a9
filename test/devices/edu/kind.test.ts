import { describe, expect, it } from 'vitest';
import { eduKind } from '../../../src/devices/edu/kind.ts';
import type { EndpointOptions } from '../../../src/devices/endpoint.ts';
import { ConfigSpace } from '../../../src/pci/config-space.ts';
import { fakePorts, read, write } from './fakes.ts';

describe('the edu kind', () => {
  it('has the ids of the QEMU device', () => {
    const { bytes } = new ConfigSpace(eduKind.define({}));
    expect([...bytes.slice(0, 4)]).toEqual([0x34, 0x12, 0xe8, 0x11]);
    expect([...bytes.slice(8, 12)]).toEqual([0x10, 0x00, 0xff, 0x00]);
  });

  it('has one 32-bit BAR of 1 MiB, pin A and one 64-bit MSI vector', () => {
    const definition = eduKind.define({});
    expect(definition.bars).toEqual([{ index: 0, bytes: 0x100000, width: 32, prefetchable: false }]);
    expect(definition.interruptPin).toBe(1);
    expect(definition.msi).toEqual({ vectors: 1, wide: true, maskable: false });
  });

  it.each([
    [{}, true],
    [{ express: true }, true],
    [{ express: 'true' }, true],
    [{ express: false }, false],
    [{ express: 'false' }, false],
  ])('with %j is express: %s', (options: EndpointOptions, express) => {
    expect(eduKind.define(options).express).toBe(express);
  });

  it.each([
    [{}, '0x0'],
    [{ dmaMask: 32 }, '0xf0000000'],
    [{ dmaMask: '36' }, '0xcf0000000'],
    [{ dmaMask: '0x40' }, '0xabcf0000000'],
  ])('with %j drives the address %s', (options: EndpointOptions, address) => {
    const ports = fakePorts();
    const device = eduKind.create(ports, options).bars.get(0)!;
    write(device, 0x80, 0xabc_f000_0000n, 8);
    write(device, 0x88, 0x40000, 8);
    write(device, 0x90, 4, 8);
    write(device, 0x98, 1);
    ports.jobs.run();
    expect(ports.dma.log).toEqual([`read ${address} 4`]);
  });

  it.each([
    [{ dmaMask: 11 }, /dmaMask is '11': give a whole number from 12 to 64/],
    [{ dmaMask: 65 }, /dmaMask is '65'/],
    [{ dmaMask: 28.5 }, /dmaMask is '28.5'/],
    [{ dmaMask: 'wide' }, /dmaMask is 'wide'/],
    [{ dmaMask: '' }, /dmaMask is ''/],
    [{ dmaMask: true }, /dmaMask is 'true'/],
    [{ express: 'maybe' }, /express is 'maybe': give true or false/],
    [{ express: 1 }, /express is '1'/],
    [{ dma_mask: 28 }, /edu has no option 'dma_mask': it has dmaMask, express/],
  ])('refuses %j', (options: EndpointOptions, message) => {
    expect(() => eduKind.define(options)).toThrow(message);
    expect(() => eduKind.create(fakePorts(), options)).toThrow(message);
  });

  it('answers its registers in BAR0 only', () => {
    const device = eduKind.create(fakePorts(), {});
    expect([...device.bars.keys()]).toEqual([0]);
    expect(read(device.bars.get(0)!, 0)).toBe(0x010000edn);
  });
});
