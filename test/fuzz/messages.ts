/** Commands as bytes, and the ways in which bytes go wrong. */
import {
  accessPayload,
  irqSetPayload,
  mapPayload,
  message,
  unmapPayload,
  versionPayload,
  words,
} from '../../src/vfio-user/conformance/wire.ts';
import { Command, HEADER_BYTES, HeaderFlag } from '../../src/vfio-user/spec.ts';
import type { Random } from './random.ts';
import { GOOD_VERSION } from './reference-version.ts';

export interface Outgoing {
  readonly command: number;
  readonly payload: Uint8Array;
}

export const compose = {
  version: (text = GOOD_VERSION): Outgoing => ({ command: Command.version, payload: versionPayload(text) }),
  map: (address: bigint, size: bigint, offset: bigint, flags: number): Outgoing => ({
    command: Command.dmaMap,
    payload: mapPayload({ address, size, offset, flags }),
  }),
  unmap: (address: bigint, size: bigint, flags = 0): Outgoing => ({
    command: Command.dmaUnmap,
    payload: unmapPayload({ address, size, flags }),
  }),
  deviceInfo: (): Outgoing => ({ command: Command.deviceGetInfo, payload: words(16, 0, 0, 0) }),
  regionInfo: (index: number, room = 32): Outgoing => ({
    command: Command.deviceGetRegionInfo,
    payload: words(room, 0, index, 0, 0, 0, 0, 0),
  }),
  irqInfo: (index: number): Outgoing => ({ command: Command.deviceGetIrqInfo, payload: words(16, 0, index, 0) }),
  setIrqs: (flags: number, index: number, start: number, count: number, data: readonly number[] = []): Outgoing => ({
    command: Command.deviceSetIrqs,
    payload: irqSetPayload({ flags, index, start, count, data }),
  }),
  read: (region: number, offset: number, count: number): Outgoing => ({
    command: Command.regionRead,
    payload: accessPayload(region, offset, count),
  }),
  write: (region: number, offset: number, data: Uint8Array): Outgoing => ({
    command: Command.regionWrite,
    payload: accessPayload(region, offset, data.length, data),
  }),
  reset: (): Outgoing => ({ command: Command.deviceReset, payload: new Uint8Array(0) }),
} as const;

export function toBytes({ command, payload }: Outgoing, id: number, posted: boolean): Uint8Array {
  return message(command, payload, { id, flags: posted ? HeaderFlag.noReply : 0 });
}

/** The message with something wrong in it, once or a few times over. */
export function mutate(random: Random, good: Uint8Array): Uint8Array {
  let bytes: Uint8Array = new Uint8Array(good);
  for (let times = 1 + random.below(2); times > 0; times--) bytes = mutateOnce(random, bytes);
  return bytes;
}

function mutateOnce(random: Random, bytes: Uint8Array): Uint8Array {
  if (bytes.length < HEADER_BYTES) return bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const payload = bytes.length - HEADER_BYTES;
  switch (
    random.weighted({
      word: 30,
      wide: 20,
      flip: 10,
      shorter: 10,
      longer: 8,
      size: 2,
      flags: 4,
      command: 6,
      noReply: 6,
      error: 2,
      cut: 1,
      noise: 1,
    })
  ) {
    case 'word':
      if (payload >= 4) {
        view.setUint32(HEADER_BYTES + 4 * random.below(payload >> 2), Number(random.edge() & 0xffffffffn), true);
      }
      return bytes;
    case 'wide':
      if (payload >= 8) view.setBigUint64(HEADER_BYTES + 8 * random.below(payload >> 3), random.edge(), true);
      return bytes;
    case 'flip':
      bytes[HEADER_BYTES + (payload > 0 ? random.below(payload) : -1)]! ^= 1 << random.below(8);
      return bytes;
    case 'shorter': {
      const kept = bytes.slice(0, HEADER_BYTES + (payload > 0 ? random.below(payload) : 0));
      new DataView(kept.buffer).setUint32(4, kept.length, true);
      return kept;
    }
    case 'longer': {
      const more = new Uint8Array(bytes.length + 1 + random.below(random.chance(5) ? 70000 : 64));
      more.set(bytes);
      for (let at = bytes.length; at < more.length; at += 7) more[at] = random.word();
      new DataView(more.buffer).setUint32(4, more.length, true);
      return more;
    }
    // A length that lies: what follows is taken for the rest, or the rest for what follows.
    case 'size':
      view.setUint32(
        4,
        random.chance(50) ? Number(random.edge() & 0xffffffffn) : bytes.length + random.below(40) - 20,
        true,
      );
      return bytes;
    case 'flags':
      view.setUint32(8, (view.getUint32(8, true) ^ (1 << random.below(32))) >>> 0, true);
      return bytes;
    case 'command':
      view.setUint16(2, random.chance(90) ? random.below(24) : random.word() & 0xffff, true);
      return bytes;
    case 'noReply':
      view.setUint32(8, (view.getUint32(8, true) ^ HeaderFlag.noReply) >>> 0, true);
      return bytes;
    case 'error':
      view.setUint32(12, random.word(), true);
      return bytes;
    case 'cut':
      return bytes.slice(0, 1 + random.below(bytes.length));
    case 'noise':
      return Uint8Array.from({ length: 1 + random.below(64) }, () => random.word());
  }
}

/** A VERSION payload that is not as it should be. */
export function strangeVersion(random: Random): Outgoing {
  const number = random.pick([
    '0',
    '1',
    '-1',
    '1.5',
    '4096',
    '1e99',
    '18446744073709551616',
    '"16"',
    'null',
    '[]',
    '{}',
  ]);
  const name = random.pick([
    'max_msg_fds',
    'max_data_xfer_size',
    'max_dma_maps',
    'pgsizes',
    'write_multiple',
    'migration',
    'twin_socket',
    '__proto__',
  ]);
  const text = random.pick([
    '{}',
    '{"capabilities":{}}',
    `{"capabilities":{"${name}":${number}}}`,
    `{"capabilities":${number}}`,
    number,
    '{"capabilities":',
    `{"capabilities":{"x":"${'y'.repeat(random.below(5000))}"}}`,
    '['.repeat(random.below(4000)),
    '\ud800{}',
    '{}\0{}',
  ]);
  return {
    command: Command.version,
    payload: versionPayload(text, {
      major: random.chance(90) ? 0 : random.below(65536),
      minor: random.below(3),
      end: random.chance(90) ? '\0' : '',
    }),
  };
}
