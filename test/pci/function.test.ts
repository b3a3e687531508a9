import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { FunctionDefinition } from '../../src/pci/definition.ts';
import { type PciFunction, RegionIndex } from '../../src/pci/function.ts';
import { Errno } from '../../src/vfio-user/device-model.ts';
import {
  FakeClient,
  full,
  functionOf,
  MemoryHandler,
  noRegions,
  plain,
  readConfig,
  readRegion,
  writeConfig,
  writeRegion,
} from './fakes.ts';

const MEMORY = 0x2;
const MASTER = 0x4;

describe('regions', () => {
  it('are nine: BARs, no ROM, configuration space, no VGA', () => {
    const { pci } = functionOf(plain);
    expect(pci.regions.map(region => region.size)).toEqual([0x1000, 0, 0x10000, 0, 0, 0, 0, 256, 0]);
    expect(functionOf(full).pci.regions[RegionIndex.config]!.size).toBe(4096);
  });

  it('are readable and writable where they exist', () => {
    for (const { size, readable, writable } of functionOf(plain).pci.regions) {
      expect([readable, writable]).toEqual([size > 0, size > 0]);
    }
  });

  it.each([1, 3, 6, 8, 9, -1])('%i, which does not exist, answers EINVAL', region => {
    const { pci } = functionOf(plain);
    const bytes = new Uint8Array(4);
    expect(pci.read(region, 0, bytes, 0, 4)).toBe(Errno.EINVAL);
    expect(pci.write(region, 0, bytes, 0, 4)).toBe(Errno.EINVAL);
  });

  it('refuses a definition that is wrong', () => {
    const definition: FunctionDefinition = { ...plain, interruptPin: 9 };
    expect(() => functionOf(definition)).toThrow(/interrupt pin/);
  });

  it('passes its DMA regions through', () => {
    expect(functionOf(plain).pci.dma).toBe(noRegions);
  });
});

describe('BAR accesses', () => {
  function withHandler(): { pci: PciFunction; handler: MemoryHandler } {
    const { pci } = functionOf(plain);
    const handler = new MemoryHandler(0x1000);
    pci.setHandler(0, handler);
    return { pci, handler };
  }

  it.each([1, 2, 4, 8])('of %i aligned bytes become one register access', width => {
    const { pci, handler } = withHandler();
    writeRegion(pci, 0, 0x40, width, 0x1122334455667788n);
    const expected = Number(BigInt.asUintN(8 * width, 0x1122334455667788n));
    expect(readRegion(pci, 0, 0x40, width)).toBe(expected);
    expect(handler.log).toEqual([`write 64 ${width}`, `read 64 ${width}`]);
  });

  it.each([
    [1, 8, ['1 1', '2 2', '4 4', '8 1']],
    [4, 8, ['4 4', '8 4']],
    [2, 4, ['2 2', '4 2']],
    [0, 3, ['0 2', '2 1']],
    [0, 16, ['0 8', '8 8']],
    [7, 11, ['7 1', '8 8', '16 2']],
  ])('at %i of %i bytes are split in naturally aligned pieces', (offset, length, pieces) => {
    const { pci, handler } = withHandler();
    pci.write(0, offset, new Uint8Array(length), 0, length);
    pci.read(0, offset, new Uint8Array(length), 0, length);
    expect(handler.log).toEqual([...pieces.map(one => `write ${one}`), ...pieces.map(one => `read ${one}`)]);
  });

  it('of any shape carry the right bytes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0xfc0 }),
        fc.uint8Array({ minLength: 1, maxLength: 64 }),
        (offset, data) => {
          const { pci, handler } = withHandler();
          const source = Uint8Array.from([0xee, ...data, 0xee]);
          pci.write(0, offset, source, 1, data.length);
          expect(handler.bytes.slice(offset, offset + data.length)).toEqual(data);
          const target = new Uint8Array(data.length + 2).fill(0xcc);
          pci.read(0, offset, target, 1, data.length);
          expect(target).toEqual(Uint8Array.from([0xcc, ...data, 0xcc]));
        },
      ),
      { numRuns: 50 },
    );
  });

  it('reuse one access object', () => {
    const { pci, handler } = withHandler();
    pci.write(0, 0, new Uint8Array(32), 0, 32);
    pci.read(0, 1, new Uint8Array(32), 0, 32);
    expect(handler.objects.size).toBe(1);
  });

  it('of a handler that answers nothing read as zero, not as the access before', () => {
    const { pci } = functionOf(plain);
    pci.setHandler(0, { read() {}, write() {} });
    writeRegion(pci, 0, 0, 8, -1n);
    expect(readRegion(pci, 0, 0, 8)).toBe(0);
  });

  it('without a handler read as zero and are reported', () => {
    const { pci, trace } = functionOf(plain);
    expect(readRegion(pci, 2, 8, 4)).toBe(0);
    writeRegion(pci, 2, 8, 4, 1);
    expect(trace.kinds()).toEqual(['register.unknown', 'register.unknown']);
  });

  it('are served while memory space is disabled', () => {
    const { pci, handler } = withHandler();
    expect(readConfig(pci, 0x04, 2) & MEMORY).toBe(0);
    writeRegion(pci, 0, 0, 4, 7);
    expect(handler.bytes[0]).toBe(7);
  });

  it('cannot be handled for a BAR that is not there', () => {
    expect(() => functionOf(plain).pci.setHandler(1, new MemoryHandler(4))).toThrow(/no BAR1/);
  });
});

