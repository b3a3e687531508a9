import fc from 'fast-check';
import { describe, it } from 'vitest';
import { MemoryStatus } from '../../src/memory/guest-memory.ts';
import { createMemfd } from '../../src/posix/memfd.ts';
import { at, FakeRemote, PAGE, setUp, unmap } from './support.ts';

/** The slow reference: every byte of every region, in plain arrays. */
interface ReferenceRegion {
  readonly frame: number;
  readonly frames: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly bytes: Uint8Array;
}

class Reference {
  regions: ReferenceRegion[] = [];

  at(frame: number): ReferenceRegion | undefined {
    return this.regions.find(region => frame >= region.frame && frame < region.frame + region.frames);
  }

  overlaps(frame: number, frames: number): boolean {
    return this.regions.some(region => frame < region.frame + region.frames && region.frame < frame + frames);
  }

  /** Moves bytes one by one. */
  transfer(writing: boolean, frame: number, offset: number, buffer: Uint8Array): MemoryStatus {
    for (let i = 0; i < buffer.length; i++) {
      const page = frame + Math.floor((offset + i) / PAGE);
      const region = this.at(page);
      if (region === undefined) return MemoryStatus.unmapped;
      if (!(writing ? region.writable : region.readable)) return MemoryStatus.denied;
      const index = (page - region.frame) * PAGE + ((offset + i) % PAGE);
      if (writing) region.bytes[index] = buffer[i]!;
      else buffer[i] = region.bytes[index]!;
    }
    return MemoryStatus.ok;
  }
}

// Few places, so that operations meet: around a chunk's border, and around a window's.
const frame = fc.oneof(fc.integer({ min: 500, max: 530 }), fc.integer({ min: 0x3fff8, max: 0x40008 }));
const frames = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 6 }) },
  { weight: 1, arbitrary: fc.integer({ min: 500, max: 1100 }) },
);
const place = {
  frame,
  offset: fc.integer({ min: 0, max: PAGE - 1 }),
  length: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 3 * PAGE })),
};
const operation = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant('map' as const),
      frame,
      frames,
      readable: fc.boolean(),
      writable: fc.boolean(),
      kind: fc.constantFrom('mapped' as const, 'mapped' as const, 'file' as const, 'message' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('unmap' as const), pick: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('unmap wrongly' as const), frame, frames }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constant('read' as const), ...place }) },
  { weight: 4, arbitrary: fc.record({ what: fc.constant('write' as const), ...place, byte: fc.nat(255) }) },
  { weight: 2, arbitrary: fc.record({ what: fc.constant('load64' as const), frame, word: fc.nat(511) }) },
  {
    weight: 2,
    arbitrary: fc.record({ what: fc.constant('store32' as const), frame, word: fc.nat(1023), value: fc.integer() }),
  },
);

describe('RegionMemory', () => {
  it('does what a map of bytes would do', () => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 5, maxLength: 60 }), operations => {
        const { memory } = setUp();
        const remote = new FakeRemote();
        memory.remote = remote;
        const reference = new Reference();
        try {
          for (const each of operations) run(memory, remote, reference, each);
        } finally {
          memory.dispose();
        }
      }),
      { numRuns: 60 },
    );
  });
});

type Operation = typeof operation extends fc.Arbitrary<infer Value> ? Value : never;
type Memory = ReturnType<typeof setUp>['memory'];

function run(memory: Memory, remote: FakeRemote, reference: Reference, operation: Operation): void {
  switch (operation.what) {
    case 'map': {
      const { frame, frames, readable, writable, kind } = operation;
      const options = { seal: kind === 'mapped', sealable: kind === 'mapped' };
      const descriptor = kind === 'message' ? -1 : createMemfd('property', frames * PAGE, options);
      const errno = memory.map(at(frame, frames, { descriptor, readable, writable }));
      same('map', errno, reference.overlaps(frame, frames) ? 17 : 0);
      if (errno !== 0) return;
      reference.regions.push({ frame, frames, readable, writable, bytes: new Uint8Array(frames * PAGE) });
      if (kind === 'message') for (let i = 0; i < frames; i++) remote.page(frame + i).fill(0);
      return;
    }
    case 'unmap': {
      if (reference.regions.length === 0) return;
      const [region] = reference.regions.splice(operation.pick % reference.regions.length, 1);
      same('unmap', unmap(memory, region!.frame, region!.frames), 0);
      return;
    }
    case 'unmap wrongly': {
      const { frame, frames } = operation;
      const region = reference.regions.find(each => each.frame === frame);
      if (region?.frames === frames) return;
      same('wrong unmap', unmap(memory, frame, frames), region === undefined ? 2 : 22);
      return;
    }
    case 'read': {
      const target = new Uint8Array(operation.length + 2).fill(0xaa);
      const expected = new Uint8Array(operation.length).fill(0xaa);
      const status = memory.read(operation.frame, operation.offset, target, 1, operation.length);
      same('read', status, reference.transfer(false, operation.frame, operation.offset, expected));
      same('bytes', Buffer.compare(target.subarray(1, -1), expected), 0);
      same('bytes around', [target[0], target.at(-1)].join(), '170,170');
      return;
    }
    case 'write': {
      const source = Uint8Array.from({ length: operation.length }, (_, i) => operation.byte + i);
      const status = memory.write(operation.frame, operation.offset, source, 0, source.length);
      same('write', status, reference.transfer(true, operation.frame, operation.offset, source));
      return;
    }
    case 'load64': {
      const expected = new Uint8Array(8);
      const status = memory.load64(operation.frame, operation.word * 8);
      same('load64', status, reference.transfer(false, operation.frame, operation.word * 8, expected));
      if (status !== MemoryStatus.ok) return;
      same('low and high', [memory.low, memory.high].join(), new Int32Array(expected.buffer).join());
      return;
    }
    case 'store32': {
      const source = new Uint8Array(new Int32Array([operation.value]).buffer);
      const status = memory.store32(operation.frame, operation.word * 4, operation.value);
      same('store32', status, reference.transfer(true, operation.frame, operation.word * 4, source));
      return;
    }
  }
}

function same(what: string, is: number | string, shouldBe: number | string): void {
  if (is !== shouldBe) throw new Error(`${what}: is ${is}, should be ${shouldBe}`);
}
