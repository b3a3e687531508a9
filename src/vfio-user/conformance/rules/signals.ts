/** What interrupts do, seen at the eventfds: by triggering them as a client may. */
import { Command, HeaderFlag, IrqInfo, IrqSet } from '../../spec.ts';
import type { Context } from '../context.ts';
import type { Peer } from '../peer.ts';
import { equal, inSection, type Rule } from '../rule.ts';
import { irqSetPayload, NOTHING } from '../wire.ts';

const { dataNone, dataBool, dataEventfd, actionMask, actionUnmask, actionTrigger } = IrqSet;

function trigger(context: Context, peer: Peer, index: number, start = 0, count = 1): void {
  context.setIrqs(peer, { flags: dataNone | actionTrigger, index, start, count });
}

/** Signals are written before the reply, so what has not come by then never comes. */
function silent(context: Context, eventFd: number, why: string): void {
  equal(context.signals(eventFd), 0, `signals ${why}`);
}

export const signalRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_SET_IRQS', [
  {
    id: 'signals.trigger-none',
    basis: 'specification',
    says: 'TRIGGER without data signals the eventfd.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      trigger(context, peer, index);
      context.awaitSignal(peer, eventFd!, 'a signal');
    },
  },
  {
    id: 'signals.trigger-true',
    basis: 'specification',
    says: 'TRIGGER with a boolean that is true signals the eventfd.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      context.setIrqs(peer, { flags: dataBool | actionTrigger, index, count: 1, data: [1] });
      context.awaitSignal(peer, eventFd!, 'a signal');
    },
  },
  {
    id: 'signals.trigger-any-true',
    basis: 'linux-vfio',
    says: 'Every boolean but 0 is true.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      context.setIrqs(peer, { flags: dataBool | actionTrigger, index, count: 1, data: [0x80] });
      context.awaitSignal(peer, eventFd!, 'a signal');
    },
  },
  {
    id: 'signals.trigger-false',
    basis: 'specification',
    says: 'TRIGGER with a boolean that is false does not.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      context.setIrqs(peer, { flags: dataBool | actionTrigger, index, count: 1, data: [0] });
      silent(context, eventFd!, 'of a vector whose boolean is false');
    },
  },
  {
    id: 'signals.not-by-setting',
    basis: 'specification',
    says: 'Setting an eventfd does not signal it.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      peer.alive();
      silent(context, eventFd!, 'without a trigger');
    },
  },
  {
    id: 'signals.own-vector',
    basis: 'specification',
    says: 'Each vector has an eventfd of its own.',
    check: context => {
      const { index } = context.signalled(2);
      const peer = context.session();
      const [first, second] = context.arm(peer, index, 2);
      trigger(context, peer, index, 1);
      context.awaitSignal(peer, second!, 'a signal of vector 1');
      silent(context, first!, 'of vector 0');
    },
  },
  {
    id: 'signals.range',
    basis: 'specification',
    says: 'TRIGGER of a range signals each of its vectors.',
    check: context => {
      const { index } = context.signalled(2);
      const peer = context.session();
      const eventFds = context.arm(peer, index, 2);
      trigger(context, peer, index, 0, 2);
      for (const eventFd of eventFds) context.awaitSignal(peer, eventFd, 'a signal of each vector');
    },
  },
  {
    id: 'signals.some-of-range',
    basis: 'specification',
    says: 'Booleans choose some of a range.',
    check: context => {
      const { index } = context.signalled(2);
      const peer = context.session();
      const [first, second] = context.arm(peer, index, 2);
      context.setIrqs(peer, { flags: dataBool | actionTrigger, index, count: 2, data: [0, 1] });
      context.awaitSignal(peer, second!, 'a signal of vector 1');
      silent(context, first!, 'of vector 0');
    },
  },
  {
    id: 'signals.order-of-descriptors',
    basis: 'specification',
    says: 'Descriptors belong to vectors in the order in which they come.',
    check: context => {
      const { index } = context.signalled(2);
      const peer = context.session();
      const [first, second] = context.arm(peer, index, 2);
      trigger(context, peer, index, 0);
      context.awaitSignal(peer, first!, 'a signal of vector 0');
      silent(context, second!, 'of vector 1');
    },
  },
  {
    id: 'signals.start-of-range',
    basis: 'specification',
    says: 'The first descriptor belongs to the vector at start.',
    check: context => {
      const { index } = context.signalled(2);
      const peer = context.session();
      const [eventFd] = context.arm(peer, index, 1, 1);
      trigger(context, peer, index, 1);
      context.awaitSignal(peer, eventFd!, 'a signal of vector 1');
    },
  },
  {
    id: 'signals.other-vectors-stay',
    basis: 'specification',
    says: 'Setting some vectors leaves the others as they are.',
    check: context => {
      const irq = context.irq(
        'type with two vectors that can be set one by one',
        one => one.count > 1 && (one.flags & IrqInfo.eventfd) !== 0 && (one.flags & IrqInfo.noresize) === 0,
      );
      const peer = context.session();
      const [first] = context.arm(peer, irq.index, 1, 0);
      context.arm(peer, irq.index, 1, 1);
      trigger(context, peer, irq.index, 0);
      context.awaitSignal(peer, first!, 'a signal of vector 0');
    },
  },
  {
    id: 'signals.replaced',
    basis: 'specification',
    says: 'After replacing an eventfd the new one is signalled, not the old one.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const [old] = context.arm(peer, index);
      const [fresh] = context.arm(peer, index);
      trigger(context, peer, index);
      context.awaitSignal(peer, fresh!, 'a signal of the new eventfd');
      silent(context, old!, 'of the old eventfd');
    },
  },
  {
    id: 'signals.disabled',
    basis: 'specification',
    says: 'After disabling all interrupts of the type none is signalled.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      context.setIrqs(peer, { flags: dataNone | actionTrigger, index });
      peer.ask(Command.deviceSetIrqs, irqSetPayload({ flags: dataNone | actionTrigger, index, count: 1 }));
      silent(context, eventFd!, 'of a disabled type');
    },
  },
  {
    id: 'signals.taken-away',
    basis: 'specification',
    says: 'After de-assigning the vector it is not signalled.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      context.setIrqs(peer, { flags: dataEventfd | actionTrigger, index, count: 1 });
      peer.ask(Command.deviceSetIrqs, irqSetPayload({ flags: dataNone | actionTrigger, index, count: 1 }));
      silent(context, eventFd!, 'of a vector whose eventfd was taken away');
    },
  },
  {
    id: 'signals.set-again',
    basis: 'specification',
    says: 'After disabling, eventfds can be set again, and are signalled.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      context.arm(peer, index);
      context.setIrqs(peer, { flags: dataNone | actionTrigger, index });
      const [eventFd] = context.arm(peer, index);
      trigger(context, peer, index);
      context.awaitSignal(peer, eventFd!, 'a signal');
    },
  },
  {
    id: 'signals.other-type-stays',
    basis: 'specification',
    says: 'Disabling one type leaves another as it is.',
    check: context => {
      const types = context.device.irqs.filter(irq => irq.count > 0 && (irq.flags & IrqInfo.eventfd) !== 0);
      const first = context.signalled();
      const second = context.irq('second interrupt type', irq => irq.index !== first.index && types.includes(irq));
      const peer = context.session();
      const [eventFd] = context.arm(peer, first.index);
      // Linux refuses it while another type is in use.
      peer.ask(Command.deviceSetIrqs, irqSetPayload({ flags: dataNone | actionTrigger, index: second.index }));
      trigger(context, peer, first.index);
      context.awaitSignal(peer, eventFd!, 'a signal of the other type');
    },
  },
  {
    id: 'signals.refused-changes-nothing',
    basis: 'specification',
    says: 'A SET_IRQS that was refused leaves the eventfd that was there.',
    check: context => {
      const { index, count } = context.signalled();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      context.refuseIrqs(peer, { flags: dataEventfd | actionTrigger, index, count: count + 1 }, 'too many vectors');
      trigger(context, peer, index);
      context.awaitSignal(peer, eventFd!, 'a signal of the eventfd that was there');
    },
  },
  {
    id: 'signals.masked',
    basis: 'specification',
    says: 'A masked vector is not signalled.',
    check: context => {
      const { index } = context.maskable();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      context.setIrqs(peer, { flags: dataNone | actionMask, index, count: 1 });
      trigger(context, peer, index);
      silent(context, eventFd!, 'of a masked vector');
    },
  },
  {
    id: 'signals.mask-false',
    basis: 'specification',
    says: 'MASK with a boolean that is false masks nothing.',
    check: context => {
      const { index } = context.maskable();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      context.setIrqs(peer, { flags: dataBool | actionMask, index, count: 1, data: [0] });
      trigger(context, peer, index);
      context.awaitSignal(peer, eventFd!, 'a signal');
    },
  },
  {
    id: 'signals.unmasked',
    basis: 'specification',
    says: 'An unmasked vector is signalled again.',
    check: context => {
      const { index } = context.maskable();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      context.setIrqs(peer, { flags: dataNone | actionMask, index, count: 1 });
      context.setIrqs(peer, { flags: dataNone | actionUnmask, index, count: 1 });
      context.signals(eventFd!);
      trigger(context, peer, index);
      context.awaitSignal(peer, eventFd!, 'a signal after UNMASK');
    },
  },
  {
    id: 'signals.automasked',
    basis: 'specification',
    says: 'A type that masks itself is signalled once, and again only after UNMASK.',
    check: context => {
      const { index } = context.irq(
        'type that masks itself',
        irq => irq.count > 0 && (irq.flags & IrqInfo.automasked) !== 0,
      );
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      trigger(context, peer, index);
      context.awaitSignal(peer, eventFd!, 'the first signal');
      trigger(context, peer, index);
      silent(context, eventFd!, 'before UNMASK');
      context.setIrqs(peer, { flags: dataNone | actionUnmask, index, count: 1 });
      context.signals(eventFd!);
      trigger(context, peer, index);
      context.awaitSignal(peer, eventFd!, 'a signal after UNMASK');
    },
  },
  {
    id: 'signals.not-automasked',
    basis: 'specification',
    says: 'A type that does not mask itself is signalled each time.',
    check: context => {
      const { index } = context.irq(
        'type with eventfds that does not mask itself',
        irq => irq.count > 0 && (irq.flags & (IrqInfo.automasked | IrqInfo.eventfd)) === IrqInfo.eventfd,
      );
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      for (let i = 0; i < 3; i++) {
        trigger(context, peer, index);
        context.awaitSignal(peer, eventFd!, `signal ${i + 1}`);
      }
    },
  },
  {
    id: 'signals.posted',
    basis: 'specification',
    says: 'A trigger with the No_reply bit signals before the reply to the next command.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      const [eventFd] = context.arm(peer, index);
      const payload = irqSetPayload({ flags: dataNone | actionTrigger, index, count: 1 });
      peer.tell(Command.deviceSetIrqs, payload, { flags: HeaderFlag.noReply });
      peer.alive();
      context.awaitSignal(peer, eventFd!, 'a signal');
    },
  },
  {
    id: 'signals.after-reset',
    basis: 'robustness',
    says: 'Interrupts can be set and signalled after a reset.',
    check: context => {
      const { index } = context.signalled();
      const peer = context.session();
      context.arm(peer, index);
      peer.ask(Command.deviceReset, NOTHING);
      const [eventFd] = context.arm(peer, index);
      trigger(context, peer, index);
      context.awaitSignal(peer, eventFd!, 'a signal');
    },
  },
  {
    id: 'signals.not-of-last-client',
    basis: 'specification',
    says: 'Eventfds of a client that is gone are closed: nobody signals them.',
    check: context => {
      const { index } = context.signalled();
      const first = context.session();
      const [eventFd] = context.arm(first, index);
      first.close();
      const peer = context.session();
      peer.ask(Command.deviceSetIrqs, irqSetPayload({ flags: dataNone | actionTrigger, index, count: 1 }));
      silent(context, eventFd!, 'of a client that is gone');
    },
  },
  {
    id: 'signals.descriptors-of-last-client',
    basis: 'specification',
    says: 'Eventfds and memory of a client that is gone are closed.',
    check: context => {
      const { index } = context.signalled();
      context.serves();
      const before = context.openDescriptors();
      const peer = context.session();
      context.arm(peer, index);
      peer.close();
      context.serves();
      // The suite's own eventfd counts where the server runs in its process.
      const own = context.target.pid === process.pid ? 1 : 0;
      context.awaitDescriptors(before + own, 'after a client with an eventfd');
    },
  },
]);
