import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEventFd } from '../../src/posix/eventfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { Command } from '../../src/vfio-user/spec.ts';
import { BAR0, CONFIG, concat, message, openDescriptors, RawPeer, Rig, words } from './rig.ts';

const RUNS = 300;

const version = message(Command.version, new TextEncoder().encode('\0\0\0\0{"capabilities":{"max_msg_fds":8}}\0'));

/** Well-formed messages, to be spoilt. */
const templates: Uint8Array[] = [
  version,
  message(Command.dmaMap, words(32, 3, 0, 0, 0x10000, 0, 4096, 0)),
  message(Command.dmaUnmap, words(24, 0, 0x10000, 0, 4096, 0)),
  message(Command.deviceGetInfo, words(16, 0, 0, 0)),
  message(Command.deviceGetRegionInfo, words(32, 0, CONFIG, 0, 0, 0, 0, 0)),
  message(Command.deviceGetRegionIoFds, words(16, 0, BAR0, 0)),
  message(Command.deviceGetIrqInfo, words(16, 0, 2, 0)),
  message(Command.deviceSetIrqs, words(20, 0x24, 2, 0, 1)),
  message(Command.deviceSetIrqs, words(24, 0x22, 2, 0, 4, 0x01010101)),
  message(Command.deviceSetIrqs, words(20, 0x21, 2, 0, 0)),
  message(Command.regionRead, words(0, 0, BAR0, 8)),
  message(Command.regionWrite, words(0, 0, BAR0, 8, 1, 2)),
  message(Command.regionWrite, words(4, 0, CONFIG, 4, 6), { flags: 0x10 }),
  message(Command.deviceReset, new Uint8Array(0)),
  message(Command.dmaRead, words(0, 0, 4, 0, 1), { flags: 1 }),
];

interface Mutation {
  readonly at: number;
  readonly value: number;
}

/** Mostly in the payload: a spoilt header ends the connection before anything deeper is reached. */
const place = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 16, max: 63 }) },
  { weight: 1, arbitrary: fc.nat(15) },
);

const piece = fc.record({
  template: fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 1, max: templates.length - 2 }) },
    { weight: 1, arbitrary: fc.constantFrom(0, templates.length - 1) },
  ),
  mutations: fc.array(fc.record({ at: place, value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)) }), {
    maxLength: 3,
  }),
  cut: fc.oneof({ weight: 15, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.nat(48) }),
  descriptors: fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(3) }),
});

const stream = fc.record({
  handshake: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  pieces: fc.array(piece, { minLength: 1, maxLength: 12 }),
});

function spoil(template: Uint8Array, mutations: readonly Mutation[], cut: number | undefined): Uint8Array {
  const bytes = template.slice();
  for (const { at, value } of mutations) bytes[at % bytes.length] = value;
  return bytes.subarray(0, cut ?? bytes.length);
}

let rig: Rig;
let eventfd: number;
beforeAll(() => {
  rig = new Rig();
  eventfd = createEventFd();
});
afterAll(() => {
  closeDescriptor(eventfd);
  rig.close();
});

/** Another client is served as ever, and nothing of the last one is left. */
function expectHealthy(open: number): void {
  rig.until(() => !rig.server.connected);
  rig.settle();
  expect(rig.errors).toEqual([]);
  expect(rig.model.dma.mapped).toEqual([]);
  const next = rig.client();
  expect(next.getDeviceInfo()).toEqual({ flags: 3, regions: 9, irqs: 5 });
  expect(next.regionRead(BAR0, 0, 8)).toHaveLength(8);
  next.close();
  rig.until(() => !rig.server.connected);
  expect(openDescriptors()).toBe(open);
  rig.trace.events.length = 0;
  rig.model.calls.length = 0;
}

/** Sends the pieces one by one, each followed by one round of the loop; gives what the server answered. */
function converse(pieces: readonly { readonly bytes: Uint8Array; readonly descriptors: number }[]): Uint8Array {
  const peer = new RawPeer(rig);
  for (const { bytes, descriptors } of pieces) {
    peer.send(bytes, new Array<number>(descriptors).fill(eventfd));
    rig.loop.runOnce(0);
    peer.drain();
  }
  rig.settle();
  peer.drain();
  peer.close();
  return peer.received;
}

describe('whatever a client sends', () => {
  it('of messages spoilt here and there, the next client finds the server well', () => {
    const open = openDescriptors();
    const handshake = { bytes: version, descriptors: 0 };
    fc.assert(
      fc.property(stream, ({ handshake: shakes, pieces }) => {
        const spoilt = pieces.map(({ template, mutations, cut, descriptors }) => ({
          bytes: spoil(templates[template]!, mutations, cut),
          descriptors,
        }));
        converse([...(shakes ? [handshake] : []), ...spoilt].filter(({ bytes }) => bytes.length > 0));
        expectHealthy(open);
      }),
      { numRuns: RUNS, seed: 20250 },
    );
    // Not all of it was turned away at the door.
    const { messages, refused } = rig.server.statistics;
    expect(refused).toBeGreaterThan(RUNS / 4);
    for (const command of ['dmaMap', 'dmaUnmap', 'deviceSetIrqs', 'regionRead', 'regionWrite', 'deviceReset']) {
      expect(messages[command]).toBeGreaterThan(RUNS / 20);
    }
  });

  it('of bytes without any form, the next client finds the server well', () => {
    const open = openDescriptors();
    const parts = fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 4 });
    fc.assert(
      fc.property(fc.boolean(), parts, (shakes, bytes) => {
        converse([...(shakes ? [version] : []), ...bytes].map(one => ({ bytes: one, descriptors: 0 })));
        expectHealthy(open);
      }),
      { numRuns: RUNS, seed: 20251 },
    );
  });

  it('however a good stream is cut into pieces, it gets the same answers', () => {
    const open = openDescriptors();
    const whole = concat(...templates.slice(0, -1));
    const expected = converse([{ bytes: whole, descriptors: 0 }]);
    expect(expected.length).toBeGreaterThan(12 * 16);
    expectHealthy(open);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: whole.length - 1 }), { maxLength: 20 }), cuts => {
        const ends = [...new Set(cuts)].sort((a, b) => a - b).concat(whole.length);
        const pieces = ends.map((end, i) => ({ bytes: whole.subarray(ends[i - 1] ?? 0, end), descriptors: 0 }));
        expect(converse(pieces)).toEqual(expected);
        expectHealthy(open);
      }),
      { numRuns: RUNS, seed: 20252 },
    );
  });
});
