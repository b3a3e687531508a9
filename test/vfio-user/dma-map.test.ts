import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { DmaRegion } from '../../src/vfio-user/device-model.ts';
import { Command, DmaMap } from '../../src/vfio-user/spec.ts';
import { errnoOf, openDescriptors, Rig, words } from './rig.ts';

const ENOMEM = 12;
const EEXIST = 17;
const EINVAL = 22;
const ENOSPC = 28;
const ENOTSUP = 95;
const MMAP = DmaMap.mmap;
const FILE_IO = DmaMap.fileIo;

let rig: Rig;
let memfd: number;
beforeEach(() => {
  rig = new Rig();
  memfd = createMemfd('guest', 65536);
});
afterEach(() => {
  closeDescriptor(memfd);
  rig.close();
});

function region(changes: Partial<DmaRegion> = {}): DmaRegion {
  return { address: 0n, size: 4096n, offset: 0n, descriptor: -1, readable: true, writable: true, ...changes };
}

/** A DMA_MAP payload by field: argsz, flags, offset, address, size. */
function mapPayload(argsz: number, flags: number, offset: bigint, address: bigint, size: bigint): Uint8Array {
  const payload = new Uint8Array(32);
  const view = new DataView(payload.buffer);
  view.setUint32(0, argsz, true);
  view.setUint32(4, flags, true);
  view.setBigUint64(8, offset, true);
  view.setBigUint64(16, address, true);
  view.setBigUint64(24, size, true);
  return payload;
}

describe('DMA_MAP', () => {
  it('hands a region without a descriptor to the model', () => {
    rig.client().dmaMap(region({ address: 0xc0000n, size: 0x20000n, writable: false }));
    expect(rig.model.dma.mapped).toEqual([region({ address: 0xc0000n, size: 0x20000n, writable: false })]);
  });

  it('hands on the descriptor and where the region starts in it', () => {
    rig.client().dmaMap(region({ address: 1n << 32n, size: 8192n, offset: 4096n, descriptor: memfd }));
    const [mapped] = rig.model.dma.mapped;
    expect(mapped).toMatchObject({ address: 1n << 32n, size: 8192n, offset: 4096n });
    expect(mapped!.descriptor).toBeGreaterThanOrEqual(0);
    expect(mapped!.descriptor).not.toBe(memfd);
  });

  it('is answered without payload', () => {
    const answer = rig.client().request(Command.dmaMap, mapPayload(32, 3, 0n, 0n, 4096n));
    expect(answer).toEqual({ errno: 0, payload: new Uint8Array(0) });
  });

  it('takes a region that is written only', () => {
    rig.client().dmaMap(region({ readable: false }));
    expect(rig.model.dma.mapped[0]).toMatchObject({ readable: false, writable: true });
  });

  it('takes the last page of the address space', () => {
    rig.client().dmaMap(region({ address: 0xfffffffffffff000n }));
    expect(rig.model.dma.mapped).toHaveLength(1);
  });

  it('passes on the refusal of an overlap', () => {
    const client = rig.client();
    client.dmaMap(region({ size: 8192n }));
    expect(errnoOf(() => client.dmaMap(region({ address: 4096n })))).toBe(EEXIST);
  });

  it('leaves the descriptor to the model also when that refuses', () => {
    const client = rig.client();
    const open = openDescriptors();
    rig.model.dma.refuse = ENOMEM;
    expect(errnoOf(() => client.dmaMap(region({ descriptor: memfd })))).toBe(ENOMEM);
    expect(openDescriptors()).toBe(open);
  });

  const malformed: [string, Uint8Array][] = [
    ['argsz too small', mapPayload(31, 3, 0n, 0n, 4096n)],
    ['no access at all', mapPayload(32, 0, 0n, 0n, 4096n)],
    ['unknown flags', mapPayload(32, 3 | 16, 0n, 0n, 4096n)],
    ['unknown flags beside those for the descriptor', mapPayload(32, 0x8000_000f, 0n, 0n, 4096n)],
    ['mmap of what may not be accessed', mapPayload(32, MMAP, 0n, 0n, 4096n)],
    ['file I/O on what may not be accessed', mapPayload(32, FILE_IO, 0n, 0n, 4096n)],
    ['mmap at a file offset that is not of a page', mapPayload(32, 3 | MMAP, 100n, 0n, 4096n)],
    ['both at a file offset that is not of a page', mapPayload(32, 3 | MMAP | FILE_IO, 100n, 0n, 4096n)],
    ['no size', mapPayload(32, 3, 0n, 0n, 0n)],
    ['a size that is not of whole pages', mapPayload(32, 3, 0n, 0n, 4097n)],
    ['an address that is not of a page', mapPayload(32, 3, 0n, 512n, 4096n)],
    ['an end beyond the address space', mapPayload(32, 3, 0n, 0xfffffffffffff000n, 8192n)],
    ['everything', mapPayload(32, 3, 0n, 0n, 0xfffffffffffff000n + 4095n)],
    ['a file offset that is not of a page', mapPayload(32, 3, 1n, 0n, 4096n)],
    ['a file offset that wraps', mapPayload(32, 3, 0xfffffffffffff000n, 0n, 8192n)],
    ['a short payload', mapPayload(32, 3, 0n, 0n, 4096n).subarray(0, 31)],
  ];
  it.each(malformed)('refuses %s, and closes the descriptor', (_, payload) => {
    const client = rig.client();
    const open = openDescriptors();
    expect(client.request(Command.dmaMap, payload, [memfd]).errno).toBe(EINVAL);
    expect(openDescriptors()).toBe(open);
    expect(rig.model.dma.mapped).toEqual([]);
  });

  it.each([
    ['mmap', MMAP, 'mmap'],
    ['file I/O', FILE_IO, 'fileIo'],
    ['both, of which mmap counts', MMAP | FILE_IO, 'mmap'],
  ])('hands on that the descriptor is for %s', (_, flags, access) => {
    const payload = mapPayload(32, 3 | flags, 4096n, 0n, 4096n);
    expect(rig.client().request(Command.dmaMap, payload, [memfd]).errno).toBe(0);
    expect(rig.model.dma.mapped[0]).toMatchObject({ access, offset: 4096n, readable: true, writable: true });
  });

  it('hands on no such wish where there is none', () => {
    rig.client().dmaMap(region({ descriptor: memfd }));
    expect(rig.model.dma.mapped[0]).not.toHaveProperty('access');
  });

  it.each(['mmap', 'fileIo'] as const)('is asked for %s by the client of this room', access => {
    rig.client().dmaMap(region({ descriptor: memfd, access }));
    expect(rig.model.dma.mapped[0]).toMatchObject({ access });
  });

  it.each([MMAP, FILE_IO, MMAP | FILE_IO])('refuses flags %i without a descriptor', flags => {
    const client = rig.client();
    expect(client.request(Command.dmaMap, mapPayload(32, 3 | flags, 0n, 0n, 4096n)).errno).toBe(EINVAL);
    expect(rig.model.dma.mapped).toEqual([]);
  });

  it('takes any file offset for file I/O', () => {
    const client = rig.client();
    expect(client.request(Command.dmaMap, mapPayload(32, 3 | FILE_IO, 100n, 0n, 4096n), [memfd]).errno).toBe(0);
    expect(rig.model.dma.mapped[0]).toMatchObject({ offset: 100n });
  });

  it('refuses two descriptors, and closes both', () => {
    const client = rig.client();
    const open = openDescriptors();
    expect(client.request(Command.dmaMap, mapPayload(32, 3, 0n, 0n, 4096n), [memfd, memfd]).errno).toBe(EINVAL);
    expect(openDescriptors()).toBe(open);
  });

  it('refuses more regions than were announced', () => {
    rig.close();
    rig = new Rig({ maxDmaMaps: 2 });
    const client = rig.client();
    client.dmaMap(region());
    client.dmaMap(region({ address: 4096n }));
    const open = openDescriptors();
    expect(errnoOf(() => client.dmaMap(region({ address: 8192n, descriptor: memfd })))).toBe(ENOSPC);
    expect(openDescriptors()).toBe(open);
    client.dmaUnmap(0n, 4096n);
    client.dmaMap(region({ address: 8192n }));
  });
});

