import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DmaGate, TranslatedDmaPort } from '../../src/iommu/dma-port.ts';
import { Access, Translation, type Translator } from '../../src/iommu/translator.ts';
import { Untranslated } from '../../src/iommu/untranslated.ts';
import { LocalMemory } from '../../src/memory/local-memory.ts';
import { DmaStatus } from '../../src/pci/ports.ts';
import { FakeMemory, type FakeMemoryOptions, words } from './support.ts';

const PAGE = 4096;
const RID = 0x0108;

interface Mapping {
  readonly frame: number;
  readonly shift?: number;
  readonly permissions?: number;
}

/** An IOMMU that is a list of mappings, by the page number of their first address. */
class FakeTranslator implements Translator {
  readonly mappings = new Map<bigint, Mapping>();
  readonly asked: [requesterId: number, iova: bigint, access: number][] = [];
  during: () => void = () => {};

  map(iova: bigint, frame: number, shift = 12, permissions: number = Access.read | Access.write): void {
    this.mappings.set(iova >> 12n, { frame, shift, permissions });
  }

  translate(requesterId: number, high: number, low: number, access: number, out: Translation): boolean {
    this.during();
    const iova = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    this.asked.push([requesterId, iova, access]);
    for (const shift of [12, 21]) {
      const size = 1n << BigInt(shift);
      const mapping = this.mappings.get((iova & -size) >> 12n);
      if (mapping === undefined || (mapping.shift ?? 12) !== shift) continue;
      const permissions = mapping.permissions ?? 3;
      if ((permissions & access) !== access) return false;
      out.frame = mapping.frame + Number((iova & (size - 1n)) >> 12n);
      out.shift = shift;
      out.permissions = permissions;
      return true;
    }
    return false;
  }
}

function setup(options: FakeMemoryOptions = {}, bytes = 64 * PAGE) {
  const memory = new FakeMemory(bytes, options);
  for (let i = 0; i < bytes; i++) memory.bytes[i] = (i * 7 + (i >> 12) * 13) & 0xff;
  const translator = new FakeTranslator();
  const gate = { busMaster: true, generation: 0 };
  const port = new TranslatedDmaPort({ translator, memory, requesterId: RID, gate: gate as DmaGate });
  const read = (iova: bigint, length: number, target = new Uint8Array(length)) => {
    const status = port.read(...words(iova), target, 0, length);
    return { status, target };
  };
  const write = (iova: bigint, source: Uint8Array) => port.write(...words(iova), source, 0, source.length);
  return { memory, translator, gate, port, read, write };
}

const bytesAt = (memory: FakeMemory, frame: number, offset: number, length: number) =>
  memory.bytes.slice(frame * PAGE + offset, frame * PAGE + offset + length);

describe('within one page', () => {
  it('reads what is there', () => {
    const { memory, translator, read } = setup();
    translator.map(0x5000n, 9);
    const { status, target } = read(0x5123n, 100);
    expect(status).toBe(DmaStatus.ok);
    expect(target).toEqual(bytesAt(memory, 9, 0x123, 100));
    expect(translator.asked).toEqual([[RID, 0x5123n, Access.read]]);
  });

  it('writes there and nowhere else', () => {
    const { memory, translator, write } = setup();
    translator.map(0x5000n, 9);
    const wanted = memory.bytes.slice();
    wanted.fill(0xee, 9 * PAGE + 0x123, 9 * PAGE + 0x123 + 100);
    expect(write(0x5123n, new Uint8Array(100).fill(0xee))).toBe(DmaStatus.ok);
    expect(memory.bytes).toEqual(wanted);
    expect(translator.asked).toEqual([[RID, 0x5123n, Access.write]]);
  });

  it('uses its part of the buffer only', () => {
    const { memory, translator, port } = setup();
    translator.map(0n, 9);
    const target = new Uint8Array(20);
    expect(port.read(0, 0, target, 5, 10)).toBe(DmaStatus.ok);
    expect(target.subarray(5, 15)).toEqual(bytesAt(memory, 9, 0, 10));
    expect([...target.subarray(0, 5), ...target.subarray(15)]).toEqual(new Array(10).fill(0));
  });

  it('does nothing for no bytes', () => {
    const { memory, translator, read } = setup();
    expect(read(0n, 0).status).toBe(DmaStatus.ok);
    expect([translator.asked, memory.copies]).toEqual([[], []]);
  });
});

