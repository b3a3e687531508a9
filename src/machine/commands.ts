/** What the control thread and a device thread say to each other. */
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { SanitizePolicy } from '../trace/sanitizer/policy.ts';
import type { DebugCommand, FindingsAnswer } from './debug-commands.ts';
import type { MachineDescription } from './description.ts';
import type { InspectCommand } from './inspection.ts';
import type { SocketPlaces } from './machine.ts';
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
  /** Records go there. */
  readonly ring: SharedArrayBuffer;
  /** Missing: nothing is looked for. */
  readonly sanitize?: SanitizePolicy | undefined;
  readonly places?: SocketPlaces | undefined;
}

/** What `stop` is answered with. */
export type LastWords = FindingsAnswer;

export type Command =
  | { readonly name: 'statistics' }
  | { readonly name: 'stop' }
  /** A client over a stream without descriptors. The device thread makes a descriptor of its own of it; this one stays the asker's. */
  | { readonly name: 'adopt'; readonly function: string; readonly descriptor: number }
  | DebugCommand
  | InspectCommand
  | RemoteCommand;

export interface CommandRequest {
  readonly id: number;
  readonly command: Command;
}

export type DeviceThreadMessage =
  | { readonly type: 'ready'; readonly sockets: Readonly<Record<string, string>> }
  | { readonly type: 'event'; readonly event: MachineEvent }
  /** A new one; later occurrences are told to who asks. */
  | { readonly type: 'finding'; readonly finding: Finding }
  /** There are records in the ring, and nobody was looking. */
  | { readonly type: 'records' }
  /** The client of a function that was given as a connected socket is gone, for this reason. */
  | { readonly type: 'abandoned'; readonly reason: string }
  /** The machine ends by itself, because of a finding that was to stop it. */
  | { readonly type: 'stopped'; readonly lastWords: LastWords }
  | { readonly type: 'reply'; readonly id: number; readonly result: unknown }
  | { readonly type: 'refused'; readonly id: number; readonly reason: string };
