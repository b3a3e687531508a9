/** Memory that comes with a descriptor, and interrupts that a device raises: what only a device can show. */
import { closeSync, openSync } from 'node:fs';
import { readAt, writeAt } from '../../../posix/memfd.ts';
import { Command, DmaMap, IrqInfo, IrqSet } from '../../spec.ts';
import type { Context } from '../context.ts';
import { EduDriver, MEMORY } from '../edu-driver.ts';
import { isFailed } from '../peer.ts';
import { equal, equalBytes, inSection, type Rule, skip } from '../rule.ts';
import { mapPayload, PAGE, pattern, unmapPayload } from '../wire.ts';

const PAGE_BYTES = 4096;
const INTX = 0;
const MSI = 1;

function contents(memory: number, at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  readAt(memory, bytes, 0, length, at);
  return bytes;
}

function open(context: Context, pages: number, fields: { offset?: bigint; flags?: number } = {}) {
  const edu = EduDriver.open(context);
  const memory = context.memory(pages * PAGE_BYTES);
  const size = BigInt(pages) * PAGE - (fields.offset ?? 0n);
  edu.peer.succeed(Command.dmaMap, mapPayload({ address: MEMORY, size, ...fields }), { descriptors: [memory] });
  return { edu, memory };
}

export const directMemoryRules: readonly Rule[] = inSection('VFIO_USER_DMA_MAP', [
  {
    id: 'direct.round-trip',
    basis: 'specification',
    says: 'Memory with a descriptor is read and written in the file behind it.',
    check: context => {
      const { edu, memory } = open(context, 4);
      const bytes = pattern(1000, 9);
      writeAt(memory, bytes, 0, 1000, 100);
      edu.fetch(MEMORY + 100n, 1000);
      edu.store(MEMORY + 2n * PAGE, 1000);
      equalBytes(contents(memory, 2 * PAGE_BYTES, 1000), bytes, 'what came back');
    },
  },
  {
    id: 'direct.across-pages',
    basis: 'specification',
    says: 'Memory with a descriptor is read and written across pages.',
    check: context => {
      const { edu, memory } = open(context, 4);
      const bytes = pattern(2000, 4);
      writeAt(memory, bytes, 0, 2000, 3500);
      edu.fetch(MEMORY + 3500n, 2000);
      edu.store(MEMORY + 2n * PAGE + 3000n, 2000);
      equalBytes(contents(memory, 2 * PAGE_BYTES + 3000, 2000), bytes, 'what came back');
    },
  },
  {
    id: 'direct.descriptor-closed-behind',
    basis: 'specification',
    says: 'The client may close its own descriptor once the message is answered: the server has its own.',
    check: context => {
      const edu = EduDriver.open(context);
      const memory = context.memory(PAGE_BYTES);
      writeAt(memory, pattern(64, 8), 0, 64, 0);
      const passed = openSync(`/proc/self/fd/${memory}`, 'r+');
      edu.peer.succeed(Command.dmaMap, mapPayload({ address: MEMORY }), { descriptors: [passed] });
      closeSync(passed);
      edu.fetch(MEMORY, 64);
      edu.store(MEMORY + 512n, 64);
      equalBytes(contents(memory, 512, 64), pattern(64, 8), 'what came back');
    },
  },
  {
    id: 'direct.no-messages',
    basis: 'robustness',
    says: 'Where the file can be mapped, nothing is asked by message.',
    check: context => {
      const { edu } = open(context, 2);
      edu.fetch(MEMORY, 100);
      edu.store(MEMORY, 100);
      equal(edu.peer.requests.length, 0, 'requests');
    },
  },
  {
    id: 'direct.offset',
    basis: 'specification',
    says: 'The region starts at the offset in the file.',
    check: context => {
      const { edu, memory } = open(context, 4, { offset: 2n * PAGE });
      const bytes = pattern(64, 6);
      writeAt(memory, bytes, 0, 64, 2 * PAGE_BYTES);
      edu.fetch(MEMORY, 64);
      edu.store(MEMORY + PAGE, 64);
      equalBytes(contents(memory, 3 * PAGE_BYTES, 64), bytes, 'what came back');
    },
  },
  {
    id: 'direct.offset-within-page',
    basis: 'specification',
    says: 'A region whose offset is within a page of the file is refused, or starts there.',
    check: context => {
      const edu = EduDriver.open(context);
      const memory = context.memory(2 * PAGE_BYTES);
      const region = mapPayload({ address: MEMORY, offset: 24n });
      if (isFailed(edu.peer.ask(Command.dmaMap, region, { descriptors: [memory] }))) return;
      writeAt(memory, pattern(64, 5), 0, 64, 24);
      edu.fetch(MEMORY, 64);
      edu.store(MEMORY + 512n, 64);
      equalBytes(contents(memory, 24 + 512, 64), pattern(64, 5), 'what came back');
    },
  },
  {
    id: 'direct.not-writable',
    basis: 'specification',
    says: 'A region that is not writeable is not written.',
    check: context => {
      const { edu, memory } = open(context, 1, { flags: DmaMap.readable });
      writeAt(memory, pattern(64, 2), 0, 64, 0);
      edu.fetch(MEMORY, 64);
      edu.store(MEMORY + 512n, 64);
      equalBytes(contents(memory, 512, 64), new Uint8Array(64), 'the memory');
    },
  },
  {
    id: 'direct.not-readable',
    basis: 'specification',
    says: 'A region that is not readable is not read.',
    check: context => {
      const { edu, memory } = open(context, 1, { flags: DmaMap.writable });
      const secret = pattern(64, 2);
      writeAt(memory, secret, 0, 64, 0);
      edu.fetch(MEMORY, 64);
      edu.store(MEMORY + 512n, 64);
      const seen = contents(memory, 512, 64).every((byte, i) => byte === secret[i]);
      equal(seen, false, 'the device has what it must not read');
    },
  },
  {
    id: 'direct.after-unmap',
    basis: 'specification',
    says: 'After the reply to an unmap the file is not written any more.',
    check: context => {
      const { edu, memory } = open(context, 2);
      writeAt(memory, pattern(64, 2), 0, 64, 0);
      edu.fetch(MEMORY, 64);
      edu.peer.succeed(Command.dmaUnmap, unmapPayload({ address: MEMORY, size: 2n * PAGE }));
      edu.store(MEMORY + PAGE, 64);
      equalBytes(contents(memory, PAGE_BYTES, 64), new Uint8Array(64), 'the memory');
    },
  },
  {
    id: 'direct.mapped-again',
    basis: 'specification',
    says: 'After another file is mapped in its place, that one is written.',
    check: context => {
      const { edu, memory } = open(context, 1);
      const other = context.memory(PAGE_BYTES);
      writeAt(memory, pattern(64, 2), 0, 64, 0);
      edu.fetch(MEMORY, 64);
      edu.peer.succeed(Command.dmaUnmap, unmapPayload({ address: MEMORY }));
      edu.peer.succeed(Command.dmaMap, mapPayload({ address: MEMORY }), { descriptors: [other] });
      edu.store(MEMORY + 1024n, 64);
      equalBytes(contents(other, 1024, 64), pattern(64, 2), 'the new file');
      equalBytes(contents(memory, 1024, 64), new Uint8Array(64), 'the old file');
    },
  },
  {
    id: 'direct.after-the-client',
    basis: 'specification',
    says: "A client's memory is not written after it is gone.",
    check: context => {
      const { edu, memory } = open(context, 1);
      writeAt(memory, pattern(64, 2), 0, 64, 0);
      edu.fetch(MEMORY, 64);
      edu.peer.close();
      const next = EduDriver.open(context);
      next.store(MEMORY + 1024n, 64);
      equalBytes(contents(memory, 1024, 64), new Uint8Array(64), 'the memory');
    },
  },
]);

