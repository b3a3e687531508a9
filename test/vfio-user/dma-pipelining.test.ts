import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type DmaRequest, dmaPayload, type VfioUserClient } from '../../src/vfio-user/client.ts';
import { ETIMEDOUT } from '../../src/vfio-user/dma-messages.ts';
import { defaultLimits, type Limits, streamLimits } from '../../src/vfio-user/limits.ts';
import { Command } from '../../src/vfio-user/spec.ts';
import { BAR0, message, Rig, words } from './rig.ts';

const EIO = 5;
const EACCES = 13;
const EFAULT = 14;
const ENODEV = 19;
const PAGE = 4096;
const MEMORY = 1048576;
const PATTERN = Uint8Array.from({ length: MEMORY }, (_, i) => (i * 7 + (i >> 12)) & 0xff);

/** A client that answers when nothing more comes, all that it holds at once, in an order of the test's choice. */
class Holder {
  readonly memory = PATTERN.slice();
  /** How many requests came before each round of answers, and how many bytes they were about. */
  readonly rounds: { requests: number; bytes: number }[] = [];
  readonly seen: bigint[] = [];
  /** The errno of the answer to an address. */
  readonly errors = new Map<bigint, number>();
  /** Never answered. */
  readonly mute = new Set<bigint>();
  order: (held: Held[]) => Held[] = held => held;
  /** Run before each round of answers. */
  before: () => void = () => {};
  private held: Held[] = [];

  constructor(private readonly client: VfioUserClient) {
    client.onDmaRead = request => this.hold(Command.dmaRead, request);
    client.onDmaWrite = request => this.hold(Command.dmaWrite, { ...request, data: request.data.slice() });
  }

  answer({ command, request }: Held): void {
    const { id, address, count, data } = request;
    const errno = this.errors.get(address) ?? 0;
    const at = Number(address);
    if (errno === 0 && command === Command.dmaWrite) this.memory.set(data, at);
    const bytes = command === Command.dmaRead ? this.memory.slice(at, at + count) : new Uint8Array(0);
    this.client.sendReply(id, command, errno, errno === 0 ? dmaPayload(address, count, bytes) : new Uint8Array(0));
  }

  private hold(command: number, request: DmaRequest): undefined {
    this.seen.push(request.address);
    if (this.mute.has(request.address)) return;
    this.held.push({ command, request });
    if (this.held.length === 1) rig.later(() => this.release());
  }

  private release(): void {
    const held = this.held;
    this.held = [];
    this.rounds.push({ requests: held.length, bytes: held.reduce((sum, { request }) => sum + request.count, 0) });
    this.before();
    for (const one of this.order(held)) if (!this.client.connection.closed) this.answer(one);
  }
}

interface Held {
  readonly command: number;
  readonly request: DmaRequest;
}

let rig: Rig;
let client: VfioUserClient;
let holder: Holder;

function start(limits: Partial<Limits> = {}, over: 'socket' | 'stream' = 'socket'): void {
  rig = new Rig(limits);
  client = over === 'socket' ? rig.client() : rig.adopted();
  holder = new Holder(client);
}

afterEach(() => rig.close());

function read(frame: number, offset: number, length: number): { errno: number; bytes: Uint8Array } {
  const bytes = new Uint8Array(length);
  return { errno: rig.job(() => rig.model.client!.dmaRead(frame, offset, bytes, 0, length)), bytes };
}

function write(frame: number, offset: number, bytes: Uint8Array): number {
  return rig.job(() => rig.model.client!.dmaWrite(frame, offset, bytes, 0, bytes.length));
}

