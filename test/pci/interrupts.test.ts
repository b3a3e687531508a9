import { describe, expect, it } from 'vitest';
import type { FunctionDefinition } from '../../src/pci/definition.ts';
import type { PciFunction } from '../../src/pci/function.ts';
import { InterruptIndex } from '../../src/pci/interrupts.ts';
import type { TraceLog } from '../../src/trace/trace.ts';
import {
  FakeClient,
  full,
  functionOf,
  MemoryHandler,
  plain,
  readConfig,
  readRegion,
  writeConfig,
  writeRegion,
} from './fakes.ts';

const { intx, msi, msix } = InterruptIndex;
const MASTER = 0x4;
const INTERRUPT_DISABLE = 0x400;
const INTERRUPT_STATUS = 0x08;

/** A connected function with bus mastering on. */
function connected(
  definition: FunctionDefinition,
  client: FakeClient,
): { pci: PciFunction; client: FakeClient; trace: TraceLog } {
  const { pci, trace } = functionOf(definition);
  pci.connected(client);
  writeConfig(pci, 0x04, 2, MASTER);
  return { pci, client, trace };
}

/** Sets eventfds as the client does: they are there, and the function is told. */
function arm(pci: PciFunction, client: FakeClient, index: number, ...vectors: number[]): void {
  client.arm(index, ...vectors);
  pci.armed(index);
}

describe('interrupt indexes', () => {
  it('have the flags of vfio-pci', () => {
    const message = { eventfd: true, maskable: false, automasked: false };
    const absent = { count: 0, eventfd: false, maskable: false, automasked: false, noresize: false };
    expect(functionOf(full).pci.interrupts).toEqual([
      { count: 1, eventfd: true, maskable: true, automasked: true, noresize: false },
      { ...message, count: 8, noresize: true },
      { ...message, count: 70, noresize: false },
      absent,
      absent,
    ]);
  });

  it('are absent where the function has none', () => {
    const { pci } = functionOf({ ...plain, interruptPin: 0 });
    expect(pci.interrupts.map(index => index.count)).toEqual([0, 0, 0, 0, 0]);
  });
});