/** The device, with an eventfd for this type; skips the rule where the device lacks it. */
function armed(context: Context, index: number) {
  if ((context.device.irqs[index]?.count ?? 0) === 0) skip(`the device has no interrupts of type ${index}`);
  const edu = EduDriver.open(context);
  return { edu, eventFd: edu.arm(index) };
}

/** INTx as linux/vfio.h has it for lines with a level. Without the flag a server signals it as it likes, and takes no MASK. */
function armedLine(context: Context) {
  levelLine(context);
  return armed(context, INTX);
}

function levelLine(context: Context): void {
  context.irq('INTx that masks itself', ({ index, count, flags }) => {
    return index === INTX && count > 0 && (flags & IrqInfo.automasked) !== 0;
  });
}

export const deviceInterruptRules: readonly Rule[] = inSection('Interrupts', [
  {
    id: 'device-irq.intx',
    basis: 'specification',
    says: 'A device that asserts INTx signals its eventfd.',
    check: context => {
      const { edu, eventFd } = armed(context, INTX);
      edu.raise();
      context.awaitSignal(edu.peer, eventFd, 'a signal of INTx');
    },
  },
  {
    id: 'device-irq.intx-automasked',
    basis: 'specification',
    says: 'INTx, which masks itself, is signalled once until it is unmasked.',
    check: context => {
      const { edu, eventFd } = armedLine(context);
      edu.raise();
      context.awaitSignal(edu.peer, eventFd, 'the first signal');
      edu.raise();
      edu.peer.alive();
      equal(context.signals(eventFd), 0, 'signals before UNMASK');
    },
  },
  {
    id: 'device-irq.intx-level',
    basis: 'linux-vfio',
    says: 'INTx that is still asserted when it is unmasked is signalled again.',
    check: context => {
      const { edu, eventFd } = armedLine(context);
      edu.raise();
      context.awaitSignal(edu.peer, eventFd, 'the first signal');
      edu.setIrqs(IrqSet.actionUnmask, INTX, 1);
      context.awaitSignal(edu.peer, eventFd, 'a signal after UNMASK');
    },
  },
  {
    id: 'device-irq.intx-acknowledged',
    basis: 'linux-vfio',
    says: 'INTx that is no longer asserted when it is unmasked is not.',
    check: context => {
      const { edu, eventFd } = armedLine(context);
      edu.raise();
      context.awaitSignal(edu.peer, eventFd, 'the first signal');
      edu.acknowledge();
      edu.setIrqs(IrqSet.actionUnmask, INTX, 1);
      edu.peer.alive();
      equal(context.signals(eventFd), 0, 'signals after the acknowledgement');
    },
  },
  {
    id: 'device-irq.intx-masked',
    basis: 'specification',
    says: 'Masked INTx is signalled when it is unmasked.',
    check: context => {
      const { edu, eventFd } = armedLine(context);
      edu.setIrqs(IrqSet.actionMask, INTX, 1);
      edu.raise();
      edu.peer.alive();
      equal(context.signals(eventFd), 0, 'signals of masked INTx');
      edu.setIrqs(IrqSet.actionUnmask, INTX, 1);
      context.awaitSignal(edu.peer, eventFd, 'a signal after UNMASK');
    },
  },
  {
    id: 'device-irq.intx-before-eventfd',
    basis: 'linux-vfio',
    says: 'INTx that was asserted before its eventfd came is signalled when it comes.',
    check: context => {
      levelLine(context);
      const edu = EduDriver.open(context);
      edu.raise();
      context.awaitSignal(edu.peer, edu.arm(INTX), 'a signal of INTx');
    },
  },
  {
    id: 'device-irq.msi',
    basis: 'specification',
    says: 'A device that sends MSI signals the eventfd of its vector, each time.',
    check: context => {
      const { edu, eventFd } = armed(context, MSI);
      for (let i = 0; i < 3; i++) {
        edu.raise();
        context.awaitSignal(edu.peer, eventFd, `signal ${i + 1}`);
      }
    },
  },
  {
    id: 'device-irq.msi-disabled',
    basis: 'specification',
    says: 'After all interrupts of the type are disabled its eventfd is not signalled.',
    check: context => {
      const { edu, eventFd } = armed(context, MSI);
      edu.setIrqs(IrqSet.actionTrigger, MSI, 0);
      edu.raise();
      edu.peer.alive();
      equal(context.signals(eventFd), 0, 'signals');
    },
  },
  {
    id: 'device-irq.msi-not-intx',
    basis: 'specification',
    says: 'A device that sends MSI does not assert INTx.',
    check: context => {
      const { edu, eventFd } = armed(context, INTX);
      if ((context.device.irqs[MSI]?.count ?? 0) === 0) skip('the device has no MSI');
      const message = edu.arm(MSI);
      edu.raise();
      context.awaitSignal(edu.peer, message, 'a signal of MSI');
      equal(context.signals(eventFd), 0, 'signals of INTx');
    },
  },
]);
