/** Regions that must be taken. */
import { Command, DmaMap, HeaderFlag } from '../../spec.ts';
import { equal, inSection, type Rule, skip } from '../rule.ts';
import { mapPayload, PAGE, unmapPayload } from '../wire.ts';
import { BASE, MANY_MAPS, map, mapMany, TRIED_TABLE } from './dma-map-steps.ts';

export const dmaMapRules: readonly Rule[] = inSection('VFIO_USER_DMA_MAP', [
  {
    id: 'dma-map.message-memory',
    basis: 'specification',
    says: 'Memory without a descriptor can be mapped.',
    check: context => map(context.session()),
  },
  {
    id: 'dma-map.no-payload',
    basis: 'specification',
    says: 'The reply has no payload.',
    check: context => {
      const { payload } = context.session().succeed(Command.dmaMap, mapPayload());
      equal(payload.length, 0, 'bytes of payload');
    },
  },
  {
    id: 'dma-map.no-descriptor-back',
    basis: 'specification',
    says: 'The reply carries no descriptor.',
    check: context => {
      const memory = context.memory(4096);
      const reply = context.session().succeed(Command.dmaMap, mapPayload(), { descriptors: [memory] });
      equal(reply.descriptors.length, 0, 'descriptors');
    },
  },
  {
    id: 'dma-map.with-descriptor',
    basis: 'specification',
    says: 'Memory with a descriptor can be mapped.',
    check: context => map(context.session(), {}, [context.memory(4096)]),
  },
  {
    id: 'dma-map.file-offset',
    basis: 'specification',
    says: 'The region may start anywhere in the file, at a page.',
    check: context => map(context.session(), { offset: 2n * PAGE }, [context.memory(3 * 4096)]),
  },
  {
    id: 'dma-map.same-file-twice',
    basis: 'specification',
    says: 'Two regions may lie in one file, even at one place.',
    check: context => {
      const peer = context.session();
      const memory = context.memory(4096);
      map(peer, { address: BASE }, [memory]);
      map(peer, { address: BASE + PAGE }, [memory]);
    },
  },
  {
    id: 'dma-map.readable-only',
    basis: 'specification',
    says: 'A region may be readable alone.',
    check: context => map(context.session(), { flags: DmaMap.readable }),
  },
  {
    id: 'dma-map.writable-only',
    basis: 'specification',
    says: 'A region may be writeable alone.',
    check: context => map(context.session(), { flags: DmaMap.writable }),
  },
  {
    id: 'dma-map.readable-only-descriptor',
    basis: 'specification',
    says: 'A region with a descriptor may be readable alone.',
    check: context => map(context.session(), { flags: DmaMap.readable }, [context.memory(4096)]),
  },
  {
    id: 'dma-map.writable-only-descriptor',
    basis: 'specification',
    says: 'A region with a descriptor may be writeable alone.',
    check: context => map(context.session(), { flags: DmaMap.writable }, [context.memory(4096)]),
  },
  {
    id: 'dma-map.address-zero',
    basis: 'specification',
    says: 'Address 0 is an address like any other.',
    check: context => map(context.session(), { address: 0n }),
  },
  {
    id: 'dma-map.above-4-gib',
    basis: 'specification',
    says: 'Addresses have 64 bits: 4 GiB and above.',
    check: context => map(context.session(), { address: 1n << 32n, size: 1n << 30n }),
  },
  {
    id: 'dma-map.1-tib',
    basis: 'specification',
    says: 'Addresses have 64 bits: 1 TiB.',
    check: context => map(context.session(), { address: 1n << 40n }),
  },
  {
    id: 'dma-map.46-bits',
    basis: 'specification',
    says: 'Addresses have 64 bits: where machines with 46 of them have their device memory.',
    check: context => map(context.session(), { address: 0x380000000000n }),
  },
  {
    id: 'dma-map.52-bits',
    basis: 'specification',
    says: 'Addresses have 64 bits: the last page of 52.',
    check: context => map(context.session(), { address: (1n << 52n) - PAGE }),
  },
  {
    id: 'dma-map.last-page',
    basis: 'specification',
    says: 'Addresses have 64 bits: the last page of all.',
    check: context => map(context.session(), { address: (1n << 64n) - PAGE }),
  },
  {
    id: 'dma-map.large',
    basis: 'specification',
    says: 'A region may be large: 64 GiB without a descriptor.',
    check: context => map(context.session(), { address: 1n << 36n, size: 1n << 36n }),
  },
  {
    id: 'dma-map.adjacent',
    basis: 'specification',
    says: 'Regions may touch.',
    check: context => {
      const peer = context.session();
      map(peer, { address: BASE });
      map(peer, { address: BASE + PAGE });
      map(peer, { address: BASE - PAGE });
    },
  },
  {
    id: 'dma-map.no-reply',
    basis: 'specification',
    says: 'A DMA_MAP with the No_reply bit maps, and is not answered.',
    check: context => {
      const peer = context.session();
      peer.tell(Command.dmaMap, mapPayload(), { flags: HeaderFlag.noReply });
      peer.succeed(Command.dmaUnmap, unmapPayload());
    },
  },
  {
    id: 'dma-map.again-after-unmap',
    basis: 'specification',
    says: 'What was unmapped may be mapped again.',
    check: context => {
      const peer = context.session();
      for (let i = 0; i < 3; i++) {
        map(peer);
        peer.succeed(Command.dmaUnmap, unmapPayload());
      }
    },
  },
  {
    id: 'dma-map.many',
    basis: 'specification',
    says: `A thousand regions, or max_dma_maps where that is less, may be there at a time.`,
    check: context => {
      const count = Math.min(MANY_MAPS, context.limit('max_dma_maps'));
      mapMany(context.session(), count);
    },
  },
  {
    id: 'dma-map.as-many-as-announced',
    basis: 'specification',
    says: 'max_dma_maps regions may be there at a time.',
    check: context => {
      const count = context.limit('max_dma_maps');
      if (count > TRIED_TABLE) skip(`${count} regions take too long`);
      const peer = context.session();
      mapMany(peer, count);
    },
  },
  {
    id: 'dma-map.more-than-announced',
    basis: 'robustness',
    says: 'One region more than max_dma_maps is decided on, and one that goes makes room.',
    check: context => {
      const count = context.limit('max_dma_maps');
      if (count > TRIED_TABLE) skip(`${count} regions take too long`);
      const peer = context.session();
      mapMany(peer, count);
      const extra = { address: BigInt(count) * 2n * PAGE + BASE };
      peer.ask(Command.dmaMap, mapPayload(extra));
      peer.succeed(Command.dmaUnmap, unmapPayload({ address: BASE }));
      map(peer, { address: BASE });
    },
  },
]);
