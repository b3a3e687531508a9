import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Edu } from '../../../src/devices/edu/edu.ts';
import { eduRegisters } from '../../../src/devices/edu/registers.ts';
import { DmaStatus } from '../../../src/pci/ports.ts';
import { type FakePorts, fakePorts, read, write } from './fakes.ts';

const ID = 0x00;
const LIVENESS = 0x04;
const FACTORIAL = 0x08;
const STATUS = 0x20;
const INTERRUPT_STATUS = 0x24;
const RAISE = 0x60;
const ACKNOWLEDGE = 0x64;
const SOURCE = 0x80;
const DESTINATION = 0x88;
const COUNT = 0x90;
const COMMAND = 0x98;
const PASID = 0xa0;

const COMPUTING = 0x01n;
const BUFFER = 0x40000;
const START = 0x1;
const TO_MEMORY = 0x2;
const INTERRUPT = 0x4;

function edu(addressBits = 64): { device: Edu; ports: FakePorts } {
  const ports = fakePorts();
  return { device: new Edu(ports, addressBits), ports };
}

/** Programs a transfer and starts it; it runs with the jobs. */
function startDma(device: Edu, source: bigint | number, destination: bigint | number, count: number, command: number) {
  write(device, SOURCE, source, 8);
  write(device, DESTINATION, destination, 8);
  write(device, COUNT, count, 8);
  write(device, COMMAND, command, 8);
}

describe('registers at power-on', () => {
  it.each([
    ['identification', ID, 0x010000edn],
    ['liveness', LIVENESS, 0n],
    ['factorial', FACTORIAL, 0n],
    ['status', STATUS, 0n],
    ['interrupt status', INTERRUPT_STATUS, 0n],
    ['DMA source', SOURCE, 0n],
    ['DMA destination', DESTINATION, 0n],
    ['DMA count', COUNT, 0n],
    ['DMA command', COMMAND, 0n],
    ['DMA PASID', PASID, 0n],
  ])('%s', (_name, offset, value) => {
    expect(read(edu().device, offset)).toBe(value);
  });
});

describe('identification', () => {
  it('is read-only', () => {
    const { device } = edu();
    write(device, ID, 0xffffffff);
    expect(read(device, ID)).toBe(0x010000edn);
  });
});

describe('liveness', () => {
  it('answers the inverse of what was written', () => {
    fc.assert(
      fc.property(fc.nat(0xffffffff), value => {
        const { device } = edu();
        write(device, LIVENESS, value);
        expect(read(device, LIVENESS)).toBe(BigInt.asUintN(32, ~BigInt(value)));
      }),
    );
  });
});

describe('factorial', () => {
  it('is computed by a job, and status says so until then', () => {
    const { device, ports } = edu();
    write(device, FACTORIAL, 5);
    expect(read(device, STATUS)).toBe(COMPUTING);
    expect(read(device, FACTORIAL)).toBe(5n);
    ports.jobs.run();
    expect(read(device, STATUS)).toBe(0n);
    expect(read(device, FACTORIAL)).toBe(120n);
  });

  it.each([0, 1, 2, 10, 12, 13, 20, 33, 34, 35, 1000, 0xffffffff])('of %i wraps at 32 bits', value => {
    const { device, ports } = edu();
    write(device, FACTORIAL, value);
    ports.jobs.run();
    let expected = 1n;
    for (let factor = BigInt(value); factor > 0n && expected !== 0n; factor--) {
      expected = BigInt.asUintN(32, expected * factor);
    }
    expect(read(device, FACTORIAL)).toBe(expected);
  });

  it('ignores a second number while it computes, and says so', () => {
    const { device, ports } = edu();
    write(device, FACTORIAL, 4);
    write(device, FACTORIAL, 6);
    expect(ports.trace.kinds()).toEqual(['edu.busy']);
    expect(ports.jobs.length).toBe(1);
    ports.jobs.run();
    expect(read(device, FACTORIAL)).toBe(24n);
  });

  it('raises no interrupt by default', () => {
    const { device, ports } = edu();
    write(device, FACTORIAL, 3);
    ports.jobs.run();
    expect(ports.line.raised).toBe(0);
    expect(read(device, INTERRUPT_STATUS)).toBe(0n);
  });

  it('raises interrupt 1 when asked to', () => {
    const { device, ports } = edu();
    write(device, STATUS, 0x80);
    write(device, FACTORIAL, 3);
    expect(ports.line.raised).toBe(0);
    ports.jobs.run();
    expect(ports.line.raised).toBe(1);
    expect(read(device, INTERRUPT_STATUS)).toBe(0x1n);
  });

  it('raises the interrupt also when asked during the computation', () => {
    const { device, ports } = edu();
    write(device, FACTORIAL, 3);
    write(device, STATUS, 0x80);
    ports.jobs.run();
    expect(ports.line.raised).toBe(1);
  });
});

