/** What it makes of the reply, and of what comes before it. */
import { Command, HeaderFlag } from '../../spec.ts';
import { CONFIG } from '../context.ts';
import { dmaRequest, MEMORY } from '../edu-driver.ts';
import type { Received } from '../peer.ts';
import { equal, inSection, isTrue, type Rule } from '../rule.ts';
import { concat, dmaPayload, message, NOTHING, pattern, readMessage, unmapPayload } from '../wire.ts';
import { EIO, requests, SIZE, setup, survives } from './dma-steps.ts';

const { dmaRead, dmaWrite } = Command;

export const dmaReadReplyRules: readonly Rule[] = inSection('VFIO_USER_DMA_READ', [
  {
    id: 'dma-read.reply-in-pieces',
    basis: 'specification',
    says: 'The reply may arrive in pieces.',
    check: context => {
      const { edu } = setup(context);
      const { peer } = edu;
      peer.onRequest = request => {
        const { address, count } = dmaRequest(request);
        const reply = message(request.command, dmaPayload(address, count, pattern(count)), {
          id: request.id,
          flags: HeaderFlag.typeReply,
        });
        for (let at = 0; at < reply.length; at += 7) peer.send(reply.subarray(at, at + 7));
      };
      edu.fetch(MEMORY, 200);
      peer.alive();
    },
  },
  {
    id: 'dma-read.command-with-the-reply',
    basis: 'specification',
    says: 'A reply and a command may arrive in one piece.',
    check: context => {
      const { edu } = setup(context);
      const { peer } = edu;
      let answered = 0;
      peer.onReply = reply => {
        if (reply.id === 900) answered++;
        return reply.id === 900;
      };
      let sent = false;
      peer.onRequest = request => {
        const { address, count } = dmaRequest(request);
        const reply = message(request.command, dmaPayload(address, count, pattern(count)), {
          id: request.id,
          flags: HeaderFlag.typeReply,
        });
        peer.send(sent ? reply : concat(reply, readMessage(CONFIG, 0, 4, { id: 900 })));
        sent = true;
      };
      edu.fetch(MEMORY, 64);
      peer.until(() => answered === 1, 'the answer to the command behind the reply');
    },
  },
  {
    id: 'dma-read.commands-meanwhile',
    basis: 'specification',
    says: 'Commands are served while a reply is awaited: a client may want an answer before it gives one.',
    check: context => {
      const { edu, memory } = setup(context);
      const { peer } = edu;
      let held: Received | undefined;
      peer.onRequest = request => {
        held = request;
        peer.send(readMessage(CONFIG, 0, 4, { id: 901 }));
      };
      peer.onReply = reply => {
        if (reply.id !== 901) return false;
        if (held !== undefined) memory.serve(held);
        held = undefined;
        return true;
      };
      edu.fetch(MEMORY, 64);
      isTrue(requests(peer, dmaRead).length > 0, 'nothing was asked');
    },
  },
  {
    id: 'dma-read.same-id-as-command',
    basis: 'specification',
    says: 'Ids belong to the sender: a command of the client may have the id of a request of the server.',
    check: context => {
      const { edu, memory } = setup(context);
      const { peer } = edu;
      let held: Received | undefined;
      let value = -1;
      peer.onRequest = request => {
        held = request;
        peer.send(readMessage(CONFIG, 0, 4, { id: request.id }));
      };
      peer.onReply = reply => {
        if (held === undefined || reply.id !== held.id || reply.command !== Command.regionRead) return false;
        value = reply.payload[16]!;
        memory.serve(held);
        held = undefined;
        return true;
      };
      edu.fetch(MEMORY, 64);
      equal(value, 0x34, 'what was read meanwhile');
    },
  },
  {
    id: 'dma-read.client-gone',
    basis: 'robustness',
    says: 'After a client that goes instead of answering the next one is served.',
    check: context => survives(context, dmaRead, peer => peer.close()),
  },
  {
    id: 'dma-read.wrong-id',
    basis: 'robustness',
    says: 'After a reply with an id that nobody used the next client is served.',
    check: context =>
      survives(context, dmaRead, (peer, request) =>
        peer.answer({ ...request, id: (request.id + 1000) & 0xffff }, 0, dmaPayload(MEMORY, 64, new Uint8Array(64))),
      ),
  },
  {
    id: 'dma-read.wrong-command',
    basis: 'robustness',
    says: 'After a reply to another command the next client is served.',
    check: context =>
      survives(context, dmaRead, (peer, request) =>
        peer.answer({ ...request, command: dmaWrite }, 0, dmaPayload(MEMORY, 64)),
      ),
  },
  {
    id: 'dma-read.short-reply',
    basis: 'robustness',
    says: 'After a reply without its data the next client is served.',
    check: context => survives(context, dmaRead, (peer, request) => peer.answer(request, 0, dmaPayload(MEMORY, 64))),
  },
  {
    id: 'dma-read.empty-reply',
    basis: 'robustness',
    says: 'After a reply without a payload the next client is served.',
    check: context => survives(context, dmaRead, (peer, request) => peer.answer(request, 0, NOTHING)),
  },
  {
    id: 'dma-read.long-reply',
    basis: 'robustness',
    says: 'After a reply of more than was asked for the next client is served.',
    check: context =>
      survives(context, dmaRead, (peer, request) =>
        peer.answer(request, 0, dmaPayload(MEMORY, 5000, new Uint8Array(5000))),
      ),
  },
  {
    id: 'dma-read.count-lies',
    basis: 'robustness',
    says: 'After a reply whose count is not that of its data the next client is served.',
    check: context =>
      survives(context, dmaRead, (peer, request) =>
        peer.answer(request, 0, dmaPayload(MEMORY, 1000000, new Uint8Array(64))),
      ),
  },
  {
    id: 'dma-read.other-address',
    basis: 'robustness',
    says: 'After a reply for another address the next client is served.',
    check: context =>
      survives(context, dmaRead, (peer, request) =>
        peer.answer(request, 0, dmaPayload(MEMORY + 64n, 64, new Uint8Array(64))),
      ),
  },
  {
    id: 'dma-read.answered-twice',
    basis: 'robustness',
    says: 'After two replies to one request the next client is served.',
    check: context =>
      survives(context, dmaRead, (peer, request) => {
        peer.answer(request, 0, dmaPayload(MEMORY, 64, new Uint8Array(64)));
        peer.answer(request, 0, dmaPayload(MEMORY, 64, new Uint8Array(64)));
      }),
  },
  {
    id: 'dma-read.reset-meanwhile',
    basis: 'specification',
    says: 'A reset is answered while a reply is awaited.',
    check: context => {
      const { edu, memory } = setup(context);
      const { peer } = edu;
      let held: Received | undefined;
      let done = false;
      peer.onRequest = request => {
        held = request;
        peer.send(message(Command.deviceReset, NOTHING, { id: 902 }));
      };
      peer.onReply = reply => {
        if (reply.id !== 902) return false;
        if (held !== undefined) memory.serve(held);
        done = true;
        return true;
      };
      edu.startFetch(MEMORY, 64);
      peer.until(() => done, 'the reply to the reset');
      peer.alive();
    },
  },
  {
    id: 'dma-read.unmap-meanwhile',
    basis: 'specification',
    says: 'An unmap is answered while a reply is awaited, and nothing is asked of the region after that.',
    check: context => {
      // Many small pieces: a server may have asked for some of them when the unmap comes, which are still answered.
      const { edu, memory } = setup(context, { proposal: { capabilities: { max_data_xfer_size: 16 } } });
      const { peer } = edu;
      const held: Received[] = [];
      let unmapped = false;
      peer.onRequest = request => {
        if (held.length === 0) {
          const region = unmapPayload({ address: MEMORY, size: BigInt(SIZE) });
          peer.send(message(Command.dmaUnmap, region, { id: 903 }));
        }
        held.push(request);
      };
      let late = 0;
      peer.onReply = reply => {
        if (reply.id !== 903) return false;
        unmapped = true;
        peer.onRequest = request => {
          late++;
          peer.answer(request, EIO, NOTHING);
        };
        for (const request of held) memory.serve(request);
        return true;
      };
      edu.startFetch(MEMORY, 4096);
      peer.until(() => unmapped, 'the reply to the unmap');
      peer.alive();
      edu.finish();
      equal(late, 0, 'requests for memory that is unmapped');
    },
  },
]);