describe('a transfer in many messages', () => {
  it('sends as many as the window of messages takes before it waits', () => {
    start({ maxDmaRead: 100, maxDmaMessages: 8 });
    const { errno, bytes } = read(0, 0, 2000);
    expect(errno).toBe(0);
    expect(bytes).toEqual(holder.memory.slice(0, 2000));
    expect(holder.rounds.map(({ requests }) => requests)).toEqual([8, 8, 4]);
  });

  it('sends as many as the window of bytes takes', () => {
    start({ maxDmaRead: 100, maxDmaBytes: 350 });
    expect(read(0, 0, 1000).errno).toBe(0);
    expect(Math.max(...holder.rounds.map(({ bytes }) => bytes))).toBe(300);
  });

  it('sends one that is larger than the window alone', () => {
    start({ maxDmaRead: 1000, maxDmaBytes: 10 });
    expect(read(0, 0, 3000)).toEqual({ errno: 0, bytes: holder.memory.slice(0, 3000) });
    expect(holder.rounds.map(({ requests }) => requests)).toEqual([1, 1, 1]);
  });

  it('to QEMU, over a socket: at most 32 KiB a message and 128 KiB on their way', () => {
    start();
    expect(read(0, 0, 500_000).errno).toBe(0);
    expect(Math.max(...holder.rounds.map(({ bytes }) => bytes))).toBe(131072);
    expect(holder.rounds[0]).toEqual({ requests: 4, bytes: 131072 });
  });

  it('over a stream: whole messages', () => {
    start({}, 'stream');
    expect(read(0, 0, MEMORY).errno).toBe(0);
    expect(holder.rounds).toEqual([{ requests: 1, bytes: MEMORY }]);
  });

  it('leaves room for other answers beside a whole window of writes', () => {
    start();
    const limits = streamLimits(defaultLimits);
    const headers = limits.maxDmaMessages * 32;
    expect(limits.maxDmaBytes + headers).toBeLessThan(limits.maxQueuedBytes - 4096);
  });

  it('takes answers in any order', () => {
    start({ maxDmaRead: 64, maxDmaMessages: 16 });
    holder.order = held => held.reverse();
    expect(read(3, 17, 3000)).toEqual({ errno: 0, bytes: holder.memory.slice(3 * PAGE + 17, 3 * PAGE + 3017) });
  });

  it('writes all of it, in order', () => {
    start({ maxDataTransfer: 100 });
    const bytes = Uint8Array.from({ length: 2000 }, (_, i) => 255 - (i & 0xff));
    expect(write(1, 5, bytes)).toBe(0);
    expect(holder.memory.slice(PAGE + 5, PAGE + 2005)).toEqual(bytes);
    expect(holder.seen).toEqual([...holder.seen].sort((one, other) => Number(one - other)));
  });

  it('fails as its first failure in order of address, whichever answer comes first', () => {
    start({ maxDmaRead: 100 });
    holder.errors.set(300n, EACCES).set(700n, EIO);
    expect(read(0, 0, 1000).errno).toBe(EACCES);
    holder.order = held => held.reverse();
    expect(read(0, 0, 1000).errno).toBe(EACCES);
  });

  it('sends nothing more once it knows that it fails, and waits for what it asked', () => {
    start({ maxDmaRead: 100, maxDmaMessages: 4 });
    holder.errors.set(200n, EIO);
    expect(read(0, 0, 2000).errno).toBe(EIO);
    expect(holder.seen).toEqual([0n, 100n, 200n, 300n]);
    expect(read(0, 0, 100)).toEqual({ errno: 0, bytes: holder.memory.slice(0, 100) });
  });

  it('has no more on their way than the window while the client answers one by one', () => {
    start({ maxDmaRead: 64, maxDmaMessages: 4 });
    let asked = 0;
    let answered = 0;
    let most = 0;
    client.onDmaRead = ({ id, address, count }) => {
      asked++;
      most = Math.max(most, asked - answered);
      rig.later(() => {
        answered++;
        client.sendReply(id, Command.dmaRead, 0, dmaPayload(address, count, new Uint8Array(count)));
      });
      return undefined;
    };
    expect(read(0, 0, 6400).errno).toBe(0);
    expect([asked, most]).toEqual([100, 4]);
  });
});

