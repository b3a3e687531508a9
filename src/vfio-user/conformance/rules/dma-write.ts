import { Command, DmaMap, HeaderFlag } from '../../spec.ts';
import { dmaRequest, MEMORY } from '../edu-driver.ts';
import { equal, inSection, isTrue, type Rule } from '../rule.ts';
import { dmaPayload, NOTHING, PAGE } from '../wire.ts';
import { covers, EIO, requests, SIZE, setup, survives } from './dma-steps.ts';

const { dmaWrite } = Command;

export const dmaWriteRules: readonly Rule[] = inSection('VFIO_USER_DMA_WRITE', [
  {
    id: 'dma-write.asked',
    basis: 'specification',
    says: 'Memory without a descriptor is written by DMA_WRITE.',
    check: context => {
      const { edu } = setup(context);
      edu.store(MEMORY, 256);
      covers(requests(edu.peer, dmaWrite), MEMORY, 256);
    },
  },
  {
    id: 'dma-write.form',
    basis: 'specification',
    says: 'The request is a command that carries as much data as its count says.',
    check: context => {
      const { edu } = setup(context);
      edu.store(MEMORY, 256);
      for (const one of requests(edu.peer, dmaWrite)) {
        const { count, data } = dmaRequest(one);
        equal(data.length, count, 'bytes of data');
        equal(one.flags & HeaderFlag.typeMask, HeaderFlag.typeCommand, 'type');
      }
    },
  },
  {
    id: 'dma-write.nothing-else',
    basis: 'specification',
    says: 'Nothing around the range is written.',
    check: context => {
      const { edu, memory } = setup(context);
      memory.bytes.fill(0xee);
      edu.store(MEMORY + 100n, 50);
      const touched = memory.bytes.reduce(
        (sum, byte, at) => sum + (byte !== 0xee && (at < 100 || at >= 150) ? 1 : 0),
        0,
      );
      equal(touched, 0, 'bytes around the range that changed');
    },
  },
  {
    id: 'dma-write.max-data-xfer-size',
    basis: 'specification',
    says: "The count is not above the client's max_data_xfer_size.",
    check: context => {
      const { edu } = setup(context, { proposal: { capabilities: { max_data_xfer_size: 512 } } });
      edu.store(MEMORY, 2000);
      const all = requests(edu.peer, dmaWrite);
      covers(all, MEMORY, 2000);
      for (const one of all) isTrue(dmaRequest(one).count <= 512, `a count of ${dmaRequest(one).count}`);
    },
  },
  {
    id: 'dma-write.not-writable',
    basis: 'specification',
    says: 'A region that is not writeable is not written.',
    check: context => {
      const { edu } = setup(context, { flags: DmaMap.readable });
      edu.store(MEMORY, 64);
      equal(requests(edu.peer, dmaWrite).length, 0, 'requests');
    },
  },
  {
    id: 'dma-write.unmapped',
    basis: 'specification',
    says: 'Nothing is written to an address that was never mapped.',
    check: context => {
      const { edu } = setup(context);
      edu.store(MEMORY + BigInt(SIZE) + 16n * PAGE, 64);
      equal(edu.peer.requests.length, 0, 'requests');
    },
  },
  {
    id: 'dma-write.error',
    basis: 'specification',
    says: 'An error reply ends the write, not the connection.',
    check: context => {
      const { edu } = setup(context);
      edu.peer.onRequest = request => edu.peer.answer(request, EIO, NOTHING);
      edu.store(MEMORY, 64);
      edu.peer.alive();
    },
  },
  {
    id: 'dma-write.reply-of-12-bytes',
    basis: 'specification',
    says: 'The reply counts in 4 bytes, by the table of this section, and is taken.',
    check: context => {
      const { edu } = setup(context);
      const { peer } = edu;
      peer.onRequest = request => {
        const { address, count } = dmaRequest(request);
        peer.answer(request, 0, dmaPayload(address, count).subarray(0, 12));
      };
      edu.store(MEMORY, 64);
      peer.alive();
    },
  },
  {
    id: 'dma-write.reply-of-16-bytes',
    basis: 'robustness',
    says: 'The reply of QEMU and libvfio-user, which counts in 8 bytes, is taken too.',
    check: context => {
      const { edu } = setup(context);
      edu.store(MEMORY, 64);
      edu.peer.alive();
    },
  },
  {
    id: 'dma-write.empty-reply',
    basis: 'robustness',
    says: 'After a reply without a payload the next client is served.',
    check: context => survives(context, dmaWrite, (peer, request) => peer.answer(request, 0, NOTHING)),
  },
  {
    id: 'dma-write.client-gone',
    basis: 'robustness',
    says: 'After a client that goes instead of answering the next one is served.',
    check: context => survives(context, dmaWrite, peer => peer.close()),
  },
]);