describe('across pages', () => {
  it('copies consecutive frames at once', () => {
    const { memory, translator, read } = setup();
    for (let i = 0; i < 4; i++) translator.map(BigInt(i) << 12n, 9 + i);
    const { target } = read(0x800n, 3 * PAGE);
    expect(target).toEqual(bytesAt(memory, 9, 0x800, 3 * PAGE));
    expect(memory.copies).toEqual([[9, 0x800, 3 * PAGE]]);
    expect(translator.asked.length).toBe(4);
  });

  it('copies frames that are not consecutive one by one', () => {
    const { memory, translator, read } = setup();
    translator.map(0n, 9);
    translator.map(0x1000n, 11);
    translator.map(0x2000n, 10);
    read(0x800n, 2 * PAGE);
    expect(memory.copies).toEqual([
      [9, 0x800, 0x800],
      [11, 0, PAGE],
      [10, 0, 0x800],
    ]);
  });

  it('does not take the same frame twice for consecutive', () => {
    const { memory, translator, read } = setup();
    translator.map(0n, 9);
    translator.map(0x1000n, 9);
    const { target } = read(0n, 2 * PAGE);
    expect(target.subarray(PAGE)).toEqual(target.subarray(0, PAGE));
    expect(memory.copies.length).toBe(2);
  });

  it('asks once for a large page', () => {
    const { memory, translator, read } = setup({}, 1024 * PAGE);
    translator.map(0n, 256, 21);
    const { target } = read(0x1234n, 65536);
    expect(target).toEqual(bytesAt(memory, 257, 0x234, 65536));
    expect(translator.asked.length).toBe(1);
  });

  it('goes from a large page to the small one after it', () => {
    const { memory, translator, read } = setup({}, 1024 * PAGE);
    translator.map(0n, 256, 21);
    translator.map(1n << 21n, 3);
    const { target } = read((1n << 21n) - 16n, 32);
    expect(target.subarray(0, 16)).toEqual(bytesAt(memory, 767, PAGE - 16, 16));
    expect(target.subarray(16)).toEqual(bytesAt(memory, 3, 0, 16));
  });

  it.each([
    ['2^32', 1n << 32n, 1n << 32n],
    ['2^31', 1n << 31n, 1n << 31n],
    ['2^63', 1n << 63n, 1n << 63n],
    ['2^64, to zero', 1n << 64n, 0n],
  ])('carries across %s', (_what, boundary, next) => {
    const { memory, translator, read } = setup();
    translator.map(boundary - 0x1000n, 20);
    translator.map(next, 30);
    const { status, target } = read(boundary - 8n, 16);
    expect(status).toBe(DmaStatus.ok);
    expect(target.subarray(0, 8)).toEqual(bytesAt(memory, 20, PAGE - 8, 8));
    expect(target.subarray(8)).toEqual(bytesAt(memory, 30, 0, 8));
  });

  it('takes address words of either sign', () => {
    const { memory, translator, port } = setup();
    translator.map(0xffff_ffff_ffff_f000n, 20);
    for (const word of [-1, 0xffffffff]) {
      const target = new Uint8Array(1);
      expect(port.read(word, word, target, 0, 1)).toBe(DmaStatus.ok);
      expect(target).toEqual(bytesAt(memory, 20, PAGE - 1, 1));
    }
  });
});

describe('faults', () => {
  it('does the pages before the one that faults', () => {
    const { memory, translator, read } = setup();
    translator.map(0n, 9);
    translator.map(0x1000n, 10);
    const { status, target } = read(0n, 3 * PAGE);
    expect(status).toBe(DmaStatus.fault);
    expect(target.subarray(0, 2 * PAGE)).toEqual(bytesAt(memory, 9, 0, 2 * PAGE));
    expect(target.subarray(2 * PAGE)).toEqual(new Uint8Array(PAGE));
  });

  it('touches no memory when the first page faults', () => {
    const { memory, read } = setup();
    expect(read(0n, 8).status).toBe(DmaStatus.fault);
    expect(memory.copies).toEqual([]);
  });

  it('asks for the access it makes', () => {
    const { translator, read, write } = setup();
    translator.map(0n, 9, 12, Access.read);
    expect(read(0n, 8).status).toBe(DmaStatus.ok);
    expect(write(0n, new Uint8Array(8))).toBe(DmaStatus.fault);
  });

  it('says so when no memory answers', () => {
    const { translator, read, write } = setup({ holes: [9] });
    translator.map(0n, 9);
    expect(read(0n, 8).status).toBe(DmaStatus.noMemory);
    expect(write(0n, new Uint8Array(8))).toBe(DmaStatus.noMemory);
  });

  it('stops at memory that does not answer', () => {
    const { memory, translator, read } = setup({ holes: [9] });
    translator.map(0n, 9);
    translator.map(0x1000n, 12);
    expect(read(0n, 2 * PAGE).status).toBe(DmaStatus.noMemory);
    expect(memory.copies.length).toBe(1);
  });

  it('says that memory failed rather than that the next page faulted', () => {
    const { translator, read } = setup({ holes: [9] });
    translator.map(0n, 9);
    expect(read(0n, 2 * PAGE).status).toBe(DmaStatus.noMemory);
  });
});

