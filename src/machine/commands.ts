/** What the control thread and a device thread say to each other. */
import type { MachineDescription } from './description.ts';
import type { MachineEvent, RemoteCommand } from './operations-command.ts';

/** Given to the worker at its start. */
export interface DeviceThreadData {
  readonly description: MachineDescription;
  /** Where the sockets are made; exists. */
  readonly directory: string;
  /** Eventfd that the control thread signals after each command: the thread blocks in epoll_wait(2), not in Node's event loop. */
  readonly wakeDescriptor: number;
  /** One Int32: trace events that the control thread has taken so far. */
  readonly taken: SharedArrayBuffer;
}

export type Command = { readonly name: 'statistics' } | { readonly name: 'stop' } | RemoteCommand;

export interface CommandRequest {
  readonly id: number;
  readonly command: Command;
}

export type DeviceThreadMessage =
  | { readonly type: 'ready'; readonly sockets: Readonly<Record<string, string>> }
  | { readonly type: 'event'; readonly event: MachineEvent }
  | { readonly type: 'reply'; readonly id: number; readonly result: unknown }
  | { readonly type: 'refused'; readonly id: number; readonly reason: string };
