import fc from 'fast-check';
import { Packr } from 'msgpackr';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VfioUserError } from '../../src/vfio-user/client.ts';
import { MigrationState } from '../../src/vfio-user/migration.ts';
import { Feature } from '../../src/vfio-user/spec.ts';
import { bytes32, bytes64, Edu, Frame, FUNCTIONS, MigrationRig, PAGE, Vtd } from './migration-rig.ts';

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
