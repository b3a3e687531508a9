import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { closeDescriptor, socketPair } from '../../src/posix/socket.ts';
import { type DmaRequest, VfioUserClient, VfioUserError } from '../../src/vfio-user/client.ts';
import { MigrationState } from '../../src/vfio-user/migration.ts';
import { MigrationClient } from '../../src/vfio-user/migration-client.ts';
import { Command, DeviceFeature, DmaAccess, Feature, HeaderFlag, MigrationFeature } from '../../src/vfio-user/spec.ts';
import {
  BAR0,
  bytes16,
  bytes32,
  bytes64,
  CONFIG,
  Edu,
  Frame,
  FUNCTIONS,
  GUEST_FRAMES,
  MigrationRig,
  PAGE,
  Vtd,
} from './migration-rig.ts';

const EINVAL = 22;
const { error, stop, running, stopCopy, resuming } = MigrationState;

let rig: MigrationRig;

beforeEach(() => {
  rig = new MigrationRig();
});

afterEach(() => {
  rig.close();
  expect(rig.errors).toEqual([]);
});

function errnoOf(work: () => unknown): number {
  try {
    work();
  } catch (failure) {
    if (failure instanceof VfioUserError) return failure.errno;
    throw failure;
  }
  return 0;
}

const GUEST_BYTES = BigInt(GUEST_FRAMES * PAGE);

/** A client of messages, in place of the one that is there. */
function adopted(name: 'edu0'): VfioUserClient {
  rig.clients[name].close();
  const { server } = rig.machine.functions.get(name)!;
  rig.loop.waitUntil(() => !server.connected, 10_000);
  const [mine, theirs] = socketPair();
  rig.clients[name] = new VfioUserClient(rig.loop, mine, {}, { messages: true });
  rig.machine.adopt(name, theirs);
  closeDescriptor(theirs);
  rig.clients[name].negotiate();
  rig.clients[name].regionWrite(CONFIG, 4, bytes16(0x0006));
  return rig.clients[name];
}

function setStateTo(state: number): Uint8Array {
  const payload = new Uint8Array(DeviceFeature.data + MigrationFeature.stateBytes);
  const view = new DataView(payload.buffer);
  view.setUint32(DeviceFeature.argsz, payload.length, true);
  view.setUint32(DeviceFeature.flags, DeviceFeature.set | Feature.deviceState, true);
  view.setUint32(DeviceFeature.data + MigrationFeature.state, state, true);
  return payload;
}

/** Every answer that comes from now on, by the id of its command. */
function watchAnswers(client: VfioUserClient, answered: (id: number) => void): void {
  const message = client.message.bind(client);
  client.message = (header, payload, length, descriptors) => {
    if (header.type === HeaderFlag.typeReply) answered(header.id);
    message(header, payload, length, descriptors);
  };
}

function readOf(region: number, offset: number, count: number): Uint8Array {
  const payload = new Uint8Array(16);
  const view = new DataView(payload.buffer);
  view.setUint32(0, offset, true);
  view.setUint32(8, region, true);
  view.setUint32(12, count, true);
  return payload;
}

function dmaData(address: bigint, count: number): Uint8Array {
  const payload = new Uint8Array(DmaAccess.bytes + count);
  const view = new DataView(payload.buffer);
  view.setBigUint64(0, address, true);
  view.setBigUint64(8, BigInt(count), true);
  payload.fill(0x5a, DmaAccess.bytes);
  return payload;
}

function refusals(): string[] {
  return rig.trace.events.filter(({ kind }) => kind === 'migration.refused').map(({ detail }) => String(detail.why));
}

