import { fstatSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor, StreamSocket, socketPair } from '../../src/posix/socket.ts';
import { DESCRIPTORS_PER_SEND_LIMIT } from '../../src/posix/stream-socket.ts';
import { openDescriptors } from './support.ts';

const INPUT_BYTES = 65536;
const OUTPUT_BYTES = 1 << 20;
const MAX_DESCRIPTORS = 4;

let a: StreamSocket;
let b: StreamSocket;
let files: number[];

beforeEach(() => {
  const [one, other] = socketPair();
  a = new StreamSocket(one, INPUT_BYTES, OUTPUT_BYTES, MAX_DESCRIPTORS);
  b = new StreamSocket(other, INPUT_BYTES, OUTPUT_BYTES, MAX_DESCRIPTORS);
  files = [];
});

afterEach(() => {
  a.close();
  b.close();
  for (const fd of files) closeDescriptor(fd);
});

function file(bytes = 4096): number {
  const fd = createMemfd('passed', bytes);
  files.push(fd);
  return fd;
}

function put(socket: StreamSocket, text: string, at = 0): number {
  return new TextEncoder().encodeInto(text, socket.output.subarray(at)).written;
}

function text(socket: StreamSocket, at: number, length: number): string {
  return new TextDecoder().decode(socket.input.subarray(at, at + length));
}

describe('StreamSocket, bytes', () => {
  it('carries bytes both ways', () => {
    expect(a.send(0, put(a, 'ping'))).toBe(4);
    expect(b.receive(0, INPUT_BYTES)).toBe(4);
    expect(text(b, 0, 4)).toBe('ping');
    expect(b.send(0, put(b, 'pong!'))).toBe(5);
    expect(a.receive(0, INPUT_BYTES)).toBe(5);
    expect(text(a, 0, 5)).toBe('pong!');
  });

  it('sends from and receives to any place of its buffers, and nowhere else', () => {
    put(a, 'word', 1000);
    b.input.fill(0x2e, 0, 20);
    a.send(1000, 4);
    expect(b.receive(7, 4)).toBe(4);
    expect(text(b, 0, 20)).toBe('.......word.........');
  });

  it('reaches the last byte of both buffers', () => {
    a.output[OUTPUT_BYTES - 1] = 99;
    expect(a.send(OUTPUT_BYTES - 1, 1)).toBe(1);
    expect(b.receive(INPUT_BYTES - 1, 1)).toBe(1);
    expect(b.input[INPUT_BYTES - 1]).toBe(99);
  });

  it('returns -1 where nothing is there yet', () => {
    expect(b.receive(0, INPUT_BYTES)).toBe(-1);
  });

  it('returns 0 at the end of the stream, after the last bytes', () => {
    a.send(0, put(a, 'last'));
    a.close();
    expect(b.receive(0, INPUT_BYTES)).toBe(4);
    expect(b.receive(0, INPUT_BYTES)).toBe(0);
    expect(b.receive(0, INPUT_BYTES)).toBe(0);
  });

  it('leaves what does not fit for the next call', () => {
    a.send(0, put(a, 'abcdef'));
    expect(b.receive(0, 4)).toBe(4);
    expect(b.receive(4, 4)).toBe(2);
    expect(text(b, 0, 6)).toBe('abcdef');
  });

  it('joins sends without descriptors', () => {
    a.send(0, put(a, 'one'));
    a.send(0, put(a, 'two'));
    expect(b.receive(0, INPUT_BYTES)).toBe(6);
    expect(text(b, 0, 6)).toBe('onetwo');
  });

  it('sends in part, then not at all, and goes on when there is room again: no byte lost', () => {
    for (let i = 0; i < OUTPUT_BYTES; i++) a.output[i] = (i * 7) ^ (i >> 8);
    let sent = a.send(0, OUTPUT_BYTES);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(OUTPUT_BYTES);
    for (let more = sent; more > 0; ) {
      more = a.send(sent, OUTPUT_BYTES - sent);
      if (more > 0) sent += more;
    }
    expect(a.send(sent, OUTPUT_BYTES - sent)).toBe(-1);
    let received = 0;
    let wrong = 0;
    while (received < OUTPUT_BYTES) {
      const count = b.receive(0, INPUT_BYTES);
      for (let i = 0; i < count; i++, received++) if (b.input[i] !== a.output[received]) wrong++;
      if (sent < OUTPUT_BYTES) {
        const more = a.send(sent, OUTPUT_BYTES - sent);
        if (more > 0) sent += more;
      }
    }
    expect(received).toBe(OUTPUT_BYTES);
    expect(wrong).toBe(0);
  });

  it('throws EPIPE when it sends to a peer that is gone', () => {
    b.close();
    expect(() => a.send(0, 1)).toThrow(expect.objectContaining({ call: 'send', code: 'EPIPE', errno: 32 }));
  });

  it('throws ECONNRESET where the peer left bytes of ours unread', () => {
    a.send(0, 1);
    b.close();
    expect(() => a.receive(0, 1)).toThrow(expect.objectContaining({ call: 'recvmsg', code: 'ECONNRESET' }));
  });

  it.each([
    [-1, 1],
    [0, 0],
    [0, -1],
    [0, INPUT_BYTES + 1],
    [INPUT_BYTES, 1],
    [1, INPUT_BYTES],
    [0.5, 1],
    [0, Number.NaN],
    [2 ** 32, 1],
  ])('refuses to receive at %s, length %s', (at, length) => {
    expect(() => b.receive(at, length)).toThrow(RangeError);
  });

  it.each([
    [-1, 1],
    [0, 0],
    [1, OUTPUT_BYTES],
    [OUTPUT_BYTES, 1],
  ])('refuses to send from %s, length %s', (at, length) => {
    expect(() => a.send(at, length)).toThrow(RangeError);
  });
});

