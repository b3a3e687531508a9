import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { plug, unplug } from '../../qemu/hot-plug.ts';
import { QmpClient, QmpError } from '../../qemu/qmp.ts';
import { describeTopology } from '../../qemu/topology.ts';
import { temporaryDirectory } from './support.ts';

const directory = temporaryDirectory();
const GREETING = { QMP: { version: { qemu: { major: 11, minor: 1, micro: 3 }, package: '' }, capabilities: [] } };

interface Request {
  readonly execute: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

let server: Server | undefined;
let qmp: QmpClient;
let requests: Request[];

/** A QEMU that answers each command with these messages. */
async function fake(answer: (request: Request) => readonly object[]): Promise<void> {
  requests = [];
  const path = join(directory, 'qmp.sock');
  const listener = createServer(socket => {
    const send = (message: object) => socket.write(`${JSON.stringify(message)}\r\n`);
    send(GREETING);
    socket.on('data', chunk => {
      const { id, ...request } = JSON.parse(String(chunk));
      const isFirst = request.execute === 'qmp_capabilities';
      if (!isFirst) requests.push(request);
      for (const message of isFirst ? [{ return: {} }] : answer(request)) {
        send('event' in message ? message : { ...message, id });
      }
    });
  });
  server = listener;
  await new Promise<void>(resolve => listener.listen(path, resolve));
  qmp = await QmpClient.connect(path);
}

afterEach(() => {
  qmp.close();
  server?.close();
});

describe('hot plug', () => {
  it('unplugs: resolves when QEMU says that the device is gone, before its answer or after', async () => {
    const gone = { event: 'DEVICE_DELETED', data: { device: 'edu0', path: '/machine/peripheral/edu0' } };
    await fake(() => [{ return: {} }, gone]);
    await unplug(qmp, 'edu0');
    expect(requests).toEqual([{ execute: 'device_del', arguments: { id: 'edu0' } }]);
    qmp.close();
    server?.close();
    await fake(() => [gone, { return: {} }]);
    await unplug(qmp, 'edu0');
  });

  it('says so when the guest does not let go', async () => {
    await fake(() => [{ return: {} }, { event: 'DEVICE_DELETED', data: { device: 'edu1' } }]);
    await expect(unplug(qmp, 'edu0', 20)).rejects.toThrow(/DEVICE_DELETED of edu0 \(the guest has to let go of it\)/);
  });

  it('passes on what QEMU refuses', async () => {
    await fake(() => [{ error: { class: 'GenericError', desc: "Bus 'pcie.0' does not support hotplugging" } }]);
    await expect(unplug(qmp, 'iommu')).rejects.toThrow(QmpError);
    expect([qmp.listenerCount('event'), qmp.listenerCount('close')]).toEqual([0, 0]);
  });

  it('plugs in where the topology has the endpoint', async () => {
    await fake(() => [{ return: {} }]);
    const [, endpoint] = describeTopology('root-ports', ['edu0', 'edu1']).endpoints;
    await plug(qmp, endpoint!, '/run/edu1.sock');
    const socket = { type: 'unix', path: '/run/edu1.sock' };
    expect(requests).toEqual([
      { execute: 'device_add', arguments: { driver: 'vfio-user-pci', id: 'edu1', bus: 'rp1', addr: '0', socket } },
    ]);
  });
});
