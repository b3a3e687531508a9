/** What can be set. */
import { Command, HeaderFlag, IrqSet } from '../../spec.ts';
import { inSection, isTrue, type Rule } from '../rule.ts';
import { irqSetPayload } from '../wire.ts';
import { TRIGGER_BY_EVENTFD } from './set-irqs-steps.ts';

const { dataNone, dataBool, dataEventfd, actionMask, actionUnmask, actionTrigger } = IrqSet;

export const setIrqsRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_SET_IRQS', [
  {
    id: 'set-irqs.no-payload',
    basis: 'specification',
    says: 'The reply has no payload and no descriptors.',
    check: context => {
      const { index } = context.signalled();
      const payload = irqSetPayload({ flags: TRIGGER_BY_EVENTFD, index, count: 1 });
      const reply = context.session().succeed(Command.deviceSetIrqs, payload, { descriptors: [context.eventFd()] });
      isTrue(reply.payload.length === 0 && reply.descriptors.length === 0, 'there is some');
    },
  },
  {
    id: 'set-irqs.one-eventfd',
    basis: 'specification',
    says: 'An eventfd can be set for one vector.',
    check: context => void context.arm(context.session(), context.signalled().index),
  },
  {
    id: 'set-irqs.all-eventfds',
    basis: 'specification',
    says: 'Eventfds can be set for all vectors, as many in one message as max_msg_fds allows.',
    check: context => {
      const { index, count } = context.signalled();
      const limit = Math.max(1, context.limit('max_msg_fds'));
      const peer = context.session();
      for (let start = 0; start < count; start += limit) {
        context.arm(peer, index, Math.min(limit, count - start), start);
      }
    },
  },
  {
    id: 'set-irqs.sub-range',
    basis: 'specification',
    says: 'Eventfds can be set for some vectors alone, from any start.',
    check: context => {
      const { index, count } = context.signalled(2);
      context.arm(context.session(), index, 1, count - 1);
    },
  },
  {
    id: 'set-irqs.replaced',
    basis: 'specification',
    says: 'An eventfd may be replaced by another.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      for (let i = 0; i < 3; i++) context.arm(peer, index);
    },
  },
  {
    id: 'set-irqs.taken-away',
    basis: 'specification',
    says: 'No descriptors at all de-assign the vectors.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      context.arm(peer, index);
      context.setIrqs(peer, { flags: TRIGGER_BY_EVENTFD, index, count: 1 });
    },
  },
  {
    id: 'set-irqs.taken-away-unset',
    basis: 'specification',
    says: 'No descriptors at all may de-assign vectors for which nothing was set.',
    check: context => {
      const { index } = context.signalled();
      context.setIrqs(context.session(), { flags: TRIGGER_BY_EVENTFD, index, count: 1 });
    },
  },
  {
    id: 'set-irqs.disable-all',
    basis: 'specification',
    says: 'A count and start of 0 without data disable all interrupts of the type.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      context.arm(peer, index);
      context.setIrqs(peer, { flags: dataNone | actionTrigger, index });
    },
  },
  {
    id: 'set-irqs.disable-unset',
    basis: 'specification',
    says: 'A count and start of 0 may disable a type for which nothing was set.',
    check: context => {
      context.setIrqs(context.session(), { flags: dataNone | actionTrigger, index: context.signalled().index });
    },
  },
  {
    id: 'set-irqs.disable-absent',
    basis: 'robustness',
    says: 'To disable a type that the device does not have is decided on.',
    check: context => {
      const { index } = context.irq('interrupt type without vectors', irq => irq.count === 0);
      const peer = context.session();
      peer.ask(Command.deviceSetIrqs, irqSetPayload({ flags: dataNone | actionTrigger, index }));
      peer.alive();
    },
  },
  {
    id: 'set-irqs.zero-count-with-start',
    basis: 'robustness',
    says: 'A count of 0 with a start is decided on.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      peer.ask(Command.deviceSetIrqs, irqSetPayload({ flags: dataNone | actionTrigger, index, start: 1 }));
      peer.alive();
    },
  },
  {
    id: 'set-irqs.zero-count-bool',
    basis: 'robustness',
    says: 'A count of 0 with booleans is decided on.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      peer.ask(Command.deviceSetIrqs, irqSetPayload({ flags: dataBool | actionTrigger, index }));
      peer.alive();
    },
  },
  {
    id: 'set-irqs.mask',
    basis: 'specification',
    says: 'A type that is maskable takes MASK and UNMASK, without data.',
    check: context => {
      const { index } = context.maskable();
      const peer = context.session();
      context.arm(peer, index);
      context.setIrqs(peer, { flags: dataNone | actionMask, index, count: 1 });
      context.setIrqs(peer, { flags: dataNone | actionUnmask, index, count: 1 });
    },
  },
  {
    id: 'set-irqs.mask-bool',
    basis: 'specification',
    says: 'A type that is maskable takes MASK and UNMASK with booleans.',
    check: context => {
      const { index } = context.maskable();
      const peer = context.session();
      context.arm(peer, index);
      context.setIrqs(peer, { flags: dataBool | actionMask, index, count: 1, data: [1] });
      context.setIrqs(peer, { flags: dataBool | actionUnmask, index, count: 1, data: [1] });
    },
  },
  {
    id: 'set-irqs.unmask-eventfd',
    basis: 'linux-vfio',
    says: 'A type that is maskable takes UNMASK with an eventfd: QEMU unmasks INTx by it.',
    check: context => {
      const { index } = context.maskable();
      const peer = context.session();
      context.arm(peer, index);
      context.setIrqs(peer, { flags: dataEventfd | actionUnmask, index, count: 1 }, [context.eventFd()]);
    },
  },
  {
    id: 'set-irqs.trigger-unset',
    basis: 'robustness',
    says: 'To trigger a vector without an eventfd is decided on.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      peer.ask(Command.deviceSetIrqs, irqSetPayload({ flags: dataNone | actionTrigger, index, count: 1 }));
      peer.alive();
    },
  },
  {
    id: 'set-irqs.no-reply',
    basis: 'specification',
    says: 'A SET_IRQS with the No_reply bit is not answered.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const payload = irqSetPayload({ flags: dataNone | actionTrigger, index });
      peer.tell(Command.deviceSetIrqs, payload, { flags: HeaderFlag.noReply });
      peer.alive();
    },
  },
  {
    id: 'set-irqs.descriptors-of-refused',
    basis: 'specification',
    says: 'The descriptors of a refused SET_IRQS are closed.',
    check: context => {
      const { index, count } = context.signalled();
      const peer = context.session();
      const descriptors = [context.eventFd()];
      const before = context.openDescriptors();
      const fields = { flags: TRIGGER_BY_EVENTFD, index, start: count, count: 1 };
      for (let i = 0; i < 20; i++) context.refuseIrqs(peer, fields, 'no such vector', { descriptors });
      context.awaitDescriptors(before, 'after 20 refused SET_IRQS');
    },
  },
  {
    id: 'set-irqs.descriptors-of-replaced',
    basis: 'specification',
    says: 'An eventfd that was replaced or taken away is closed.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const descriptors = [context.eventFd()];
      const fields = { flags: TRIGGER_BY_EVENTFD, index, count: 1 };
      const before = context.openDescriptors();
      for (let i = 0; i < 10; i++) context.setIrqs(peer, fields, descriptors);
      context.setIrqs(peer, { flags: dataNone | actionTrigger, index });
      context.awaitDescriptors(before, 'after ten replaced eventfds');
    },
  },
]);
