import { Command, IrqInfo } from '../../spec.ts';
import type { Context } from '../context.ts';
import type { Received } from '../peer.ts';
import { equal, equalBytes, inSection, isTrue, type Rule } from '../rule.ts';
import { viewOf, words } from '../wire.ts';

const KNOWN_FLAGS = IrqInfo.eventfd | IrqInfo.maskable | IrqInfo.automasked | IrqInfo.noresize;
const INTX = 0;
/** MSI has 32 vectors at most, MSI-X 2048 (PCI Local Bus 3.0, 6.8). */
const MOST_MSI = 32;
const MOST_MSIX = 2048;

function request(index: number, argsz = 16): Uint8Array {
  return words(argsz, 0, index, 0);
}

/** Each index that is not refused. */
function eachIrq(context: Context, see: (reply: Received, index: number) => void): void {
  const peer = context.session();
  for (const { index } of context.device.irqs) {
    const reply = peer.ask(Command.deviceGetIrqInfo, request(index));
    if (reply.payload.length > 0) see(reply, index);
  }
}

export const irqInfoRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_GET_IRQ_INFO', [
  {
    id: 'irq-info.answered',
    basis: 'specification',
    says: 'INTx, MSI and MSI-X can be asked for, whether the device has them or not.',
    check: context => {
      const peer = context.session();
      for (const index of [0, 1, 2]) peer.succeed(Command.deviceGetIrqInfo, request(index));
    },
  },
  {
    id: 'irq-info.size',
    basis: 'specification',
    says: 'The reply has 16 bytes of payload.',
    check: context => eachIrq(context, reply => equal(reply.payload.length, 16, 'bytes of payload')),
  },
  {
    id: 'irq-info.argsz',
    basis: 'specification',
    says: 'argsz in the reply is the size of the full payload.',
    check: context =>
      eachIrq(context, reply => equal(viewOf(reply.payload).getUint32(0, true), reply.payload.length, 'argsz')),
  },
  {
    id: 'irq-info.index',
    basis: 'specification',
    says: 'The reply names the interrupt type.',
    check: context =>
      eachIrq(context, (reply, index) => equal(viewOf(reply.payload).getUint32(IrqInfo.index, true), index, 'index')),
  },
  {
    id: 'irq-info.flags-known',
    basis: 'specification',
    says: 'No flags are set beside eventfd, maskable, automasked and noresize.',
    check: context => {
      for (const { flags, index } of context.device.irqs)
        equal(flags & ~KNOWN_FLAGS, 0, `other flags of type ${index}`);
    },
  },
  {
    id: 'irq-info.automasked-is-maskable',
    basis: 'linux-vfio',
    says: 'A type that masks itself can be unmasked.',
    check: context => {
      for (const { flags, index } of context.device.irqs) {
        if ((flags & IrqInfo.automasked) !== 0) isTrue((flags & IrqInfo.maskable) !== 0, `type ${index} cannot`);
      }
    },
  },
  {
    id: 'irq-info.intx-count',
    basis: 'linux-vfio',
    says: 'A function has one INTx, or none.',
    check: context => isTrue(context.device.irqs[INTX]!.count <= 1, `${context.device.irqs[INTX]!.count} of them`),
  },
  {
    id: 'irq-info.intx-automasked',
    basis: 'linux-vfio',
    says: 'INTx that can be masked masks itself, as a line with a level does.',
    check: context => {
      const irq = context.irq('INTx that can be masked', ({ index, count, flags }) => {
        return index === INTX && count > 0 && (flags & IrqInfo.maskable) !== 0;
      });
      isTrue((irq.flags & IrqInfo.automasked) !== 0, 'the flag is clear');
    },
  },
  {
    id: 'irq-info.msi-count',
    basis: 'linux-vfio',
    says: 'MSI has 32 vectors at most.',
    check: context => isTrue(context.device.irqs[1]!.count <= MOST_MSI, `${context.device.irqs[1]!.count} of them`),
  },
  {
    id: 'irq-info.msix-count',
    basis: 'linux-vfio',
    says: 'MSI-X has 2048 vectors at most.',
    check: context => isTrue(context.device.irqs[2]!.count <= MOST_MSIX, `${context.device.irqs[2]!.count} of them`),
  },
  {
    id: 'irq-info.unknown',
    basis: 'specification',
    says: 'A type behind the last one is refused.',
    check: context => {
      const peer = context.session();
      const { length } = context.device.irqs;
      peer.refuse(Command.deviceGetIrqInfo, request(length), `index ${length}`);
      peer.alive();
    },
  },
  {
    id: 'irq-info.index-largest',
    basis: 'specification',
    says: 'Interrupt type 4294967295 is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.deviceGetIrqInfo, request(0xffffffff), 'index 4294967295');
      peer.alive();
    },
  },
  {
    id: 'irq-info.argsz-short',
    basis: 'robustness',
    says: 'An argsz below the fixed part of the reply is refused, or answered with the size that is needed.',
    check: context => {
      const peer = context.session();
      const { error, payload } = peer.ask(Command.deviceGetIrqInfo, request(0, 8));
      isTrue(error !== 0 || viewOf(payload).getUint32(0, true) >= 16, 'argsz in the reply is too small');
      peer.alive();
    },
  },
  {
    id: 'irq-info.argsz-large',
    basis: 'specification',
    says: 'argsz is a maximum: more is not refused.',
    check: context => {
      equal(context.session().succeed(Command.deviceGetIrqInfo, request(0, 4096)).payload.length, 16, 'bytes');
    },
  },
  {
    id: 'irq-info.payload-short',
    basis: 'specification',
    says: 'A payload of 15 bytes is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.deviceGetIrqInfo, request(0).subarray(0, 15), '15 bytes of payload');
      peer.alive();
    },
  },
  {
    id: 'irq-info.repeatable',
    basis: 'specification',
    says: 'Asked twice, the answer is the same.',
    check: context => {
      const peer = context.session();
      const ask = () => peer.succeed(Command.deviceGetIrqInfo, request(0)).payload;
      equalBytes(ask(), ask(), 'the second answer');
    },
  },
  {
    id: 'irq-info.unchanged-by-setting',
    basis: 'specification',
    says: 'Setting eventfds changes nothing in the description.',
    check: context => {
      const irq = context.signalled();
      const peer = context.session();
      const before = peer.succeed(Command.deviceGetIrqInfo, request(irq.index)).payload;
      context.arm(peer, irq.index);
      equalBytes(peer.succeed(Command.deviceGetIrqInfo, request(irq.index)).payload, before, 'the answer');
    },
  },
]);
