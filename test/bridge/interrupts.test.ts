import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventFd, drainEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { VfioUserClient } from '../../src/vfio-user/client.ts';
import { Command, HeaderFlag, IrqSet } from '../../src/vfio-user/spec.ts';
import { errnoOf, openDescriptors } from '../vfio-user/rig.ts';
import { BridgeRig, type Received } from './rig.ts';

const BIND = IrqSet.dataEventfd | IrqSet.actionTrigger;
const MSIX = 2;

describe('eventfds at the bridge', () => {
  let before: number;
  let rig: BridgeRig;
  let qemu: VfioUserClient;
  const own: number[] = [];

  beforeEach(() => {
    before = openDescriptors();
    rig = new BridgeRig();
    qemu = rig.qemu();
  });

  afterEach(() => {
    for (const descriptor of own.splice(0)) closeDescriptor(descriptor);
    rig.close();
    expect(openDescriptors()).toBe(before);
  });

  function eventfds(count: number): number[] {
    const made = Array.from({ length: count }, createEventFd);
    own.push(...made);
    return made;
  }

  function fired(descriptor: number): number {
    rig.settle();
    return drainEventFd(descriptor);
  }

  const words = ({ payload }: Received) => [...new Int32Array(payload.slice().buffer)];

  it('tells the server which vectors have one, and signals them for it', () => {
    const [a, b] = eventfds(2);
    qemu.setIrqs(BIND, MSIX, 3, 2, { descriptors: [a!, b!] });
    expect(words(rig.server.commands(Command.deviceSetIrqs)[0]!)).toEqual([28, BIND, MSIX, 3, 2, 0, 0]);
    rig.server.interrupt(MSIX, 4);
    rig.server.interrupt(MSIX, 4);
    expect([fired(a!), fired(b!)]).toEqual([0, 2]);
    expect(rig.statistics.interrupts).toBe(2);
  });

  it('takes them away where none comes, and where the index is disabled', () => {
    const [a, b] = eventfds(2);
    qemu.setIrqs(BIND, MSIX, 0, 1, { descriptors: [a!] });
    qemu.setIrqs(BIND, 0, 0, 1, { descriptors: [b!] });
    qemu.setIrqs(BIND, 0, 0, 1);
    expect(words(rig.server.commands(Command.deviceSetIrqs).at(-1)!)).toEqual([24, BIND, 0, 0, 1, -1]);
    qemu.setIrqs(IrqSet.dataNone | IrqSet.actionTrigger, MSIX, 0, 0);
    rig.server.interrupt(0, 0);
    rig.server.interrupt(MSIX, 0);
    expect([fired(a!), fired(b!)]).toEqual([0, 0]);
    expect(rig.trace.kinds().filter(kind => kind === 'interrupt.unbound')).toHaveLength(2);
  });

  it('passes other ways of setting on as they are', () => {
    qemu.setIrqs(IrqSet.dataBool | IrqSet.actionTrigger, MSIX, 0, 2, { bools: [true, false] });
    const [request] = rig.server.commands(Command.deviceSetIrqs);
    expect([...request!.payload.subarray(20)]).toEqual([1, 0]);
  });

  it('goes back to the ones before where the server refuses', () => {
    const [a, b] = eventfds(2);
    qemu.setIrqs(BIND, MSIX, 0, 1, { descriptors: [a!] });
    rig.server.script = () => 22;
    expect(errnoOf(() => qemu.setIrqs(BIND, MSIX, 0, 1, { descriptors: [b!] }))).toBe(22);
    expect(errnoOf(() => qemu.setIrqs(IrqSet.dataNone | IrqSet.actionTrigger, MSIX, 0, 0))).toBe(22);
    rig.server.interrupt(MSIX, 0);
    expect([fired(a!), fired(b!)]).toEqual([1, 0]);
  });

  it.each([
    ['the index is disabled', () => qemu.setIrqs(IrqSet.dataNone | IrqSet.actionTrigger, MSIX, 0, 0)],
    ['the vector loses its own', () => qemu.setIrqs(BIND, MSIX, 0, 1)],
  ])('signals the old one until the server has answered where %s', (_, clear) => {
    const [a] = eventfds(1);
    qemu.setIrqs(BIND, MSIX, 0, 1, { descriptors: [a!] });
    rig.server.script = message => {
      rig.server.interrupt(MSIX, 0);
      return message.payload;
    };
    clear();
    rig.server.interrupt(MSIX, 0);
    expect(fired(a!)).toBe(1);
    expect(rig.trace.kinds().filter(kind => kind === 'interrupt.unbound')).toHaveLength(1);
  });

  it('signals the new one already before the server has answered', () => {
    const [a] = eventfds(1);
    rig.server.script = message => {
      rig.server.interrupt(MSIX, 0);
      return message.payload;
    };
    qemu.setIrqs(BIND, MSIX, 0, 1, { descriptors: [a!] });
    expect(fired(a!)).toBe(1);
  });

  it.each([
    ['a file', (file: number) => qemu.setIrqs(BIND, MSIX, 0, 1, { descriptors: [file] })],
    ['fewer than it says', () => qemu.setIrqs(BIND, MSIX, 0, 3, { descriptors: eventfds(2) })],
    ['an index that is none', () => qemu.setIrqs(BIND, 9, 0, 1, { descriptors: eventfds(1) })],
    ['a vector that no table has', () => qemu.setIrqs(BIND, MSIX, 2048, 1, { descriptors: eventfds(1) })],
    ['more vectors than a table has', () => qemu.setIrqs(BIND, MSIX, 0xffffffff, 0xffffffff)],
    ['two actions', () => qemu.setIrqs(BIND | IrqSet.actionMask, MSIX, 0, 1, { descriptors: eventfds(1) })],
    ['no eventfds belonging', () => qemu.setIrqs(IrqSet.dataNone | 32, MSIX, 0, 1, { descriptors: eventfds(1) })],
  ])('refuses %s, and does not tell the server', (_, set) => {
    const file = createMemfd('no eventfd', 4096);
    own.push(file);
    expect(errnoOf(() => set(file))).toBe(22);
    expect(rig.server.commands(Command.deviceSetIrqs)).toEqual([]);
  });

  it('refuses a message that is too short', () => {
    expect(qemu.request(Command.deviceSetIrqs, new Uint8Array(8), eventfds(1)).errno).toBe(22);
  });

  it('turns a signal of QEMU that unmasks into a message', () => {
    const [unmask] = eventfds(1);
    qemu.setIrqs(IrqSet.dataEventfd | IrqSet.actionUnmask, 0, 0, 1, { descriptors: [unmask!] });
    signalEventFd(unmask!);
    rig.until(() => rig.server.commands(Command.deviceSetIrqs).length === 2);
    const message = rig.server.commands(Command.deviceSetIrqs)[1]!;
    expect(message.flags & HeaderFlag.noReply).not.toBe(0);
    expect(words(message)).toEqual([20, IrqSet.dataNone | IrqSet.actionUnmask, 0, 0, 1]);
    expect(drainEventFd(unmask!)).toBe(0);
  });

  it('does not lose such a signal while the server does not read', () => {
    const [mask] = eventfds(1);
    qemu.setIrqs(IrqSet.dataEventfd | IrqSet.actionMask, 0, 0, 1, { descriptors: [mask!] });
    const { server } = rig;
    server.deaf = true;
    const bytes = new Uint8Array(1048576);
    for (let i = 0; i < 3; i++) qemu.regionWrite(0, 0, bytes, { posted: true });
    rig.settle();
    signalEventFd(mask!);
    rig.settle();
    expect(drainEventFd(mask!)).toBe(1);
    signalEventFd(mask!);
    server.hear();
    rig.until(() => server.commands(Command.deviceSetIrqs).length === 2);
    expect(words(server.commands(Command.deviceSetIrqs)[1]!)[1]).toBe(IrqSet.dataNone | IrqSet.actionMask);
  });

  it('closes every eventfd with its QEMU, also those under way', () => {
    const [a, b] = eventfds(2);
    qemu.setIrqs(BIND, MSIX, 0, 1, { descriptors: [a!] });
    rig.server.script = () => undefined;
    expect(() => {
      rig.server.script = () => {
        rig.server.connection.close('gone');
        return undefined;
      };
      qemu.setIrqs(BIND, MSIX, 0, 1, { descriptors: [b!] });
    }).toThrow(/no answer/);
    rig.settle();
    expect(rig.statistics.connected).toBe(false);
  });

  it('takes no notice of interrupts that cannot be', () => {
    rig.server.interrupt(0xffffffff, 0xffffffff);
    rig.server.interrupt(0, 5000);
    rig.server.send(Command.interrupt, new Uint8Array(4), { flags: HeaderFlag.noReply });
    rig.settle();
    expect(rig.statistics).toMatchObject({ connected: true, interrupts: 0, refused: 1 });
  });
});