describe('the gate', () => {
  it('sends nothing with bus mastering off', () => {
    const { memory, translator, gate, read, write } = setup();
    translator.map(0n, 9);
    gate.busMaster = false;
    expect(read(0n, 8).status).toBe(DmaStatus.notBusMaster);
    expect(write(0n, new Uint8Array(8))).toBe(DmaStatus.notBusMaster);
    expect([translator.asked, memory.copies]).toEqual([[], []]);
  });

  it('goes no further after a reset while memory was waited for', () => {
    const { memory, translator, gate, read } = setup();
    translator.map(0n, 9);
    translator.map(0x1000n, 20);
    memory.during = () => {
      gate.generation++;
    };
    expect(read(0n, 2 * PAGE).status).toBe(DmaStatus.aborted);
    expect(memory.copies.length).toBe(1);
  });

  it('touches no memory after a reset while the translation was waited for', () => {
    const { memory, translator, gate, write } = setup();
    translator.map(0n, 9);
    translator.during = () => {
      gate.generation++;
    };
    expect(write(0n, new Uint8Array(8))).toBe(DmaStatus.aborted);
    expect(memory.copies).toEqual([]);
  });

  it('goes no further after bus mastering was switched off meanwhile', () => {
    const { memory, translator, gate, read } = setup();
    translator.map(0n, 9);
    translator.map(0x1000n, 20);
    memory.during = () => {
      gate.busMaster = false;
    };
    expect(read(0n, 2 * PAGE).status).toBe(DmaStatus.notBusMaster);
    expect(memory.copies.length).toBe(1);
  });

  it('takes a generation that changed before the transfer for granted', () => {
    const { translator, gate, read } = setup();
    translator.map(0n, 9);
    gate.generation = 77;
    expect(read(0n, 8).status).toBe(DmaStatus.ok);
  });
});

describe('counters', () => {
  it('count operations, bytes that moved, and how they ended', () => {
    const { translator, gate, port, read, write } = setup();
    translator.map(0n, 9);
    translator.map(0x1000n, 20, 12, Access.read);
    read(0n, 100);
    write(0n, new Uint8Array(2 * PAGE));
    gate.busMaster = false;
    read(0n, 8);
    const { reads, writes, bytesRead, bytesWritten, byStatus } = port.counters;
    expect({ reads, writes, bytesRead, bytesWritten }).toEqual({
      reads: 2,
      writes: 1,
      bytesRead: 100,
      bytesWritten: PAGE,
    });
    expect([...byStatus]).toEqual([1, 1, 1, 0, 0]);
  });
});

describe('what the device model got wrong', () => {
  it.each([
    [0, 11],
    [5, 6],
    [-1, 2],
    [0, -1],
  ])('refuses a buffer too small: at %d, %d bytes of 10', (at, length) => {
    const { port } = setup();
    expect(() => port.read(0, 0, new Uint8Array(10), at, length)).toThrow(RangeError);
    expect(() => port.write(0, 0, new Uint8Array(10), at, length)).toThrow(RangeError);
  });
});

describe('without an IOMMU', () => {
  it('is the guest-physical address', () => {
    const { memory } = setup();
    const gate = { busMaster: true, generation: 0 };
    const port = new TranslatedDmaPort({ translator: new Untranslated(), memory, requesterId: RID, gate });
    const target = new Uint8Array(3 * PAGE);
    expect(port.read(0, 9 * PAGE + 5, target, 0, 3 * PAGE)).toBe(DmaStatus.ok);
    expect(target).toEqual(bytesAt(memory, 9, 5, 3 * PAGE));
    expect(memory.copies).toEqual([[9, 5, 3 * PAGE]]);
  });

  it('reaches up to 8 TiB and no further', () => {
    const out = new Translation();
    const untranslated = new Untranslated();
    expect(untranslated.translate(RID, 0x7ff, -1, Access.read, out)).toBe(true);
    expect(out).toMatchObject({ frame: 0x7fffffff, shift: 12, permissions: 3 });
    expect(untranslated.translate(RID, 0x800, 0, Access.read, out)).toBe(false);
    expect(untranslated.translate(RID, -1, -1, Access.read, out)).toBe(false);
  });
});

