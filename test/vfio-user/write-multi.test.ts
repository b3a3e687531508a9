import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioUserClient } from '../../src/vfio-user/client.ts';
import { type SmallWrite, writeMany, writeMultiPayload } from '../../src/vfio-user/client-regions.ts';
import { Command } from '../../src/vfio-user/spec.ts';
import { BAR0, CONFIG, errnoOf, message, READ_ONLY_BAR, Rig } from './rig.ts';

const EINVAL = 22;
const EIO = 5;
const ENOTSUP = 95;

let rig: Rig;
let client: VfioUserClient;
beforeEach(() => {
  rig = new Rig();
  client = agreed();
});
afterEach(() => rig.close());

function agreed(target = rig): VfioUserClient {
  const connected = target.connect();
  connected.negotiate({ capabilities: { write_multiple: true } });
  return connected;
}

function at(offset: number, ...bytes: number[]): SmallWrite {
  return { region: BAR0, offset, bytes: Uint8Array.from(bytes) };
}

function bar(from: number, to: number): number[] {
  return [...rig.model.memory.get(BAR0)!.subarray(from, to)];
}

describe('write_multiple', () => {
  it('is agreed on where the client proposes it', () => {
    client.close();
    rig.until(() => !rig.server.connected);
    const { data } = rig.connect().negotiate({ capabilities: { write_multiple: true } });
    expect(JSON.parse(data).capabilities).toEqual({ write_multiple: true });
  });

  it.each([{ write_multiple: false }, {}])(
    'is not where the proposal is %j: then the command is refused',
    capabilities => {
      client.close();
      rig.until(() => !rig.server.connected);
      const other = rig.connect();
      expect(JSON.parse(other.negotiate({ capabilities }).data).capabilities).toEqual({});
      expect(other.request(Command.regionWriteMulti, writeMultiPayload([at(0, 1)])).errno).toBe(ENOTSUP);
      expect(bar(0, 1)).toEqual([0]);
    },
  );

  it('is not where the server is told not to', () => {
    const plain = new Rig({ writeMultiple: false });
    const other = plain.connect();
    expect(JSON.parse(other.negotiate({ capabilities: { write_multiple: true } }).data).capabilities).toEqual({});
    plain.close();
  });

  it('works over a stream without descriptors', () => {
    client.close();
    rig.until(() => !rig.server.connected);
    const stream = rig.adopt();
    stream.negotiate({ capabilities: { write_multiple: true } });
    expect(writeMany(stream, [at(3, 7)])).toBe(1);
    expect(bar(3, 4)).toEqual([7]);
  });
});

