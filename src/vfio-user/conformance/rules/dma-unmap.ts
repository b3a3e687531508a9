import { Command, DmaUnmap, HeaderFlag } from '../../spec.ts';
import type { Context } from '../context.ts';
import type { Peer } from '../peer.ts';
import { equalBytes, inSection, isTrue, type Rule } from '../rule.ts';
import { type MapFields, mapPayload, message, PAGE, unmapPayload } from '../wire.ts';

const BASE = 0x100000n;

function mapped(context: Context, fields: MapFields = {}, descriptors: readonly number[] = []): Peer {
  const peer = context.session();
  peer.succeed(Command.dmaMap, mapPayload(fields), { descriptors });
  return peer;
}

function unmap(peer: Peer, fields: MapFields = {}): void {
  peer.succeed(Command.dmaUnmap, unmapPayload(fields));
}

/** Refused, and the region is still there. */
function keeps(context: Context, region: MapFields, fields: MapFields, why: string): void {
  const peer = mapped(context, region);
  peer.refuse(Command.dmaUnmap, unmapPayload(fields), why);
  unmap(peer, region);
}

export const dmaUnmapRules: readonly Rule[] = inSection('VFIO_USER_DMA_UNMAP', [
  {
    id: 'dma-unmap.exact',
    basis: 'specification',
    says: 'A region is unmapped by its address and size.',
    check: context => unmap(mapped(context)),
  },
  {
    id: 'dma-unmap.with-descriptor',
    basis: 'specification',
    says: 'A region with a descriptor is unmapped by its address and size.',
    check: context => unmap(mapped(context, {}, [context.memory(4096)])),
  },
  {
    id: 'dma-unmap.entry-returned',
    basis: 'specification',
    says: 'The reply is the entry of the request.',
    check: context => {
      const peer = mapped(context);
      const request = unmapPayload();
      equalBytes(peer.succeed(Command.dmaUnmap, request).payload.subarray(4), request.subarray(4), 'entry');
    },
  },
  {
    id: 'dma-unmap.entry-size',
    basis: 'specification',
    says: 'The reply has 24 bytes of payload.',
    check: context => {
      const { payload } = mapped(context).succeed(Command.dmaUnmap, unmapPayload());
      isTrue(payload.length === DmaUnmap.bytes, `${payload.length} bytes of payload`);
    },
  },
  {
    id: 'dma-unmap.unknown',
    basis: 'specification',
    says: 'Address and size must match a mapping: none at all is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.dmaUnmap, unmapPayload(), 'an address that was never mapped');
      peer.alive();
    },
  },
  {
    id: 'dma-unmap.twice',
    basis: 'specification',
    says: 'A region is there once: the second unmap is refused.',
    check: context => {
      const peer = mapped(context);
      unmap(peer);
      peer.refuse(Command.dmaUnmap, unmapPayload(), 'a region that is gone');
    },
  },
  {
    id: 'dma-unmap.smaller',
    basis: 'specification',
    says: 'Address and size must match exactly: the first half is refused.',
    check: context => keeps(context, { size: 2n * PAGE }, { size: PAGE }, 'the first half of a region'),
  },
  {
    id: 'dma-unmap.second-half',
    basis: 'specification',
    says: 'Address and size must match exactly: the second half is refused.',
    check: context => keeps(context, { size: 2n * PAGE }, { address: BASE + PAGE, size: PAGE }, 'the second half'),
  },
  {
    id: 'dma-unmap.larger',
    basis: 'specification',
    says: 'Address and size must match exactly: more than the region is refused.',
    check: context => keeps(context, {}, { size: 2n * PAGE }, 'more than the region'),
  },
  {
    id: 'dma-unmap.around',
    basis: 'specification',
    says: 'Address and size must match exactly: a range around the region is refused.',
    check: context => keeps(context, {}, { address: BASE - PAGE, size: 3n * PAGE }, 'a range around the region'),
  },
  {
    id: 'dma-unmap.two-regions',
    basis: 'specification',
    says: 'Two regions are not unmapped as one.',
    check: context => {
      const peer = mapped(context);
      peer.succeed(Command.dmaMap, mapPayload({ address: BASE + PAGE }));
      peer.refuse(Command.dmaUnmap, unmapPayload({ size: 2n * PAGE }), 'two regions as one');
      unmap(peer);
      unmap(peer, { address: BASE + PAGE });
    },
  },
  {
    id: 'dma-unmap.size-zero',
    basis: 'specification',
    says: 'A size of 0 matches no region.',
    check: context => keeps(context, {}, { size: 0n }, 'a size of 0'),
  },
  {
    id: 'dma-unmap.address-within-page',
    basis: 'specification',
    says: 'An address within the first page matches no region.',
    check: context => keeps(context, {}, { address: BASE + 1n }, 'an address within a page'),
  },
  {
    id: 'dma-unmap.high-bits',
    basis: 'specification',
    says: 'All 64 bits of the address count.',
    check: context => keeps(context, {}, { address: BASE + (1n << 32n) }, 'an address 4 GiB above'),
  },
  {
    id: 'dma-unmap.size-high-bits',
    basis: 'specification',
    says: 'All 64 bits of the size count.',
    check: context => keeps(context, {}, { size: PAGE + (1n << 32n) }, 'a size 4 GiB larger'),
  },
  {
    id: 'dma-unmap.size-wraps',
    basis: 'robustness',
    says: 'A range that wraps around matches no region.',
    check: context => keeps(context, {}, { size: (1n << 64n) - PAGE }, 'a range that wraps'),
  },
  {
    id: 'dma-unmap.others-stay',
    basis: 'specification',
    says: 'Other regions stay.',
    check: context => {
      const peer = mapped(context);
      peer.succeed(Command.dmaMap, mapPayload({ address: BASE + PAGE }));
      unmap(peer);
      unmap(peer, { address: BASE + PAGE });
    },
  },
  {
    id: 'dma-unmap.argsz-short',
    basis: 'specification',
    says: 'argsz must hold the fixed part of the reply: less is refused, and nothing is unmapped.',
    check: context => keeps(context, {}, { argsz: 23 }, 'an argsz of 23'),
  },
  {
    id: 'dma-unmap.argsz-large',
    basis: 'specification',
    says: 'argsz is a maximum: more is not refused.',
    check: context => unmap(mapped(context), { argsz: 4096 }),
  },
  {
    id: 'dma-unmap.payload-short',
    basis: 'specification',
    says: 'A payload of 23 bytes is refused.',
    check: context => {
      const peer = mapped(context);
      peer.refuse(Command.dmaUnmap, unmapPayload().subarray(0, 23), '23 bytes of payload');
      unmap(peer);
    },
  },
  {
    id: 'dma-unmap.no-reply',
    basis: 'specification',
    says: 'A DMA_UNMAP with the No_reply bit unmaps, and is not answered.',
    check: context => {
      const peer = mapped(context);
      peer.tell(Command.dmaUnmap, unmapPayload(), { flags: HeaderFlag.noReply });
      peer.succeed(Command.dmaMap, mapPayload());
    },
  },
  {
    id: 'dma-unmap.descriptor',
    basis: 'robustness',
    says: 'A descriptor, which does not belong to DMA_UNMAP, is decided on.',
    check: context => {
      const peer = mapped(context);
      peer.send(message(Command.dmaUnmap, unmapPayload()), [context.memory(4096)]);
      peer.outcome('DMA_UNMAP with a descriptor');
    },
  },
  {
    id: 'dma-unmap.all',
    basis: 'linux-vfio',
    says: 'VFIO_DMA_UNMAP_FLAG_ALL with address and size 0 unmaps every region, where it is not refused.',
    check: context => {
      const peer = mapped(context);
      peer.succeed(Command.dmaMap, mapPayload({ address: BASE + PAGE }));
      const all = { flags: DmaUnmap.all, address: 0n, size: 0n };
      const { error } = peer.ask(Command.dmaUnmap, unmapPayload(all));
      if (error !== 0) {
        unmap(peer);
        return;
      }
      peer.refuse(Command.dmaUnmap, unmapPayload(), 'a region that is gone');
      peer.refuse(Command.dmaUnmap, unmapPayload({ address: BASE + PAGE }), 'a region that is gone');
    },
  },
  {
    id: 'dma-unmap.all-of-none',
    basis: 'linux-vfio',
    says: 'To unmap everything twice is no mistake where it is none at all.',
    check: context => {
      const peer = mapped(context);
      const all = unmapPayload({ flags: DmaUnmap.all, address: 0n, size: 0n });
      if (peer.ask(Command.dmaUnmap, all).error === 0) peer.succeed(Command.dmaUnmap, all);
    },
  },
  {
    id: 'dma-unmap.all-with-address',
    basis: 'linux-vfio',
    says: 'VFIO_DMA_UNMAP_FLAG_ALL with an address or a size is refused.',
    check: context => keeps(context, {}, { flags: DmaUnmap.all }, 'FLAG_ALL with an address'),
  },
  {
    id: 'dma-unmap.dirty-bitmap',
    basis: 'linux-vfio',
    says: 'VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP without a bitmap behind it is refused.',
    check: context => keeps(context, {}, { flags: DmaUnmap.getDirtyBitmap }, 'no bitmap behind it'),
  },
  {
    id: 'dma-unmap.descriptor-released',
    basis: 'specification',
    says: 'All references to the region are released before the reply: its descriptor is closed.',
    check: context => {
      const peer = context.session();
      const memory = context.memory(4096);
      const before = context.openDescriptors();
      for (let i = 0; i < 10; i++) {
        peer.succeed(Command.dmaMap, mapPayload(), { descriptors: [memory] });
        unmap(peer);
      }
      isTrue(context.openDescriptors() <= before, 'descriptors are still open after the reply');
    },
  },
  {
    id: 'dma-unmap.not-of-last-client',
    basis: 'specification',
    says: 'Regions of a client that is gone are gone.',
    check: context => {
      mapped(context).close();
      const peer = context.session();
      peer.refuse(Command.dmaUnmap, unmapPayload(), "another client's region");
      peer.succeed(Command.dmaMap, mapPayload());
    },
  },
]);
