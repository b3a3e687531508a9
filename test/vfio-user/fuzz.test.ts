/** The fuzzer: a short run of it, and that it sees what is wrong. How much: VIOMMU_FUZZ_MESSAGES, VIOMMU_SOAK_CYCLES, VIOMMU_SOAK_ACCESSES. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { closeDescriptor, StreamSocket, socketPair } from '../../src/posix/socket.ts';
import { mapPayload, message, unmapPayload, words } from '../../src/vfio-user/conformance/wire.ts';
import { Command, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { ANY_ANSWERS } from '../fuzz/answers.ts';
import type { Expectation, FunctionFacts } from '../fuzz/expectation.ts';
import type { FuzzFailure } from '../fuzz/failure.ts';
import { generateEpisode } from '../fuzz/generate.ts';
import { compose, toBytes } from '../fuzz/messages.ts';
import { Peer } from '../fuzz/peer.ts';
import { Random } from '../fuzz/random.ts';
import { Reference } from '../fuzz/reference.ts';
import { TwinReference } from '../fuzz/reference-twin.ts';
import { TWIN_VERSION } from '../fuzz/reference-version.ts';
import { shrink } from '../fuzz/shrink.ts';
import { type DescriptorKind, formatEpisode, parseEpisode } from '../fuzz/steps.ts';
import type { Units } from '../fuzz/units.ts';
import { repository } from '../support.ts';

const MESSAGES = process.env.VIOMMU_FUZZ_MESSAGES ?? '100000';
const CYCLES = process.env.VIOMMU_SOAK_CYCLES ?? '500';
const ACCESSES = process.env.VIOMMU_SOAK_ACCESSES ?? '50000';
const RUN_MS = 280_000;
/** What must happen again and again, or caches, faults and interrupts are hardly tried: at least once in so many messages. */
const OFTEN = [
  'VT-d walks',
  'VT-d IOTLB hits',
  'VT-d faults',
  'VT-d queued invalidations',
  'VT-d register invalidations',
  'VT-d wait descriptors',
  'dma-iommu walks',
  'dma-iommu IOTLB hits',
  'dma-iommu flushes and unmaps',
  'dma-iommu faults',
  'interrupts of offering devices',
] as const;
const MESSAGES_EACH = 2000;

const facts: FunctionFacts = {
  regions: [
    { flags: 3, size: 0x1000 },
    { flags: 0, size: 0 },
  ],
  interrupts: [{ flags: 7, count: 1 }],
};
const files = [{ bytes: 65536 }];

