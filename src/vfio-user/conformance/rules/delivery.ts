/** How bytes and messages come, whatever is in them. */
import { Command, HeaderFlag, IrqSet } from '../../spec.ts';
import { CONFIG, PROPOSAL } from '../context.ts';
import { equal, inSection, type Rule } from '../rule.ts';
import {
  concat,
  irqSetPayload,
  mapPayload,
  message,
  NOTHING,
  readMessage,
  unmapPayload,
  versionPayload,
} from '../wire.ts';
import { answersInfo, INFO, infoMessage, inTwo, TRIGGER_BY_EVENTFD } from './delivery-steps.ts';

export const deliveryRules: readonly Rule[] = inSection('Command Concurrency', [
  {
    id: 'delivery.byte-by-byte',
    basis: 'specification',
    says: 'A message that arrives byte by byte is one message.',
    check: context => {
      const peer = context.session();
      for (const byte of infoMessage(31)) peer.send(Uint8Array.of(byte));
      answersInfo(peer, 31);
    },
  },
  {
    id: 'delivery.cut-in-header',
    basis: 'specification',
    says: 'A header may arrive in two pieces.',
    check: context => inTwo(context, 7),
  },
  {
    id: 'delivery.cut-behind-header',
    basis: 'specification',
    says: 'A payload may arrive after its header.',
    check: context => inTwo(context, 16),
  },
  {
    id: 'delivery.cut-before-last-byte',
    basis: 'specification',
    says: 'The last byte of a message may arrive alone.',
    check: context => inTwo(context, 31),
  },
  {
    id: 'delivery.many-at-once',
    basis: 'specification',
    says: 'A thousand commands in one write are answered in order.',
    check: context => {
      const peer = context.session();
      peer.send(concat(...Array.from({ length: 1000 }, (_, i) => infoMessage(i))));
      for (let i = 0; i < 1000; i++) answersInfo(peer, i);
    },
  },
  {
    id: 'delivery.one-and-a-half',
    basis: 'specification',
    says: 'A message and a half: the first one is answered without waiting for the rest.',
    check: context => {
      const peer = context.session();
      const second = infoMessage(2);
      peer.send(concat(infoMessage(1), second.subarray(0, 20)));
      answersInfo(peer, 1);
      peer.send(second.subarray(20));
      answersInfo(peer, 2);
    },
  },
  {
    id: 'delivery.order',
    basis: 'specification',
    says: 'Commands are processed in the order in which they are received, those that fail too.',
    check: context => {
      const peer = context.session();
      peer.send(
        concat(
          infoMessage(1),
          message(77, NOTHING, { id: 2 }),
          readMessage(CONFIG, 0, 4, { id: 3 }),
          readMessage(0xffff, 0, 4, { id: 4 }),
          infoMessage(5),
        ),
      );
      for (const id of [1, 2, 3, 4, 5]) equal(peer.next('a reply').id, id, 'id of the next reply');
    },
  },
  {
    id: 'delivery.large-and-small',
    basis: 'specification',
    says: 'Large replies and small ones keep their order.',
    check: context => {
      const size = Number(context.device.regions[CONFIG]!.size);
      const peer = context.session();
      const parts = Array.from({ length: 100 }, (_, i) => readMessage(CONFIG, 0, i % 2 === 0 ? size : 1, { id: i }));
      peer.send(concat(...parts));
      for (let i = 0; i < 100; i++) {
        equal(peer.reply(i, Command.regionRead).payload.length, 16 + (i % 2 === 0 ? size : 1), 'bytes');
      }
    },
  },
  {
    id: 'delivery.posted-then-asked',
    basis: 'specification',
    says: 'A command with No_reply has been processed before the reply to the next one is sent.',
    check: context => {
      const peer = context.session();
      peer.send(
        concat(
          message(Command.dmaMap, mapPayload(), { flags: HeaderFlag.noReply }),
          message(Command.dmaUnmap, unmapPayload(), { id: 8 }),
        ),
      );
      equal(peer.reply(8, Command.dmaUnmap).error, 0, 'errno of the unmap');
    },
  },
  {
    id: 'delivery.late-reader',
    basis: 'robustness',
    says: 'A client that reads its replies late gets them all.',
    check: context => {
      const size = Number(context.device.regions[CONFIG]!.size);
      const peer = context.session();
      const count = 500;
      peer.send(concat(...Array.from({ length: count }, (_, i) => readMessage(CONFIG, 0, size, { id: i }))));
      for (let i = 0; i < count; i++) equal(peer.reply(i, Command.regionRead).error, 0, `errno of read ${i}`);
    },
  },
  {
    id: 'delivery.descriptor-behind-others',
    basis: 'specification',
    says: 'A descriptor belongs to the message with which it was sent, not to those before it.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const eventFd = context.eventFd();
      const set = irqSetPayload({ flags: TRIGGER_BY_EVENTFD, index, count: 1 });
      peer.send(message(Command.deviceGetInfo, INFO, { id: 1 }));
      peer.send(message(Command.deviceGetInfo, INFO, { id: 2 }));
      peer.send(message(Command.deviceSetIrqs, set, { id: 3 }), [eventFd]);
      peer.send(message(Command.deviceGetInfo, INFO, { id: 4 }));
      for (const id of [1, 2, 3, 4]) equal(peer.next('a reply').error, 0, `errno of message ${id}`);
      context.setIrqs(peer, { flags: IrqSet.dataNone | IrqSet.actionTrigger, index, count: 1 });
      context.awaitSignal(peer, eventFd, 'a signal of the descriptor');
    },
  },
  {
    id: 'delivery.descriptors-of-two-messages',
    basis: 'specification',
    says: 'Two messages with a descriptor each, sent one behind the other, get their own.',
    check: context => {
      const { index } = context.signalled(2);
      const peer = context.session();
      const [first, second] = context.eventFds(2);
      [first, second].forEach((eventFd, start) => {
        const set = irqSetPayload({ flags: TRIGGER_BY_EVENTFD, index, start, count: 1 });
        peer.send(message(Command.deviceSetIrqs, set, { id: start }), [eventFd!]);
      });
      equal(peer.reply(0, Command.deviceSetIrqs).error, 0, 'errno of the first');
      equal(peer.reply(1, Command.deviceSetIrqs).error, 0, 'errno of the second');
      context.setIrqs(peer, { flags: IrqSet.dataNone | IrqSet.actionTrigger, index, start: 1, count: 1 });
      context.awaitSignal(peer, second!, 'a signal of the second');
      equal(context.signals(first!), 0, 'signals of the first');
    },
  },
  {
    id: 'delivery.descriptor-in-pieces',
    basis: 'specification',
    says: 'A descriptor that comes with the first byte belongs to the whole message.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const set = irqSetPayload({ flags: TRIGGER_BY_EVENTFD, index, count: 1 });
      const bytes = message(Command.deviceSetIrqs, set, { id: 5 });
      peer.send(bytes.subarray(0, 1), [context.eventFd()]);
      for (const byte of bytes.subarray(1)) peer.send(Uint8Array.of(byte));
      equal(peer.reply(5, Command.deviceSetIrqs).error, 0, 'errno');
    },
  },
  {
    id: 'delivery.descriptor-with-the-wrong-message',
    basis: 'robustness',
    says: 'A descriptor with a command that takes none is decided on.',
    check: context => {
      const peer = context.session();
      peer.send(infoMessage(1), [context.eventFd()]);
      peer.outcome('a descriptor that nobody asked for');
    },
  },
  {
    id: 'delivery.descriptor-with-version',
    basis: 'robustness',
    says: 'A descriptor with VERSION is decided on.',
    check: context => {
      const peer = context.connect();
      peer.send(message(Command.version, versionPayload(PROPOSAL)), [context.eventFd()]);
      peer.outcome('VERSION with a descriptor');
    },
  },
  {
    id: 'delivery.descriptor-with-unknown-command',
    basis: 'robustness',
    says: 'A descriptor with an unknown command is decided on, and closed.',
    check: context => {
      context.serves();
      const before = context.openDescriptors();
      const eventFd = context.eventFd();
      const peer = context.session();
      peer.send(message(77, NOTHING), [eventFd]);
      peer.outcome('an unknown command with a descriptor');
      peer.close();
      context.serves();
      context.awaitDescriptors(before + (context.target.pid === process.pid ? 1 : 0), 'after a stray descriptor');
    },
  },
]);
