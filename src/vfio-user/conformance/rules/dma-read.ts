/** What the server asks for. */
import { Command, DmaMap, HeaderFlag } from '../../spec.ts';
import { dmaRequest, EDU_BUFFER_BYTES, EduDriver, MEMORY, MessageMemory } from '../edu-driver.ts';
import { equal, inSection, isTrue, type Rule } from '../rule.ts';
import { mapPayload, message, NOTHING, PAGE, unmapPayload } from '../wire.ts';
import { covers, EIO, OTHER, requests, roundTrip, SIZE, setup } from './dma-steps.ts';

const { dmaRead } = Command;

export const dmaReadRules: readonly Rule[] = inSection('VFIO_USER_DMA_READ', [
  {
    id: 'dma-read.asked',
    basis: 'specification',
    says: 'Memory without a descriptor is read by DMA_READ.',
    check: context => {
      const { edu } = setup(context);
      edu.fetch(MEMORY, 256);
      covers(requests(edu.peer, dmaRead), MEMORY, 256);
    },
  },
  {
    id: 'dma-read.form',
    basis: 'specification',
    says: 'The request is a command of 16 bytes of payload, without any other flag.',
    check: context => {
      const { edu } = setup(context);
      edu.fetch(MEMORY, 256);
      for (const { payload, flags, error } of requests(edu.peer, dmaRead)) {
        equal(payload.length, 16, 'bytes of payload');
        equal(flags, HeaderFlag.typeCommand, 'flags');
        equal(error, 0, 'error field');
      }
    },
  },
  {
    id: 'dma-read.no-descriptors',
    basis: 'specification',
    says: 'It carries no descriptors.',
    check: context => {
      const { edu } = setup(context);
      edu.fetch(MEMORY, 64);
      for (const { descriptors } of edu.peer.requests) equal(descriptors.length, 0, 'descriptors');
    },
  },
  {
    id: 'dma-read.data',
    basis: 'specification',
    says: 'The data of the reply is what the device gets.',
    check: context => roundTrip(setup(context), MEMORY, OTHER, 1024),
  },
  {
    id: 'dma-read.unaligned',
    basis: 'specification',
    says: 'Address and count may be odd.',
    check: context => roundTrip(setup(context), MEMORY + 13n, OTHER + 7n, 555),
  },
  {
    id: 'dma-read.one-byte',
    basis: 'specification',
    says: 'A single byte can be read.',
    check: context => roundTrip(setup(context), MEMORY + 4095n, OTHER, 1),
  },
  {
    id: 'dma-read.across-pages',
    basis: 'specification',
    says: 'A read may cross pages of a region.',
    check: context => roundTrip(setup(context), MEMORY + 2000n, OTHER, EDU_BUFFER_BYTES),
  },
  {
    id: 'dma-read.last-byte',
    basis: 'specification',
    says: 'A read may end with its region.',
    check: context => roundTrip(setup(context), MEMORY + BigInt(SIZE) - 64n, OTHER, 64),
  },
  {
    id: 'dma-read.max-data-xfer-size',
    basis: 'specification',
    says: "The count is not above the client's max_data_xfer_size.",
    check: context => {
      const { edu } = setup(context, { proposal: { capabilities: { max_data_xfer_size: 512 } } });
      edu.fetch(MEMORY, 2000);
      const all = requests(edu.peer, dmaRead);
      covers(all, MEMORY, 2000);
      for (const one of all) isTrue(dmaRequest(one).count <= 512, `a count of ${dmaRequest(one).count}`);
    },
  },
  {
    id: 'dma-read.tiny-transfer-size',
    basis: 'robustness',
    says: 'The count is not above max_data_xfer_size where that is a single byte.',
    check: context => {
      const { edu } = setup(context, { proposal: { capabilities: { max_data_xfer_size: 1 } } });
      edu.fetch(MEMORY, 20);
      covers(requests(edu.peer, dmaRead), MEMORY, 20);
      for (const one of requests(edu.peer, dmaRead)) equal(dmaRequest(one).count, 1, 'count');
    },
  },
  {
    id: 'dma-read.two-regions',
    basis: 'specification',
    says: 'A read across two regions that touch asks for all of it.',
    check: context => {
      const edu = EduDriver.open(context);
      const memory = new MessageMemory(edu.peer, MEMORY, SIZE);
      edu.peer.succeed(Command.dmaMap, mapPayload({ address: MEMORY }));
      edu.peer.succeed(Command.dmaMap, mapPayload({ address: MEMORY + PAGE, size: 15n * PAGE }));
      roundTrip({ edu, memory }, MEMORY + 4000n, OTHER, 200);
    },
  },
  {
    id: 'dma-read.error',
    basis: 'specification',
    says: 'An error reply ends the read, not the connection.',
    check: context => {
      const { edu } = setup(context);
      edu.peer.onRequest = request => edu.peer.answer(request, EIO, NOTHING);
      edu.fetch(MEMORY, 64);
      edu.peer.alive();
    },
  },
  {
    id: 'dma-read.error-without-errno',
    basis: 'specification',
    says: 'The errno of an error reply is optional.',
    check: context => {
      const { edu } = setup(context);
      const { peer } = edu;
      peer.onRequest = ({ id, command }) =>
        peer.send(message(command, NOTHING, { id, flags: HeaderFlag.typeReply | HeaderFlag.error }));
      edu.fetch(MEMORY, 64);
      peer.alive();
    },
  },
  {
    id: 'dma-read.works-after-error',
    basis: 'specification',
    says: 'After an error the next read is asked for.',
    check: context => {
      const { edu, memory } = setup(context);
      const serve = edu.peer.onRequest;
      edu.peer.onRequest = request => edu.peer.answer(request, EIO, NOTHING);
      edu.fetch(MEMORY, 64);
      edu.peer.onRequest = serve;
      roundTrip({ edu, memory }, MEMORY, OTHER, 64);
    },
  },
  {
    id: 'dma-read.unmapped',
    basis: 'specification',
    says: 'Memory must have been exported: nothing is asked for an address that was never mapped.',
    check: context => {
      const { edu } = setup(context);
      edu.fetch(MEMORY + BigInt(SIZE) + 16n * PAGE, 64);
      equal(edu.peer.requests.length, 0, 'requests');
    },
  },
  {
    id: 'dma-read.after-unmap',
    basis: 'specification',
    says: 'Nothing is asked for an address that was unmapped.',
    check: context => {
      const { edu } = setup(context);
      edu.peer.succeed(Command.dmaUnmap, unmapPayload({ address: MEMORY, size: BigInt(SIZE) }));
      edu.fetch(MEMORY, 64);
      equal(edu.peer.requests.length, 0, 'requests');
    },
  },
  {
    id: 'dma-read.beyond-region',
    basis: 'specification',
    says: 'Nothing is asked for the bytes behind a region.',
    check: context => {
      const { edu } = setup(context);
      const end = MEMORY + BigInt(SIZE);
      edu.fetch(end - 32n, 64);
      for (const one of edu.peer.requests) {
        const { address, count } = dmaRequest(one);
        isTrue(address + BigInt(count) <= end, `it asks for ${count} bytes at ${address}`);
      }
    },
  },
  {
    id: 'dma-read.not-readable',
    basis: 'specification',
    says: 'A region that is not readable is not read.',
    check: context => {
      const { edu } = setup(context, { flags: DmaMap.writable });
      edu.fetch(MEMORY, 64);
      equal(requests(edu.peer, dmaRead).length, 0, 'requests');
    },
  },
  {
    id: 'dma-read.not-of-last-client',
    basis: 'specification',
    says: "A client's regions are not asked of the next one.",
    check: context => {
      setup(context).edu.peer.close();
      const edu = EduDriver.open(context);
      edu.fetch(MEMORY, 64);
      equal(edu.peer.requests.length, 0, 'requests');
    },
  },
]);