describe('DMA_UNMAP', () => {
  it('unmaps exactly that region and repeats the request', () => {
    const client = rig.client();
    client.dmaMap(region({ descriptor: memfd }));
    client.dmaMap(region({ address: 4096n }));
    const payload = words(24, 0, 0, 0, 4096, 0);
    expect(client.request(Command.dmaUnmap, payload)).toEqual({ errno: 0, payload });
    expect(rig.model.dma.mapped.map(one => one.address)).toEqual([4096n]);
  });

  it('passes on the refusal of a part', () => {
    const client = rig.client();
    client.dmaMap(region({ size: 8192n }));
    expect(errnoOf(() => client.dmaUnmap(0n, 4096n))).toBe(EINVAL);
    expect(rig.model.dma.mapped).toHaveLength(1);
  });

  it('of all unmaps all', () => {
    const client = rig.client();
    client.dmaMap(region());
    client.dmaMap(region({ address: 4096n }));
    client.dmaUnmap(0n, 0n, 2);
    expect(rig.model.dma.mapped).toEqual([]);
  });

  it('of all with an address is refused', () => {
    const client = rig.client();
    client.dmaMap(region());
    expect(errnoOf(() => client.dmaUnmap(0n, 4096n, 2))).toBe(EINVAL);
    expect(rig.model.dma.mapped).toHaveLength(1);
  });

  it('refuses to report dirty pages, and unmaps nothing', () => {
    const client = rig.client();
    client.dmaMap(region());
    expect(errnoOf(() => client.dmaUnmap(0n, 4096n, 1))).toBe(ENOTSUP);
    expect(rig.model.dma.mapped).toHaveLength(1);
  });

  it('refuses unknown flags', () => {
    expect(errnoOf(() => rig.client().dmaUnmap(0n, 4096n, 8))).toBe(EINVAL);
  });

  it('refuses an argsz that does not hold the reply', () => {
    expect(rig.client().request(Command.dmaUnmap, words(23, 0, 0, 0, 4096, 0)).errno).toBe(EINVAL);
  });

  it('refuses a short payload', () => {
    expect(rig.client().request(Command.dmaUnmap, words(24, 0, 0, 0)).errno).toBe(EINVAL);
  });
});

describe('the end of the client', () => {
  it('unmaps everything and closes its descriptors', () => {
    const open = openDescriptors();
    const client = rig.client();
    client.dmaMap(region({ descriptor: memfd }));
    client.dmaMap(region({ address: 4096n, descriptor: memfd }));
    client.close();
    rig.until(() => !rig.server.connected);
    expect(rig.model.dma.mapped).toEqual([]);
    expect(rig.model.dma.unmapAlls).toBe(1);
    expect(openDescriptors()).toBe(open);
  });

  it('lets the next one map as many again', () => {
    rig.close();
    rig = new Rig({ maxDmaMaps: 1 });
    for (let i = 0; i < 3; i++) {
      const client = rig.client();
      client.dmaMap(region());
      client.close();
      rig.until(() => !rig.server.connected);
    }
    expect(rig.model.dma.unmapAlls).toBe(3);
  });
});
