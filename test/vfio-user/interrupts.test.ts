import { openSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventFd, drainEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { VfioUserClient } from '../../src/vfio-user/client.ts';
import { Command, IrqSet } from '../../src/vfio-user/spec.ts';
import { errnoOf, openDescriptors, Rig, words } from './rig.ts';

const EINVAL = 22;
const INTX = 0;
const MSI = 1;
const MSIX = 2;
const ERR = 3;
const { dataNone: NONE, dataBool: BOOL, dataEventfd: EVENTFD } = IrqSet;
const { actionMask: MASK, actionUnmask: UNMASK, actionTrigger: TRIGGER } = IrqSet;

let rig: Rig;
let client: VfioUserClient;
let open: number[];

function eventFds(count: number): number[] {
  const made = Array.from({ length: count }, () => createEventFd());
  open.push(...made);
  return made;
}

/** Arms vectors from `start` on and gives the client's ends. */
function arm(index: number, start: number, count: number): number[] {
  const descriptors = eventFds(count);
  client.setIrqs(EVENTFD | TRIGGER, index, start, count, { descriptors });
  return descriptors;
}

function trigger(index: number, vector: number): boolean {
  return rig.model.client!.trigger(index, vector);
}

beforeEach(() => {
  rig = new Rig();
  open = [];
  client = rig.client();
});
afterEach(() => {
  for (const descriptor of open) closeDescriptor(descriptor);
  rig.close();
});

describe('DEVICE_SET_IRQS with eventfds', () => {
  it('arms a vector, which then signals', () => {
    const [descriptor] = arm(MSIX, 0, 1);
    expect(trigger(MSIX, 0)).toBe(true);
    expect(drainEventFd(descriptor!)).toBe(1);
  });

  it('tells the model which index changed', () => {
    arm(MSI, 0, 2);
    expect(rig.model.calls).toEqual(['connected', 'armed 1']);
  });

  it('arms a sub-range only', () => {
    const descriptors = arm(MSIX, 4, 3);
    const { client: port } = rig.model;
    expect([3, 4, 5, 6, 7].map(vector => port!.isArmed(MSIX, vector))).toEqual([false, true, true, true, false]);
    expect(trigger(MSIX, 5)).toBe(true);
    expect(descriptors.map(drainEventFd)).toEqual([0, 1, 0]);
  });

  it('arms more vectors later, in chunks as QEMU sends them', () => {
    const first = arm(MSIX, 0, 16);
    const second = arm(MSIX, 16, 16);
    for (let vector = 0; vector < 32; vector++) expect(trigger(MSIX, vector)).toBe(true);
    expect([...first, ...second].map(drainEventFd)).toEqual(new Array(32).fill(1));
  });

  it('takes away those of a range when none comes with it', () => {
    arm(MSIX, 0, 4);
    client.setIrqs(EVENTFD | TRIGGER, MSIX, 1, 2);
    expect([0, 1, 2, 3].map(vector => trigger(MSIX, vector))).toEqual([true, false, false, true]);
  });

  it('replaces an eventfd and closes the old one', () => {
    const [old] = arm(MSIX, 0, 1);
    const before = openDescriptors();
    const [fresh] = arm(MSIX, 0, 1);
    expect(openDescriptors()).toBe(before + 1);
    trigger(MSIX, 0);
    expect([drainEventFd(old!), drainEventFd(fresh!)]).toEqual([0, 1]);
  });

  it('refuses fewer descriptors than vectors, and closes them', () => {
    const descriptors = eventFds(2);
    const before = openDescriptors();
    expect(errnoOf(() => client.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 3, { descriptors }))).toBe(EINVAL);
    expect(openDescriptors()).toBe(before);
    expect(rig.model.client!.isArmed(MSIX, 0)).toBe(false);
  });

  it('refuses more descriptors than vectors', () => {
    const descriptors = eventFds(2);
    expect(errnoOf(() => client.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 1, { descriptors }))).toBe(EINVAL);
  });

  it('refuses a descriptor that is no eventfd', () => {
    const descriptors = [openSync('/dev/null', 'r+')];
    open.push(...descriptors);
    const before = openDescriptors();
    expect(errnoOf(() => client.setIrqs(EVENTFD | TRIGGER, MSIX, 0, 1, { descriptors }))).toBe(EINVAL);
    expect(openDescriptors()).toBe(before);
  });

  it('refuses descriptors with data of another kind', () => {
    const descriptors = eventFds(1);
    expect(errnoOf(() => client.setIrqs(NONE | TRIGGER, MSIX, 0, 1, { descriptors }))).toBe(EINVAL);
  });
});