describe('REGION_WRITE_MULTI', () => {
  it('writes of 1 to 8 bytes, in order, and counts them', () => {
    const writes = [at(0, 1), at(8, 1, 2, 3, 4, 5, 6, 7, 8), at(0, 9, 9), at(9, 0xff)];
    expect(writeMany(client, writes)).toBe(4);
    expect(bar(0, 2)).toEqual([9, 9]);
    expect(bar(8, 16)).toEqual([1, 0xff, 3, 4, 5, 6, 7, 8]);
    expect(rig.model.calls.slice(1)).toEqual(['write 0 0 1', 'write 0 8 8', 'write 0 0 2', 'write 0 9 1']);
  });

  it('may go to several regions', () => {
    expect(writeMany(client, [at(1, 5), { region: CONFIG, offset: 60, bytes: Uint8Array.of(6) }])).toBe(2);
    expect(rig.model.memory.get(CONFIG)![60]).toBe(6);
  });

  it('may hold nothing', () => {
    expect(writeMany(client, [])).toBe(0);
  });

  it('takes a write of no bytes for done', () => {
    expect(writeMany(client, [at(0)])).toBe(1);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('is done before the reply to what comes behind it, where it is posted', () => {
    writeMany(client, [at(4, 0x11), at(5, 0x22)], true);
    expect(client.regionRead(BAR0, 4, 2)).toEqual(Uint8Array.of(0x11, 0x22));
    expect(rig.server.statistics.messages.regionWriteMulti).toBe(1);
  });

  it('does the writes behind one that is refused, as if each had come alone', () => {
    const readOnly = { region: READ_ONLY_BAR, offset: 0, bytes: Uint8Array.of(1) };
    expect(writeMany(client, [at(0, 1), readOnly, at(1, 2)])).toBe(2);
    expect(bar(0, 2)).toEqual([1, 2]);
    expect(rig.trace.events.at(-1)).toMatchObject({
      kind: 'message.refused',
      detail: { command: 'regionWriteMulti', errno: EINVAL, writes: 1 },
    });
  });

  it('fails with the errno of the first where none was done', () => {
    rig.model.refuse = EIO;
    expect(errnoOf(() => writeMany(client, [at(0, 1), at(4096, 1)]))).toBe(EIO);
  });

  it.each<[string, SmallWrite]>([
    ['a region that does not exist', { region: 77, offset: 0, bytes: Uint8Array.of(1) }],
    ['a region of size zero', { region: 1, offset: 0, bytes: Uint8Array.of(1) }],
    ['the end of a region', at(4093, 1, 2, 3, 4)],
    ['an offset beyond 2^53', { region: BAR0, offset: (1n << 64n) - 1n, bytes: Uint8Array.of(1) }],
  ])('refuses %s', (_, write) => {
    expect(errnoOf(() => writeMany(client, [write]))).toBe(EINVAL);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('takes as many writes as its limit, and not one more', () => {
    const limited = new Rig({ maxCoalescedWrites: 3 });
    try {
      const other = agreed(limited);
      expect(writeMany(other, [at(0, 1), at(1, 1), at(2, 1)])).toBe(3);
      expect(errnoOf(() => writeMany(other, [at(0, 2), at(1, 2), at(2, 2), at(3, 2)]))).toBe(EINVAL);
      expect(limited.model.memory.get(BAR0)![0]).toBe(1);
    } finally {
      limited.close();
    }
  });

  const whole = writeMultiPayload([at(0, 1), at(1, 2)]);
  const changed = (offset: number, value: bigint) => {
    const payload = whole.slice();
    new DataView(payload.buffer).setBigUint64(offset, value, true);
    return payload;
  };
  it.each<[string, Uint8Array]>([
    ['no payload', new Uint8Array(0)],
    ['half a count', whole.subarray(0, 7)],
    ['a write cut short', whole.subarray(0, -1)],
    ['a write too few', changed(0, 3n)],
    ['a write too many', changed(0, 1n)],
    ['a count of 2^32 + 2', changed(0, (1n << 32n) + 2n)],
    ['a count of all ones', changed(0, (1n << 64n) - 1n)],
  ])('does nothing at all with %s', (_, payload) => {
    expect(client.request(Command.regionWriteMulti, payload).errno).toBe(EINVAL);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('does nothing at all where one write has more than 8 bytes', () => {
    const payload = whole.slice();
    new DataView(payload.buffer).setUint32(8 + 24 + 12, 9, true);
    expect(client.request(Command.regionWriteMulti, payload).errno).toBe(EINVAL);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('that was posted and is malformed has no reply, and the connection goes on', () => {
    client.sendRaw(message(Command.regionWriteMulti, whole.subarray(0, 9), { flags: 0x10 }));
    expect(client.getDeviceInfo().regions).toBe(9);
    expect(rig.server.statistics.refused).toBe(1);
  });

  it('leaves the same memory behind as so many single writes', () => {
    const write = fc.record({
      region: fc.constantFrom(BAR0, READ_ONLY_BAR, CONFIG, 5, 99),
      offset: fc.oneof(fc.nat(300), fc.constantFrom(4088, 4090, 4095, 4096)),
      bytes: fc.uint8Array({ maxLength: 8 }),
    });
    const snapshot = () => [...rig.model.memory.values()].map(bytes => bytes.slice(0, 4096));
    const clear = () => [BAR0, CONFIG].forEach(region => void rig.model.memory.get(region)!.fill(0));
    fc.assert(
      fc.property(fc.array(write, { maxLength: 20 }), writes => {
        clear();
        const done = writes.filter(
          ({ region, offset, bytes }) => errnoOf(() => client.regionWrite(region, offset, bytes)) === 0,
        );
        const expected = snapshot();
        clear();
        if (done.length > 0 || writes.length === 0) expect(writeMany(client, writes)).toBe(done.length);
        else expect(errnoOf(() => writeMany(client, writes))).toBe(EINVAL);
        expect(snapshot()).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });
});
