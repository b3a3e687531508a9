import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VfioUserError } from '../../src/vfio-user/client.ts';
import { Command, HeaderFlag } from '../../src/vfio-user/spec.ts';
import { openDescriptors } from '../vfio-user/rig.ts';
import { BridgeRig, ScriptedServer, versionAnswer } from './rig.ts';

describe('the relay between QEMU and a server', () => {
  let before: number;
  let rig: BridgeRig;

  beforeEach(() => {
    before = openDescriptors();
    rig = new BridgeRig();
  });

  afterEach(() => {
    rig.close();
    expect(openDescriptors()).toBe(before);
  });

  it('passes commands and answers on as they are, with their ids', () => {
    const qemu = rig.qemu();
    const { server } = rig;
    server.script = ({ payload }) => Uint8Array.from([...payload.subarray(0, 16), 1, 2, 3, 4]);
    expect([...qemu.regionRead(0, 0x10, 4)]).toEqual([1, 2, 3, 4]);
    const [request] = server.commands(Command.regionRead);
    expect(new DataView(request!.payload.buffer).getUint32(0, true)).toBe(0x10);
    expect(rig.statistics).toMatchObject({ clients: 1, connected: true, fromQemu: { messages: 2 } });
  });

  it('passes posted writes on, in order, and counts on no answer', () => {
    const qemu = rig.qemu();
    for (let i = 0; i < 100; i++) qemu.regionWrite(0, i, Uint8Array.of(i), { posted: true });
    rig.until(() => rig.server.commands(Command.regionWrite).length === 100);
    const values = rig.server.commands(Command.regionWrite).map(({ payload, flags }) => [payload[16], flags]);
    expect(values).toEqual(Array.from({ length: 100 }, (_, i) => [i, HeaderFlag.noReply]));
  });

  it('passes refusals on', () => {
    const qemu = rig.qemu();
    rig.server.script = () => 95;
    expect(() => qemu.reset()).toThrow(new VfioUserError('deviceReset', 95));
    expect(qemu.request(77, new Uint8Array(3)).errno).toBe(95);
  });

  it('tells QEMU how many descriptors it takes, whatever the server says', () => {
    const { data } = rig.connect().negotiate({ capabilities: { max_msg_fds: 8, max_data_xfer_size: 4096 } });
    expect(JSON.parse(data)).toEqual({ capabilities: { max_msg_fds: 8, max_data_xfer_size: 1048576 } });
  });

  it.each([
    ['JSON that is none', '{'],
    ['no object', '7'],
  ])('ends a handshake with %s', (_, proposal) => {
    const qemu = rig.connect();
    expect(() => qemu.negotiate(proposal)).toThrow(/end of stream/);
    expect(rig.closeReason()).toBe('handshake failed');
  });

  it('ends a handshake that the server answers with garbage', () => {
    const qemu = rig.connect();
    rig.offer = stream => {
      const server = new ScriptedServer(rig.loop, stream);
      server.script = () => Uint8Array.from([0, 0, 0, 0, 0x7b, 0]);
      rig.servers.push(server);
    };
    expect(() => qemu.negotiate()).toThrow(/end of stream/);
    expect(rig.closeReason()).toBe('handshake failed');
  });

  it('ends with a second VERSION', () => {
    const qemu = rig.qemu();
    expect(() => qemu.negotiate()).toThrow(/end of stream/);
    expect(rig.closeReason()).toBe('handshake failed');
  });

  it('ends QEMU with its link, and the link with QEMU', () => {
    const first = rig.qemu();
    rig.server.connection.close('gone');
    rig.until(() => first.endReason !== undefined);
    expect(rig.closeReason()).toMatch(/link to the server/);
    const second = rig.qemu();
    second.close();
    const { server } = rig;
    rig.until(() => server.endReason !== undefined);
    expect(rig.servers).toHaveLength(2);
    expect(rig.statistics).toMatchObject({ clients: 2, connected: false });
  });

  it('takes one QEMU at a time, and the next at once where the first has gone unnoticed', () => {
    const first = rig.qemu();
    const other = rig.connect();
    expect(() => other.negotiate()).toThrow(/no answer to version/);
    expect(rig.trace.kinds()).toContain('client.refused');
    expect(first.connection.closed).toBe(false);
    first.close();
    rig.qemu();
    expect(rig.servers).toHaveLength(2);
  });

  it('ends where the server answers what nobody asked', () => {
    const qemu = rig.qemu();
    rig.server.reply({ id: 4711, command: Command.regionRead }, new Uint8Array(20));
    rig.until(() => qemu.endReason !== undefined);
    expect(rig.closeReason()).toBe('the server answered no request');
  });

  it('ends where the server answers another command', () => {
    const qemu = rig.qemu();
    const id = qemu.sendCommand(Command.deviceReset, new Uint8Array(0));
    rig.server.script = () => undefined;
    rig.until(() => rig.server.commands(Command.deviceReset).length === 1);
    rig.server.reply({ id, command: Command.regionRead }, new Uint8Array(20));
    rig.until(() => qemu.endReason !== undefined);
    expect(rig.closeReason()).toBe('the server answered another command');
  });

  it('ends where QEMU uses an id twice', () => {
    const qemu = rig.qemu();
    rig.server.script = () => undefined;
    const id = qemu.sendCommand(Command.deviceReset, new Uint8Array(0));
    const message = new Uint8Array(16);
    const view = new DataView(message.buffer);
    view.setUint16(0, id, true);
    view.setUint16(2, Command.deviceReset, true);
    view.setUint32(4, 16, true);
    qemu.sendRaw(message);
    rig.until(() => qemu.endReason !== undefined);
    expect(rig.closeReason()).toBe('QEMU used an id again before its answer');
  });

  it('ends where descriptors come with a command that takes none', () => {
    const qemu = rig.qemu();
    expect(() => qemu.request(Command.regionRead, new Uint8Array(16), [0])).toThrow(/end of stream/);
    expect(rig.closeReason()).toBe('QEMU sent descriptors where none belong');
  });

  it('answers commands of the server that are not for QEMU', () => {
    rig.qemu();
    const { server } = rig;
    for (const command of [Command.regionRead, Command.dmaMap, 77]) {
      expect(server.answer(server.send(command, new Uint8Array(40))).error).toBe(95);
    }
    expect(rig.statistics.refused).toBe(3);
  });

  it('ends with messages that are none, from either side', () => {
    const first = rig.qemu();
    first.sendRaw(new Uint8Array(64).fill(0xff));
    rig.until(() => first.endReason !== undefined);
    const second = rig.qemu();
    rig.server.send(Command.dmaRead, new Uint8Array(16), { size: 3 });
    rig.until(() => second.endReason !== undefined);
    expect(rig.closeReason()).toMatch(/message size out of range/);
  });

  it('holds QEMU back while the server does not read, and loses nothing', () => {
    const qemu = rig.qemu();
    const { server } = rig;
    server.deaf = true;
    const bytes = new Uint8Array(65536);
    const total = 200;
    let sent = 0;
    // As long as there is room: then the bridge has stopped reading.
    while (sent < total) {
      const before = sent;
      for (let i = 0; i < 4 && sent < total && qemu.connection.hasRoom(bytes.length + 32); i++) {
        bytes[0] = sent++;
        qemu.regionWrite(0, 0, bytes, { posted: true });
      }
      rig.settle();
      if (sent === before) break;
    }
    expect(sent).toBeLessThan(total);
    server.hear();
    while (sent < total) {
      rig.until(() => qemu.connection.hasRoom(bytes.length + 32));
      bytes[0] = sent++;
      qemu.regionWrite(0, 0, bytes, { posted: true });
    }
    rig.until(() => server.commands(Command.regionWrite).length === total);
    expect(server.commands(Command.regionWrite).map(({ payload }) => payload[16])).toEqual(
      Array.from({ length: total }, (_, i) => i & 0xff),
    );
  });

  it('passes an answer of any length, also where QEMU reads late', () => {
    const qemu = rig.qemu();
    rig.server.answerRoom = 1048576;
    rig.server.script = ({ payload }) => Uint8Array.from([...payload.subarray(0, 16), ...new Uint8Array(1048576)]);
    qemu.connection.pause();
    for (let i = 0; i < 6; i++) qemu.sendCommand(Command.regionRead, readPayload(1048576));
    rig.settle();
    qemu.connection.resume();
    expect(qemu.regionRead(0, 0, 1048576)).toHaveLength(1048576);
  });

  it('leaves out what QEMU does not take where its request was short', () => {
    rig.offer = stream => {
      const server = new ScriptedServer(rig.loop, stream);
      server.script = () => versionAnswer({ max_msg_fds: 0 });
      rig.servers.push(server);
    };
    const { data } = rig.connect().negotiate('{"capabilities":{"max_msg_fds":16}}');
    expect(JSON.parse(data)).toEqual({ capabilities: { max_msg_fds: 16 } });
    expect(data.length).toBeLessThanOrEqual('{"capabilities":{"max_msg_fds":16}}'.length);
  });
});

function readPayload(count: number): Uint8Array {
  const payload = new Uint8Array(16);
  new DataView(payload.buffer).setUint32(12, count, true);
  return payload;
}