describe('status', () => {
  it('lets software write the interrupt bit only', () => {
    const { device, ports } = edu();
    write(device, STATUS, 0xffffffff);
    expect(read(device, STATUS)).toBe(0x80n);
    expect(ports.trace.kinds()).toEqual(['register.reserved']);
    write(device, STATUS, 0);
    expect(read(device, STATUS)).toBe(0n);
  });

  it('keeps computing when software writes', () => {
    const { device } = edu();
    write(device, FACTORIAL, 3);
    write(device, STATUS, 0);
    expect(read(device, STATUS)).toBe(COMPUTING);
  });
});

describe('interrupts', () => {
  it('collect their causes', () => {
    const { device, ports } = edu();
    write(device, RAISE, 0x10);
    write(device, RAISE, 0x81000001);
    expect(read(device, INTERRUPT_STATUS)).toBe(0x81000011n);
    expect(ports.line.raised).toBe(2);
  });

  it('are lowered when the last cause is acknowledged', () => {
    const { device, ports } = edu();
    write(device, RAISE, 0x80000003);
    write(device, ACKNOWLEDGE, 0x1);
    expect(ports.line.asserted).toBe(true);
    expect(read(device, INTERRUPT_STATUS)).toBe(0x80000002n);
    write(device, ACKNOWLEDGE, 0xffffffff);
    expect(ports.line.asserted).toBe(false);
    expect(read(device, INTERRUPT_STATUS)).toBe(0n);
  });

  it('are not raised by zero while there is no cause', () => {
    const { device, ports } = edu();
    write(device, RAISE, 0);
    expect(ports.line.raised).toBe(0);
  });

  it('have a read-only status', () => {
    const { device, ports } = edu();
    write(device, INTERRUPT_STATUS, 0xff);
    expect(read(device, INTERRUPT_STATUS)).toBe(0n);
    expect(ports.line.raised).toBe(0);
  });

  it.each([RAISE, ACKNOWLEDGE])('have the write-only register 0x%x, all ones when read', offset => {
    const { device } = edu();
    write(device, offset, 1);
    expect(read(device, offset)).toBe(0xffffffffn);
  });
});

describe('accesses', () => {
  const below = eduRegisters.registers.filter(register => register.offset < 0x80);
  const above = eduRegisters.registers.filter(register => register.offset >= 0x80);

  it.each(below)('of $name: 4 bytes only', ({ offset }) => {
    for (const width of [1, 2, 8]) {
      const { device, ports } = edu();
      write(device, offset, 1, width);
      expect(read(device, offset, width)).toBe(BigInt.asUintN(8 * width, -1n));
      expect(ports.trace.kinds()).toEqual(['edu.accessSize', 'edu.accessSize']);
      expect(ports.line.raised + ports.jobs.length).toBe(0);
    }
  });

  it.each(above)('of $name: 4 or 8 bytes only', ({ offset }) => {
    for (const width of [1, 2]) {
      const { device, ports } = edu();
      write(device, offset, 1, width);
      expect(read(device, offset, width)).toBe(BigInt.asUintN(8 * width, -1n));
      expect(ports.trace.kinds()).toEqual(['edu.accessSize', 'edu.accessSize']);
      expect(read(device, offset, 8)).toBe(0n);
      expect(ports.jobs.length).toBe(0);
    }
  });

  it.each([0x0c, 0x1c, 0x28, 0x68, 0x7c, 0x84, 0x9c, 0xa4, 0xa8, 0x40000, 0xffffc])(
    'at 0x%x, where nothing is, read all ones and are reported',
    offset => {
      const { device, ports } = edu();
      write(device, offset, 0x1234);
      expect(read(device, offset)).toBe(0xffffffffn);
      expect(ports.trace.events.map(event => [event.kind, event.detail.offset, event.detail.access])).toEqual([
        ['register.unknown', offset, 'write'],
        ['register.unknown', offset, 'read'],
      ]);
    },
  );

  it.each([SOURCE, DESTINATION, COUNT])('of 8 bytes reach all of 0x%x', offset => {
    const { device } = edu();
    write(device, offset, 0x1122334455667788n, 8);
    expect(read(device, offset, 8)).toBe(0x1122334455667788n);
    expect(read(device, offset, 4)).toBe(0x55667788n);
  });

  it.each([SOURCE, DESTINATION, COUNT])('of 4 bytes clear the upper half of 0x%x', offset => {
    const { device } = edu();
    write(device, offset, -1n, 8);
    write(device, offset, 0x12345678, 4);
    expect(read(device, offset, 8)).toBe(0x12345678n);
  });
});