describe('INTx', () => {
  function line(): { pci: PciFunction; client: FakeClient; trace: TraceLog } {
    return connected(plain, new FakeClient().arm(intx, 0));
  }

  it('signals once while it stays asserted and masked', () => {
    const { pci, client } = line();
    pci.line.raise();
    pci.line.raise();
    expect(client.triggered).toEqual(['0:0']);
  });

  it('signals again on unmask while still asserted', () => {
    const { pci, client } = line();
    pci.line.raise();
    pci.unmasked(intx, 0);
    expect(client.triggered).toEqual(['0:0', '0:0']);
  });

  it('stays quiet on unmask after it was lowered', () => {
    const { pci, client } = line();
    pci.line.raise();
    pci.line.lower();
    pci.unmasked(intx, 0);
    expect(client.triggered).toEqual(['0:0']);
  });

  it('raised again before the unmask signals with the unmask', () => {
    const { pci, client } = line();
    pci.line.raise();
    pci.line.lower();
    pci.line.raise();
    expect(client.triggered.length).toBe(1);
    pci.unmasked(intx, 0);
    expect(client.triggered.length).toBe(2);
  });

  it('signals each assertion when the client unmasks in between', () => {
    const { pci, client } = line();
    for (let round = 0; round < 3; round++) {
      pci.line.raise();
      pci.line.lower();
      pci.unmasked(intx, 0);
    }
    expect(client.triggered.length).toBe(3);
  });

  it('shows in STATUS while asserted, also when disabled', () => {
    const { pci } = line();
    writeConfig(pci, 0x04, 2, INTERRUPT_DISABLE);
    pci.line.raise();
    expect(readConfig(pci, 0x06, 2) & INTERRUPT_STATUS).toBe(INTERRUPT_STATUS);
    pci.line.lower();
    expect(readConfig(pci, 0x06, 2) & INTERRUPT_STATUS).toBe(0);
  });

  it('cannot be cleared from STATUS by software', () => {
    const { pci } = line();
    pci.line.raise();
    writeConfig(pci, 0x06, 2, 0xffff);
    expect(readConfig(pci, 0x06, 2) & INTERRUPT_STATUS).toBe(INTERRUPT_STATUS);
  });

  it('waits while COMMAND disables it, and signals when it is enabled again', () => {
    const { pci, client } = line();
    writeConfig(pci, 0x04, 2, INTERRUPT_DISABLE);
    pci.line.raise();
    expect(client.triggered).toEqual([]);
    writeConfig(pci, 0x04, 2, 0);
    expect(client.triggered).toEqual(['0:0']);
  });

  it('needs no bus mastering', () => {
    const { pci, client } = line();
    writeConfig(pci, 0x04, 2, 0);
    pci.line.raise();
    expect(client.triggered).toEqual(['0:0']);
  });

  it('waits in D3hot', () => {
    const { pci, client } = line();
    writeConfig(pci, 0x44, 2, 3);
    pci.line.raise();
    expect(client.triggered).toEqual([]);
    writeConfig(pci, 0x44, 2, 0);
    expect(client.triggered).toEqual(['0:0']);
  });

  it('waits for its eventfd', () => {
    const { pci, client } = connected(plain, new FakeClient());
    pci.line.raise();
    arm(pci, client, intx, 0);
    expect(client.triggered).toEqual(['0:0']);
  });

  it('masked by the client signals on unmask', () => {
    const { pci, client } = line();
    client.mask(intx, 0, true);
    pci.line.raise();
    expect(client.triggered).toEqual([]);
    client.mask(intx, 0, false);
    pci.unmasked(intx, 0);
    expect(client.triggered).toEqual(['0:0']);
  });

  it('loses its mask when the eventfd is taken away', () => {
    const { pci, client } = line();
    pci.line.raise();
    client.disarm(intx, 0);
    pci.armed(intx);
    arm(pci, client, intx, 0);
    expect(client.triggered).toEqual(['0:0', '0:0']);
  });

  it('keeps its mask when the eventfd is exchanged', () => {
    const { pci, client } = line();
    pci.line.raise();
    pci.armed(intx);
    expect(client.triggered).toEqual(['0:0']);
  });

  it('is deasserted by a reset', () => {
    const { pci, client } = line();
    pci.line.raise();
    pci.reset();
    pci.unmasked(intx, 0);
    expect(client.triggered).toEqual(['0:0']);
    expect(readConfig(pci, 0x06, 2) & INTERRUPT_STATUS).toBe(0);
  });

  it('goes to the next client unmasked', () => {
    const { pci } = line();
    pci.line.raise();
    pci.disconnected();
    const next = new FakeClient().arm(intx, 0);
    pci.connected(next);
    pci.line.raise();
    expect(next.triggered).toEqual(['0:0']);
  });

  it('without a pin is reported as lost', () => {
    const { pci, trace } = connected({ ...plain, interruptPin: 0 }, new FakeClient());
    pci.line.raise();
    expect(trace.kinds()).toEqual(['interrupt.lost']);
  });

  it('without a client is kept', () => {
    const { pci } = functionOf(plain);
    pci.line.raise();
    expect(readConfig(pci, 0x06, 2) & INTERRUPT_STATUS).toBe(INTERRUPT_STATUS);
  });
});

