/** What the control thread and the bridge's thread say to each other. */
import type { TraceEvent } from '../trace/trace.ts';
import type { BridgedFunctionStatistics } from './counters.ts';

/** Given to the worker at its start. */
export interface BridgeThreadData {
  /** Where the sockets are made; exists. */
  readonly directory: string;
  readonly functions: readonly string[];
  /** Eventfd that the control thread signals after each command: the thread blocks in epoll_wait(2), not in Node's event loop. */
  readonly wakeDescriptor: number;
  /** One Int32: trace events that the control thread has taken so far. */
  readonly taken: SharedArrayBuffer;
}

export type ThreadStatistics = Readonly<Record<string, BridgedFunctionStatistics>>;

export type BridgeCommand =
  | { readonly id: number; readonly name: 'statistics' }
  /** Every connection ends, the sockets go, and the thread ends. */
  | { readonly id: number; readonly name: 'stop' };

export type BridgeThreadMessage =
  | { readonly type: 'ready'; readonly sockets: Readonly<Record<string, string>> }
  | { readonly type: 'event'; readonly event: TraceEvent }
  /** A QEMU is there; `stream` speaks the messages profile and is the control thread's from here on. */
  | { readonly type: 'client'; readonly function: string; readonly stream: number }
  /** The last of them has gone: a link that is being made for it is not wanted any more. */
  | { readonly type: 'gone'; readonly function: string }
  | { readonly type: 'statistics'; readonly id: number; readonly statistics: ThreadStatistics }
  | { readonly type: 'stopped'; readonly id: number; readonly statistics: ThreadStatistics };
