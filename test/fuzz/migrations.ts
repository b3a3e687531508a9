/** What a hypervisor does to a function that it moves: stop, save, restore with right states and wrong ones, log what DMA writes. */
import { concat, words } from '../../src/vfio-user/conformance/wire.ts';
import { Command, DeviceFeature, Feature, RegionWriteMulti } from '../../src/vfio-user/spec.ts';
import { LOW_MEMORY_BYTES } from './content.ts';
import type { Outgoing } from './messages.ts';
import { anyAccess, driverProgram, type FunctionKind } from './programs.ts';
import type { Random } from './random.ts';

const STATES = { stop: 1, running: 2, stopCopy: 3, resuming: 4 } as const;
const STATE_HEADER_BYTES = 8;
const LARGEST_BATCH = 40;

/** `state`: one that the function has saved. */
export function migrationProgram(random: Random, state: Uint8Array | undefined): Outgoing[] {
  switch (random.below(6)) {
    case 0:
      return [setState(random.chance(90) ? random.below(6) : random.word()), getState()];
    case 1:
      return [
        setState(STATES.stopCopy),
        ...Array.from({ length: 1 + random.below(4) }, () =>
          dataRead(random.below(random.chance(95) ? 8192 : 2097152)),
        ),
        ...goOn(random),
      ];
    case 2:
      return [setState(STATES.stop), getState(), ...goOn(random)];
    case 3:
      return [anyFeature(random)];
    default:
      return restore(random, state);
  }
}

/** Which pages DMA has written. */
export function loggingProgram(random: Random): Outgoing[] {
  switch (random.below(5)) {
    case 0:
    case 1:
      return [startLogging(random), report(random)];
    case 2:
      return [feature(Feature.loggingStop, DeviceFeature.set)];
    default:
      return [report(random)];
  }
}

/** Many writes in one message, as a driver's own. */
export function manyWrites(random: Random, kind: FunctionKind): Outgoing {
  const all: Outgoing[] = [];
  const count = random.below(random.chance(95) ? 8 : LARGEST_BATCH);
  while (all.length < count) {
    const more = random.chance(70) ? driverProgram(random, kind) : [anyAccess(random, kind)];
    all.push(...more.filter(({ command }) => command === Command.regionWrite));
  }
  const { each, longest, data } = RegionWriteMulti;
  const writes = all.map(({ payload }) => {
    const one = new Uint8Array(each);
    one.set(payload.subarray(0, data + longest));
    return one;
  });
  return { command: Command.regionWriteMulti, payload: concat(words(all.length, 0), ...writes) };
}

export function ioDescriptors(random: Random): Outgoing {
  return {
    command: Command.deviceGetRegionIoFds,
    payload: words(random.pick([16, 16, 56, 4096]), 0, random.below(10), 0),
  };
}

/** Puts a function into a state that it has saved. */
export function restoreRightly(state: Uint8Array): Outgoing[] {
  return [setState(STATES.resuming), dataWrite(state), setState(STATES.running)];
}

function restore(random: Random, state: Uint8Array | undefined): Outgoing[] {
  const bytes =
    state === undefined ? new Uint8Array(random.below(64)) : random.chance(20) ? state : wrongState(random, state);
  const pieces: Outgoing[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = random.chance(60) ? bytes.length - at : 1 + random.below(bytes.length - at);
    pieces.push(dataWrite(bytes.subarray(at, at + length)));
    at += length;
  }
  return [
    setState(STATES.resuming),
    ...pieces,
    setState(random.chance(80) ? STATES.running : STATES.stop),
    getState(),
    ...goOn(random),
  ];
}

/** A state in which something is wrong: mostly one value, which is the more dangerous the less it breaks. */
function wrongState(random: Random, state: Uint8Array): Uint8Array {
  // A copy, also of a Buffer: its `slice` is none.
  const bytes = new Uint8Array(state);
  const at = () =>
    random.chance(95) ? STATE_HEADER_BYTES + random.below(bytes.length - STATE_HEADER_BYTES) : random.below(8);
  switch (random.below(8)) {
    case 0:
      return bytes.subarray(0, random.below(bytes.length));
    case 1:
      return concat(bytes, bytes.subarray(0, random.below(64)));
    case 2: {
      // Something twice, or something less.
      const from = at();
      const to = at();
      return concat(bytes.subarray(0, from), bytes.subarray(to));
    }
    default:
      for (let times = 1 + random.below(3); times > 0; times--) {
        const place = at();
        bytes[place] = random.chance(50)
          ? bytes[place]! ^ (1 << random.below(8))
          : random.pick([0, 1, 0x7f, 0xc0, 0xcf, 0xd3, 0xff, random.below(256)]);
      }
      return bytes;
  }
}

/** Mostly: a function that is stopped does little. */
function goOn(random: Random): Outgoing[] {
  if (random.chance(60)) return [setState(STATES.running)];
  return random.chance(75) ? [{ command: Command.deviceReset, payload: new Uint8Array(0) }] : [];
}

function feature(number: number, methods: number, data: Uint8Array = new Uint8Array(0), room = data.length): Outgoing {
  return { command: Command.deviceFeature, payload: concat(words(DeviceFeature.bytes + room, number | methods), data) };
}

function setState(state: number): Outgoing {
  return feature(Feature.deviceState, DeviceFeature.set, words(state, 0));
}

function getState(): Outgoing {
  return feature(Feature.deviceState, DeviceFeature.get, undefined, 8);
}

function dataRead(size: number): Outgoing {
  return { command: Command.migrationDataRead, payload: words(8 + size, size) };
}

function dataWrite(bytes: Uint8Array): Outgoing {
  return { command: Command.migrationDataWrite, payload: concat(words(8 + bytes.length, bytes.length), bytes) };
}

function anyFeature(random: Random): Outgoing {
  const methods = random.pick([
    DeviceFeature.probe,
    DeviceFeature.get,
    DeviceFeature.set,
    DeviceFeature.get | DeviceFeature.set,
    0,
  ]);
  return feature(
    random.below(12),
    methods | (random.chance(30) ? DeviceFeature.probe : 0),
    new Uint8Array(random.below(40)),
  );
}

function startLogging(random: Random): Outgoing {
  const count = random.below(random.chance(95) ? 4 : 1200);
  const ranges = Array.from({ length: count }, () => wide(...range(random)));
  return feature(Feature.loggingStart, DeviceFeature.set, concat(wide(page(random)), words(count, 0), ...ranges));
}

function report(random: Random): Outgoing {
  const [address, length] = range(random);
  const pageSize = page(random);
  const pages = pageSize === 0n ? 0n : (length + pageSize - 1n) / pageSize;
  const bitmap = Number(((pages + 63n) / 64n) * 8n);
  const room = random.chance(95) ? Math.min(bitmap, 0xffff0000) : random.below(64);
  return feature(Feature.loggingReport, DeviceFeature.get, wide(address, length, pageSize), 24 + room);
}

function range(random: Random): [bigint, bigint] {
  if (random.chance(10)) return [random.edge(), random.edge()];
  return [
    BigInt(random.below(LOW_MEMORY_BYTES)) & (random.chance(90) ? ~4095n : ~0n),
    BigInt(1 + random.below(LOW_MEMORY_BYTES)),
  ];
}

function page(random: Random): bigint {
  return random.chance(80) ? 4096n : random.chance(50) ? 1n << BigInt(random.below(64)) : random.edge();
}

function wide(...values: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}