describe('the migration states of a function', () => {
  it.each([
    [[stop], stop],
    [[stop, running], running],
    [[stopCopy], stopCopy],
    [[stopCopy, stop], stop],
    [[stopCopy, running], running],
    [[resuming], resuming],
    [[stopCopy, resuming], resuming],
  ])('%j leads to %i', (states, last) => {
    const client = rig.migration('edu0');
    for (const state of states) client.setState(state);
    expect(client.state()).toBe(last);
  });

  it.each([0, 5, 6, 7, 8, 0xffff_ffff])('state %i cannot be asked for, and nothing changes', state => {
    const client = rig.migration('edu0');
    client.setState(stop);
    expect(errnoOf(() => client.setState(state))).toBe(EINVAL);
    expect(client.state()).toBe(stop);
  });

  it('are in ERROR after a state that is none, until a reset', () => {
    const client = rig.migration('edu0');
    client.setState(resuming);
    client.write(new Uint8Array(100));
    expect(errnoOf(() => client.setState(running))).toBe(EINVAL);
    expect(client.state()).toBe(error);
    expect(errnoOf(() => client.setState(stop))).toBe(EINVAL);
    rig.clients.edu0.reset();
    expect(client.state()).toBe(running);
  });

  it('change only where the client has room for the answer', () => {
    const change = (argsz: number) => {
      const payload = new Uint8Array(16);
      payload.set(bytes32(argsz), 0);
      payload.set(bytes32(Feature.deviceState | DeviceFeature.set), 4);
      payload.set(bytes32(stop), 8);
      return rig.clients.edu0.request(Command.deviceFeature, payload).errno;
    };
    expect(change(15)).toBe(EINVAL);
    expect(rig.migration('edu0').state()).toBe(running);
    expect(change(16)).toBe(0);
    expect(rig.migration('edu0').state()).toBe(stop);
  });

  it('take it that nothing is written first', () => {
    const client = rig.migration('edu0');
    client.setState(resuming);
    client.write(new Uint8Array(0));
    expect(client.state()).toBe(resuming);
  });

  it('allow data in STOP_COPY and RESUMING only', () => {
    const client = rig.migration('edu0');
    for (const state of [running, stop, resuming]) {
      client.setState(state);
      expect(errnoOf(() => client.read(16))).toBe(EINVAL);
      if (state !== resuming) expect(errnoOf(() => client.write(new Uint8Array(16)))).toBe(EINVAL);
    }
    expect(client.probe(Feature.migration)).toBe(true);
    expect(client.flags()).toBe(1n);
  });
});

describe('a stopped function', () => {
  it('does nothing by itself, answers accesses, and goes on where it was', () => {
    rig.setUp();
    rig.write64(Frame.data[0], 0, 0x1122334455667788n);
    const client = rig.migration('edu0');
    client.setState(stop);
    const post = (offset: number, value: bigint) => rig.post('edu0', offset, bytes64(value));
    post(Edu.source, 0n);
    post(Edu.destination, Edu.buffer);
    post(Edu.count, 8n);
    post(Edu.command, 5n);
    for (let n = 0; n < 8; n++) expect(rig.read32('edu0', Edu.command) & 1).toBe(1);
    expect(rig.signals.edu0).toBe(0);
    client.setState(running);
    rig.settle();
    expect(rig.signals.edu0).toBe(1);
  });

  it('keeps the endpoints waiting where it is the IOMMU', () => {
    rig.setUp();
    rig.migration('iommu').setState(stop);
    rig.post('edu0', Edu.factorial, bytes32(5));
    for (let n = 0; n < 8; n++) expect(rig.read32('edu0', Edu.status) & 1).toBe(1);
    rig.migration('iommu').setState(running);
    rig.settle();
    expect(rig.read32('edu0', Edu.factorial)).toBe(120);
  });
});

describe('STOP while DMA is under way', () => {
  it.each(['over the socket', 'by messages'])('%s is answered when it is over, and later commands before', way => {
    rig.setUp();
    const client = way === 'by messages' ? adopted('edu0') : rig.clients.edu0;
    if (way === 'over the socket') client.dmaUnmap(0n, GUEST_BYTES);
    client.dmaMap({ address: 0n, size: GUEST_BYTES, offset: 0n, descriptor: -1, readable: true, writable: true });
    const replies: string[] = [];
    let held: DmaRequest | undefined;
    let stopId = -1;
    watchAnswers(client, id => {
      if (held === undefined) return;
      replies.push(id === stopId ? 'stop' : 'read');
      if (replies.length === 3) client.sendReply(held.id, Command.dmaRead, 0, dmaData(held.address, held.count));
    });
    client.onDmaRead = request => {
      held = { ...request };
      stopId = client.sendCommand(Command.deviceFeature, setStateTo(stop));
      for (let n = 0; n < 3; n++) client.sendCommand(Command.regionRead, readOf(BAR0, 0, 4));
      return undefined;
    };
    const post = (offset: number, value: bigint) => client.regionWrite(BAR0, offset, bytes64(value), { posted: true });
    post(Edu.source, 0n);
    post(Edu.destination, Edu.buffer);
    post(Edu.count, 8n);
    post(Edu.command, 1n);
    rig.loop.waitUntil(() => replies.length === 4, 10_000);
    expect(replies).toEqual(['read', 'read', 'read', 'stop']);
    expect(new MigrationClient(client).state()).toBe(stop);
    // It was over: the device says so.
    expect(client.regionRead(BAR0, Edu.command, 4)[0]! & 1).toBe(0);
  });
});

