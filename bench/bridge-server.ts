/** `bridge-server.js DIRECTORY`, forked: a server whose device thread does the transfers that it is told over IPC, and says how long. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Worker } from 'node:worker_threads';
import { createEventFd, signalEventFd } from '../src/posix/eventfd.ts';
import { socketPair } from '../src/posix/socket.ts';
import { VfioUserAcceptor } from '../src/vfio-user/websocket/acceptor.ts';
import type { DeviceAnswer, DeviceCommand, DeviceData, Transfers } from './bridge-device.ts';

export type ServerAnswer = { readonly port: number } | Exclude<DeviceAnswer, 'ready'>;

const wakeDescriptor = createEventFd();
const workerData: DeviceData = { directory: process.argv[2]!, wakeDescriptor };
const device = new Worker(new URL('./bridge-device.js', import.meta.url), { workerData });
const tell = (command: DeviceCommand) => {
  device.postMessage(command);
  signalEventFd(wakeDescriptor);
};
const acceptor = new VfioUserAcceptor({
  async open() {
    const [mine, theirs] = socketPair();
    tell({ adopt: theirs });
    return mine;
  },
});
const http = createServer();
http.on('upgrade', (request, socket, head) => acceptor.upgrade(request, socket, head));

const answer = (message: ServerAnswer) => process.send!(message);
device.on('message', (message: DeviceAnswer) => {
  if (message !== 'ready') answer(message);
  else http.listen(0, '127.0.0.1', () => answer({ port: (http.address() as AddressInfo).port }));
});
process.on('message', (transfers: Transfers) => tell({ transfers }));
process.on('disconnect', () => process.exit());