describe('StreamSocket, descriptors', () => {
  it('carries them, in order, to the same files', () => {
    const sent = [file(1), file(2), file(3)];
    a.send(0, put(a, 'x'), sent);
    expect(b.receive(0, INPUT_BYTES)).toBe(1);
    expect(b.receivedDescriptors).toBe(3);
    const taken = b.takeDescriptors();
    files.push(...taken);
    expect(taken.map(fd => fstatSync(fd).ino)).toEqual(sent.map(fd => fstatSync(fd).ino));
    expect(new Set([...sent, ...taken]).size).toBe(6);
    expect(b.descriptorsTruncated).toBe(false);
  });

  it('gives each of them away once', () => {
    a.send(0, 1, [file()]);
    b.receive(0, 1);
    files.push(...b.takeDescriptors());
    expect(b.takeDescriptors()).toEqual([]);
    expect(b.receivedDescriptors).toBe(0);
  });

  it('gathers those of several receives until they are taken', () => {
    const sent = [file(), file()];
    a.send(0, 1, [sent[0]!]);
    a.send(0, 1, [sent[1]!]);
    b.receive(0, INPUT_BYTES);
    b.receive(0, INPUT_BYTES);
    const taken = b.takeDescriptors();
    files.push(...taken);
    expect(taken.map(fd => fstatSync(fd).ino)).toEqual(sent.map(fd => fstatSync(fd).ino));
  });

  it('does not join two sends that both carry some', () => {
    a.send(0, put(a, 'one'), [file()]);
    a.send(0, put(a, 'two'), [file()]);
    expect(b.receive(0, INPUT_BYTES)).toBe(3);
    expect(b.receivedDescriptors).toBe(1);
    expect(b.receive(0, INPUT_BYTES)).toBe(3);
    expect(b.receivedDescriptors).toBe(2);
  });

  it('come with the first byte, also where the rest is received later', () => {
    a.send(0, put(a, 'abcd'), [file()]);
    expect(b.receive(0, 1)).toBe(1);
    expect(b.receivedDescriptors).toBe(1);
    expect(b.receive(1, 10)).toBe(3);
    expect(b.receivedDescriptors).toBe(1);
  });

  it('are not sent again with a later message', () => {
    a.send(0, 1, [file()]);
    b.receive(0, 1);
    files.push(...b.takeDescriptors());
    a.send(0, 1);
    b.receive(0, 1);
    expect(b.receivedDescriptors).toBe(0);
  });

  it('are closed in child processes', () => {
    a.send(0, 1, [file()]);
    b.receive(0, 1);
    const [fd] = b.takeDescriptors();
    files.push(fd!);
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))![1]!;
    expect(Number.parseInt(flags, 8) & 0o2000000).toBe(0o2000000);
  });

  it.each([1, 2, 3, 4])('takes exactly %s and tells of more, which are closed', limit => {
    const [one, other] = socketPair();
    const sender = new StreamSocket(one, 16, 16, 8);
    const receiver = new StreamSocket(other, 16, 16, limit);
    const exactly = Array.from({ length: limit }, () => file());
    sender.send(0, 1, exactly);
    receiver.receive(0, 1);
    expect(receiver.descriptorsTruncated).toBe(false);
    expect(receiver.receivedDescriptors).toBe(limit);

    const before = openDescriptors();
    sender.send(0, 1, [...exactly, exactly[0]!]);
    expect(receiver.receive(0, 1)).toBe(1);
    expect(receiver.descriptorsTruncated).toBe(true);
    expect(receiver.receivedDescriptors).toBe(2 * limit);
    expect(openDescriptors()).toBe(before + limit);
    sender.close();
    receiver.close();
  });

  it('takes none where none are allowed, and tells', () => {
    const [one, other] = socketPair();
    const sender = new StreamSocket(one, 16, 16, 1);
    const receiver = new StreamSocket(other, 16, 16, 0);
    const fd = file();
    const before = openDescriptors();
    sender.send(0, 1, [fd]);
    expect(receiver.receive(0, 1)).toBe(1);
    expect(receiver.descriptorsTruncated).toBe(true);
    expect(receiver.takeDescriptors()).toEqual([]);
    expect(openDescriptors()).toBe(before);
    sender.close();
    receiver.close();
  });

  it('carries as many as the system allows in one message', () => {
    const [one, other] = socketPair();
    const sender = new StreamSocket(one, 16, 16, DESCRIPTORS_PER_SEND_LIMIT);
    const receiver = new StreamSocket(other, 16, 16, DESCRIPTORS_PER_SEND_LIMIT);
    const before = openDescriptors();
    const fd = file();
    expect(sender.send(0, 1, new Array(DESCRIPTORS_PER_SEND_LIMIT).fill(fd))).toBe(1);
    receiver.receive(0, 1);
    expect(receiver.receivedDescriptors).toBe(DESCRIPTORS_PER_SEND_LIMIT);
    expect(receiver.descriptorsTruncated).toBe(false);
    sender.close();
    receiver.close();
    expect(openDescriptors()).toBe(before + 1 - 2);
  });

  it('refuses to send more than it was made for', () => {
    const fd = file();
    expect(() => a.send(0, 1, new Array(MAX_DESCRIPTORS + 1).fill(fd))).toThrow(RangeError);
  });

  it('throws EBADF where one of them is not open', () => {
    expect(() => a.send(0, 1, [99999])).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it.each([-1, 1.5, DESCRIPTORS_PER_SEND_LIMIT + 1])('cannot be made for %s of them', count => {
    expect(() => new StreamSocket(a.fd, 16, 16, count)).toThrow(RangeError);
  });
});