describe('what DMA has written', () => {
  it('is told page by page, once', () => {
    rig.setUp();
    const client = rig.migration('edu0');
    const all = BigInt(128 * PAGE);
    expect(errnoOf(() => client.reportLogging(0n, all, 4096n))).toBe(EINVAL);
    expect(client.startLogging(4096n)).toBe(4096n);
    rig.post('edu0', Edu.source, bytes64(Edu.buffer));
    rig.post('edu0', Edu.destination, bytes64(BigInt(3 * PAGE - 4)));
    rig.post('edu0', Edu.count, bytes64(8n));
    rig.post('edu0', Edu.command, bytes64(3n));
    rig.settle();
    const expected = new Uint8Array(16);
    // Frames 34 and 35: the third and fourth page of the endpoint's data.
    expected[4] = 0b1100;
    expect([...client.reportLogging(0n, all, 4096n)]).toEqual([...expected]);
    expect([...client.reportLogging(0n, all, 4096n)]).toEqual(new Array(16).fill(0));
    client.stopLogging();
    expect(client.probe(Feature.loggingReport)).toBe(true);
    expect(rig.migration('edu1').probe(Feature.loggingStart)).toBe(true);
  });
});

describe('a state that was tampered with', () => {
  const packr = new Packr({ useRecords: false, mapsAsObjects: true });

  it('is taken over whole or not at all', () => {
    rig.setUp();
    rig.post('iommu', Vtd.iqt, bytes32(0));
    const good = rig.save();
    const name = fc.constantFrom(...FUNCTIONS);
    const change = fc.oneof(
      fc.record({ at: fc.nat(10_000), byte: fc.nat(255) }),
      fc.record({ cut: fc.nat(10_000) }),
      fc.record({ more: fc.uint8Array({ minLength: 1, maxLength: 20 }) }),
      fc.record({ value: fc.anything({ maxDepth: 2 }), path: fc.array(fc.nat(9), { minLength: 1, maxLength: 3 }) }),
    );
    fc.assert(
      fc.property(name, change, (which, how) => {
        const client = rig.migration(which);
        if (client.state() === error) rig.clients[which].reset();
        client.setState(stop);
        const before = rig.machine.functions.get(which)!.pci.migration!.save();
        client.setState(resuming);
        client.writeAll(tamper(good[which], how));
        const errno = errnoOf(() => client.setState(stop));
        if (errno !== 0) {
          expect(errno).toBe(EINVAL);
          expect(client.state()).toBe(error);
          // What is there is looked at directly: a reset would change it.
          expect(rig.machine.functions.get(which)!.pci.migration!.save()).toEqual(before);
          rig.clients[which].reset();
        }
        // Whatever it took over, it can live with, and the good one is welcome afterwards.
        client.setState(running);
        client.setState(resuming);
        client.writeAll(good[which]);
        client.setState(stop);
      }),
      { numRuns: 150 },
    );
    expect(refusals().length).toBeGreaterThan(50);
  });

  function tamper(state: Uint8Array, how: object): Uint8Array {
    const bytes = Uint8Array.from(state);
    if ('at' in how && 'byte' in how) bytes[(how.at as number) % bytes.length] = how.byte as number;
    if ('cut' in how) return bytes.subarray(0, (how.cut as number) % bytes.length);
    if ('more' in how) return Buffer.concat([bytes, how.more as Uint8Array]);
    if (!('path' in how && 'value' in how)) return bytes;
    const whole = packr.unpack(bytes.subarray(8));
    let at = whole.state;
    const path = how.path as number[];
    for (const [depth, step] of path.entries()) {
      const names = Object.keys(at);
      const key = names[step % names.length]!;
      const inner = at[key];
      const goesOn =
        depth + 1 < path.length && typeof inner === 'object' && inner !== null && !ArrayBuffer.isView(inner);
      if (!goesOn || Object.keys(inner).length === 0) {
        at[key] = how.value;
        break;
      }
      at = inner;
    }
    try {
      return Buffer.concat([bytes.subarray(0, 8), packr.pack(whole)]);
    } catch {
      // Not everything has a place in MessagePack.
      return bytes.subarray(0, 8);
    }
  }

  it('is refused with the reason where it is another machine or function', () => {
    const states = rig.save();
    rig.end();
    rig.start();
    const client = rig.migration('edu1');
    client.setState(resuming);
    client.writeAll(states.edu0);
    expect(errnoOf(() => client.setState(stop))).toBe(EINVAL);
    expect(refusals()).toEqual(['it is the state of "edu0", and this is edu1']);
  });
});