describe('DEVICE_SET_IRQS disabling', () => {
  it('with a count of zero takes away every eventfd of the index', () => {
    arm(MSIX, 0, 4);
    const [kept] = arm(MSI, 0, 1);
    const before = openDescriptors();
    client.setIrqs(NONE | TRIGGER, MSIX, 0, 0);
    expect(openDescriptors()).toBe(before - 4);
    expect(trigger(MSIX, 2)).toBe(false);
    expect(trigger(MSI, 0)).toBe(true);
    expect(drainEventFd(kept!)).toBe(1);
    expect(rig.model.calls.at(-1)).toBe('armed 2');
  });

  it('of an index without vectors succeeds', () => {
    client.setIrqs(NONE | TRIGGER, ERR, 0, 0);
  });

  it.each([
    ['a start', NONE | TRIGGER, 1],
    ['eventfds', EVENTFD | TRIGGER, 0],
    ['booleans', BOOL | TRIGGER, 0],
    ['another action', NONE | MASK, 0],
  ])('with %s is refused', (_, flags, start) => {
    expect(errnoOf(() => client.setIrqs(flags, MSIX, start, 0))).toBe(EINVAL);
  });
});

describe('DEVICE_SET_IRQS triggering', () => {
  it('without data signals each vector of the range', () => {
    const descriptors = arm(MSIX, 0, 3);
    client.setIrqs(NONE | TRIGGER, MSIX, 1, 2);
    expect(descriptors.map(drainEventFd)).toEqual([0, 1, 1]);
  });

  it('with booleans signals those that are true', () => {
    const descriptors = arm(MSIX, 0, 3);
    client.setIrqs(BOOL | TRIGGER, MSIX, 0, 3, { bools: [true, false, true] });
    expect(descriptors.map(drainEventFd)).toEqual([1, 0, 1]);
  });

  it('of vectors that are not armed does nothing', () => {
    client.setIrqs(NONE | TRIGGER, MSIX, 0, 32);
  });

  it('refuses fewer booleans than vectors', () => {
    expect(errnoOf(() => client.setIrqs(BOOL | TRIGGER, MSIX, 0, 3, { bools: [true, true] }))).toBe(EINVAL);
  });

  it('refuses an argsz without the booleans', () => {
    const payload = Uint8Array.of(...words(20, BOOL | TRIGGER, MSIX, 0, 2), 1, 1);
    expect(client.request(Command.deviceSetIrqs, payload).errno).toBe(EINVAL);
  });
});

describe('DEVICE_SET_IRQS malformed', () => {
  it.each([
    ['an argsz below the structure', words(19, NONE | TRIGGER, MSIX, 0, 1)],
    ['a short payload', words(20, NONE | TRIGGER, MSIX, 0)],
    ['an index that does not exist', words(20, NONE | TRIGGER, 5, 0, 1)],
    ['an index far out', words(20, NONE | TRIGGER, 0xffffffff, 0, 1)],
    ['no data flag', words(20, TRIGGER, MSIX, 0, 1)],
    ['no action flag', words(20, NONE, MSIX, 0, 1)],
    ['two data flags', words(20, NONE | EVENTFD | TRIGGER, MSIX, 0, 1)],
    ['two action flags', words(20, NONE | MASK | UNMASK, MSIX, 0, 1)],
    ['unknown flags', words(20, 0x40 | NONE | TRIGGER, MSIX, 0, 1)],
    ['the sign bit as a flag', words(20, 0x80000000 | NONE | TRIGGER, MSIX, 0, 1)],
    ['a range beyond the vectors', words(20, NONE | TRIGGER, MSIX, 31, 2)],
    ['a start beyond the vectors', words(20, NONE | TRIGGER, MSIX, 32, 1)],
    ['a range that would wrap', words(20, NONE | TRIGGER, MSIX, 0xffffffff, 2)],
    ['4 billion vectors', words(20, NONE | TRIGGER, MSIX, 0, 0xffffffff)],
    ['4 billion booleans', words(0xffffffff, BOOL | TRIGGER, MSIX, 0, 0xffffffff)],
    ['a vector of an index that has none', words(20, NONE | TRIGGER, ERR, 0, 1)],
    ['masking what cannot be masked', words(20, NONE | MASK, MSI, 0, 1)],
    ['unmasking what cannot be masked', words(20, NONE | UNMASK, MSI, 0, 1)],
  ])('refuses %s', (_, payload) => {
    expect(client.request(Command.deviceSetIrqs, payload).errno).toBe(EINVAL);
    expect(rig.model.calls).toEqual(['connected']);
  });
});

