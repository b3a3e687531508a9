import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultLimits } from '../../src/vfio-user/limits.ts';
import { Command } from '../../src/vfio-user/spec.ts';
import {
  clientDataTransfer,
  composeVersionData,
  type Proposal,
  parseVersion,
  VersionError,
} from '../../src/vfio-user/version.ts';
import { message, Rig, words } from './rig.ts';

const QEMU_PROPOSAL =
  '{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, ' +
  '"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}';

function payload(json: string, { major = 0, minor = 0, end = '\0' } = {}): Uint8Array {
  const data = new TextEncoder().encode(json + end);
  const bytes = new Uint8Array(4 + data.length);
  new DataView(bytes.buffer).setUint16(0, major, true);
  new DataView(bytes.buffer).setUint16(2, minor, true);
  bytes.set(data, 4);
  return bytes;
}

function parse(bytes: Uint8Array): Proposal {
  return parseVersion(bytes, 0, bytes.length, defaultLimits);
}

function answer(proposal: object): { capabilities: Record<string, number> } {
  const data = composeVersionData(parse(payload(JSON.stringify(proposal))), defaultLimits);
  return JSON.parse(new TextDecoder().decode(data.subarray(0, -1)));
}

describe('parseVersion', () => {
  it('reads the capabilities that QEMU proposes', () => {
    const { minor, capabilities } = parse(payload(QEMU_PROPOSAL));
    expect(minor).toBe(0);
    expect(capabilities).toMatchObject({ pgsizes: 4096, max_msg_fds: 16, max_dma_maps: 65535, write_multiple: true });
  });

  it('takes a message without version data', () => {
    expect(parse(words(0)).capabilities).toEqual({});
  });

  it('takes version data without capabilities', () => {
    expect(parse(payload('{}')).capabilities).toEqual({});
  });

  it('keeps the minor version', () => {
    expect(parse(payload('{}', { minor: 7 })).minor).toBe(7);
  });

  it('leaves capabilities alone that it does not know', () => {
    expect(parse(payload('{"capabilities": {"teleport": [1]}}')).minor).toBe(0);
  });

  it('defaults the transfer size to 1 MiB', () => {
    expect(clientDataTransfer(parse(payload('{}')))).toBe(1048576);
  });

  it('reads within its range only', () => {
    const inner = payload('{"capabilities": {"max_msg_fds": 3}}');
    const outer = new Uint8Array(inner.length + 20).fill(0xff);
    outer.set(inner, 7);
    expect(parseVersion(outer, 7, inner.length, defaultLimits).capabilities.max_msg_fds).toBe(3);
  });

  const malformed: [string, Uint8Array, RegExp][] = [
    ['nothing', new Uint8Array(0), /too short/],
    ['half a version', new Uint8Array(3), /too short/],
    ['another major version', payload('{}', { major: 1 }), /major version 1/],
    ['data without a NUL', payload('{}', { end: '' }), /not terminated/],
    ['a NUL before the end', payload('{}\0{}'), /after the end/],
    ['no JSON', payload('capabilities'), /not JSON/],
    ['half an object', payload('{"capabilities": {'), /not JSON/],
    ['an empty string', payload(''), /not JSON/],
    ['an array', payload('[]'), /not an object/],
    ['null', payload('null'), /not an object/],
    ['a number', payload('4'), /not an object/],
    ['capabilities that are a string', payload('{"capabilities": "all"}'), /not an object/],
    ['capabilities that are null', payload('{"capabilities": null}'), /not an object/],
    ['max_msg_fds as a string', payload('{"capabilities": {"max_msg_fds": "16"}}'), /max_msg_fds/],
    ['max_msg_fds below zero', payload('{"capabilities": {"max_msg_fds": -1}}'), /max_msg_fds/],
    ['max_data_xfer_size of zero', payload('{"capabilities": {"max_data_xfer_size": 0}}'), /max_data_xfer_size/],
    ['a fraction', payload('{"capabilities": {"max_data_xfer_size": 1.5}}'), /max_data_xfer_size/],
    ['max_dma_maps as null', payload('{"capabilities": {"max_dma_maps": null}}'), /max_dma_maps/],
    ['pgsizes beyond what is exact', payload('{"capabilities": {"pgsizes": 1e300}}'), /pgsizes/],
    ['write_multiple as a number', payload('{"capabilities": {"write_multiple": 1}}'), /write_multiple/],
    ['twin_socket as a boolean', payload('{"capabilities": {"twin_socket": true}}'), /twin_socket/],
    ['migration as an array', payload('{"capabilities": {"migration": []}}'), /migration/],
    ['data beyond the limit', payload(`{"capabilities": {"x": "${'a'.repeat(4096)}"}}`), /too long/],
    ['bytes that are not UTF-8', Uint8Array.of(0, 0, 0, 0, 0x7b, 0xff, 0x7d, 0), /not JSON in UTF-8/],
  ];
  it.each(malformed)('refuses %s', (_, bytes, why) => {
    expect(() => parse(bytes)).toThrow(VersionError);
    expect(() => parse(bytes)).toThrow(why);
  });
});