describe('COMMAND', () => {
  it('tells the hook what changed, and only then', () => {
    const { pci } = functionOf(plain);
    const seen: number[] = [];
    pci.onCommand = command => seen.push(command);
    writeConfig(pci, 0x04, 2, MEMORY);
    writeConfig(pci, 0x04, 2, MEMORY);
    writeConfig(pci, 0x04, 1, MEMORY | MASTER);
    writeConfig(pci, 0x3c, 1, 11);
    expect(seen).toEqual([MEMORY, MEMORY | MASTER]);
  });

  it('switches bus mastering', () => {
    const { pci } = functionOf(plain);
    expect(pci.busMaster).toBe(false);
    writeConfig(pci, 0x04, 2, MASTER);
    expect(pci.busMaster).toBe(true);
    writeConfig(pci, 0x04, 2, 0);
    expect(pci.busMaster).toBe(false);
  });

  it('with bus mastering hard-wired is master from the start, and after a reset', () => {
    const { pci } = functionOf({ ...plain, hardwiredCommand: MASTER });
    expect(pci.busMaster).toBe(true);
    writeConfig(pci, 0x04, 2, 0);
    pci.reset();
    expect(pci.busMaster).toBe(true);
  });

  it('is no bus master in D3hot', () => {
    const { pci, trace } = functionOf(plain);
    writeConfig(pci, 0x04, 2, MASTER);
    writeConfig(pci, 0x44, 2, 3);
    expect(pci.busMaster).toBe(false);
    writeConfig(pci, 0x44, 2, 0);
    expect(pci.busMaster).toBe(true);
    expect(trace.events.map(event => event.detail.state)).toEqual(['D3', 'D0']);
  });
});

describe('BAR placement', () => {
  function placed(): { pci: PciFunction; seen: string[] } {
    const { pci } = functionOf(plain);
    const seen: string[] = [];
    pci.onBarPlaced = (bar, address) => seen.push(`${bar}@${address.toString(16)}`);
    return { pci, seen };
  }

  it('is announced for every placed BAR when memory space goes on', () => {
    const { pci, seen } = placed();
    writeConfig(pci, 0x10, 4, 0xfeb00000);
    writeConfig(pci, 0x18, 4, 0x00020000);
    writeConfig(pci, 0x1c, 4, 0xc0);
    expect(seen).toEqual([]);
    writeConfig(pci, 0x04, 2, MEMORY);
    expect(seen).toEqual(['0@feb00000', '2@c000020000']);
  });

  it('leaves out BARs that hold no address', () => {
    const { pci, seen } = placed();
    writeConfig(pci, 0x10, 4, 0xffffffff);
    writeConfig(pci, 0x04, 2, MEMORY);
    expect(seen).toEqual([]);
  });

  it('is announced again when memory space goes off and on', () => {
    const { pci, seen } = placed();
    writeConfig(pci, 0x10, 4, 0xfeb00000);
    for (const command of [MEMORY, MEMORY | MASTER, 0, MEMORY]) writeConfig(pci, 0x04, 2, command);
    expect(seen).toEqual(['0@feb00000', '0@feb00000']);
  });

  it('is announced when a BAR moves under enabled memory space', () => {
    const { pci, seen } = placed();
    writeConfig(pci, 0x04, 2, MEMORY);
    writeConfig(pci, 0x10, 4, 0xfeb00000);
    writeConfig(pci, 0x10, 4, 0xfeb00000);
    writeConfig(pci, 0x10, 4, 0xffffffff);
    writeConfig(pci, 0x10, 4, 0xfec00000);
    expect(seen).toEqual(['0@feb00000', '0@fec00000']);
  });

  it('can be asked for', () => {
    const { pci } = placed();
    expect(pci.barAddress(0)).toBe(0n);
    writeConfig(pci, 0x10, 4, 0xfeb00000);
    expect(pci.barAddress(0)).toBe(0xfeb00000n);
  });
});

