/** What can not. */
import { Command, IrqInfo, IrqSet } from '../../spec.ts';
import { inSection, isTrue, type Rule, skip } from '../rule.ts';
import { irqSetPayload, message, words } from '../wire.ts';
import { MALFORMED, TRIGGER_BY_EVENTFD } from './set-irqs-steps.ts';

const { dataNone, dataBool, actionMask, actionUnmask, actionTrigger } = IrqSet;

export const setIrqsRefusedRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_SET_IRQS', [
  ...MALFORMED.map(
    ([id, says, flags]): Omit<Rule, 'section'> => ({
      id: `set-irqs.${id}`,
      basis: 'specification',
      says,
      check: context => {
        const { index } = context.signalled();
        const peer = context.session();
        context.refuseIrqs(peer, { flags, index, count: 1, data: flags & dataBool ? [1] : [] }, `flags ${flags}`);
        peer.alive();
      },
    }),
  ),
  {
    id: 'set-irqs.flags-unknown',
    basis: 'linux-vfio',
    says: 'Flags that have no meaning are refused.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      context.refuseIrqs(peer, { flags: dataNone | actionTrigger | 0x40, index, count: 1 }, 'flag 6');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.unknown-index',
    basis: 'specification',
    says: 'An interrupt type behind the last one is refused.',
    check: context => {
      const peer = context.session();
      const index = context.device.irqs.length;
      context.refuseIrqs(peer, { flags: dataNone | actionTrigger, index, count: 1 }, `index ${index}`);
      peer.alive();
    },
  },
  {
    id: 'set-irqs.index-largest',
    basis: 'specification',
    says: 'Interrupt type 4294967295 is refused.',
    check: context => {
      const peer = context.session();
      context.refuseIrqs(peer, { flags: dataNone | actionTrigger, index: 0xffffffff, count: 1 }, 'index 4294967295');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.absent-index',
    basis: 'specification',
    says: 'No vector of a type that the device does not have can be set.',
    check: context => {
      const { index } = context.irq('interrupt type without vectors', irq => irq.count === 0);
      const peer = context.session();
      const descriptors = [context.eventFd()];
      context.refuseIrqs(peer, { flags: TRIGGER_BY_EVENTFD, index, count: 1 }, 'no vectors', { descriptors });
      peer.alive();
    },
  },
  {
    id: 'set-irqs.start-behind-last',
    basis: 'specification',
    says: 'A start behind the last vector is refused.',
    check: context => {
      const { index, count } = context.signalled();
      const peer = context.session();
      const descriptors = [context.eventFd()];
      const fields = { flags: TRIGGER_BY_EVENTFD, index, start: count, count: 1 };
      context.refuseIrqs(peer, fields, `start ${count} of ${count}`, { descriptors });
      peer.alive();
    },
  },
  {
    id: 'set-irqs.count-too-large',
    basis: 'specification',
    says: 'More vectors than there are are refused.',
    check: context => {
      const { index, count } = context.signalled();
      const peer = context.session();
      context.refuseIrqs(peer, { flags: dataNone | actionTrigger, index, count: count + 1 }, `${count + 1} vectors`);
      peer.alive();
    },
  },
  {
    id: 'set-irqs.range-behind-last',
    basis: 'specification',
    says: 'A range of vectors that begins inside and ends outside is refused.',
    check: context => {
      const { index, count } = context.signalled();
      const peer = context.session();
      const fields = { flags: dataNone | actionTrigger, index, start: count - 1, count: 2 };
      context.refuseIrqs(peer, fields, 'a range beyond the last vector');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.range-wraps',
    basis: 'robustness',
    says: 'A range of vectors whose end wraps around 32 bits is refused.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const fields = { flags: dataNone | actionTrigger, index, start: 0xffffffff, count: 1 };
      context.refuseIrqs(peer, fields, 'a start of 4294967295');
      context.refuseIrqs(peer, { ...fields, start: 1, count: 0xffffffff }, 'a count of 4294967295');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.count-huge',
    basis: 'robustness',
    says: 'A count of 2^32 - 1 booleans, of which none came, is refused at once.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const fields = { flags: dataBool | actionTrigger, index, count: 0xffffffff, argsz: 20 };
      context.refuseIrqs(peer, fields, '4294967295 booleans');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.argsz-short',
    basis: 'specification',
    says: 'argsz is the size of the request: less than its fixed part is refused.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      context.refuseIrqs(peer, { flags: dataNone | actionTrigger, index, count: 1, argsz: 19 }, 'an argsz of 19');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.argsz-without-data',
    basis: 'linux-vfio',
    says: 'argsz includes the data: less is refused.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const fields = { flags: dataBool | actionTrigger, index, count: 1, data: [1], argsz: 20 };
      context.refuseIrqs(peer, fields, 'an argsz without its data');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.data-missing',
    basis: 'specification',
    says: 'Booleans that argsz promises and the message does not hold are refused.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const fields = { flags: dataBool | actionTrigger, index, count: 1, argsz: 21 };
      context.refuseIrqs(peer, fields, 'booleans that are not there');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.payload-short',
    basis: 'specification',
    says: 'A payload of 19 bytes is refused.',
    check: context => {
      const peer = context.session();
      const payload = words(20, dataNone | actionTrigger, 0, 0, 0).subarray(0, 19);
      peer.refuse(Command.deviceSetIrqs, payload, '19 bytes of payload');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.too-few-eventfds',
    basis: 'specification',
    says: 'There is an eventfd for each vector: fewer are refused.',
    check: context => {
      const { index } = context.signalled(2);
      const peer = context.session();
      const descriptors = [context.eventFd()];
      context.refuseIrqs(peer, { flags: TRIGGER_BY_EVENTFD, index, count: 2 }, 'one eventfd of two', { descriptors });
      peer.alive();
    },
  },
  {
    id: 'set-irqs.too-many-eventfds',
    basis: 'specification',
    says: 'There is an eventfd for each vector: more are refused.',
    check: context => {
      const { index } = context.signalled();
      if (context.limit('max_msg_fds') < 2) skip('the server takes one descriptor in a message');
      const peer = context.session();
      const descriptors = context.eventFds(2);
      context.refuseIrqs(peer, { flags: TRIGGER_BY_EVENTFD, index, count: 1 }, 'two eventfds for one', { descriptors });
      peer.alive();
    },
  },
  {
    id: 'set-irqs.more-than-max-msg-fds',
    basis: 'specification',
    says: 'More descriptors than max_msg_fds are refused, or the connection ends.',
    check: context => {
      const { index } = context.signalled();
      const limit = context.limit('max_msg_fds');
      if (limit >= 60) skip(`the server takes ${limit} descriptors`);
      const peer = context.session();
      const payload = irqSetPayload({ flags: TRIGGER_BY_EVENTFD, index, count: limit + 1 });
      peer.send(message(Command.deviceSetIrqs, payload), context.eventFds(limit + 1));
      isTrue(peer.outcome('too many descriptors') !== 'answered', `it took ${limit + 1} descriptors`);
    },
  },
  {
    id: 'set-irqs.none-with-descriptors',
    basis: 'robustness',
    says: 'A descriptor with data flags that ask for none is decided on.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const payload = irqSetPayload({ flags: dataNone | actionTrigger, index, count: 1 });
      peer.send(message(Command.deviceSetIrqs, payload), [context.eventFd()]);
      peer.outcome('a descriptor that nobody asked for');
    },
  },
  {
    id: 'set-irqs.no-eventfd',
    basis: 'robustness',
    says: 'A descriptor that is no eventfd is decided on.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const payload = irqSetPayload({ flags: TRIGGER_BY_EVENTFD, index, count: 1 });
      peer.ask(Command.deviceSetIrqs, payload, { descriptors: [context.memory(4096)] });
      peer.alive();
    },
  },
  {
    id: 'set-irqs.mask-not-maskable',
    basis: 'linux-vfio',
    says: 'A type that is not maskable does not take MASK.',
    check: context => {
      const irq = context.irq(
        'type with vectors that cannot be masked',
        one => one.count > 0 && (one.flags & IrqInfo.maskable) === 0,
      );
      const peer = context.session();
      context.refuseIrqs(peer, { flags: dataNone | actionMask, index: irq.index, count: 1 }, 'MASK');
      peer.alive();
    },
  },
  {
    id: 'set-irqs.unmask-not-maskable',
    basis: 'linux-vfio',
    says: 'A type that is not maskable does not take UNMASK.',
    check: context => {
      const irq = context.irq(
        'type with vectors that cannot be masked',
        one => one.count > 0 && (one.flags & IrqInfo.maskable) === 0,
      );
      const peer = context.session();
      context.refuseIrqs(peer, { flags: dataNone | actionUnmask, index: irq.index, count: 1 }, 'UNMASK');
      peer.alive();
    },
  },
]);