describe('DMA from memory', () => {
  it('fills the buffer at the place asked for, in a job', () => {
    const { device, ports } = edu();
    for (let i = 0; i < 100; i++) ports.dma.memory[0x2000 + i] = i + 1;
    startDma(device, 0x2000, BUFFER + 8, 100, START);
    expect(read(device, COMMAND)).toBe(1n);
    expect(device.buffer.every(byte => byte === 0)).toBe(true);
    ports.jobs.run();
    expect(read(device, COMMAND)).toBe(0n);
    expect(ports.dma.log).toEqual(['read 0x2000 100']);
    expect(device.buffer[7]).toBe(0);
    expect([...device.buffer.slice(8, 108)]).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
    expect(device.buffer[108]).toBe(0);
    expect(ports.trace.events).toEqual([]);
  });

  it('raises no interrupt unless asked', () => {
    const { device, ports } = edu();
    startDma(device, 0x2000, BUFFER, 4, START);
    ports.jobs.run();
    expect(ports.line.raised).toBe(0);
  });

  it('raises interrupt 0x100 when asked, after the start bit is clear', () => {
    const { device, ports } = edu();
    const seen: bigint[] = [];
    ports.line.raise = () => seen.push(read(device, COMMAND), read(device, INTERRUPT_STATUS));
    startDma(device, 0x2000, BUFFER, 4, START | INTERRUPT);
    ports.jobs.run();
    expect(seen).toEqual([BigInt(INTERRUPT), 0x100n]);
  });

  it('takes the whole 64-bit address', () => {
    const { device, ports } = edu();
    startDma(device, 0xfedcba98_76543210n, BUFFER, 16, START);
    ports.jobs.run();
    expect(ports.dma.log).toEqual(['read 0xfedcba9876543210 16']);
  });
});

