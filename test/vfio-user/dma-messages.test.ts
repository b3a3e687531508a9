import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DmaRequest, dmaPayload, type VfioUserClient } from '../../src/vfio-user/client.ts';
import { ETIMEDOUT } from '../../src/vfio-user/dma-messages.ts';
import { Command, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { BAR0, concat, message, Rig, words } from './rig.ts';

const EIO = 5;
const E2BIG = 7;
const ENODEV = 19;

const PATTERN = new Uint8Array(3 * 1048576);
for (let i = 0; i < PATTERN.length; i++) PATTERN[i] = i % 253;

let rig: Rig;
let client: VfioUserClient;
/** The client's memory, from guest address 0 on. */
let memory: Uint8Array;

beforeEach(() => {
  rig = new Rig();
  client = serve(rig.client());
});
afterEach(() => rig.close());

function serve(one: VfioUserClient): VfioUserClient {
  memory = PATTERN.slice();
  one.onDmaRead = ({ address, count }) => memory.slice(Number(address), Number(address) + count);
  one.onDmaWrite = ({ address, data }) => {
    memory.set(data, Number(address));
    return 0;
  };
  return one;
}

function read(frame: number, offset: number, length: number): { errno: number; bytes: Uint8Array } {
  const bytes = new Uint8Array(length);
  return { errno: rig.job(() => rig.model.client!.dmaRead(frame, offset, bytes, 0, length)), bytes };
}

function write(frame: number, offset: number, bytes: Uint8Array): number {
  return rig.job(() => rig.model.client!.dmaWrite(frame, offset, bytes, 0, bytes.length));
}

describe('DMA_READ', () => {
  it('brings the client’s bytes', () => {
    expect(read(2, 5, 8)).toEqual({ errno: 0, bytes: memory.slice(8197, 8205) });
  });

  it('puts them where they belong in the target', () => {
    const target = new Uint8Array(8);
    expect(rig.job(() => rig.model.client!.dmaRead(0, 1, target, 4, 2))).toBe(0);
    expect(target).toEqual(Uint8Array.of(0, 0, 0, 0, 1, 2, 0, 0));
  });

  it('crosses pages', () => {
    expect(read(0, 4000, 200).bytes).toEqual(memory.slice(4000, 4200));
  });

  it('of nothing sends nothing', () => {
    expect(read(0, 0, 0).errno).toBe(0);
    expect(rig.server.statistics.dmaMessages).toBe(0);
  });

  it('of more than one message holds goes in chunks', () => {
    const { errno, bytes } = read(1, 7, 100_000);
    expect(errno).toBe(0);
    expect(Buffer.compare(bytes, memory.subarray(4103, 4103 + 100_000))).toBe(0);
    expect(rig.server.statistics.dmaMessages).toBe(4);
  });

  it('asks for no more than QEMU can answer in one piece', () => {
    const counts: number[] = [];
    client.onDmaRead = ({ count }) => {
      counts.push(count);
      return new Uint8Array(count);
    };
    expect(read(0, 0, 70_000).errno).toBe(0);
    expect(counts).toEqual([32768, 32768, 4464]);
  });

  it('gives the address in 64 bits, and carries into the upper half', () => {
    const addresses: bigint[] = [];
    client.onDmaRead = ({ address, count }) => {
      addresses.push(address);
      return new Uint8Array(count);
    };
    expect(read(0x7fffffff, 0xfff, 1).errno).toBe(0);
    expect(read(0xffffc, 0, 32768 + 4096).errno).toBe(0);
    expect(addresses).toEqual([0x7ffffffffffn, 0xffffc000n, 0x100004000n]);
  });

  it('gives the client’s errno', () => {
    client.onDmaRead = () => ENODEV;
    expect(read(0, 0, 4).errno).toBe(ENODEV);
    client.onDmaRead = () => E2BIG;
    expect(read(0, 0, 4).errno).toBe(E2BIG);
    expect(client.endReason).toBeUndefined();
  });

  it('gives EIO where the client gives an error without number', () => {
    client.onDmaRead = ({ id }) => {
      answerRaw(id, Command.dmaRead, 0x21, 0, new Uint8Array(0));
      return undefined;
    };
    expect(read(0, 0, 4).errno).toBe(EIO);
  });

  it('stops at the chunk that fails', () => {
    client.onDmaRead = ({ address, count }) => (address >= 32768n ? E2BIG : new Uint8Array(count).fill(7));
    const { errno, bytes } = read(0, 0, 100_000);
    expect(errno).toBe(E2BIG);
    expect([bytes[0], bytes[32767], bytes[32768]]).toEqual([7, 7, 0]);
  });
});

describe('DMA_WRITE', () => {
  it('brings our bytes to the client', () => {
    expect(write(1, 3, Uint8Array.of(9, 8, 7))).toBe(0);
    expect(memory.subarray(4098, 4103)).toEqual(Uint8Array.of(4098 % 253, 9, 8, 7, 4102 % 253));
  });

  it('of more than one message holds goes in chunks', () => {
    const bytes = PATTERN.slice(17, 2_200_017);
    expect(write(0, 0, bytes)).toBe(0);
    expect(Buffer.compare(memory.subarray(0, bytes.length), bytes)).toBe(0);
    expect(rig.server.statistics.dmaMessages).toBe(3);
  });

  it('to an interrupt address is four bytes at that address', () => {
    let seen: DmaRequest | undefined;
    client.onDmaWrite = request => {
      seen = { ...request, data: request.data.slice() };
      return 0;
    };
    expect(write(0xfee00, 0x10, words(0x4041))).toBe(0);
    expect(seen).toMatchObject({ address: 0xfee00010n, count: 4, data: words(0x4041) });
  });

  it('gives the client’s errno', () => {
    client.onDmaWrite = () => ENODEV;
    expect(write(0, 0, Uint8Array.of(1))).toBe(ENODEV);
  });
});

describe('while a DMA waits', () => {
  it('a register read behind its last answer finds the job gone on', () => {
    client.onDmaRead = ({ id, address, count }) => {
      client.sendRaw(
        concat(
          message(Command.dmaRead, dmaPayload(address, count, new Uint8Array(count)), {
            id,
            flags: HeaderFlag.typeReply,
          }),
          message(Command.regionRead, words(0, 0, BAR0, 1), { id: 4711 }),
        ),
      );
      return undefined;
    };
    rig.job(() => {
      rig.model.client!.dmaRead(0, 0, new Uint8Array(4), 0, 4);
      rig.model.calls.push('done');
    });
    rig.until(() => rig.model.calls.includes('read 0 0 1'));
    expect(rig.model.calls).toEqual(['connected', 'done', 'read 0 0 1']);
  });

  it('register reads are answered', () => {
    rig.model.memory.get(BAR0)![0] = 0x77;
    const received: number[] = [];
    client.onDmaRead = ({ id, address, count }) => {
      client.sendCommand(Command.regionRead, words(0, 0, BAR0, 1));
      const before = client.connection.bytesReceived;
      later(() => received.push(client.connection.bytesReceived - before));
      later(() => client.sendReply(id, Command.dmaRead, 0, dmaPayload(address, count, new Uint8Array(count).fill(1))));
      return undefined;
    };
    expect(read(0, 0, 4)).toEqual({ errno: 0, bytes: Uint8Array.of(1, 1, 1, 1) });
    expect(rig.model.calls).toContain('read 0 0 1');
    // The answer to the register read was there before ours to the DMA went out.
    expect(received).toEqual([33]);
  });

  it('maps and unmaps are served', () => {
    client.onDmaRead = ({ id, address, count }) => {
      client.sendCommand(Command.dmaMap, words(32, 3, 0, 0, 0, 0, 4096, 0));
      later(() => client.sendReply(id, Command.dmaRead, 0, dmaPayload(address, count, new Uint8Array(count))));
      return undefined;
    };
    expect(read(0, 0, 4).errno).toBe(0);
    expect(rig.model.dma.mapped).toHaveLength(1);
  });

  it('other jobs wait', () => {
    const order: string[] = [];
    client.onDmaRead = ({ count }) => {
      rig.loop.push(() => order.push('second'));
      return new Uint8Array(count);
    };
    rig.job(() => {
      rig.model.client!.dmaRead(0, 0, new Uint8Array(4), 0, 4);
      order.push('first');
    });
    rig.until(() => order.length === 2);
    expect(order).toEqual(['first', 'second']);
  });

  it('the client’s end is ENODEV, and so is everything after', () => {
    client.onDmaRead = () => {
      later(() => client.close());
      return undefined;
    };
    const port = rig.model.client!;
    const errnos = rig.job(() => [
      port.dmaRead(0, 0, new Uint8Array(4), 0, 4),
      port.dmaRead(0, 0, new Uint8Array(4), 0, 4),
      port.dmaWrite(0, 0, new Uint8Array(4), 0, 4),
    ]);
    expect(errnos).toEqual([ENODEV, ENODEV, ENODEV]);
    expect(rig.model.calls).toEqual(['connected', 'disconnected']);
  });

  it('the server’s end is ENODEV', () => {
    client.onDmaRead = () => {
      later(() => rig.server.close());
      return undefined;
    };
    expect(read(0, 0, 4).errno).toBe(ENODEV);
  });

  it('a fresh client does not inherit the wait', () => {
    client.onDmaRead = () => {
      later(() => client.close());
      return undefined;
    };
    expect(read(0, 0, 4).errno).toBe(ENODEV);
    serve(rig.client());
    expect(read(0, 0, 4)).toEqual({ errno: 0, bytes: Uint8Array.of(0, 1, 2, 3) });
  });
});

describe('a reply that cannot be right closes the connection', () => {
  /** The client answers with `payload`; what the waiter gets and why the connection ended. */
  function answerWith(command: number, payload: (request: DmaRequest) => Uint8Array): [number, string | undefined] {
    const handler = (request: DmaRequest) => {
      client.sendReply(request.id, command, 0, payload(request));
      return undefined;
    };
    client.onDmaRead = handler;
    client.onDmaWrite = handler;
    const errno = command === Command.dmaWrite ? write(0, 4096, words(1)) : read(0, 4096, 4).errno;
    return [errno, rig.closeReason()];
  }

  it('a write answered with a count of 4 bytes', () => {
    expect(answerWith(Command.dmaWrite, () => words(4096, 0, 4))).toEqual([ENODEV, 'DMA reply in another layout']);
  });

  it('a write answered with a header alone', () => {
    expect(answerWith(Command.dmaWrite, () => words())).toEqual([ENODEV, 'DMA reply in another layout']);
  });

  it('a read answered with its data 4 bytes early', () => {
    expect(answerWith(Command.dmaRead, () => words(4096, 0, 4, 0x1234))).toEqual([
      ENODEV,
      'DMA reply in another layout',
    ]);
  });

  it('a read answered with its data 4 bytes early and padded to our size', () => {
    expect(answerWith(Command.dmaRead, () => words(4096, 0, 4, 0x1234, 0))).toEqual([
      ENODEV,
      'DMA reply repeats another address or count',
    ]);
  });

  it('too little data', () => {
    expect(answerWith(Command.dmaRead, () => dmaPayload(4096n, 4, new Uint8Array(3)))[1]).toMatch(/layout/);
  });

  it('too much data', () => {
    expect(answerWith(Command.dmaRead, () => dmaPayload(4096n, 4, new Uint8Array(5)))[1]).toMatch(/layout/);
  });

  it('another address', () => {
    expect(answerWith(Command.dmaRead, () => dmaPayload(4097n, 4, new Uint8Array(4)))).toEqual([
      ENODEV,
      'DMA reply repeats another address or count',
    ]);
  });

  it('another count', () => {
    expect(answerWith(Command.dmaWrite, () => dmaPayload(4096n, 5, new Uint8Array(0)))[0]).toBe(ENODEV);
  });

  it('another command', () => {
    client.onDmaRead = ({ id }) => {
      client.sendReply(id, Command.dmaWrite, 0, dmaPayload(4096n, 4, new Uint8Array(0)));
      return undefined;
    };
    expect(read(0, 4096, 4).errno).toBe(ENODEV);
    expect(rig.closeReason()).toBe('reply to another command');
  });

  it('another id', () => {
    client.onDmaRead = ({ id, address, count }) => {
      client.sendReply(id ^ 0x55, Command.dmaRead, 0, dmaPayload(address, count, new Uint8Array(4)));
      return undefined;
    };
    expect(read(0, 4096, 4).errno).toBe(ENODEV);
    expect(rig.closeReason()).toBe('reply to no request');
  });

  it('the same reply twice', () => {
    client.onDmaRead = ({ id, address, count }) => {
      const payload = dmaPayload(address, count, Uint8Array.of(1, 2, 3, 4));
      client.sendReply(id, Command.dmaRead, 0, payload);
      client.sendReply(id, Command.dmaRead, 0, payload);
      return undefined;
    };
    expect(read(0, 4096, 4)).toEqual({ errno: 0, bytes: Uint8Array.of(1, 2, 3, 4) });
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('reply to no request');
  });
});

describe('a DMA that is not answered', () => {
  beforeEach(() => {
    rig.close();
    rig = new Rig({ dmaTimeout: 20, maxUnanswered: 2 });
    client = serve(rig.client());
  });

  it('ends, and the connection lives', () => {
    client.onDmaRead = () => undefined;
    expect(read(0, 0, 4).errno).toBe(ETIMEDOUT);
    expect(rig.trace.events.at(-1)).toMatchObject({
      kind: 'dma.unanswered',
      detail: { command: 'dmaRead', address: 0n, count: 4 },
    });
    expect(client.getDeviceInfo().regions).toBe(9);
  });

  it('is answered late without harm to what was read meanwhile', () => {
    let late = -1;
    client.onDmaRead = ({ id }) => {
      late = id;
      return undefined;
    };
    const { bytes } = read(0, 0, 4);
    serve(client);
    client.sendReply(late, Command.dmaRead, 0, dmaPayload(0n, 4, Uint8Array.of(9, 9, 9, 9)));
    expect(read(0, 0, 4)).toEqual({ errno: 0, bytes: Uint8Array.of(0, 1, 2, 3) });
    expect(bytes).toEqual(new Uint8Array(4));
    expect(rig.trace.kinds()).toContain('dma.answered-late');
  });

  it('closes the connection when it happens too often', () => {
    client.onDmaRead = () => undefined;
    for (let i = 0; i < 3; i++) expect(read(0, 0, 4).errno).toBe(ETIMEDOUT);
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('too many DMA messages unanswered');
  });

  it('ends at once when the client goes', () => {
    client.onDmaRead = () => {
      client.close();
      return undefined;
    };
    expect(read(0, 0, 4).errno).toBe(ENODEV);
  });
});

describe('DMA from a register handler', () => {
  it('is a fault of the model: it throws instead of waiting for the client that waits for it', () => {
    rig.model.onWrite = () => rig.model.client!.dmaRead(0, 0, new Uint8Array(4), 0, 4);
    expect(() => client.regionWrite(BAR0, 0, Uint8Array.of(1))).toThrow(/errno 5/);
    rig.until(() => rig.errors.length > 0);
    expect(String(rig.errors.pop())).toMatch(/use a job/);
  });
});

const later = (work: () => void) => rig.later(work);

function answerRaw(id: number, command: number, flags: number, errno: number, payload: Uint8Array): void {
  const bytes = message(command, payload, { id, flags });
  new DataView(bytes.buffer).setUint32(12, errno, true);
  client.sendRaw(bytes);
}
