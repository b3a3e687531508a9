/** How clients come and go. */
import { Command, HeaderFlag, IrqSet } from '../../spec.ts';
import { CONFIG, PROPOSAL, read, SCRATCH, write } from '../context.ts';
import { equal, inSection, isTrue, type Rule } from '../rule.ts';
import { concat, mapPayload, message, versionPayload, writeMessage } from '../wire.ts';
import { INFO, infoMessage, next } from './delivery-steps.ts';

export const connectionRules: readonly Rule[] = inSection('Socket Disconnection Behavior', [
  {
    id: 'connection.next-client',
    basis: 'specification',
    says: 'After a client is gone the next one is served.',
    check: context => {
      for (let i = 0; i < 5; i++) {
        const peer = next(context);
        peer.close();
      }
    },
  },
  {
    id: 'connection.without-a-word',
    basis: 'robustness',
    says: 'After a client that connected and said nothing the next one is served.',
    check: context => {
      context.connect().close();
      next(context);
    },
  },
  {
    id: 'connection.many-without-a-word',
    basis: 'robustness',
    says: 'After thirty clients that said nothing the next one is served.',
    check: context => {
      for (let i = 0; i < 30; i++) context.connect().close();
      next(context);
    },
  },
  {
    id: 'connection.inside-a-header',
    basis: 'robustness',
    says: 'After a client that ended inside a header the next one is served.',
    check: context => {
      const peer = context.session();
      peer.send(infoMessage(1).subarray(0, 5));
      peer.close();
      next(context);
    },
  },
  {
    id: 'connection.inside-a-payload',
    basis: 'robustness',
    says: 'After a client that ended inside a payload the next one is served.',
    check: context => {
      const peer = context.session();
      peer.send(infoMessage(1).subarray(0, 20));
      peer.close();
      next(context);
    },
  },
  {
    id: 'connection.inside-version',
    basis: 'robustness',
    says: 'After a client that ended inside VERSION the next one is served.',
    check: context => {
      const peer = context.connect();
      peer.send(message(Command.version, versionPayload(PROPOSAL)).subarray(0, 30));
      peer.close();
      next(context);
    },
  },
  {
    id: 'connection.replies-unread',
    basis: 'robustness',
    says: 'After a client that did not read its replies the next one is served.',
    check: context => {
      const peer = context.session();
      peer.send(concat(...Array.from({ length: 200 }, (_, i) => infoMessage(i))));
      peer.close();
      next(context);
    },
  },
  {
    id: 'connection.garbage',
    basis: 'robustness',
    says: 'After a client that sent bytes without a meaning the next one is served.',
    check: context => {
      const peer = context.connect();
      peer.send(Uint8Array.from({ length: 4096 }, (_, i) => (i * 197 + 91) & 0xff));
      isTrue(peer.outcome('bytes without a meaning') !== 'answered', 'bytes without a meaning were answered');
      peer.close();
      next(context);
    },
  },
  {
    id: 'connection.memory-released',
    basis: 'specification',
    says: "A client's memory is unmapped when it is gone, descriptors included.",
    check: context => {
      context.serves();
      const before = context.openDescriptors();
      const memory = context.memory(4 * 4096);
      const peer = context.session();
      for (let i = 0; i < 4; i++) {
        const region = mapPayload({ address: BigInt(i) * 0x100000n, offset: BigInt(i) * 4096n });
        peer.succeed(Command.dmaMap, region, { descriptors: [memory] });
      }
      peer.close();
      context.serves();
      context.awaitDescriptors(before + (context.target.pid === process.pid ? 1 : 0), 'after a client with memory');
    },
  },
  {
    id: 'connection.regions-of-its-own',
    basis: 'specification',
    says: 'The next client maps where the last one had mapped.',
    check: context => {
      for (let i = 0; i < 3; i++) {
        const peer = context.session();
        peer.succeed(Command.dmaMap, mapPayload({ size: 16n * 4096n }));
        peer.close();
      }
    },
  },
  {
    id: 'connection.eventfds-of-its-own',
    basis: 'specification',
    says: 'The next client sets its own eventfds.',
    check: context => {
      const { index } = context.signalled();
      for (let i = 0; i < 3; i++) {
        const peer = context.session();
        const [eventFd] = context.arm(peer, index);
        context.setIrqs(peer, { flags: IrqSet.dataNone | IrqSet.actionTrigger, index, count: 1 });
        context.awaitSignal(peer, eventFd!, 'a signal of its own eventfd');
        peer.close();
      }
    },
  },
  {
    id: 'connection.state-retained',
    basis: 'specification',
    says: "Beside memory and interrupts, the device's state is retained when the client is gone.",
    check: context => {
      const first = context.session();
      context.scratch(first);
      write(first, CONFIG, SCRATCH, Uint8Array.of(0x5b));
      first.close();
      const held = read(context.session(), CONFIG, SCRATCH, 1)[0];
      equal(held, 0x5b, 'the Interrupt Line register, at the next client');
    },
  },
  {
    id: 'connection.second-client',
    basis: 'robustness',
    says: 'A second client, served or not, takes nothing from the first.',
    check: context => {
      const first = context.session();
      const second = context.connectSecond();
      second?.send(message(Command.version, versionPayload(PROPOSAL)));
      first.alive();
      second?.close();
      first.alive();
    },
  },
  {
    id: 'connection.many-second-clients',
    basis: 'robustness',
    says: 'Twenty more clients, served or not, take nothing from the first.',
    check: context => {
      const first = context.session();
      const others = Array.from({ length: 20 }, () => context.connectSecond());
      first.alive();
      for (const other of others) other?.close();
      first.alive();
    },
  },
  {
    id: 'connection.second-client-has-no-say',
    basis: 'robustness',
    says: "A second client's nonsense does not end the first one's connection.",
    check: context => {
      const first = context.session();
      const second = context.connectSecond();
      second?.send(new Uint8Array(64).fill(0xff));
      first.alive();
      second?.close();
      first.alive();
    },
  },
  {
    id: 'connection.replies-to-their-own',
    basis: 'specification',
    says: 'Replies go to the connection on which the command came.',
    check: context => {
      const first = context.session();
      const second = context.connectSecond();
      second?.send(message(Command.version, versionPayload(PROPOSAL), { id: 700 }));
      for (let i = 0; i < 20; i++) first.succeed(Command.deviceGetInfo, INFO, { id: 800 + i });
    },
  },
  {
    id: 'connection.takes-over',
    basis: 'robustness',
    says: 'A client that comes at the moment at which the last one goes is served.',
    check: context => {
      for (let i = 0; i < 10; i++) {
        const peer = context.session();
        write(peer, CONFIG, SCRATCH, Uint8Array.of(i));
        peer.close();
      }
      next(context);
    },
  },
  {
    id: 'connection.no-descriptors-left',
    basis: 'robustness',
    says: 'Fifty clients leave no descriptor behind.',
    check: context => {
      context.serves();
      const before = context.openDescriptors();
      for (let i = 0; i < 50; i++) context.session().close();
      context.serves();
      context.awaitDescriptors(before, 'after fifty clients');
    },
  },
  {
    id: 'connection.posted-at-the-end',
    basis: 'specification',
    says: 'What a client posts before it goes is no reason not to serve the next one.',
    check: context => {
      const peer = context.session();
      for (let i = 0; i < 100; i++) {
        peer.send(writeMessage(CONFIG, SCRATCH, Uint8Array.of(i), { flags: HeaderFlag.noReply }));
      }
      peer.close();
      next(context);
    },
  },
]);