describe('DMA to memory', () => {
  it('writes the buffer from the place asked for', () => {
    const { device, ports } = edu();
    for (let i = 0; i < 4096; i++) device.buffer[i] = i & 0xff;
    startDma(device, BUFFER + 0x10, 0x3004, 8, START | TO_MEMORY);
    ports.jobs.run();
    expect(ports.dma.log).toEqual(['write 0x3004 8']);
    expect([...ports.dma.memory.slice(0x3003, 0x300d)]).toEqual([0, 16, 17, 18, 19, 20, 21, 22, 23, 0]);
    expect(read(device, COMMAND)).toBe(BigInt(TO_MEMORY));
  });

  it('brings back what was fetched, whatever it is', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 300 }),
        fc.nat(0x1000),
        fc.nat(4096 - 300),
        (data, from, at) => {
          const { device, ports } = edu();
          ports.dma.memory.set(data, from);
          startDma(device, from, BUFFER + at, data.length, START);
          ports.jobs.run();
          startDma(device, BUFFER + at, 0x8000, data.length, START | TO_MEMORY);
          ports.jobs.run();
          expect(ports.dma.memory.slice(0x8000, 0x8000 + data.length)).toEqual(data);
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe('the DMA command', () => {
  it('without the start bit does nothing', () => {
    const { device, ports } = edu();
    write(device, COMMAND, TO_MEMORY | INTERRUPT);
    expect(read(device, COMMAND)).toBe(0n);
    expect(ports.jobs.length).toBe(0);
  });

  it.each([
    [SOURCE, 0x2000n],
    [DESTINATION, BigInt(BUFFER)],
    [COUNT, 4n],
    [COMMAND, 1n],
    [PASID, 0n],
  ])('while it runs locks register 0x%x', (offset, value) => {
    const { device, ports } = edu();
    startDma(device, 0x2000, BUFFER, 4, START);
    write(device, offset, 0x7, 8);
    expect(read(device, offset, 8)).toBe(value);
    expect(ports.trace.kinds()).toEqual(['edu.busy']);
    expect(ports.jobs.length).toBe(1);
  });

  it('reports reserved bits', () => {
    const { device, ports } = edu();
    startDma(device, 0x2000, BUFFER, 4, START | 0x10);
    expect(ports.trace.kinds()).toEqual(['register.reserved']);
  });

  it('can be given again when it is done', () => {
    const { device, ports } = edu();
    for (let round = 0; round < 3; round++) {
      startDma(device, 0x2000, BUFFER, 4, START);
      ports.jobs.run();
    }
    expect(ports.dma.log.length).toBe(3);
  });
});

describe('the buffer', () => {
  it.each([
    ['all of it', BUFFER, 4096],
    ['its last byte', BUFFER + 4095, 1],
    ['its first byte', BUFFER, 1],
  ])('takes a transfer of %s', (_name, at, count) => {
    const { device, ports } = edu();
    startDma(device, 0x1000, at, count, START);
    ports.jobs.run();
    expect(ports.dma.log).toEqual([`read 0x1000 ${count}`]);
    expect(ports.trace.events).toEqual([]);
  });

  const outside: [string, bigint, bigint][] = [
    ['starts before it', BigInt(BUFFER - 1), 2n],
    ['ends after it', BigInt(BUFFER + 4095), 2n],
    ['is longer than it', BigInt(BUFFER), 4097n],
    ['starts at zero', 0n, 1n],
    ['has a huge count', BigInt(BUFFER), 0xffffffffn],
    ['has a count over 32 bits', BigInt(BUFFER), 0x1_0000_0001n],
    ['starts above 4 GiB', 0x1_0004_0000n, 1n],
    ['wraps around', 0xffffffff_ffffffffn, 0x40002n],
  ];

  it.each(outside)('is left alone by a transfer that %s', (_name, at, count) => {
    for (const toMemory of [false, true]) {
      const { device, ports } = edu();
      write(device, SOURCE, toMemory ? at : 0x1000n, 8);
      write(device, DESTINATION, toMemory ? 0x1000n : at, 8);
      write(device, COUNT, count, 8);
      write(device, COMMAND, START | INTERRUPT | (toMemory ? TO_MEMORY : 0));
      ports.jobs.run();
      expect(ports.dma.log).toEqual([]);
      expect(ports.trace.events).toEqual([
        { kind: 'edu.dmaRange', source: 'edu0', detail: { start: at, count, toMemory } },
      ]);
      expect(read(device, COMMAND) & 1n).toBe(0n);
      expect(read(device, INTERRUPT_STATUS)).toBe(0x100n);
    }
  });

  it('is left alone by a transfer of nothing', () => {
    const { device, ports } = edu();
    startDma(device, 0x1000, BUFFER, 0, START | INTERRUPT);
    ports.jobs.run();
    expect(ports.dma.log).toEqual([]);
    expect(ports.trace.events).toEqual([]);
    expect(read(device, INTERRUPT_STATUS)).toBe(0x100n);
  });
});

describe('the address mask', () => {
  it.each([
    [28, 0x0fff_f000n, 0x0fff_f000n],
    [28, 0x1000_0000n, 0n],
    [28, 0x1_f234_5000n, 0x0234_5000n],
    [32, 0x1_f234_5000n, 0xf234_5000n],
    [40, 0xff12_3456_7000n, 0x12_3456_7000n],
    [63, 0xffff_ffff_ffff_f000n, 0x7fff_ffff_ffff_f000n],
    [64, 0xffff_ffff_ffff_f000n, 0xffff_ffff_ffff_f000n],
  ])('of %i bits makes of %i the address %i', (bits, address, clamped) => {
    for (const toMemory of [false, true]) {
      const { device, ports } = edu(bits);
      if (toMemory) startDma(device, BUFFER, address, 4, START | TO_MEMORY);
      else startDma(device, address, BUFFER, 4, START);
      ports.jobs.run();
      expect(ports.dma.log).toEqual([`${toMemory ? 'write' : 'read'} 0x${clamped.toString(16)} 4`]);
      const lost = { kind: 'edu.mask', source: 'edu0', detail: { address, clamped } };
      expect(ports.trace.events).toEqual(address === clamped ? [] : [lost]);
    }
  });

  it('leaves the register as it was written', () => {
    const { device, ports } = edu(28);
    startDma(device, 0xffff_f000n, BUFFER, 4, START);
    ports.jobs.run();
    expect(read(device, SOURCE, 8)).toBe(0xffff_f000n);
  });
});

describe('the PASID register', () => {
  const ENABLE = 0x8000_0000n;

  it('without its enable bit changes nothing', () => {
    const { device, ports } = edu();
    write(device, PASID, 0x12345);
    startDma(device, 0x2000, BUFFER, 4, START);
    ports.jobs.run();
    expect(ports.dma.log).toEqual(['read 0x2000 4']);
    expect(ports.tagged).toEqual([]);
  });

  it.each([0, 1, 0x12345, 0xfffff])('sends all DMA with PASID 0x%x while enabled', pasid => {
    const { device, ports } = edu();
    write(device, PASID, ENABLE | BigInt(pasid));
    startDma(device, 0x2000, BUFFER, 4, START);
    ports.jobs.run();
    startDma(device, BUFFER, 0x3000, 8, START | TO_MEMORY);
    ports.jobs.run();
    const label = `pasid 0x${pasid.toString(16)}`;
    expect(ports.dma.log).toEqual([]);
    expect(ports.tagged.map(port => port.log)).toEqual([[`${label} read 0x2000 4`, `${label} write 0x3000 8`]]);
    expect(ports.trace.events).toEqual([]);
  });

  it('carries bytes both ways', () => {
    const { device, ports } = edu();
    write(device, PASID, ENABLE | 5n);
    device.buffer.set([1, 2, 3]);
    startDma(device, BUFFER, 0x3000, 3, START | TO_MEMORY);
    ports.jobs.run();
    startDma(device, 0x3000, BUFFER + 8, 3, START);
    ports.jobs.run();
    expect([...ports.tagged[0]!.memory.slice(0x3000, 0x3004)]).toEqual([1, 2, 3, 0]);
    expect([...device.buffer.slice(8, 12)]).toEqual([1, 2, 3, 0]);
    expect(ports.dma.memory.every(byte => byte === 0)).toBe(true);
  });

  it('can change between transfers, and be turned off again', () => {
    const { device, ports } = edu();
    for (const value of [ENABLE | 1n, ENABLE | 2n, 0n]) {
      write(device, PASID, value);
      startDma(device, 0x2000, BUFFER, 4, START);
      ports.jobs.run();
    }
    expect([...ports.tagged, ports.dma].map(port => port.log)).toEqual([
      ['pasid 0x1 read 0x2000 4'],
      ['pasid 0x2 read 0x2000 4'],
      ['read 0x2000 4'],
    ]);
  });

  it('is gone after a reset', () => {
    const { device, ports } = edu();
    write(device, PASID, ENABLE | 7n);
    device.reset();
    expect(read(device, PASID)).toBe(0n);
    startDma(device, 0x2000, BUFFER, 4, START);
    ports.jobs.run();
    expect(ports.tagged).toEqual([]);
    expect(ports.dma.log).toEqual(['read 0x2000 4']);
  });

  it('reports reserved bits', () => {
    const { device, ports } = edu();
    write(device, PASID, 0x0010_0000);
    expect(ports.trace.kinds()).toEqual(['register.reserved']);
    expect(read(device, PASID)).toBe(0n);
  });
});

describe('a DMA that fails', () => {
  const failures = Object.entries(DmaStatus).filter(([name]) => name !== 'ok');

  it.each(failures)('with %s completes, interrupt included, and is reported', (name, status) => {
    for (const toMemory of [false, true]) {
      const { device, ports } = edu();
      ports.dma.status = status;
      const [source, destination] = toMemory ? [BUFFER, 0x5000] : [0x5000, BUFFER];
      startDma(device, source, destination, 32, START | INTERRUPT | (toMemory ? TO_MEMORY : 0));
      ports.jobs.run();
      expect(read(device, COMMAND) & 1n).toBe(0n);
      expect(read(device, INTERRUPT_STATUS)).toBe(0x100n);
      expect(ports.trace.events).toEqual([
        { kind: 'edu.dmaFailed', source: 'edu0', detail: { status: name, address: 0x5000n, count: 32, toMemory } },
      ]);
    }
  });

  it.each([DmaStatus.fault, DmaStatus.noMemory])('as status %i fills what it did not read with ones', status => {
    const { device, ports } = edu();
    device.buffer.fill(0x11);
    ports.dma.memory.fill(0x22);
    ports.dma.status = status;
    ports.dma.partial = 3;
    startDma(device, 0x5000, BUFFER + 1, 5, START);
    ports.jobs.run();
    expect([...device.buffer.slice(0, 7)]).toEqual([0x11, 0x22, 0x22, 0x22, 0xff, 0xff, 0x11]);
  });

  it.each([DmaStatus.notBusMaster, DmaStatus.aborted])('as status %i leaves the buffer alone', status => {
    const { device, ports } = edu();
    device.buffer.fill(0x11);
    ports.dma.status = status;
    startDma(device, 0x5000, BUFFER, 5, START);
    ports.jobs.run();
    expect(device.buffer.every(byte => byte === 0x11)).toBe(true);
  });
});

describe('reset', () => {
  it('clears registers, buffer and line', () => {
    const { device, ports } = edu();
    write(device, LIVENESS, 1);
    write(device, STATUS, 0x80);
    write(device, RAISE, 1);
    write(device, SOURCE, -1n, 8);
    device.buffer.fill(1);
    device.reset();
    expect([LIVENESS, STATUS, INTERRUPT_STATUS, SOURCE].map(offset => read(device, offset))).toEqual([0n, 0n, 0n, 0n]);
    expect(device.buffer.every(byte => byte === 0)).toBe(true);
    expect(ports.line.asserted).toBe(false);
  });

  it('makes a queued factorial do nothing', () => {
    const { device, ports } = edu();
    write(device, STATUS, 0x80);
    write(device, FACTORIAL, 5);
    device.reset();
    write(device, FACTORIAL, 3);
    expect(ports.jobs.length).toBe(2);
    ports.jobs.run();
    expect(read(device, FACTORIAL)).toBe(6n);
    expect(ports.line.raised).toBe(0);
  });

  it('makes a queued DMA do nothing', () => {
    const { device, ports } = edu();
    startDma(device, 0x2000, BUFFER, 4, START | INTERRUPT);
    device.reset();
    ports.jobs.run();
    expect(ports.dma.log).toEqual([]);
    expect(ports.line.raised).toBe(0);
  });

  it('during a transfer leaves nothing of it behind', () => {
    const { device, ports } = edu();
    ports.dma.memory.fill(0x22);
    ports.dma.during = () => device.reset();
    startDma(device, 0x2000, BUFFER, 4, START | INTERRUPT);
    ports.jobs.run();
    expect(device.buffer.every(byte => byte === 0)).toBe(true);
    expect(ports.line.raised).toBe(0);
    expect(read(device, INTERRUPT_STATUS)).toBe(0n);
  });

  it('during a transfer does not end the one started after it', () => {
    const { device, ports } = edu();
    let first = true;
    ports.dma.during = () => {
      if (!first) return;
      first = false;
      device.reset();
      startDma(device, 0x3000, BUFFER, 8, START | INTERRUPT);
      expect(read(device, COMMAND) & 1n).toBe(1n);
    };
    startDma(device, 0x2000, BUFFER, 4, START);
    ports.jobs.run();
    expect(ports.dma.log).toEqual(['read 0x2000 4', 'read 0x3000 8']);
    expect(ports.line.raised).toBe(1);
  });
});