describe('a hidden function', () => {
  it('answers all ones', () => {
    const { pci } = functionOf(full);
    pci.hidden = true;
    for (const width of [1, 2, 4]) expect(readConfig(pci, 0, width)).toBe(2 ** (8 * width) - 1);
    expect(readConfig(pci, 0x100, 4)).toBe(0xffffffff);
  });

  it('ignores configuration writes', () => {
    const { pci } = functionOf(plain);
    const commands: number[] = [];
    pci.onCommand = command => commands.push(command);
    pci.hidden = true;
    writeConfig(pci, 0x04, 2, MEMORY);
    pci.hidden = false;
    expect(readConfig(pci, 0x04, 2)).toBe(0);
    expect(commands).toEqual([]);
  });

  it('still serves its BARs', () => {
    const { pci } = functionOf(plain);
    pci.setHandler(0, new MemoryHandler(0x1000));
    pci.hidden = true;
    writeRegion(pci, 0, 4, 4, 5);
    expect(readRegion(pci, 0, 4, 4)).toBe(5);
  });

  it.each([
    ['a reset', (pci: PciFunction) => pci.reset()],
    ['a connection', (pci: PciFunction) => pci.connected(new FakeClient())],
    ['a disconnection', (pci: PciFunction) => pci.disconnected()],
  ])('appears again at %s', (_name, event) => {
    const { pci } = functionOf(plain);
    pci.hidden = true;
    event(pci);
    expect(readConfig(pci, 0, 2)).toBe(0x1234);
  });

  it('can hide itself from the command hook', () => {
    const { pci } = functionOf(plain);
    pci.onCommand = command => {
      pci.hidden = (command & MEMORY) !== 0;
    };
    writeConfig(pci, 0x04, 2, MEMORY);
    expect(readConfig(pci, 0, 2)).toBe(0xffff);
    pci.reset();
    expect(readConfig(pci, 0, 2)).toBe(0x1234);
  });
});

describe('reset, connection and disconnection', () => {
  it('bring the configuration back to power-on and change the generation', () => {
    const { pci } = functionOf(plain);
    const generations = new Set([pci.generation]);
    const events = [() => pci.reset(), () => pci.connected(new FakeClient()), () => pci.disconnected()];
    for (const event of events) {
      writeConfig(pci, 0x04, 2, MEMORY | MASTER);
      writeConfig(pci, 0x10, 4, 0xfeb00000);
      event();
      expect(readConfig(pci, 0x04, 2)).toBe(0);
      expect(pci.barAddress(0)).toBe(0n);
      expect(pci.busMaster).toBe(false);
      generations.add(pci.generation);
    }
    expect(generations.size).toBe(4);
  });

  it('call their hooks, with the client in place or gone', () => {
    const { pci } = functionOf(plain);
    const client = new FakeClient();
    const log: string[] = [];
    pci.onReset = () => log.push('reset');
    pci.onConnected = () => log.push(`connected ${pci.client === client}`);
    pci.onDisconnected = () => log.push(`disconnected ${pci.client === undefined}`);
    pci.connected(client);
    pci.reset();
    pci.disconnected();
    expect(log).toEqual(['connected true', 'reset', 'disconnected true']);
  });

  it('announce memory space anew after a reset', () => {
    const { pci } = functionOf(plain);
    const seen: bigint[] = [];
    pci.onBarPlaced = (_bar, address) => seen.push(address);
    for (let round = 0; round < 2; round++) {
      writeConfig(pci, 0x10, 4, 0xfeb00000);
      writeConfig(pci, 0x04, 2, MEMORY);
      pci.reset();
    }
    expect(seen).toEqual([0xfeb00000n, 0xfeb00000n]);
  });
});

describe('function-level reset', () => {
  function express(): { pci: PciFunction; control: number; resets: () => number } {
    const { pci } = functionOf(full);
    let count = 0;
    pci.onReset = () => {
      count++;
    };
    return { pci, control: pci.config.capability(0x10) + 8, resets: () => count };
  }

  it.each([
    ['2 bytes', 0, 2, 0x8000],
    ['the upper byte', 1, 1, 0x80],
    ['4 bytes', 0, 4, 0x8000],
    ['8 bytes from before', -4, 8, 0x8000_0000_0000n],
  ])('starts with a write of %s', (_name, shift, width, value) => {
    const { pci, control, resets } = express();
    const { generation } = pci;
    writeConfig(pci, 0x04, 2, MEMORY | MASTER);
    writeConfig(pci, control + shift, width, value);
    expect(resets()).toBe(1);
    expect(pci.generation).not.toBe(generation);
    expect(pci.busMaster).toBe(false);
    expect(readConfig(pci, 0x04, 2)).toBe(0);
    expect(readConfig(pci, control, 2)).toBe(0x2810);
  });

  it('does not start by itself, or by other bits', () => {
    const { pci, control, resets } = express();
    writeConfig(pci, control, 2, 0x7fff);
    writeConfig(pci, 0x3c, 1, 1);
    expect(resets()).toBe(0);
  });

  it('is not there for conventional functions', () => {
    const { pci } = functionOf(plain);
    let count = 0;
    pci.onReset = () => {
      count++;
    };
    for (let offset = 0; offset < 256; offset++) writeConfig(pci, offset, 1, 0xff);
    expect(count).toBe(0);
  });
});