function run(program: string, ...args: string[]) {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-fuzz-test-'));
  try {
    return spawnSync(process.execPath, [join(repository, 'dist', 'test', 'fuzz', program), ...args], {
      cwd: directory,
      encoding: 'utf8',
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe('the server under the fuzzer', () => {
  it('does what it must with every message', { timeout: RUN_MS }, () => {
    const { status, stdout, stderr } = run('run.js', '--messages', MESSAGES, '--json', '--no-shrink');
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const result = JSON.parse(stdout) as {
      messages: number;
      replies: number;
      ended: number;
      witnessRounds: number;
      twinRequests: number;
      given: number;
      units: Units;
    };
    expect(result.messages).toBeGreaterThanOrEqual(Number(MESSAGES));
    expect(result.replies).toBeGreaterThan(result.messages / 10);
    expect(result.ended).toBeGreaterThan(0);
    expect(result.witnessRounds).toBeGreaterThan(0);
    // It came to more than the protocol's own checks.
    const idle = Object.entries(result.units).filter(([, count]) => count === 0);
    expect(idle).toEqual([]);
    const rare = OFTEN.filter(name => result.units[name]! < Number(MESSAGES) / MESSAGES_EACH);
    expect(rare).toEqual([]);
    expect(result.twinRequests).toBeGreaterThan(0);
    expect(result.given).toBeGreaterThan(0);
    expect(Object.keys(result.units).length).toBeGreaterThan(10);
  });

  it('does not grow while clients come and go', { timeout: RUN_MS }, () => {
    const { status, stdout, stderr } = run('soak.js', '--cycles', CYCLES, '--accesses', ACCESSES);
    expect(stderr).toBe('');
    expect(stdout).toContain('it stayed as it was');
    expect(status).toBe(0);
  });
});

describe('the reference', () => {
  let expected: Expectation[];
  let reference: Reference;
  beforeEach(() => {
    expected = [];
    reference = new Reference(facts, files);
    reference.onMessage = one => expected.push(one);
  });
  const version = toBytes(compose.version(), 1, false);

  it('expects the same however a stream is cut', () => {
    const stream = Buffer.concat([
      version,
      toBytes(compose.map(0n, 4096n, 0n, 3), 2, false),
      toBytes(compose.map(0n, 4096n, 0n, 3), 3, false),
      toBytes(compose.read(0, 0, 4), 4, true),
    ]);
    const told = (pieces: readonly Uint8Array[]) => {
      const all: unknown[] = [];
      const one = new Reference(facts, files);
      one.onMessage = ({ id, silent, errnos }) => all.push([id, silent, errnos]);
      for (const piece of pieces) one.push(piece);
      return all;
    };
    const whole = told([stream]);
    expect(whole).toEqual([
      [1, false, [0]],
      [2, false, [0]],
      [3, false, [17]],
      [4, true, [0]],
    ]);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: stream.length - 1 }), cut => {
        expect(told([stream.subarray(0, cut), stream.subarray(cut)])).toEqual(whole);
      }),
    );
  });

  it('takes a descriptor to belong to the message that it came with, whole or not', () => {
    const map = message(Command.dmaMap, mapPayload({ address: 0n, size: 4096n }), { id: 2 });
    reference.push(version);
    reference.push(map.subarray(0, 20), [{ is: 'directory' }]);
    reference.push(Buffer.concat([map.subarray(20), message(Command.dmaMap, mapPayload({ address: 0n }), { id: 3 })]));
    expect(expected.map(({ id, errnos }) => [id, errnos])).toEqual([
      [1, [0]],
      [2, [22]],
      [3, [0]],
    ]);
  });

  it('takes one that came with the rest of a message and more to belong to the last of these', () => {
    const map = (id: number) =>
      message(Command.dmaMap, mapPayload({ address: BigInt(id) << 12n, size: 4096n }), { id });
    reference.push(version);
    reference.push(map(2).subarray(0, 40), [{ is: 'socket' }]);
    reference.push(Buffer.concat([map(2).subarray(40), map(3).subarray(0, 30)]), [{ is: 'file', file: 0 }]);
    reference.push(map(3).subarray(30));
    expect(expected.map(({ id, errnos }) => [id, errnos])).toEqual([
      [1, [0]],
      [2, [22]],
      [3, [0]],
    ]);
  });

  it('leaves it open whether descriptors of two messages are too many, where the first was whole between', () => {
    const map = message(Command.dmaMap, mapPayload({ address: 0n, size: 4096n }), { id: 2 });
    reference.push(version);
    reference.push(map.subarray(0, 20), [{ is: 'directory' }]);
    reference.push(map.subarray(20));
    reference.push(
      toBytes(compose.reset(), 3, false),
      Array.from({ length: 16 }, () => ({ is: 'null' })),
    );
    expect(expected.slice(2).map(({ closes, mayGoOn }) => [closes, mayGoOn])).toEqual([
      [[], true],
      [['descriptors where none belong'], undefined],
    ]);
  });

  describe('of a function that can be saved', () => {
    const STATE = 2;
    const [GET, SET] = [1 << 16, 1 << 17];
    const feature = (number: number, data: Uint8Array, room = data.length) =>
      message(Command.deviceFeature, Buffer.concat([words(8 + room, number), data]), { id: 7 });
    const setState = (state: number) => feature(STATE | SET, words(state, 0));
    const getState = feature(STATE | GET, words(), 8);
    const answerOf = (state: number) => new Uint8Array(words(16, STATE | GET, state, 0xffffffff));
    const last = () => expected.at(-1)!;
    beforeEach(() => {
      reference = new Reference({ ...facts, migrates: true, logs: true }, files);
      reference.onMessage = one => expected.push(one);
      reference.push(version);
    });

    it('lets a change that waits for work be answered later, and the next one be refused meanwhile', () => {
      reference.push(setState(1));
      expect([last().errnos, last().later]).toEqual([[0], true]);
      reference.push(setState(3));
      expect(new Set(last().errnos)).toEqual(new Set([16, 0]));
    });

    it('knows the state once all is answered', () => {
      reference.push(setState(1));
      reference.push(getState);
      expect([1, 2, 3].map(state => last().check!(answerOf(state)) === undefined)).toEqual([true, true, false]);
      reference.settle();
      reference.push(getState);
      expect([1, 2, 3].map(state => last().check!(answerOf(state)) === undefined)).toEqual([true, false, false]);
    });

    it('knows nothing after a change that nobody hears of', () => {
      reference.push(
        message(Command.deviceFeature, Buffer.concat([words(16, STATE | SET), words(1, 0)]), { flags: 16 }),
      );
      reference.settle();
      reference.push(getState);
      expect([1, 2, 3].map(state => last().check!(answerOf(state)) === undefined)).toEqual([true, true, false]);
    });

    it('lets a state be refused, which leads to ERROR, from where a reset leads out', () => {
      reference.push(setState(4));
      reference.settle();
      reference.push(message(Command.migrationDataWrite, words(12, 4, 0), { id: 7 }));
      expect(last().errnos).toEqual([0]);
      reference.push(setState(2));
      expect(new Set(last().errnos)).toEqual(new Set([0, 22]));
      reference.push(toBytes(compose.reset(), 8, false));
      reference.push(getState);
      expect([0, 2].map(state => last().check!(answerOf(state)) === undefined)).toEqual([false, true]);
    });

    it('takes data in RESUMING only, and gives some in STOP_COPY only', () => {
      const read = message(Command.migrationDataRead, words(8 + 64, 64), { id: 7 });
      reference.push(read);
      expect(last().errnos).toEqual([22]);
      reference.push(setState(3));
      reference.settle();
      reference.push(read);
      expect(last().errnos).toEqual([0]);
      expect(last().check!(new Uint8Array(words(12, 4, 0)))).toBeUndefined();
      expect(last().check!(new Uint8Array(words(16, 4, 0)))).toMatch(/16 at offset 0/);
      reference.push(message(Command.migrationDataWrite, words(12, 4, 0), { id: 7 }));
      expect(last().errnos).toEqual([22]);
    });

    it('expects a report of as many pages as there are, once the log is on', () => {
      const range = new Uint8Array(BigUint64Array.of(0n, 65n * 4096n, 4096n).buffer);
      const report = feature(8 | GET, range, 24 + 16);
      reference.push(report);
      expect(last().errnos).toEqual([22]);
      reference.push(feature(6 | SET, new Uint8Array(BigUint64Array.of(4096n, 0n).buffer)));
      reference.push(report);
      expect(last().errnos).toEqual([0]);
      const reply = (...bitmap: number[]) => Buffer.concat([words(48, 8 | GET), range, words(...bitmap)]);
      expect(last().check!(reply(0xffffffff, 0xffffffff, 1, 0))).toBeUndefined();
      expect(last().check!(reply(0, 0, 2, 0))).toMatch(/page 65 of 65/);
      expect(last().check!(reply(0, 0))).toMatch(/40 bytes, not 48/);
    });
  });

  it('counts of many writes those that are allowed', () => {
    const write = (offset: number, region = 0) => words(offset, 0, region, 4, 1, 0);
    const many = (...all: Uint8Array[]) =>
      message(Command.regionWriteMulti, Buffer.concat([words(all.length, 0), ...all]), { id: 7 });
    reference.push(version);
    reference.push(many(write(0), write(0x1000), write(4)));
    expect(expected.at(-1)!.errnos).toEqual([0]);
    expect(expected.at(-1)!.check!(words(2, 0))).toBeUndefined();
    expect(expected.at(-1)!.check!(words(3, 0))).toBe('3 writes done, not 2');
    reference.push(many(write(0x1000), write(0, 1)));
    expect(expected.at(-1)!.errnos).toEqual([22]);
  });

  it('knows when a file is too short by now', () => {
    const reference = new Reference(facts, [{ bytes: 4096 }]);
    reference.onMessage = one => expected.push(one);
    reference.push(version);
    reference.push(toBytes(compose.map(0n, 8192n, 0n, 3), 2, false), [{ is: 'file', file: 0 }]);
    expect(expected[1]!.errnos).toEqual([22]);
  });

  it('takes a way to use a descriptor only with a descriptor that can be used so', () => {
    const map = (id: number, flags: number) => toBytes(compose.map(BigInt(id) << 16n, 4096n, 0n, flags), id, false);
    reference.push(version);
    reference.push(map(2, 7));
    reference.push(map(3, 11));
    reference.push(map(4, 11), [{ is: 'file', file: 0 }]);
    reference.push(map(5, 9), [{ is: 'memory-of-process' }]);
    reference.push(map(6, 5), [{ is: 'memory-of-process' }]);
    reference.push(map(7, 11), [{ is: 'read-only', file: 0 }]);
    reference.push(map(8, 19), [{ is: 'file', file: 0 }]);
    expect(expected.slice(1).map(({ errnos }) => errnos)).toEqual([[22], [22], [0], [0], [22], [22], [22]]);
  });

  describe('of regions by file I/O', () => {
    const page = (at: number) => BigInt(at) << 12n;
    const map = (at: number, flags: number, one: DescriptorKind = { is: 'file', file: 0 }) =>
      reference.push(toBytes(compose.map(page(at), 4096n, 0n, flags), 2, false), [one]);
    const last = () => expected.at(-1)!.errnos;
    beforeEach(() => {
      reference.push(version);
      for (let at = 0; at < 255; at++) map(at, 11);
    });

    it('refuses the 257th, and takes one again when one is gone', () => {
      map(255, 9);
      expect(last()).toEqual([0]);
      map(256, 11);
      expect(last()).toEqual([12]);
      reference.push(toBytes(compose.unmap(page(3), 4096n), 3, false));
      map(256, 11);
      expect(last()).toEqual([0]);
    });

    it('lets the server choose why it refuses one that is wrong anyway', () => {
      map(255, 9);
      map(256, 11, { is: 'directory' });
      expect(last()).toEqual([22, 12]);
      map(255, 11);
      expect(last()).toEqual([17, 12]);
    });

    it('takes others as before: they are reached in other ways', () => {
      map(255, 9);
      map(256, 3);
      expect(last()).toEqual([0]);
      map(257, 3, { is: 'null' });
      expect(last()).toEqual([0]);
      map(258, 2);
      expect(last()).toEqual([0]);
    });

    it('does not know where one may count or not, until everything is taken away', () => {
      map(255, 3);
      map(256, 11);
      expect(last()).toEqual([0, 12]);
      expect(reference.memory.isGuess).toBe(true);
      map(256, 11);
      expect(last()).toBeUndefined();
      reference.push(toBytes(compose.unmap(page(256), 4096n), 3, false));
      expect(last()).toEqual([0, 2, 22]);
      reference.push(toBytes(compose.unmap(0n, 0n, 2), 4, false));
      expect(expected.at(-1)!.gone).toEqual([{ address: 0n, size: 1n << 43n, readable: true, writable: true }]);
      map(256, 11);
      expect(last()).toEqual([0]);
      reference.push(toBytes(compose.unmap(page(255), 4096n), 5, false));
      expect(last()).toEqual([2]);
    });
  });

  it('expects a second stream where one was asked for, and replies on no other', () => {
    reference.push(toBytes(compose.version(TWIN_VERSION), 1, false));
    expect(expected[0]!.descriptors).toBe(1);
    reference.push(message(Command.dmaRead, words(), { id: 9, flags: HeaderFlag.typeReply }));
    expect(expected.at(-1)!.closes).toEqual(['reply on the wrong stream']);
  });

  it.each<[string, Uint8Array, DescriptorKind[], string]>([
    ['a command', toBytes(compose.reset(), 1, false), [], 'a command from the client'],
    ['a descriptor', message(11, words(), { flags: 1 }), [{ is: 'null' }], 'descriptors where none belong'],
    ['a reply to nothing', message(11, words(), { flags: 1 }), [], 'reply to no request'],
    ['a size below the header', message(11, words(), { flags: 1, size: 3 }), [], 'message size out of range'],
  ])('sees the end of the connection in %s on the second stream', (_, bytes, descriptors, reason) => {
    const twin = new TwinReference(() => 'reply to no request');
    twin.push(bytes.subarray(0, 5), descriptors);
    expect(twin.reasons).toEqual([]);
    twin.push(bytes.subarray(5));
    expect(twin.reasons).toEqual([`twin socket: ${reason}`]);
  });

  it.each([
    ['a command before VERSION', toBytes(compose.deviceInfo(), 1, false), 'command before VERSION'],
    ['a size below the header', message(1, words(), { size: 15 }), 'message size out of range'],
    ['a type that there is not', message(1, words(), { flags: 2 }), 'unknown message type'],
    ['a reply to nothing', message(11, words(), { flags: HeaderFlag.typeReply }), 'reply to no request'],
  ])('sees the end of the connection in %s', (_, bytes, reason) => {
    reference.push(bytes);
    expect(reference.closed).toBe(true);
    expect(expected.at(-1)!.closes).toEqual([reason]);
  });
});

