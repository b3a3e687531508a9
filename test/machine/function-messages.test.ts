import { beforeEach, describe, expect, it } from 'vitest';
import { functionMessages } from '../../src/machine/function-messages.ts';
import type { PciFunction } from '../../src/pci/function.ts';
import type { InterruptMessages } from '../../src/pci/ports.ts';

describe('interrupt messages of a function', () => {
  let writes: { readonly address: number; readonly bytes: readonly number[] }[];
  let errno: number;
  let messages: InterruptMessages;
  beforeEach(() => {
    writes = [];
    errno = 0;
    const client = {
      dmaWrite(frame: number, offset: number, source: Uint8Array, at: number, length: number): number {
        writes.push({ address: frame * 4096 + offset, bytes: [...source.subarray(at, at + length)] });
        return errno;
      },
    };
    messages = functionMessages({ client } as unknown as PciFunction);
  });

  it.each([0xfee00000, 0xfee01004, 0xfeeffffc])('are written by the client to %d', address => {
    expect(messages.send(0, address | 0, 0x4021)).toBe(true);
    expect(writes).toEqual([{ address, bytes: [0x21, 0x40, 0, 0] }]);
  });

  // What FEADDR is after a reset: a client must not be asked to write where it has mapped nothing.
  it.each([0, 0x1000, 0xfedffffc, 0xfef00000, 0xfffffffc])('do not go to %d, where no interrupts are', address => {
    expect(messages.send(0, address | 0, 0x4021)).toBe(false);
    expect(writes).toEqual([]);
  });

  it('do not go beyond 4 GiB', () => {
    expect(messages.send(1, 0xfee00000 | 0, 0)).toBe(false);
    expect(writes).toEqual([]);
  });

  it('are lost where the client refuses them', () => {
    errno = 19;
    expect(messages.send(0, 0xfee00000 | 0, 0)).toBe(false);
  });

  it('are lost without a client', () => {
    expect(functionMessages({ client: undefined } as unknown as PciFunction).send(0, 0xfee00000 | 0, 0)).toBe(false);
  });
});