describe('MSI', () => {
  const definition: FunctionDefinition = { ...plain, msi: { vectors: 4, wide: true, maskable: true } };

  function armed(): { pci: PciFunction; client: FakeClient; trace: TraceLog; at: number } {
    const made = connected(definition, new FakeClient().arm(intx, 0).arm(msi, 0, 1, 2, 3));
    return { ...made, at: made.pci.config.capability(0x05) };
  }

  it('is sent where an eventfd is armed, instead of INTx', () => {
    const { pci, client } = armed();
    pci.line.raise(2);
    pci.line.raise(2);
    expect(client.triggered).toEqual(['1:2', '1:2']);
  });

  it('leaves the INTx status alone', () => {
    const { pci } = armed();
    pci.line.raise(0);
    expect(readConfig(pci, 0x06, 2) & INTERRUPT_STATUS).toBe(0);
  });

  it('masked stays pending, and goes once when unmasked', () => {
    const { pci, client, at } = armed();
    writeConfig(pci, at + 0x10, 4, 0b0100);
    pci.line.raise(2);
    pci.line.raise(2);
    pci.line.raise(1);
    expect(client.triggered).toEqual(['1:1']);
    expect(readConfig(pci, at + 0x14, 4)).toBe(0b0100);
    writeConfig(pci, at + 0x10, 4, 0);
    expect(client.triggered).toEqual(['1:1', '1:2']);
    expect(readConfig(pci, at + 0x14, 4)).toBe(0);
  });

  it('enabled but not armed yet waits for its eventfd', () => {
    const { pci, client } = connected(definition, new FakeClient().arm(intx, 0));
    writeConfig(pci, pci.config.capability(0x05) + 2, 2, 0x0021);
    pci.line.raise(3);
    expect(client.triggered).toEqual([]);
    arm(pci, client, msi, 0, 1, 2, 3);
    expect(client.triggered).toEqual(['1:3']);
  });

  it.each([
    [0, ['1:0', '1:0', '1:0', '1:0']],
    [1, ['1:0', '1:1', '1:0', '1:1']],
    [2, ['1:0', '1:1', '1:2', '1:3']],
  ])('with 2^%i vectors allocated shares them', (allocated, expected) => {
    const { pci, client, at } = armed();
    writeConfig(pci, at + 2, 2, 1 | (allocated << 4));
    for (let vector = 0; vector < 4; vector++) pci.line.raise(vector);
    expect(client.triggered).toEqual(expected);
  });

  it.each([-1, 4, 31])('of vector %i, which does not exist, is reported', vector => {
    const { pci, client, trace } = armed();
    pci.line.raise(vector);
    expect(client.triggered).toEqual([]);
    expect(trace.kinds()).toEqual(['interrupt.vector']);
  });

  it('without bus mastering is reported, and goes when it is on', () => {
    const { pci, client, trace } = armed();
    writeConfig(pci, 0x04, 2, 0);
    pci.line.raise(1);
    expect(client.triggered).toEqual([]);
    expect(trace.kinds()).toEqual(['interrupt.notBusMaster']);
    writeConfig(pci, 0x04, 2, MASTER);
    expect(client.triggered).toEqual(['1:1']);
  });

  it('in D3hot waits for D0', () => {
    const { pci, client } = armed();
    writeConfig(pci, 0x44, 2, 3);
    pci.line.raise(1);
    expect(client.triggered).toEqual([]);
    writeConfig(pci, 0x44, 2, 0);
    expect(client.triggered).toEqual(['1:1']);
  });

  it('pending is dropped when MSI is switched off', () => {
    const { pci, client, at } = armed();
    writeConfig(pci, at + 0x10, 4, 0b1);
    pci.line.raise(0);
    client.disarm(msi, 0, 1, 2, 3);
    pci.armed(msi);
    expect(readConfig(pci, at + 0x14, 4)).toBe(0);
    pci.line.raise(0);
    expect(client.triggered).toEqual(['0:0']);
  });

  it('pending is dropped by a reset', () => {
    const { pci, client, at } = armed();
    writeConfig(pci, at + 0x10, 4, 0b1);
    pci.line.raise(0);
    pci.reset();
    writeConfig(pci, 0x04, 2, MASTER);
    expect(client.triggered).toEqual([]);
  });

  it('with all 32 vectors reaches the last', () => {
    const many: FunctionDefinition = { ...plain, msi: { vectors: 32, wide: false, maskable: true } };
    const { pci, client } = connected(many, new FakeClient().arm(msi, 31));
    const at = pci.config.capability(0x05);
    writeConfig(pci, at + 0x0c, 4, 0xffffffff);
    pci.line.raise(31);
    expect(readConfig(pci, at + 0x10, 4)).toBe(0x80000000);
    writeConfig(pci, at + 0x0c, 4, 0);
    expect(client.triggered).toEqual(['1:31']);
  });

  it('without masks in the capability is sent too', () => {
    const bare: FunctionDefinition = { ...plain, msi: { vectors: 1, wide: true, maskable: false } };
    const { pci, client } = connected(bare, new FakeClient().arm(msi, 0));
    pci.line.raise();
    expect(client.triggered).toEqual(['1:0']);
  });
});