describe('the oracle', () => {
  let loop: EventLoop;
  let server: StreamSocket;
  let peer: Peer;
  let failures: FuzzFailure[];
  beforeEach(() => {
    loop = new EventLoop(error => {
      throw error;
    });
    failures = [];
    const [mine, theirs] = socketPair();
    server = new StreamSocket(theirs, 65536, 65536, 0);
    peer = new Peer({
      name: 'fake',
      loop,
      fd: mine,
      reference: new Reference(facts, files),
      random: new Random(1, 1),
      memory: (_, count) => new Uint8Array(count),
      failed: failure => failures.push(failure),
      keep: kept => kept.forEach(closeDescriptor),
    });
    peer.send(toBytes(compose.version(), 1, false), [], []);
    answer(message(Command.version, words(0), { id: 1, flags: HeaderFlag.typeReply }));
  });
  afterEach(() => {
    peer.close();
    server.close();
    loop.close();
  });

  function answer(bytes: Uint8Array): void {
    server.output.set(bytes);
    server.send(0, bytes.length);
    loop.runOnce(0);
  }
  const ask = (bytes: Uint8Array) => peer.send(bytes, [], []);
  const reply = (command: number, payload: Uint8Array, fields: { id: number; flags?: number; error?: number }) =>
    answer(message(command, payload, { flags: HeaderFlag.typeReply, ...fields }));

  it('takes what is right', () => {
    ask(toBytes(compose.map(0n, 4096n, 0n, 3), 2, false));
    reply(Command.dmaMap, words(), { id: 2 });
    answer(message(Command.dmaRead, words(0, 0, 16, 0), { id: 9 }));
    expect(failures).toEqual([]);
    expect(peer.settled).toBe(true);
    expect(peer.requests).toBe(1);
  });

  it('takes an answer that had to wait after those behind it, but not twice', () => {
    const reference = new Reference({ ...facts, migrates: true }, files);
    peer.close();
    const [mine, theirs] = socketPair();
    server.close();
    server = new StreamSocket(theirs, 65536, 65536, 0);
    const failed = (failure: FuzzFailure) => failures.push(failure);
    const memory = (_: bigint, count: number) => new Uint8Array(count);
    const keep = () => {};
    peer = new Peer({ name: 'fake', loop, fd: mine, reference, random: new Random(1, 1), memory, failed, keep });
    ask(toBytes(compose.version(), 1, false));
    reply(Command.version, words(0), { id: 1 });
    const change = words(16, 2 | (1 << 17), 1, 0xffffffff);
    ask(message(Command.deviceFeature, change, { id: 2 }));
    ask(toBytes(compose.reset(), 3, false));
    reply(Command.deviceReset, words(), { id: 3 });
    expect([peer.settled, peer.idle]).toEqual([true, false]);
    reply(Command.deviceFeature, words(16, 2 | (1 << 17), 1, 0xffffffff), { id: 2 });
    expect([failures, peer.idle]).toEqual([[], true]);
    reply(Command.deviceFeature, words(16, 2 | (1 << 17), 1, 0xffffffff), { id: 2 });
    expect(failures[0]!.message).toMatch(/nobody waits for/);
  });

  it('knows what is still to be answered', () => {
    ask(toBytes(compose.reset(), 2, false));
    expect(peer.settled).toBe(false);
    expect(peer.awaited).toBe('the reply to deviceReset with id 2');
  });

  it.each<[string, () => void, RegExp]>([
    ['another id', () => reply(Command.deviceReset, words(), { id: 3 }), /deviceReset with id 2 is next/],
    ['another command', () => reply(Command.regionRead, words(), { id: 2 }), /deviceReset with id 2 is next/],
    ['an errno', () => reply(Command.deviceReset, words(), { id: 2, flags: 0x21, error: 22 }), /errno 22, not 0/],
    ['an error of 0', () => reply(Command.deviceReset, words(), { id: 2, flags: 0x21 }), /fails with errno 0/],
    ['a payload', () => reply(Command.deviceReset, words(1), { id: 2 }), /where none belongs/],
    ['strange flags', () => reply(Command.deviceReset, words(), { id: 2, flags: 0x11 }), /flags 0x11/],
    ['a type that there is not', () => reply(Command.deviceReset, words(), { id: 2, flags: 3 }), /flags 0x3/],
    ['a size that lies', () => answer(message(13, words(), { id: 2, flags: 1, size: 3 })), /size of 3/],
    ['memory that is not mapped', () => answer(message(11, words(0, 0, 16, 0), { id: 9 })), /not mapped/],
    ['the end of the connection', () => closeServer(), /closed the connection for no reason/],
  ])('sees that a reset is answered with %s', (_, wrong, complaint) => {
    ask(toBytes(compose.reset(), 2, false));
    wrong();
    loop.runOnce(0);
    expect(failures.map(({ message }) => message).join()).toMatch(complaint);
  });

  it('sees a second reply to one request, and a reply where none may come', () => {
    ask(toBytes(compose.reset(), 2, true));
    reply(Command.deviceReset, words(), { id: 2 });
    expect(failures[0]!.message).toMatch(/nobody waits for/);
  });

  it('sees DMA to what has been taken away', () => {
    ask(toBytes(compose.map(0n, 4096n, 0n, 3), 2, false));
    reply(Command.dmaMap, words(), { id: 2 });
    ask(message(Command.dmaUnmap, unmapPayload({ address: 0n, size: 4096n }), { id: 3 }));
    // Sent before the server came to it.
    answer(message(Command.dmaRead, words(0, 0, 16, 0), { id: 9 }));
    expect(failures).toEqual([]);
    reply(Command.dmaUnmap, unmapPayload({ address: 0n, size: 4096n }), { id: 3 });
    expect(failures).toEqual([]);
    answer(message(Command.dmaRead, words(0, 0, 16, 0), { id: 10 }));
    expect(failures[0]!.message).toMatch(/not mapped/);
  });

  it('sees a server that goes on where it must end the connection', () => {
    ask(message(1, words(), { size: 3 }));
    reply(Command.version, words(), { id: 1 });
    expect(failures[0]!.message).toMatch(/should have ended/);
  });

  function closeServer(): void {
    server.close();
    const [again, other] = socketPair();
    closeDescriptor(other);
    server = new StreamSocket(again, 4096, 4096, 0);
  }
});