describe('while messages are on their way', () => {
  it('registers are served', () => {
    start({ maxDmaRead: 64, maxDmaMessages: 4 });
    holder.before = () => {
      holder.before = () => {};
      client.sendCommand(Command.regionRead, words(0, 0, BAR0, 4));
    };
    expect(read(0, 0, 1000).errno).toBe(0);
    rig.until(() => rig.model.calls.includes('read 0 0 4'));
  });

  it('an unmap of their pages ends the transfer, and nothing more is asked', () => {
    start({ maxDmaRead: 64, maxDmaMessages: 4 });
    map(0n, 4);
    holder.before = () => {
      holder.before = () => {};
      client.sendCommand(Command.dmaUnmap, unmapPayload(0n, 4));
    };
    expect(read(0, 0, 4096).errno).toBe(EFAULT);
    // The unmap was on its way before the answers that made room.
    expect(holder.seen).toHaveLength(4);
  });

  it('so does an unmap of everything', () => {
    start({ maxDmaRead: 64, maxDmaMessages: 4 });
    map(0n, 4);
    holder.before = () => {
      holder.before = () => {};
      client.sendCommand(Command.dmaUnmap, words(24, 2, 0, 0, 0, 0));
    };
    expect(read(0, 0, 4096).errno).toBe(EFAULT);
    expect(holder.seen).toHaveLength(4);
  });

  it('an unmap of other pages does not', () => {
    start({ maxDmaRead: 64, maxDmaMessages: 4 });
    map(0n, 1);
    map(0x1000n, 1);
    holder.before = () => {
      holder.before = () => {};
      client.sendCommand(Command.dmaUnmap, unmapPayload(0x1000n, 1));
    };
    expect(read(0, 0, 4096).errno).toBe(0);
    expect(rig.model.dma.mapped).toHaveLength(1);
  });

  it('an unmap that is refused does not either', () => {
    start({ maxDmaRead: 64, maxDmaMessages: 4 });
    map(0n, 2);
    holder.before = () => {
      holder.before = () => {};
      client.sendCommand(Command.dmaUnmap, unmapPayload(0n, 1));
    };
    expect(read(0, 0, 4096).errno).toBe(0);
  });

  it('the client’s end is ENODEV', () => {
    start({ maxDmaRead: 64, maxDmaMessages: 4 });
    holder.before = () => client.close();
    expect(read(0, 0, 4096).errno).toBe(ENODEV);
  });

  function map(address: bigint, pages: number): void {
    const size = BigInt(pages * PAGE);
    client.dmaMap({ address, size, offset: 0n, readable: true, writable: true, descriptor: -1 });
  }

  function unmapPayload(address: bigint, pages: number): Uint8Array {
    return words(24, 0, Number(address), 0, pages * PAGE, 0);
  }
});

describe('messages that are not answered', () => {
  beforeEach(() => start({ maxDmaRead: 64, maxDmaMessages: 4, dmaTimeout: 30, maxUnanswered: 1 }));

  it('end the transfer once, and are told once', () => {
    for (let at = 0n; at < 1000n; at += 64n) holder.mute.add(at);
    expect(read(0, 0, 1000).errno).toBe(ETIMEDOUT);
    const told = rig.trace.events.filter(({ kind }) => kind === 'dma.unanswered');
    expect(told).toMatchObject([{ detail: { command: 'dmaRead', address: 0n, count: 64, messages: 4 } }]);
    expect(client.getDeviceInfo().regions).toBe(9);
  });

  it('are told by the first of them, when others were answered', () => {
    holder.mute.add(64n);
    expect(read(0, 0, 200).errno).toBe(ETIMEDOUT);
    const told = rig.trace.events.filter(({ kind }) => kind === 'dma.unanswered');
    expect(told).toMatchObject([{ detail: { address: 64n, messages: 1 } }]);
  });

  it('leave the window to those that come after', () => {
    for (let at = 0n; at < 1000n; at += 64n) holder.mute.add(at);
    expect(read(0, 0, 1000).errno).toBe(ETIMEDOUT);
    holder.mute.clear();
    expect(read(1, 0, 1000)).toEqual({ errno: 0, bytes: holder.memory.slice(PAGE, PAGE + 1000) });
  });

  it('close the connection when it is one transfer too many', () => {
    for (let at = 0n; at < 1000n; at += 64n) holder.mute.add(at);
    expect(read(0, 0, 1000).errno).toBe(ETIMEDOUT);
    expect(rig.server.connected).toBe(true);
    expect(read(0, 0, 64).errno).toBe(ETIMEDOUT);
    expect(rig.closeReason()).toBe('too many DMA messages unanswered');
  });

  it('do not count any more once all of them were answered late', () => {
    const late: DmaRequest[] = [];
    const serve = client.onDmaRead;
    client.onDmaRead = request => {
      late.push(request);
      return undefined;
    };
    for (let round = 0; round < 3; round++) {
      const { errno, bytes } = read(0, 0, 200);
      expect(errno).toBe(ETIMEDOUT);
      for (const { id, address, count } of late.splice(0)) {
        client.sendReply(id, Command.dmaRead, 0, dmaPayload(address, count, new Uint8Array(count).fill(9)));
      }
      rig.settle();
      // Nothing is written into a buffer that was given up.
      expect(bytes.every(byte => byte === 0)).toBe(true);
    }
    client.onDmaRead = serve;
    expect(read(0, 0, 200).errno).toBe(0);
  });
});

