import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TranslatedDmaPort } from '../../src/iommu/dma-port.ts';
import { Access, type Translation, type Translator } from '../../src/iommu/translator.ts';
import { DmaStatus } from '../../src/pci/ports.ts';
import { at, BatchedRemote, digest, FakeRemote, PAGE, pagesFile, setUp } from '../memory/support.ts';
import { words } from './support.ts';

const RID = 0x0108;
const EIO = 5;
const IOVA = 0x10000n;

/** Pages from IOVA on, by frame; undefined: not mapped. */
class Pages implements Translator {
  asked = 0;
  during: () => void = () => {};

  constructor(readonly frames: readonly (number | undefined)[]) {}

  translate(_: number, high: number, low: number, access: number, out: Translation): boolean {
    this.asked++;
    this.during();
    const iova = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    const frame = this.frames[Number((iova - IOVA) >> 12n)];
    if (frame === undefined) return false;
    out.frame = frame;
    out.shift = 12;
    out.permissions = Access.read | Access.write;
    return (access & ~out.permissions) === 0;
  }
}

function setup(frames: readonly (number | undefined)[], remote: FakeRemote = new BatchedRemote()) {
  const { memory } = setUp();
  memory.remote = remote;
  memory.map(at(0, 32));
  memory.map(at(32, 8, { writable: false }));
  memory.map(at(40, 8, { descriptor: pagesFile(8, 40) }));
  for (let frame = 0; frame < 64; frame++) remote.page(frame).fill(frame + 100);
  const gate = { busMaster: true, generation: 0 };
  const translator = new Pages(frames);
  const port = new TranslatedDmaPort({ translator, memory, requesterId: RID, gate });
  return { memory, gate, translator, port };
}

/** From every fourth page on. */
const scattered = (count: number) => Array.from({ length: count }, (_, i) => (i * 5) % 32);

describe('a scattered transfer with memory behind messages', () => {
  it('waits once', () => {
    const remote = new BatchedRemote();
    const { port } = setup(scattered(12), remote);
    const target = new Uint8Array(12 * PAGE);
    expect(port.read(...words(IOVA), target, 0, target.length)).toBe(DmaStatus.ok);
    expect(remote.waits).toEqual([12]);
    expect(scattered(12).map((_, i) => target[i * PAGE])).toEqual(scattered(12).map(frame => frame + 100));
    expect(port.counters).toMatchObject({ reads: 1, bytesRead: 12 * PAGE, bytesWritten: 0 });
  });

  it('on a fault has done the pages before it', () => {
    const remote = new BatchedRemote();
    const { port } = setup([3, 1, undefined, 5], remote);
    const source = new Uint8Array(4 * PAGE).fill(9);
    expect(port.write(...words(IOVA), source, 0, source.length)).toBe(DmaStatus.fault);
    expect([3, 1, 5].map(frame => remote.page(frame)[0])).toEqual([9, 9, 105]);
    expect(port.counters.bytesWritten).toBe(2 * PAGE);
  });

  it('tells of memory that failed before a fault that comes behind it', () => {
    const remote = new BatchedRemote();
    remote.answers.set(3, EIO);
    const { port } = setup([3, 1, undefined], remote);
    const target = new Uint8Array(3 * PAGE);
    expect(port.read(...words(IOVA), target, 0, target.length)).toBe(DmaStatus.noMemory);
    expect(port.counters.bytesRead).toBe(0);
  });

  it('aborts when the gate changes while it translates, and then writes into no buffer', () => {
    const remote = new BatchedRemote();
    const { port, gate, translator } = setup(scattered(8), remote);
    translator.during = () => {
      if (translator.asked === 4) gate.generation++;
    };
    const target = new Uint8Array(8 * PAGE);
    expect(port.read(...words(IOVA), target, 0, target.length)).toBe(DmaStatus.aborted);
    expect(translator.asked).toBe(4);
    const after = target.slice();
    remote.page(0).fill(1);
    port.read(...words(IOVA), new Uint8Array(PAGE), 0, PAGE);
    expect(target).toEqual(after);
  });

  it('aborts when the gate changes while it waits for the end', () => {
    const remote = new BatchedRemote();
    const { port, gate } = setup(scattered(8), remote);
    remote.before = () => {
      gate.busMaster = false;
    };
    const target = new Uint8Array(8 * PAGE);
    expect(port.read(...words(IOVA), target, 0, target.length)).toBe(DmaStatus.notBusMaster);
  });

  it('ends the batch when a translator throws', () => {
    const remote = new BatchedRemote();
    const { port, translator } = setup(scattered(8), remote);
    translator.during = () => {
      if (translator.asked === 4) throw new Error('a fault of ours');
    };
    const target = new Uint8Array(8 * PAGE);
    expect(() => port.read(...words(IOVA), target, 0, target.length)).toThrow(/fault of ours/);
    expect(() => remote.begin()).not.toThrow();
  });

  it('is the same as run by run', () => {
    const page = fc.oneof(
      { weight: 30, arbitrary: fc.integer({ min: 0, max: 31 }) },
      { weight: 6, arbitrary: fc.integer({ min: 32, max: 47 }) },
      { weight: 1, arbitrary: fc.constantFrom(50, undefined) },
    );
    fc.assert(
      fc.property(
        fc.boolean(),
        fc.array(page, { minLength: 2, maxLength: 20 }),
        fc.nat(PAGE - 1),
        fc.uniqueArray(fc.integer({ min: 0, max: 31 }), { maxLength: 1 }),
        fc.integer({ min: 1, max: 8 }),
        (writing, frames, offset, broken, window) => {
          const one = run(new FakeRemote());
          const other = run(new BatchedRemote(window));
          expect(other).toEqual(one);

          function run(remote: FakeRemote) {
            for (const frame of broken) remote.answers.set(frame, EIO);
            const { port, memory } = setup(frames, remote);
            const length = frames.length * PAGE - offset;
            const buffer = Uint8Array.from({ length }, (_, i) => (writing ? i % 251 : 0));
            const [high, low] = words(IOVA + BigInt(offset));
            const status = writing ? port.write(high, low, buffer, 0, length) : port.read(high, low, buffer, 0, length);
            const { counters } = port;
            const moved = writing ? counters.bytesWritten : counters.bytesRead;
            // What lies behind the first failure may have been moved too.
            const isWhole = status === DmaStatus.ok || status === DmaStatus.fault;
            const pages = isWhole ? Array.from({ length: 32 }, (_, frame) => digest(remote.page(frame))) : [];
            const mapped = digest(memory.windows[0]!.bytes.subarray(40 * PAGE, 48 * PAGE));
            const { messageBytes } = memory.statistics;
            memory.dispose();
            return {
              status,
              moved,
              statuses: [...counters.byStatus],
              bytes: digest(buffer.subarray(0, moved)),
              pages,
              mapped,
              messageBytes,
            };
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});