describe('an episode', () => {
  const targets = [{ name: 'a/edu', kind: 'edu' as const, facts, answers: ANY_ANSWERS }];
  const options = { seed: 5, number: 3, targets, clients: 2, messages: 300 };

  it('is the same for the same seed, and another for another', () => {
    const text = formatEpisode(generateEpisode(options));
    expect(formatEpisode(generateEpisode(options))).toBe(text);
    expect(formatEpisode(generateEpisode({ ...options, number: 4 })).includes(text.slice(100))).toBe(false);
  });

  it('leaves as it was what a function has saved, also where its bytes are a Buffer', () => {
    const saved = Buffer.from(Array.from({ length: 600 }, (_, i) => i & 0xff));
    const state = Buffer.from(saved);
    const moving = { ...targets[0]!, facts: { ...facts, migrates: true }, state };
    for (let number = 0; number < 20; number++) generateEpisode({ ...options, number, targets: [moving] });
    expect(state.equals(saved)).toBe(true);
  });

  it('comes back from a file as it was', () => {
    const episode = generateEpisode(options);
    expect(formatEpisode(parseEpisode(formatEpisode(episode)))).toBe(formatEpisode(episode));
  });

  it('is made as short as can be', async () => {
    const whole = Array.from({ length: 200 }, (_, i) => i);
    const fails = async (part: readonly number[]) => part.includes(17) && part.includes(130);
    expect(await shrink(whole, fails, 500)).toEqual([17, 130]);
  });
});
