import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { closeDescriptor } from '../../src/posix/socket.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { Command } from '../../src/vfio-user/spec.ts';
import { BAR0, message, openDescriptors, PATIENCE, Rig } from './rig.ts';

const ENODEV = 19;
const NOTHING = new Uint8Array(0);
const TWIN = { twin_socket: { supported: true } };

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

interface Twins {
  readonly main: VfioUserClient;
  readonly twin: VfioUserClient;
}

/** A client in twin-socket mode: the second one is what the server sends its commands to. */
function connect(): Twins {
  const main = rig.connect();
  const came: number[] = [];
  main.onDescriptors = descriptors => void came.push(...descriptors);
  main.negotiate({ capabilities: TWIN });
  expect(came).toHaveLength(1);
  return { main, twin: new VfioUserClient(rig.loop, came[0]!, { replyTimeout: PATIENCE }) };
}

function capabilities(proposal: object): { answered: object; descriptors: number } {
  const client = rig.connect();
  let count = 0;
  client.onDescriptors = descriptors => {
    count += descriptors.length;
    for (const descriptor of descriptors) closeDescriptor(descriptor);
  };
  const answered = JSON.parse(client.negotiate({ capabilities: proposal }).data).capabilities;
  return { answered, descriptors: count };
}

describe('twin_socket', () => {
  it('is answered with the index of the descriptor that comes along', () => {
    expect(capabilities(TWIN)).toEqual({ answered: { twin_socket: { supported: true, fd_index: 0 } }, descriptors: 1 });
  });

  it.each([{}, { twin_socket: {} }, { twin_socket: { supported: false } }, { ...TWIN, max_msg_fds: 0 }])(
    'is not set up for %j',
    proposal => {
      const { answered, descriptors } = capabilities(proposal);
      expect(answered).not.toHaveProperty('twin_socket');
      expect(descriptors).toBe(0);
    },
  );

  it('is not set up over a stream without descriptors', () => {
    const client = rig.adopt();
    expect(JSON.parse(client.negotiate({ capabilities: TWIN }).data).capabilities).not.toHaveProperty('twin_socket');
  });

  it('is malformed where supported is no boolean', () => {
    const client = rig.connect();
    expect(() => client.negotiate({ capabilities: { twin_socket: { supported: 1 } } })).toThrow(/end of stream/);
    expect(rig.closeReason()).toBe('handshake failed');
  });
});

describe('in twin-socket mode', () => {
  it('DMA goes over the second stream, and commands over the first', () => {
    const { main, twin } = connect();
    main.onDmaRead = () => {
      throw new Error('DMA_READ came over the first stream');
    };
    twin.onDmaRead = ({ count }) => new Uint8Array(count).fill(0x5a);
    const written: number[] = [];
    twin.onDmaWrite = ({ data }) => {
      written.push(...data);
      return 0;
    };
    const target = new Uint8Array(3);
    expect(rig.job(() => rig.model.client!.dmaRead(1, 0, target, 0, 3))).toBe(0);
    expect(target).toEqual(Uint8Array.of(0x5a, 0x5a, 0x5a));
    expect(rig.job(() => rig.model.client!.dmaWrite(1, 0, Uint8Array.of(1, 2), 0, 2))).toBe(0);
    expect(written).toEqual([1, 2]);
    main.regionWrite(BAR0, 0, Uint8Array.of(9));
    expect(main.regionRead(BAR0, 0, 1)).toEqual(Uint8Array.of(9));
    twin.close();
  });

  it('a client that waits for a register may answer DMA meanwhile', () => {
    const { main, twin } = connect();
    let answered = 0;
    twin.onDmaRead = ({ count }) => {
      answered++;
      return new Uint8Array(count);
    };
    let done = false;
    rig.loop.push(() => {
      rig.model.client!.dmaRead(0, 0, new Uint8Array(8), 0, 8);
      done = true;
    });
    main.regionRead(BAR0, 0, 4);
    rig.until(() => done);
    expect(answered).toBe(1);
    twin.close();
  });

  it('the end of the second stream ends the first, and DMA under way fails', () => {
    const { main, twin } = connect();
    twin.onDmaRead = () => {
      twin.close();
      return undefined;
    };
    expect(rig.job(() => rig.model.client!.dmaRead(0, 0, new Uint8Array(8), 0, 8))).toBe(ENODEV);
    rig.until(() => main.connection.closed);
    expect(rig.closeReason()).toBe('twin socket: end of stream');
    expect(rig.model.calls).toEqual(['connected', 'disconnected']);
  });

  it('the end of the first ends the second, and no descriptor stays open', () => {
    const before = openDescriptors();
    const { main, twin } = connect();
    main.close();
    rig.until(() => twin.connection.closed);
    expect(openDescriptors()).toBe(before);
  });

  it('the server keeps one end alone', () => {
    const before = openDescriptors();
    const { twin } = connect();
    // Both ends of the first stream, and of the second.
    expect(openDescriptors()).toBe(before + 4);
    twin.close();
  });

  it('a command on the second stream ends the connection', () => {
    const { main, twin } = connect();
    twin.sendRaw(message(Command.deviceReset, NOTHING));
    rig.until(() => main.connection.closed);
    expect(rig.closeReason()).toBe('twin socket: a command from the client');
    expect(rig.model.calls).not.toContain('reset');
  });

  it('a reply on the first stream ends the connection', () => {
    const { main, twin } = connect();
    twin.onDmaRead = ({ id, count }) => {
      main.sendReply(id, Command.dmaRead, 0, new Uint8Array(16 + count));
      return undefined;
    };
    expect(rig.job(() => rig.model.client!.dmaRead(0, 0, new Uint8Array(8), 0, 8))).toBe(ENODEV);
    expect(rig.closeReason()).toBe('reply on the wrong stream');
  });

  it('a reply to nothing on the second stream ends the connection', () => {
    const { main, twin } = connect();
    twin.sendReply(7, Command.dmaRead, 0, NOTHING);
    rig.until(() => main.connection.closed);
    expect(rig.closeReason()).toBe('twin socket: reply to no request');
  });

  it('a descriptor on the second stream is closed and ends the connection', () => {
    const { main, twin } = connect();
    twin.sendRaw(message(Command.dmaRead, NOTHING, { flags: 1 }), [0]);
    rig.until(() => main.connection.closed);
    expect(rig.closeReason()).toBe('twin socket: descriptors where none belong');
  });

  it('a paused server hears neither stream, and both when it goes on', () => {
    const { main, twin } = connect();
    twin.onDmaRead = ({ count }) => new Uint8Array(count).fill(1);
    rig.server.pause();
    main.sendCommand(Command.deviceReset, NOTHING);
    const target = new Uint8Array(1);
    let errno = -1;
    rig.loop.push(() => {
      errno = rig.model.client!.dmaRead(0, 0, target, 0, 1);
    });
    rig.loop.push(() => {});
    rig.later(() => rig.server.resume());
    rig.until(() => errno >= 0);
    expect(errno).toBe(0);
    rig.until(() => rig.model.calls.includes('reset'));
    twin.close();
  });

  it('its bytes are counted', () => {
    const { main, twin } = connect();
    twin.onDmaRead = ({ count }) => new Uint8Array(count);
    rig.job(() => rig.model.client!.dmaRead(0, 0, new Uint8Array(1000), 0, 1000));
    const { bytesReceived } = rig.server.statistics;
    main.close();
    rig.until(() => twin.connection.closed);
    expect(rig.server.statistics.bytesReceived).toBe(bytesReceived + 1032);
  });
});