describe('a batch', () => {
  beforeEach(() => start({ maxDmaRead: 64, maxDataTransfer: 64, maxDmaMessages: 8 }));

  const batch = () => rig.model.client!.dmaBatch!;

  it('waits once for all of its runs', () => {
    const bytes = new Uint8Array(300);
    const errno = rig.job(() => {
      batch().begin();
      expect(batch().send(false, 5, 0, bytes, 0, 50, 0)).toBe(true);
      expect(batch().send(false, 2, 100, bytes, 100, 100, 1)).toBe(true);
      expect(batch().send(false, 9, 4000, bytes, 200, 100, 2)).toBe(true);
      expect(holder.seen).toEqual([]);
      return batch().end();
    });
    expect(errno).toBe(0);
    expect(holder.rounds).toEqual([{ requests: 5, bytes: 250 }]);
    const from = (at: number, length: number) => holder.memory.slice(at, at + length);
    expect(bytes.slice(0, 50)).toEqual(from(5 * PAGE, 50));
    expect(bytes.slice(100, 200)).toEqual(from(2 * PAGE + 100, 100));
    expect(bytes.slice(200)).toEqual(from(9 * PAGE + 4000, 100));
  });

  it('lets a source go at once', () => {
    const source = new Uint8Array(10).fill(1);
    rig.job(() => {
      batch().begin();
      batch().send(true, 0, 0, source, 0, 10, 0);
      source.fill(2);
      return batch().end();
    });
    expect(holder.memory[5]).toBe(1);
  });

  it('names the first run that failed, and where', () => {
    holder.errors.set(BigInt(2 * PAGE + 64), EACCES).set(BigInt(7 * PAGE), EIO);
    holder.order = held => held.reverse();
    const bytes = new Uint8Array(100);
    const errno = rig.job(() => {
      batch().begin();
      batch().send(false, 1, 0, bytes, 0, 100, 11);
      batch().send(false, 2, 0, bytes, 0, 100, 22);
      batch().send(false, 7, 0, bytes, 0, 100, 33);
      return batch().end();
    });
    expect([errno, batch().failedMark, batch().failedFrame]).toEqual([EACCES, 22, 2]);
  });

  it('says so when the rest need not be sent', () => {
    holder.errors.set(0n, EIO);
    const sent = rig.job(() => {
      const bytes = new Uint8Array(64);
      const results: boolean[] = [];
      batch().begin();
      for (let i = 0; i < 20; i++) results.push(batch().send(false, i, 0, bytes, 0, 64, i));
      expect(batch().end()).toBe(EIO);
      return results;
    });
    expect(sent.indexOf(false)).toBe(8);
    expect(holder.seen).toHaveLength(8);
  });

  it('lets a transfer of its own answers through in the middle', () => {
    const bytes = new Uint8Array(64);
    const errnos = rig.job(() => {
      batch().begin();
      batch().send(false, 1, 0, bytes, 0, 64, 0);
      const word = new Uint8Array(8);
      const errno = rig.model.client!.dmaRead(3, 8, word, 0, 8);
      expect(word).toEqual(holder.memory.slice(3 * PAGE + 8, 3 * PAGE + 16));
      return [errno, batch().end()];
    });
    expect(errnos).toEqual([0, 0]);
    expect(bytes).toEqual(holder.memory.slice(PAGE, PAGE + 64));
  });

  it('that nobody ended is ended by the next', () => {
    const old = new Uint8Array(64);
    rig.job(() => {
      batch().begin();
      batch().send(false, 1, 0, old, 0, 64, 0);
    });
    const bytes = new Uint8Array(64);
    const errno = rig.job(() => {
      batch().begin();
      batch().send(false, 2, 0, bytes, 0, 64, 0);
      return batch().end();
    });
    expect(errno).toBe(0);
    expect(bytes).toEqual(holder.memory.slice(2 * PAGE, 2 * PAGE + 64));
  });

  it('ends with the client', () => {
    holder.before = () => client.close();
    const port = rig.model.client!;
    const errno = rig.job(() => {
      port.dmaBatch!.begin();
      for (let i = 0; i < 20; i++) port.dmaBatch!.send(false, i, 0, new Uint8Array(64), 0, 64, i);
      return port.dmaBatch!.end();
    });
    expect(errno).toBe(ENODEV);
  });

  it('after the client has gone fails at once', () => {
    const port = rig.model.client!;
    client.close();
    rig.until(() => !rig.server.connected);
    port.dmaBatch!.begin();
    expect(port.dmaBatch!.send(true, 0, 0, new Uint8Array(4), 0, 4, 0)).toBe(false);
    expect(port.dmaBatch!.end()).toBe(ENODEV);
  });
});