describe('random mappings', () => {
  const mapping = fc.record({
    page: fc.nat(11),
    frame: fc.nat(20),
    permissions: fc.constantFrom(3, 3, 3, 3, 1, 2),
  });
  const transfer = fc.record({
    write: fc.boolean(),
    address: fc.nat(11 * PAGE),
    length: fc.oneof(fc.nat(64), fc.nat(5 * PAGE)),
  });

  it('moves bytes as if they were moved one by one', () => {
    fc.assert(
      fc.property(
        fc.array(mapping, { minLength: 6, maxLength: 24 }),
        fc.array(transfer, { minLength: 1, maxLength: 6 }),
        fc.constantFrom(0n, (1n << 32n) - 0x4000n, (1n << 64n) - 0x4000n),
        fc.array(fc.nat(20), { maxLength: 2 }),
        (mappings, transfers, base, holes) => {
          const memory = new LocalMemory(24 * PAGE);
          const bytes = memory.windows[0]!.bytes;
          for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 12) * 13) & 0xff;
          for (const frame of holes) memory.protect(frame, 1, { readable: false, writable: false });
          const translator = new FakeTranslator();
          const gate = { busMaster: true, generation: 0 };
          const port = new TranslatedDmaPort({ translator, memory, requesterId: RID, gate });
          const byPage = new Map<number, Mapping>();
          for (const { page, frame, permissions } of mappings) {
            byPage.set(page, { frame, permissions });
            translator.map(BigInt.asUintN(64, base + BigInt(page * PAGE)), frame, 12, permissions);
          }
          for (const { write, address, length } of transfers) {
            const buffer = new Uint8Array(length).map((_, i) => (write ? i * 31 + 1 : 0));
            const memoryWanted = bytes.slice();
            const bufferWanted = buffer.slice();
            let wanted: DmaStatus = DmaStatus.ok;
            for (let i = 0; i < length; i++) {
              const found = byPage.get(Math.floor((address + i) / PAGE));
              const need = write ? Access.write : Access.read;
              if (found === undefined || (found.permissions! & need) === 0) wanted = DmaStatus.fault;
              else if (holes.includes(found.frame)) wanted = DmaStatus.noMemory;
              if (wanted !== DmaStatus.ok) break;
              const at = found!.frame * PAGE + ((address + i) % PAGE);
              if (write) memoryWanted[at] = buffer[i]!;
              else bufferWanted[i] = memoryWanted[at]!;
            }
            const iova = words(BigInt.asUintN(64, base + BigInt(address)));
            const status = write ? port.write(...iova, buffer, 0, length) : port.read(...iova, buffer, 0, length);
            expect(status).toBe(wanted);
            expect(Buffer.compare(buffer, bufferWanted)).toBe(0);
            expect(Buffer.compare(bytes, memoryWanted)).toBe(0);
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe('a path to the IOMMU that is closed', () => {
  const closable = () => {
    const path = { open: true, refusals: 0, refused: () => void path.refusals++ };
    const { memory, translator, gate } = setup();
    const port = new TranslatedDmaPort({ translator, memory, requesterId: RID, gate: gate as DmaGate, path });
    translator.map(0x5000n, 9);
    return { path, translator, gate, port };
  };

  it('lets no request through, and none is translated', () => {
    const { path, translator, port } = closable();
    path.open = false;
    expect(port.read(0, 0x5000, new Uint8Array(8), 0, 8)).toBe(DmaStatus.fault);
    expect(port.write(0, 0x5000, new Uint8Array(8), 0, 8)).toBe(DmaStatus.fault);
    expect(translator.asked).toEqual([]);
    expect(path.refusals).toBe(2);
    path.open = true;
    expect(port.read(0, 0x5000, new Uint8Array(8), 0, 8)).toBe(DmaStatus.ok);
  });

  it('is not asked by a function that may not master the bus', () => {
    const { path, gate, port } = closable();
    path.open = false;
    gate.busMaster = false;
    expect(port.read(0, 0x5000, new Uint8Array(8), 0, 8)).toBe(DmaStatus.notBusMaster);
    expect(path.refusals).toBe(0);
  });

  it('ends a transfer during which it closes', () => {
    const { path, translator, gate, port } = closable();
    translator.during = () => {
      path.open = false;
      gate.generation++;
    };
    const target = new Uint8Array(8);
    expect(port.read(0, 0x5000, target, 0, 8)).toBe(DmaStatus.fault);
    expect(target).toEqual(new Uint8Array(8));
    expect(path.refusals).toBe(1);
  });
});