describe('MSI-X', () => {
  const TABLE = 0x2000;
  const PENDING = 0x3000;
  const BAR = 2;

  function armed(...vectors: number[]): { pci: PciFunction; client: FakeClient; control: number; trace: TraceLog } {
    const client = new FakeClient()
      .arm(intx, 0)
      .arm(msi, 0)
      .arm(msix, ...vectors);
    const made = connected(full, client);
    made.pci.setHandler(BAR, new MemoryHandler(0x10000));
    return { ...made, control: made.pci.config.capability(0x11) + 2 };
  }

  it('goes before MSI and INTx', () => {
    const { pci, client } = armed(0, 5, 69);
    for (const vector of [5, 69, 0]) pci.line.raise(vector);
    expect(client.triggered).toEqual(['2:5', '2:69', '2:0']);
  });

  it('needs no table: QEMU keeps that itself', () => {
    const { pci, client } = armed(1);
    expect(readRegion(pci, BAR, TABLE + 16 + 12, 4)).toBe(1);
    pci.line.raise(1);
    expect(client.triggered).toEqual(['2:1']);
  });

  it('masked in the table is pending, and goes once when unmasked', () => {
    const { pci, client } = armed(1);
    writeRegion(pci, BAR, TABLE + 16, 8, 0xfee00000n);
    pci.line.raise(1);
    pci.line.raise(1);
    expect(client.triggered).toEqual([]);
    expect(readRegion(pci, BAR, PENDING, 4)).toBe(0b10);
    writeRegion(pci, BAR, TABLE + 16 + 12, 4, 0);
    expect(client.triggered).toEqual(['2:1']);
    expect(readRegion(pci, BAR, PENDING, 4)).toBe(0);
  });

  it('waits under the function mask', () => {
    const { pci, client, control } = armed(1, 69);
    writeConfig(pci, control, 2, 0xc000);
    pci.line.raise(69);
    pci.line.raise(1);
    expect(client.triggered).toEqual([]);
    expect(readRegion(pci, BAR, PENDING + 8, 4)).toBe(0b100000);
    writeConfig(pci, control, 2, 0x8000);
    expect(client.triggered).toEqual(['2:1', '2:69']);
  });

  it('enabled but not armed yet waits for its eventfd', () => {
    const { pci, client, control } = armed();
    writeConfig(pci, control, 2, 0x8000);
    pci.line.raise(7);
    expect(client.triggered).toEqual([]);
    arm(pci, client, msix, 7);
    expect(client.triggered).toEqual(['2:7']);
  });

  it('survives its eventfds being exchanged while it is enabled', () => {
    const { pci, client, control } = armed(1);
    writeConfig(pci, control, 2, 0x8000);
    client.disarm(msix, 1);
    pci.armed(msix);
    pci.line.raise(1);
    expect(client.triggered).toEqual([]);
    arm(pci, client, msix, 1, 2);
    expect(client.triggered).toEqual(['2:1']);
  });

  it.each([-1, 70, 4096])('of vector %i, which does not exist, is reported', vector => {
    const { pci, client, trace } = armed(1);
    pci.line.raise(vector);
    expect(client.triggered).toEqual([]);
    expect(trace.kinds()).toEqual(['interrupt.vector']);
  });

  it('without bus mastering is reported, and goes when it is on', () => {
    const { pci, client, trace } = armed(1);
    writeConfig(pci, 0x04, 2, 0);
    pci.line.raise(1);
    expect(client.triggered).toEqual([]);
    expect(trace.kinds()).toEqual(['interrupt.notBusMaster']);
    writeConfig(pci, 0x04, 2, MASTER);
    expect(client.triggered).toEqual(['2:1']);
  });

  it('gives way to MSI when its eventfds are gone', () => {
    const { pci, client } = armed(1);
    client.disarm(msix, 1);
    pci.armed(msix);
    pci.line.raise(0);
    expect(client.triggered).toEqual(['1:0']);
  });

  it('pending is dropped when MSI-X is switched off', () => {
    const { pci, client } = armed(1);
    writeRegion(pci, BAR, TABLE + 16 + 12, 4, 1);
    pci.line.raise(1);
    client.disarm(msix, 1);
    pci.armed(msix);
    expect(readRegion(pci, BAR, PENDING, 4)).toBe(0);
  });

  it('is reset with the function', () => {
    const { pci, client, control } = armed(1);
    writeRegion(pci, BAR, TABLE + 16 + 12, 4, 1);
    pci.line.raise(1);
    pci.reset();
    expect(readConfig(pci, control, 2)).toBe(69);
    expect(readRegion(pci, BAR, PENDING, 4)).toBe(0);
    expect(client.triggered).toEqual([]);
  });

  it('sends nothing after the client has gone', () => {
    const { pci, client } = armed(1);
    pci.disconnected();
    pci.line.raise(1);
    expect(client.triggered).toEqual([]);
  });
});