describe('composeVersionData', () => {
  it('answers QEMU with what QEMU accepts', () => {
    expect(answer(JSON.parse(QEMU_PROPOSAL))).toEqual({
      capabilities: {
        max_msg_fds: 16,
        max_dma_maps: 65535,
        max_data_xfer_size: 1048576,
        pgsizes: 4096,
        write_multiple: true,
      },
    });
  });

  it('does not agree to many writes in one message where that is not wanted', () => {
    const unwanted = { ...defaultLimits, writeMultiple: false };
    const data = new TextDecoder().decode(composeVersionData(parse(payload(QEMU_PROPOSAL)), unwanted));
    expect(JSON.parse(data.slice(0, -1)).capabilities).not.toHaveProperty('write_multiple');
  });

  it('fits in the room that QEMU keeps for it, and ends in NUL', () => {
    const data = composeVersionData(parse(payload(QEMU_PROPOSAL)), defaultLimits, true);
    expect(new TextDecoder().decode(data)).toMatch(/"write_multiple":true.*"migration"/);
    expect(data.length).toBeLessThanOrEqual(190);
    expect(data.length).toBeLessThanOrEqual(QEMU_PROPOSAL.length + 1);
    expect(data.at(-1)).toBe(0);
    expect(data.indexOf(0)).toBe(data.length - 1);
  });

  it('does not take more descriptors than the client', () => {
    expect(answer({ capabilities: { max_msg_fds: 8 } }).capabilities.max_msg_fds).toBe(8);
    expect(answer({ capabilities: { max_msg_fds: 100 } }).capabilities.max_msg_fds).toBe(16);
  });

  it('names only what was proposed', () => {
    expect(answer({ capabilities: { pgsizes: 4096 } })).toEqual({ capabilities: { pgsizes: 4096 } });
    expect(answer({})).toEqual({ capabilities: {} });
  });

  it('names a limit below the default even where nothing was proposed', () => {
    const data = composeVersionData(parse(payload('{}')), { ...defaultLimits, maxDataTransfer: 4096 });
    expect(new TextDecoder().decode(data)).toContain('"max_data_xfer_size":4096');
  });
});

describe('the handshake', () => {
  let rig: Rig;
  beforeEach(() => {
    rig = new Rig();
  });
  afterEach(() => rig.close());

  it('succeeds with what QEMU 11.1 sends', () => {
    const { major, minor, data } = rig.connect().negotiate(QEMU_PROPOSAL);
    expect([major, minor]).toEqual([0, 0]);
    expect(JSON.parse(data).capabilities.max_msg_fds).toBe(16);
    expect(rig.server.connected).toBe(true);
    expect(rig.model.calls).toEqual(['connected']);
  });

  it('is not done at the connection', () => {
    rig.connect();
    rig.until(() => rig.trace.kinds().includes('client.connected'));
    expect(rig.server.connected).toBe(false);
    expect(rig.model.calls).toEqual([]);
  });

  it('answers a higher minor version with its own', () => {
    const answer = rig.connect().request(Command.version, payload('{}', { minor: 9 }));
    expect(new DataView(answer.payload.buffer).getUint16(2, true)).toBe(0);
  });

  it('works without version data', () => {
    expect(rig.connect().request(Command.version, words(0)).errno).toBe(0);
    expect(rig.server.connected).toBe(true);
  });

  it('closes on another major version', () => {
    const client = rig.connect();
    client.sendRaw(message(Command.version, payload('{}', { major: 2 })));
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('handshake failed');
    expect(rig.model.calls).toEqual([]);
  });

  it('closes on malformed JSON, and says what is wrong', () => {
    const client = rig.connect();
    client.sendRaw(message(Command.version, payload('{')));
    rig.until(() => client.connection.closed);
    expect(rig.trace.events.at(-1)).toMatchObject({
      kind: 'client.closed',
      source: 'device',
      detail: { reason: 'handshake failed', why: expect.stringMatching(/not JSON/) },
    });
  });

  it('closes on a second VERSION', () => {
    const client = rig.client();
    client.sendRaw(message(Command.version, payload('{}')));
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('second VERSION');
    expect(rig.model.calls).toEqual(['connected', 'disconnected']);
  });

  it('closes on a command before VERSION', () => {
    const client = rig.connect();
    client.sendRaw(message(Command.deviceReset, new Uint8Array(0)));
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('command before VERSION');
    expect(rig.model.calls).toEqual([]);
  });

  it('closes on a reply before VERSION', () => {
    const client = rig.connect();
    client.sendRaw(message(Command.dmaRead, new Uint8Array(16), { flags: 1 }));
    rig.until(() => client.connection.closed);
    expect(rig.closeReason()).toBe('reply to no request');
  });

  it('keeps its transfers to the size that the client announced', () => {
    const client = rig.connect();
    client.negotiate({ capabilities: { max_data_xfer_size: 100 } });
    const counts: number[] = [];
    client.onDmaRead = ({ count }) => {
      counts.push(count);
      return new Uint8Array(count);
    };
    expect(rig.job(() => rig.model.client!.dmaRead(0, 0, new Uint8Array(250), 0, 250))).toBe(0);
    expect(counts).toEqual([100, 100, 50]);
  });
});