describe('an automasked interrupt', () => {
  it('signals once, until it is unmasked', () => {
    const [descriptor] = arm(INTX, 0, 1);
    expect([trigger(INTX, 0), trigger(INTX, 0)]).toEqual([true, false]);
    expect(drainEventFd(descriptor!)).toBe(1);
    client.setIrqs(NONE | UNMASK, INTX, 0, 1);
    expect(trigger(INTX, 0)).toBe(true);
  });

  it('tells the model when it is unmasked', () => {
    arm(INTX, 0, 1);
    trigger(INTX, 0);
    client.setIrqs(NONE | UNMASK, INTX, 0, 1);
    expect(rig.model.calls.at(-1)).toBe('unmasked 0 0');
  });

  it('may be triggered from within the unmasking', () => {
    const [descriptor] = arm(INTX, 0, 1);
    trigger(INTX, 0);
    rig.model.unmasked = (index, vector) => {
      expect(trigger(index, vector)).toBe(true);
    };
    client.setIrqs(NONE | UNMASK, INTX, 0, 1);
    expect(drainEventFd(descriptor!)).toBe(2);
    expect(trigger(INTX, 0)).toBe(false);
  });

  it('that was not masked is not announced as unmasked', () => {
    arm(INTX, 0, 1);
    client.setIrqs(NONE | UNMASK, INTX, 0, 1);
    expect(rig.model.calls).not.toContain('unmasked 0 0');
  });

  it('does not signal while the client masks it', () => {
    arm(INTX, 0, 1);
    client.setIrqs(NONE | MASK, INTX, 0, 1);
    expect(trigger(INTX, 0)).toBe(false);
    client.setIrqs(BOOL | UNMASK, INTX, 0, 1, { bools: [false] });
    expect(trigger(INTX, 0)).toBe(false);
    client.setIrqs(BOOL | UNMASK, INTX, 0, 1, { bools: [true] });
    expect(trigger(INTX, 0)).toBe(true);
  });

  it('is unmasked by an eventfd, as an interrupt controller in the kernel does it', () => {
    arm(INTX, 0, 1);
    const [resample] = eventFds(1);
    client.setIrqs(EVENTFD | UNMASK, INTX, 0, 1, { descriptors: [resample!] });
    trigger(INTX, 0);
    signalEventFd(resample!);
    rig.until(() => rig.model.calls.includes('unmasked 0 0'));
    expect(trigger(INTX, 0)).toBe(true);
  });

  it('is masked by an eventfd', () => {
    arm(INTX, 0, 1);
    const [mask] = eventFds(1);
    client.setIrqs(EVENTFD | MASK, INTX, 0, 1, { descriptors: [mask!] });
    signalEventFd(mask!);
    rig.settle();
    expect(trigger(INTX, 0)).toBe(false);
  });

  it('no longer listens to an eventfd that was taken away', () => {
    arm(INTX, 0, 1);
    const [resample] = eventFds(1);
    client.setIrqs(EVENTFD | UNMASK, INTX, 0, 1, { descriptors: [resample!] });
    const before = openDescriptors();
    client.setIrqs(EVENTFD | UNMASK, INTX, 0, 1);
    expect(openDescriptors()).toBe(before - 1);
    trigger(INTX, 0);
    signalEventFd(resample!);
    rig.settle();
    expect(rig.model.calls).not.toContain('unmasked 0 0');
  });

  it('starts unmasked when it is armed anew', () => {
    arm(INTX, 0, 1);
    trigger(INTX, 0);
    client.setIrqs(NONE | TRIGGER, INTX, 0, 0);
    arm(INTX, 0, 1);
    expect(trigger(INTX, 0)).toBe(true);
  });
});

describe('the port of the model', () => {
  it('does not signal what is not there', () => {
    expect([trigger(MSIX, 0), trigger(MSIX, 32), trigger(5, 0), trigger(ERR, 0)]).toEqual([false, false, false, false]);
  });

  it('adds up signals that nobody has taken yet', () => {
    const [descriptor] = arm(MSIX, 0, 1);
    for (let i = 0; i < 3; i++) expect(trigger(MSIX, 0)).toBe(true);
    expect(drainEventFd(descriptor!)).toBe(3);
  });

  it('is dead after the client has gone, and every eventfd is closed', () => {
    const before = openDescriptors();
    arm(MSIX, 0, 8);
    const [unmask] = eventFds(1);
    client.setIrqs(EVENTFD | UNMASK, INTX, 0, 1, { descriptors: [unmask!] });
    const port = rig.model.client!;
    client.close();
    rig.until(() => !rig.server.connected);
    expect(port.trigger(MSIX, 0)).toBe(false);
    expect(port.isArmed(MSIX, 0)).toBe(false);
    // Nine of ours are open, the connection's two ends are not.
    expect(openDescriptors()).toBe(before + 9 - 2);
  });

  it('survives a reset of the device', () => {
    arm(MSIX, 0, 1);
    client.reset();
    expect(trigger(MSIX, 0)).toBe(true);
  });
});
