import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Command, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { BAR0, CONFIG, errnoOf, LARGE_BAR, message, READ_ONLY_BAR, Rig, WRITE_ONLY_BAR, words } from './rig.ts';

const EIO = 5;
const EINVAL = 22;

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

/** Accesses that must be refused whatever the direction: what, offset as two words, region, count. */
const outOfRange: [string, number, number, number, number][] = [
  ['the byte after the end', 0, 4096, BAR0, 1],
  ['across the end', 0, 4093, BAR0, 4],
  ['an offset of 4 GiB', 1, 0, BAR0, 4],
  ['an offset that would wrap 32 bits', 0, 0xffffffff, BAR0, 4],
  ['an offset that would wrap 64 bits', 0xffffffff, 0xfffffffc, BAR0, 8],
  ['an offset beyond what a double holds', 0x200000, 1, BAR0, 4],
  ['a region that has no size', 0, 0, 1, 4],
  ['a region that does not exist', 0, 0, 9, 4],
  ['a region far out', 0, 0, 0xffffffff, 4],
  ['nothing, beyond the end', 0, 4097, BAR0, 0],
];

describe('REGION_READ', () => {
  it('gives the bytes of the model', () => {
    rig.model.memory.get(BAR0)!.set([1, 2, 3, 4], 100);
    expect(rig.client().regionRead(BAR0, 100, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
  });

  it('repeats offset, region and count before the data', () => {
    const { payload } = rig.client().request(Command.regionRead, words(8, 0, CONFIG, 2));
    expect(payload).toEqual(Uint8Array.of(...words(8, 0, CONFIG, 2), 0, 0));
  });

  it.each([1, 2, 4, 8, 3, 64, 256])('takes %i bytes', count => {
    expect(rig.client().regionRead(CONFIG, 0, count)).toHaveLength(count);
    expect(rig.model.calls).toContain(`read 7 0 ${count}`);
  });

  it('reaches the last byte', () => {
    rig.model.memory.get(BAR0)![4095] = 9;
    expect(rig.client().regionRead(BAR0, 4095, 1)).toEqual(Uint8Array.of(9));
  });

  it('of nothing is answered without asking the model', () => {
    expect(rig.client().regionRead(BAR0, 4096, 0)).toHaveLength(0);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it.each(outOfRange)('refuses %s', (_, high, low, region, count) => {
    expect(rig.client().request(Command.regionRead, words(low, high, region, count)).errno).toBe(EINVAL);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('refuses more than the largest transfer, also where the region has it', () => {
    expect(errnoOf(() => rig.client().regionRead(LARGE_BAR, 0, 1048577))).toBe(EINVAL);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('refuses a count of 4 GiB', () => {
    expect(rig.client().request(Command.regionRead, words(0, 0, LARGE_BAR, 0xffffffff)).errno).toBe(EINVAL);
  });

  it('refuses a region that cannot be read', () => {
    expect(errnoOf(() => rig.client().regionRead(WRITE_ONLY_BAR, 0, 4))).toBe(EINVAL);
  });

  it('refuses a short payload', () => {
    expect(rig.client().request(Command.regionRead, words(0, 0, BAR0)).errno).toBe(EINVAL);
  });

  it('passes on the errno of the model', () => {
    rig.model.refuse = EIO;
    expect(errnoOf(() => rig.client().regionRead(BAR0, 0, 4))).toBe(EIO);
  });
});

describe('REGION_WRITE', () => {
  it('brings the bytes to the model', () => {
    rig.client().regionWrite(BAR0, 100, Uint8Array.of(5, 6, 7));
    expect(rig.model.memory.get(BAR0)!.subarray(99, 104)).toEqual(Uint8Array.of(0, 5, 6, 7, 0));
  });

  it('is answered with offset, region and count', () => {
    const answer = rig.client().request(Command.regionWrite, words(4, 0, CONFIG, 4, 0xffff));
    expect(answer).toEqual({ errno: 0, payload: words(4, 0, CONFIG, 4) });
  });

  it('of eight bytes is one access', () => {
    rig.client().regionWrite(BAR0, 0x28, new Uint8Array(8));
    expect(rig.model.calls).toEqual(['connected', 'write 0 40 8']);
  });

  it.each(outOfRange)('refuses %s', (_, high, low, region, count) => {
    const payload = Uint8Array.of(...words(low, high, region, count), ...new Uint8Array(count));
    expect(rig.client().request(Command.regionWrite, payload).errno).toBe(EINVAL);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('refuses a count that is more than the data', () => {
    expect(rig.client().request(Command.regionWrite, words(0, 0, BAR0, 8, 1)).errno).toBe(EINVAL);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('refuses a count that is less than the data', () => {
    expect(rig.client().request(Command.regionWrite, words(0, 0, BAR0, 2, 1)).errno).toBe(EINVAL);
  });

  it('refuses a region that cannot be written', () => {
    expect(errnoOf(() => rig.client().regionWrite(READ_ONLY_BAR, 0, Uint8Array.of(1)))).toBe(EINVAL);
    expect(rig.model.memory.get(READ_ONLY_BAR)![0]).toBe(0x5a);
  });

  it('passes on the errno of the model', () => {
    rig.model.refuse = EIO;
    expect(errnoOf(() => rig.client().regionWrite(BAR0, 0, Uint8Array.of(1)))).toBe(EIO);
  });
});

describe('a posted write', () => {
  it('takes effect before a later read, and is not answered', () => {
    const client = rig.client();
    const before = client.connection.bytesReceived;
    client.regionWrite(BAR0, 0, Uint8Array.of(42), { posted: true });
    expect(client.regionRead(BAR0, 0, 1)).toEqual(Uint8Array.of(42));
    expect(client.connection.bytesReceived - before).toBe(33);
  });

  it('that is refused is not answered either, but noted', () => {
    const client = rig.client();
    const before = client.connection.bytesReceived;
    client.regionWrite(BAR0, 5000, Uint8Array.of(1), { posted: true });
    expect(client.regionRead(BAR0, 0, 1)).toHaveLength(1);
    expect(client.connection.bytesReceived - before).toBe(33);
    expect(rig.trace.events.at(-1)).toEqual({
      kind: 'message.refused',
      source: 'device',
      detail: { command: 'regionWrite', errno: EINVAL, posted: true },
    });
  });

  it('that the model refuses is noted with its errno', () => {
    const client = rig.client();
    rig.model.refuse = EIO;
    client.regionWrite(BAR0, 0, Uint8Array.of(1), { posted: true });
    client.reset();
    expect(rig.trace.events.at(-1)!.detail).toMatchObject({ errno: EIO, posted: true });
  });
});

describe('a read without a reply', () => {
  it('reaches the model and is not answered', () => {
    const client = rig.client();
    client.sendRaw(message(Command.regionRead, words(0, 0, BAR0, 4), { flags: HeaderFlag.noReply }));
    client.reset();
    expect(rig.model.calls).toEqual(['connected', 'read 0 0 4', 'reset']);
    expect(client.endReason).toBeUndefined();
  });
});

describe('work that a write causes', () => {
  it('runs after the answer is out', () => {
    const client = rig.client();
    const order: string[] = [];
    rig.model.onWrite = () => rig.loop.push(() => order.push(`job, ${rig.server.statistics.bytesSent} bytes sent`));
    const before = rig.server.statistics.bytesSent;
    client.regionWrite(BAR0, 0, Uint8Array.of(1));
    rig.until(() => order.length > 0);
    expect(order).toEqual([`job, ${before + 32} bytes sent`]);
  });
});
