/** Regions that must not. */
import { Command } from '../../spec.ts';
import { equal, inSection, isTrue, type Rule, skip } from '../rule.ts';
import { mapPayload, message, PAGE, unmapPayload } from '../wire.ts';
import { BASE, EEXIST, map, overlap, refuseMap } from './dma-map-steps.ts';

export const dmaMapRefusedRules: readonly Rule[] = inSection('VFIO_USER_DMA_MAP', [
  {
    id: 'dma-map.overlap-same',
    basis: 'specification',
    says: 'To map over an existing region fails with EEXIST: the same one again.',
    check: context => overlap(context, {}, {}, 'the same region again'),
  },
  {
    id: 'dma-map.overlap-start',
    basis: 'specification',
    says: 'To map over an existing region fails with EEXIST: over its start.',
    check: context =>
      overlap(
        context,
        { address: BASE, size: 2n * PAGE },
        { address: BASE - PAGE, size: 2n * PAGE },
        'a region over the start of another',
      ),
  },
  {
    id: 'dma-map.overlap-end',
    basis: 'specification',
    says: 'To map over an existing region fails with EEXIST: over its end.',
    check: context =>
      overlap(
        context,
        { address: BASE, size: 2n * PAGE },
        { address: BASE + PAGE, size: 2n * PAGE },
        'a region over the end of another',
      ),
  },
  {
    id: 'dma-map.overlap-inside',
    basis: 'specification',
    says: 'To map over an existing region fails with EEXIST: inside it.',
    check: context =>
      overlap(context, { address: BASE, size: 4n * PAGE }, { address: BASE + PAGE }, 'a region inside another'),
  },
  {
    id: 'dma-map.overlap-around',
    basis: 'specification',
    says: 'To map over an existing region fails with EEXIST: around it.',
    check: context =>
      overlap(context, { address: BASE }, { address: BASE - PAGE, size: 3n * PAGE }, 'a region around another'),
  },
  {
    id: 'dma-map.overlap-descriptor',
    basis: 'specification',
    says: 'To map over an existing region fails with EEXIST where both have a descriptor.',
    check: context => {
      const peer = context.session();
      const memory = context.memory(4096);
      map(peer, {}, [memory]);
      equal(refuseMap(peer, {}, 'the same region again', [memory]), EEXIST, 'errno');
    },
  },
  {
    id: 'dma-map.overlap-changes-nothing',
    basis: 'specification',
    says: 'A region that was refused leaves the one that was there.',
    check: context => {
      const peer = context.session();
      map(peer, { address: BASE, size: 2n * PAGE });
      refuseMap(peer, { address: BASE + PAGE, size: 2n * PAGE }, 'an overlap');
      peer.succeed(Command.dmaUnmap, unmapPayload({ address: BASE, size: 2n * PAGE }));
    },
  },
  {
    id: 'dma-map.refused-is-not-mapped',
    basis: 'specification',
    says: 'A region that was refused is not there.',
    check: context => {
      const peer = context.session();
      map(peer, { address: BASE });
      refuseMap(peer, { address: BASE, size: 2n * PAGE }, 'an overlap');
      map(peer, { address: BASE + PAGE });
    },
  },
  {
    id: 'dma-map.argsz-short',
    basis: 'specification',
    says: 'argsz is the size of the structure: less is refused.',
    check: context => void refuseMap(context.session(), { argsz: 31 }, 'an argsz of 31'),
  },
  {
    id: 'dma-map.argsz-zero',
    basis: 'specification',
    says: 'An argsz of 0 is refused.',
    check: context => void refuseMap(context.session(), { argsz: 0 }, 'an argsz of 0'),
  },
  {
    id: 'dma-map.argsz-large',
    basis: 'linux-vfio',
    says: 'A larger argsz than this version needs is not refused.',
    check: context => map(context.session(), { argsz: 64 }),
  },
  {
    id: 'dma-map.payload-short',
    basis: 'specification',
    says: 'The message is 16 + 32 bytes: one byte less is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.dmaMap, mapPayload().subarray(0, 31), '31 bytes of payload');
      peer.alive();
    },
  },
  {
    id: 'dma-map.payload-missing',
    basis: 'specification',
    says: 'A DMA_MAP without a payload is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.dmaMap, new Uint8Array(0), 'no payload');
      peer.alive();
    },
  },
  {
    id: 'dma-map.flags-none',
    basis: 'linux-vfio',
    says: 'A region that is neither readable nor writeable is refused.',
    check: context => void refuseMap(context.session(), { flags: 0 }, 'no permission'),
  },
  {
    id: 'dma-map.flags-unknown',
    basis: 'linux-vfio',
    says: 'Flags that have no meaning are refused.',
    check: context => void refuseMap(context.session(), { flags: 0x80000003 }, 'flags without a meaning'),
  },
  {
    id: 'dma-map.size-zero',
    basis: 'linux-vfio',
    says: 'A region of no bytes is refused.',
    check: context => void refuseMap(context.session(), { size: 0n }, 'a size of 0'),
  },
  {
    id: 'dma-map.size-unaligned',
    basis: 'specification',
    says: 'pgsizes says in what units regions come: a size of one byte more is refused.',
    check: context => void refuseMap(context.session(), { size: PAGE + 1n }, 'a size of 4097'),
  },
  {
    id: 'dma-map.address-unaligned',
    basis: 'specification',
    says: 'pgsizes says in what units regions come: an address within a page is refused.',
    check: context => void refuseMap(context.session(), { address: BASE + 8n }, 'an address within a page'),
  },
  {
    id: 'dma-map.offset-unaligned',
    basis: 'robustness',
    says: 'A file offset that mmap() does not take is decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(Command.dmaMap, mapPayload({ offset: 8n }), { descriptors: [context.memory(2 * 4096)] });
      peer.alive();
    },
  },
  {
    id: 'dma-map.wraps',
    basis: 'linux-vfio',
    says: 'A region that wraps around the end of the address space is refused.',
    check: context => void refuseMap(context.session(), { address: (1n << 64n) - PAGE, size: 2n * PAGE }, 'a wrap'),
  },
  {
    id: 'dma-map.offset-wraps',
    basis: 'robustness',
    says: 'A region whose place in the file wraps is refused.',
    check: context =>
      void refuseMap(context.session(), { offset: (1n << 64n) - PAGE, size: 2n * PAGE }, 'a wrap in the file', [
        context.memory(4096),
      ]),
  },
  {
    id: 'dma-map.whole-address-space',
    basis: 'robustness',
    says: 'A region of nearly all addresses is decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(Command.dmaMap, mapPayload({ address: 0n, size: (1n << 64n) - PAGE }));
      peer.alive();
    },
  },
  {
    id: 'dma-map.beyond-file',
    basis: 'robustness',
    says: 'A region that reaches beyond its file is decided on, and does not end the server.',
    check: context => {
      const peer = context.session();
      peer.ask(Command.dmaMap, mapPayload({ size: 16n * PAGE }), { descriptors: [context.memory(4096)] });
      peer.alive();
    },
  },
  {
    id: 'dma-map.empty-file',
    basis: 'robustness',
    says: 'A region in an empty file is decided on, and does not end the server.',
    check: context => {
      const peer = context.session();
      peer.ask(Command.dmaMap, mapPayload(), { descriptors: [context.memory(0)] });
      peer.alive();
    },
  },
  {
    id: 'dma-map.no-file',
    basis: 'robustness',
    says: 'A descriptor that cannot be mapped is refused.',
    check: context => void refuseMap(context.session(), {}, 'an eventfd for memory', [context.eventFd()]),
  },
  {
    id: 'dma-map.two-descriptors',
    basis: 'robustness',
    says: 'A region has one descriptor: a second one is decided on.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.dmaMap, mapPayload()), [context.memory(4096), context.memory(4096)]);
      peer.outcome('two descriptors');
    },
  },
  {
    id: 'dma-map.second-descriptor-released',
    basis: 'robustness',
    says: 'A second descriptor is closed, whatever becomes of the region.',
    check: context => {
      context.serves();
      const before = context.openDescriptors();
      const peer = context.session();
      peer.send(message(Command.dmaMap, mapPayload()), [context.memory(4096), context.memory(4096)]);
      peer.outcome('two descriptors');
      peer.close();
      context.serves();
      // The suite's own two count where the server runs in its process.
      context.awaitDescriptors(before + (context.target.pid === process.pid ? 2 : 0), 'after two descriptors');
    },
  },
  {
    id: 'dma-map.many-descriptors',
    basis: 'specification',
    says: 'More descriptors than max_msg_fds are refused, or the connection ends.',
    check: context => {
      const limit = context.limit('max_msg_fds');
      if (limit >= 60) skip(`the server takes ${limit} descriptors`);
      const peer = context.session();
      peer.send(message(Command.dmaMap, mapPayload()), context.eventFds(limit + 1));
      isTrue(peer.outcome('too many descriptors') !== 'answered', `DMA_MAP succeeded with ${limit + 1} descriptors`);
    },
  },
  {
    id: 'dma-map.descriptors-released',
    basis: 'specification',
    says: 'The descriptors of refused regions are closed.',
    check: context => {
      const peer = context.session();
      map(peer);
      const memory = context.memory(4096);
      const before = context.openDescriptors();
      for (let i = 0; i < 20; i++) refuseMap(peer, {}, 'an overlap', [memory]);
      context.awaitDescriptors(before, 'after 20 refused regions');
    },
  },
]);
