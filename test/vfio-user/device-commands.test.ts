import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectUnix, StreamSocket } from '../../src/posix/socket.ts';
import { Command, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { BAR0, CONFIG, concat, message, READ_ONLY_BAR, Rig, WRITE_ONLY_BAR, words } from './rig.ts';

const EINVAL = 22;
const ENOTSUP = 95;
const NOTHING = new Uint8Array(0);

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

describe('DEVICE_GET_INFO', () => {
  it('says a PCI device that can be reset, nine regions, five interrupt indexes', () => {
    expect(rig.client().getDeviceInfo()).toEqual({ flags: 3, regions: 9, irqs: 5 });
  });

  it('answers the size of the whole reply in argsz', () => {
    const { payload } = rig.client().request(Command.deviceGetInfo, words(100, 0, 0, 0));
    expect(payload).toEqual(words(16, 3, 9, 5));
  });

  it('refuses an argsz that does not hold the reply', () => {
    expect(rig.client().request(Command.deviceGetInfo, words(15, 0, 0, 0)).errno).toBe(EINVAL);
  });

  it('refuses a payload that is too short, with a header alone', () => {
    const answer = rig.client().request(Command.deviceGetInfo, words(16, 0, 0));
    expect(answer.errno).toBe(EINVAL);
    expect(answer.payload).toHaveLength(0);
  });
});

describe('DEVICE_GET_REGION_INFO', () => {
  it('describes a region', () => {
    expect(rig.client().regionInfo(BAR0)).toEqual({ size: 4096, readable: true, writable: true });
  });

  it('describes all nine as the model does', () => {
    const client = rig.client();
    const { regions } = rig.model;
    expect(regions.map((_, index) => client.regionInfo(index))).toEqual(regions);
  });

  it('tells what may not be read or written', () => {
    const client = rig.client();
    expect(client.regionInfo(READ_ONLY_BAR)).toMatchObject({ readable: true, writable: false });
    expect(client.regionInfo(WRITE_ONLY_BAR)).toMatchObject({ readable: false, writable: true });
  });

  it('gives a size beyond 4 GiB', () => {
    const size = 2 ** 40;
    Object.assign(rig.model, { regions: [{ size, readable: true, writable: true }] });
    expect(rig.client().regionInfo(0).size).toBe(size);
  });

  it('has no capabilities and nothing to map', () => {
    const { payload } = rig.client().request(Command.deviceGetRegionInfo, words(32, 0, CONFIG, 0, 0, 0, 0, 0));
    expect(payload).toEqual(words(32, 3, CONFIG, 0, 256, 0, 0, 0));
  });

  it.each([9, 0x7fffffff, 0xffffffff])('refuses region %i', index => {
    expect(rig.client().request(Command.deviceGetRegionInfo, words(32, 0, index, 0, 0, 0, 0, 0)).errno).toBe(EINVAL);
  });

  it('refuses an argsz that does not hold the reply', () => {
    expect(rig.client().request(Command.deviceGetRegionInfo, words(31, 0, 0, 0, 0, 0, 0, 0)).errno).toBe(EINVAL);
  });

  it('refuses a short payload', () => {
    expect(rig.client().request(Command.deviceGetRegionInfo, words(32, 0, 0, 0)).errno).toBe(EINVAL);
  });
});

describe('DEVICE_GET_IRQ_INFO', () => {
  it('describes all five as the model does', () => {
    const client = rig.client();
    const { interrupts } = rig.model;
    expect(interrupts.map((_, index) => client.irqInfo(index))).toEqual(interrupts);
  });

  it('gives an automasked INTx the flags of vfio-pci', () => {
    expect(rig.client().request(Command.deviceGetIrqInfo, words(16, 0, 0, 0)).payload).toEqual(words(16, 7, 0, 1));
  });

  it.each([5, 0xffffffff])('refuses index %i', index => {
    expect(rig.client().request(Command.deviceGetIrqInfo, words(16, 0, index, 0)).errno).toBe(EINVAL);
  });

  it('refuses an argsz that does not hold the reply', () => {
    expect(rig.client().request(Command.deviceGetIrqInfo, words(0, 0, 0, 0)).errno).toBe(EINVAL);
  });
});

describe('DEVICE_GET_REGION_IO_FDS', () => {
  it('lists none', () => {
    const answer = rig.client().request(Command.deviceGetRegionIoFds, words(16, 0, BAR0, 0));
    expect(answer).toEqual({ errno: 0, payload: words(16, 0, BAR0, 0) });
  });

  it('refuses flags', () => {
    expect(rig.client().request(Command.deviceGetRegionIoFds, words(16, 1, BAR0, 0)).errno).toBe(EINVAL);
  });

  it('refuses a region that does not exist', () => {
    expect(rig.client().request(Command.deviceGetRegionIoFds, words(16, 0, 9, 0)).errno).toBe(EINVAL);
  });
});

describe('DEVICE_RESET', () => {
  it('resets the model', () => {
    rig.client().reset();
    expect(rig.model.calls).toEqual(['connected', 'reset']);
  });

  it('may be posted', () => {
    const client = rig.client();
    client.sendCommand(Command.deviceReset, NOTHING, { posted: true });
    expect(client.getDeviceInfo().regions).toBe(9);
    expect(rig.model.calls).toEqual(['connected', 'reset']);
  });

  it('keeps DMA regions and eventfds', () => {
    const client = rig.client();
    client.dmaMap({ address: 0n, size: 4096n, offset: 0n, descriptor: -1, readable: true, writable: true });
    client.reset();
    expect(rig.model.dma.mapped).toHaveLength(1);
  });
});

describe('commands that nobody knows', () => {
  it.each([0, Command.dmaRead, Command.dmaWrite, Command.dirtyPages, Command.regionWriteMulti, 19, 0xffff])(
    '%i is answered ENOTSUP, and the connection lives',
    command => {
      const client = rig.client();
      expect(client.request(command, words(1, 2, 3, 4))).toEqual({ errno: ENOTSUP, payload: NOTHING });
      expect(client.getDeviceInfo().regions).toBe(9);
      expect(rig.trace.events.at(-1)).toMatchObject({ kind: 'message.refused', detail: { errno: ENOTSUP } });
    },
  );

  it('posted are noted and not answered', () => {
    const client = rig.client();
    client.sendRaw(message(77, NOTHING, { flags: HeaderFlag.noReply }));
    expect(client.getDeviceInfo().regions).toBe(9);
    expect(rig.trace.events.at(-1)).toMatchObject({
      kind: 'message.refused',
      detail: { command: 'command 77', errno: ENOTSUP, posted: true },
    });
  });
});

describe('answers', () => {
  it('repeat id and command, and are a header alone on an error', () => {
    const socket = new StreamSocket(connectUnix(rig.path), 4096, 4096, 0);
    const request = concat(
      message(Command.version, words(0), { id: 0xfffe }),
      message(Command.deviceGetInfo, words(0, 0, 0, 0), { id: 0xabcd }),
    );
    socket.output.set(request);
    socket.send(0, request.length);
    let received = 0;
    rig.until(() => {
      received += Math.max(0, socket.receive(received, 4096 - received));
      return rig.model.calls.includes('connected') && received > 32;
    });
    const answer = socket.input.slice(received - 16, received);
    const view = new DataView(answer.buffer);
    expect(view.getUint16(0, true)).toBe(0xabcd);
    expect(view.getUint16(2, true)).toBe(Command.deviceGetInfo);
    expect(view.getUint32(4, true)).toBe(16);
    expect(view.getUint32(8, true)).toBe(HeaderFlag.typeReply | HeaderFlag.error);
    expect(view.getUint32(12, true)).toBe(EINVAL);
    expect(new DataView(socket.input.buffer, socket.input.byteOffset).getUint16(0, true)).toBe(0xfffe);
    socket.close();
  });

  it('to a handler that throws are EIO, and the loop hears of it', () => {
    const client = rig.client();
    rig.model.reset = () => {
      throw new Error('a fault in the model');
    };
    expect(client.request(Command.deviceReset, NOTHING).errno).toBe(5);
    rig.until(() => rig.errors.length > 0);
    expect(String(rig.errors.pop())).toMatch(/a fault in the model/);
    expect(client.getDeviceInfo().regions).toBe(9);
  });
});
