import { existsSync, fstatSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { signalEventFd } from '../../src/posix/eventfd.ts';
import { createMemfd } from '../../src/posix/memfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { VfioUserClient } from '../../src/vfio-user/client.ts';
import { askIoEventFds, askRegionMemory } from '../../src/vfio-user/client-regions.ts';
import type { IoEventFd, RegionDescription, RegionMapping } from '../../src/vfio-user/device-model.ts';
import { checkOffers, IO_EVENTFD_LIMIT, SPARSE_AREA_LIMIT } from '../../src/vfio-user/region-offers.ts';
import { VfioUserServer } from '../../src/vfio-user/server.ts';
import { Command, RegionInfo } from '../../src/vfio-user/spec.ts';
import { BAR0, CONFIG, openDescriptors, Rig, words } from './rig.ts';

const EINVAL = 22;
const FIXED_BYTES = 32;
const PAGE = 4096;
const BAR_BYTES = 8 * PAGE;

let rig: Rig;
let memory: number;
let client: VfioUserClient;
let taken: number[];

function offer(offered: Partial<RegionDescription>): void {
  const regions = rig.model.regions.map((region, index) =>
    index === BAR0 ? { ...region, size: BAR_BYTES, ...offered } : region,
  );
  Object.assign(rig.model, { regions });
  rig.model.memory.set(BAR0, new Uint8Array(BAR_BYTES));
}

function mapping(areas?: RegionMapping['areas']): RegionMapping {
  return { descriptor: memory, offset: PAGE, ...(areas && { areas }) };
}

function ask(argsz = 65536, index = BAR0) {
  const offered = askRegionMemory(client, index, argsz);
  taken.push(...offered.descriptors);
  return offered;
}

function askEventFds(argsz = 65536, from = client) {
  const offered = askIoEventFds(from, BAR0, argsz);
  taken.push(...offered.descriptors);
  return offered;
}

beforeEach(() => {
  rig = new Rig();
  memory = createMemfd('bar', BAR_BYTES + PAGE);
  taken = [];
  client = rig.client();
});
afterEach(() => {
  for (const descriptor of taken) closeDescriptor(descriptor);
  closeDescriptor(memory);
  rig.close();
});

describe('a region with memory to map', () => {
  it('has the flag, where it starts in the file, and the descriptor', () => {
    offer({ mapping: mapping() });
    const { argsz, flags, offset, size, areas, descriptors } = ask();
    expect({ argsz, offset, size, areas }).toEqual({
      argsz: FIXED_BYTES,
      offset: 4096n,
      size: BigInt(BAR_BYTES),
      areas: [],
    });
    expect(flags).toBe(RegionInfo.read | RegionInfo.write | RegionInfo.mmap);
    expect(descriptors).toHaveLength(1);
    expect(fstatSync(descriptors[0]!).ino).toBe(fstatSync(memory).ino);
  });

  it('still answers messages', () => {
    offer({ mapping: mapping() });
    client.regionWrite(BAR0, 8, Uint8Array.of(1, 2));
    expect(client.regionRead(BAR0, 8, 2)).toEqual(Uint8Array.of(1, 2));
  });

  it('makes no other one mappable', () => {
    offer({ mapping: mapping() });
    expect(ask(65536, CONFIG)).toMatchObject({
      flags: RegionInfo.read | RegionInfo.write,
      offset: 0n,
      descriptors: [],
    });
  });

  it('is not offered to a client that takes no descriptors', () => {
    offer({ mapping: mapping([{ offset: 0, size: PAGE }]) });
    client.close();
    rig.until(() => !rig.server.connected);
    client = rig.connect();
    client.negotiate({ capabilities: { max_msg_fds: 0 } });
    expect(ask()).toMatchObject({ argsz: FIXED_BYTES, flags: RegionInfo.read | RegionInfo.write, descriptors: [] });
  });

  it('is not offered over a stream without descriptors', () => {
    offer({ mapping: mapping() });
    client.close();
    rig.until(() => !rig.server.connected);
    client = rig.adopted();
    expect(ask()).toMatchObject({ flags: RegionInfo.read | RegionInfo.write, descriptors: [] });
  });

  it('is offered to a client that says nothing about descriptors: the default is one', () => {
    offer({ mapping: mapping() });
    client.close();
    rig.until(() => !rig.server.connected);
    client = rig.connect();
    client.negotiate({});
    expect(ask().descriptors).toHaveLength(1);
  });

  it('costs no descriptor of ours however often it is asked', () => {
    offer({ mapping: mapping() });
    const before = openDescriptors();
    for (let i = 0; i < 50; i++)
      for (const descriptor of askRegionMemory(client, BAR0, 64).descriptors) closeDescriptor(descriptor);
    expect(openDescriptors()).toBe(before);
  });
});

describe('sparse areas', () => {
  const areas = [
    { offset: 0, size: PAGE },
    { offset: 2 * PAGE, size: 3 * PAGE },
  ];
  const needed = FIXED_BYTES + 16 + 2 * 16;

  it('come as a capability', () => {
    offer({ mapping: mapping(areas) });
    const { argsz, flags, areas: listed, descriptors } = ask(needed);
    expect({ argsz, listed }).toEqual({ argsz: needed, listed: areas });
    expect(flags).toBe(RegionInfo.read | RegionInfo.write | RegionInfo.mmap | RegionInfo.caps);
    expect(descriptors).toHaveLength(1);
  });

  it('are laid out as linux/vfio.h says', () => {
    offer({ mapping: mapping(areas) });
    const { payload } = client.request(Command.deviceGetRegionInfo, words(needed, 0, BAR0, 0, 0, 0, 0, 0));
    expect(payload).toEqual(
      words(needed, 15, BAR0, 32, BAR_BYTES, 0, PAGE, 0, 0x10001, 0, 2, 0, 0, 0, PAGE, 0, 2 * PAGE, 0, 3 * PAGE, 0),
    );
  });

  it.each([FIXED_BYTES, needed - 1])(
    'are left out where argsz is %i, which the whole size in the answer tells',
    argsz => {
      offer({ mapping: mapping(areas) });
      const { payload } = client.request(Command.deviceGetRegionInfo, words(argsz, 0, BAR0, 0, 0, 0, 0, 0));
      expect(payload).toEqual(words(needed, 7, BAR0, 0, BAR_BYTES, 0, PAGE, 0));
    },
  );

  it('may be as many as the limit', () => {
    const size = SPARSE_AREA_LIMIT * PAGE;
    const many = Array.from({ length: SPARSE_AREA_LIMIT }, (_, i) => ({ offset: i * PAGE, size: PAGE }));
    offer({ size, mapping: mapping(many) });
    expect(ask().areas).toEqual(many);
  });
});

describe('DEVICE_GET_REGION_IO_FDS', () => {
  const one: IoEventFd = { offset: 16, size: 4 };
  const two: IoEventFd = { offset: 32, size: 8, value: 0x1122334455667788n };
  const three: IoEventFd = { offset: BAR_BYTES - 2, size: 0 };

  it('lists the eventfds, each with one descriptor', () => {
    offer({ ioEventFds: [one, two] });
    const { argsz, count, subRegions, descriptors } = askEventFds();
    expect({ argsz, count, descriptors: descriptors.length }).toEqual({ argsz: 16 + 80, count: 2, descriptors: 2 });
    expect(subRegions).toEqual([
      { offset: 16, size: 4, descriptor: 0, type: 0, value: undefined },
      { offset: 32, size: 8, descriptor: 1, type: 0, value: 0x1122334455667788n },
    ]);
  });

  it('a signal is a write of the value, or of 0, of the size, or of 4 bytes', () => {
    offer({ ioEventFds: [one, two, { ...three, offset: 64 }] });
    const { descriptors } = askEventFds();
    for (const [i, call] of ['write 0 16 4', 'write 0 32 8', 'write 0 64 4'].entries()) {
      signalEventFd(descriptors[i]!);
      rig.until(() => rig.model.calls.at(-1) === call);
    }
    expect(client.regionRead(BAR0, 32, 8)).toEqual(Uint8Array.of(0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11));
  });

  it('a write of any size at the end of a region stays in it', () => {
    offer({ ioEventFds: [three] });
    signalEventFd(askEventFds().descriptors[0]!);
    rig.until(() => rig.model.calls.at(-1) === `write 0 ${BAR_BYTES - 2} 2`);
  });

  it('signals that came close together are one write', () => {
    offer({ ioEventFds: [one] });
    const [descriptor] = askEventFds().descriptors;
    for (let i = 0; i < 5; i++) signalEventFd(descriptor!);
    rig.until(() => rig.model.calls.at(-1) === 'write 0 16 4');
    rig.settle();
    expect(rig.model.calls.filter(call => call.startsWith('write'))).toHaveLength(1);
  });

  it('a signal while the server is paused is heard when it goes on, and counts as an access', () => {
    offer({ ioEventFds: [one] });
    const [descriptor] = askEventFds().descriptors;
    rig.server.pause();
    signalEventFd(descriptor!);
    rig.settle();
    expect(rig.model.calls).toEqual(['connected']);
    let accesses = 0;
    rig.server.resume(() => accesses++);
    rig.until(() => rig.model.calls.at(-1) === 'write 0 16 4');
    expect(accesses).toBe(1);
  });

  it('what the model refuses is noted', () => {
    offer({ ioEventFds: [one] });
    const [descriptor] = askEventFds().descriptors;
    rig.model.refuse = EINVAL;
    signalEventFd(descriptor!);
    rig.until(() => rig.trace.kinds().includes('message.refused'));
    expect(rig.trace.events.at(-1)!.detail).toEqual({ command: 'ioeventfd', region: BAR0, offset: 16, errno: EINVAL });
  });

  it('gives the same eventfds again', () => {
    offer({ ioEventFds: [one] });
    askEventFds();
    const before = openDescriptors();
    signalEventFd(askEventFds().descriptors[0]!);
    expect(openDescriptors()).toBe(before + 1);
    rig.until(() => rig.model.calls.at(-1) === 'write 0 16 4');
  });

  it('closes its own with the client', () => {
    const before = openDescriptors();
    offer({ ioEventFds: [one, two] });
    askEventFds();
    client.close();
    rig.until(() => !rig.server.connected);
    // The client keeps its two; both ends of the connection are gone, and our two eventfds.
    expect(openDescriptors()).toBe(before);
    signalEventFd(taken[0]!);
    rig.settle();
    expect(rig.model.calls.filter(call => call.startsWith('write'))).toEqual([]);
  });

  it.each([16, 16 + 79])('lists none where argsz is %i, and says what is needed', argsz => {
    offer({ ioEventFds: [one, two] });
    expect(askEventFds(argsz)).toEqual({ argsz: 96, count: 2, subRegions: [], descriptors: [] });
  });

  it('lists as many as the client takes descriptors', () => {
    offer({ ioEventFds: [one, two] });
    client.close();
    rig.until(() => !rig.server.connected);
    client = rig.connect();
    client.negotiate({});
    expect(askEventFds()).toMatchObject({ argsz: 56, count: 1, subRegions: [{ offset: 16 }] });
  });

  it('lists none over a stream without descriptors', () => {
    offer({ ioEventFds: [one, two] });
    client.close();
    rig.until(() => !rig.server.connected);
    client = rig.adopted();
    expect(askEventFds()).toEqual({ argsz: 16, count: 0, subRegions: [], descriptors: [] });
  });

  it('refuses a count, which must be zero', () => {
    expect(client.request(Command.deviceGetRegionIoFds, words(4096, 0, BAR0, 1)).errno).toBe(EINVAL);
  });
});

describe('checkOffers', () => {
  const region = { size: BAR_BYTES, readable: true, writable: true };
  const mapped = (fields: Partial<RegionMapping>): RegionDescription => ({
    ...region,
    mapping: { descriptor: 3, offset: 0, ...fields },
  });
  const signalled = (fields: Partial<IoEventFd>): RegionDescription => ({
    ...region,
    ioEventFds: [{ offset: 0, size: 4, ...fields }],
  });
  const pages = (count: number) => Array.from({ length: count }, (_, i) => ({ offset: i * PAGE, size: PAGE }));

  it.each<[RegExp, RegionDescription]>([
    [/does not begin at a page/, mapped({ offset: 100 })],
    [/does not begin at a page/, mapped({ offset: -PAGE })],
    [/does not exist/, { ...mapped({}), size: 0 }],
    [/0 areas/, mapped({ areas: [] })],
    [/areas to map/, { ...mapped({ areas: pages(SPARSE_AREA_LIMIT + 1) }), size: 2 ** 30 }],
    [/not whole pages/, mapped({ areas: [{ offset: 1, size: PAGE }] })],
    [/not whole pages/, mapped({ areas: [{ offset: 0, size: 0 }] })],
    [/not whole pages/, mapped({ areas: [{ offset: 0, size: 100 }] })],
    [
      /lies in the one before/,
      mapped({
        areas: [
          { offset: 0, size: 2 * PAGE },
          { offset: PAGE, size: PAGE },
        ],
      }),
    ],
    [/leaves the region/, mapped({ areas: [{ offset: BAR_BYTES - PAGE, size: 2 * PAGE }] })],
    [/accesses of 3 bytes/, signalled({ size: 3 })],
    [/outside/, signalled({ offset: BAR_BYTES - 2 })],
    [/outside/, signalled({ offset: BAR_BYTES, size: 0 })],
    [/outside/, signalled({ offset: -4 })],
    [/of any size/, signalled({ size: 0, value: 1n })],
    [/no room in 1 bytes/, signalled({ size: 1, value: 256n })],
    [
      /at most 64/,
      { ...region, ioEventFds: Array.from({ length: IO_EVENTFD_LIMIT + 1 }, () => ({ offset: 0, size: 4 })) },
    ],
  ])('says %s', (why, wrong) => {
    expect(() => checkOffers([region, wrong])).toThrow(why);
    expect(() => checkOffers([region, wrong])).toThrow(/region 1: /);
  });

  it('takes what can be', () => {
    checkOffers([region, mapped({ areas: pages(2) }), signalled({ size: 8, value: (1n << 64n) - 1n })]);
  });

  it('is asked when a server starts', () => {
    const { model, loop, trace } = rig;
    offer({ ioEventFds: [{ offset: 0, size: 5 }] });
    const path = join(rig.directory, 'other.sock');
    expect(() => new VfioUserServer({ path, name: 'other', model, loop, trace })).toThrow(/accesses of 5 bytes/);
    expect(existsSync(path)).toBe(false);
  });
});