it('whatever the window and the order of answers, the bytes are the same', () => {
  start();
  rig.close();
  fc.assert(
    fc.property(
      fc.record({
        maxDmaRead: fc.integer({ min: 1, max: 300 }),
        maxDataTransfer: fc.integer({ min: 16, max: 300 }),
        maxDmaMessages: fc.integer({ min: 1, max: 20 }),
        maxDmaBytes: fc.integer({ min: 1, max: 2000 }),
      }),
      fc.array(fc.record({ writing: fc.boolean(), at: fc.nat(8000), length: fc.integer({ min: 1, max: 1500 }) }), {
        minLength: 1,
        maxLength: 6,
      }),
      fc.infiniteStream(fc.nat()),
      (limits, transfers, random) => {
        start(limits);
        const draw = () => random.next().value as number;
        holder.order = held => {
          for (let i = held.length - 1; i > 0; i--) {
            const j = draw() % (i + 1);
            [held[i], held[j]] = [held[j]!, held[i]!];
          }
          return held;
        };
        const expected = holder.memory.slice();
        for (const { writing, at, length } of transfers) {
          if (writing) {
            const bytes = Uint8Array.from({ length }, () => draw() & 0xff);
            expected.set(bytes, at);
            if (write(at >> 12, at & 0xfff, bytes) !== 0) throw new Error('a write failed');
          } else {
            const { errno, bytes } = read(at >> 12, at & 0xfff, length);
            if (errno !== 0 || Buffer.compare(bytes, expected.subarray(at, at + length)) !== 0)
              throw new Error('other bytes');
          }
        }
        if (Buffer.compare(holder.memory, expected) !== 0) throw new Error('other memory');
        rig.close();
      },
    ),
    { numRuns: 40 },
  );
  start();
});

it('a reply to a message of the window with another count closes the connection, and ends all of it', () => {
  start({ maxDmaRead: 64 });
  holder.before = () => {
    holder.before = () => {};
    client.sendRaw(message(Command.dmaRead, dmaPayload(0n, 63, new Uint8Array(64)), { id: 1, flags: 1 }));
  };
  expect(read(0, 0, 1000).errno).toBe(ENODEV);
  expect(rig.closeReason()).toMatch(/another address or count|to no request/);
});