describe('StreamSocket.close', () => {
  it('closes the socket and what nobody took', () => {
    const fd = file();
    a.send(0, 1, [fd, fd]);
    const before = openDescriptors();
    b.receive(0, 1);
    expect(openDescriptors()).toBe(before + 2);
    b.close();
    expect(openDescriptors()).toBe(before - 1);
  });

  it('may be called again, and harms nobody who got the number since', () => {
    b.close();
    const [one, other] = socketPair();
    b.close();
    const c = new StreamSocket(one, 16, 16, 0);
    const d = new StreamSocket(other, 16, 16, 0);
    expect(c.send(0, 1)).toBe(1);
    expect(d.receive(0, 1)).toBe(1);
    c.close();
    d.close();
  });

  it('leaves a socket that refuses everything', () => {
    b.close();
    expect(() => b.receive(0, 1)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => b.send(0, 1)).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it('hands its buffers on without the bytes', () => {
    a.send(0, put(a, 'secret'));
    b.receive(0, 6);
    b.close();
    const [one, other] = socketPair();
    const next = new StreamSocket(one, INPUT_BYTES, OUTPUT_BYTES, MAX_DESCRIPTORS);
    expect(next.input.every(byte => byte === 0)).toBe(true);
    next.close();
    closeDescriptor(other);
  });
});
