/** What a bridged function has done since the bridge started; numbers never go back. */
import type { MemoryStatistics } from '../memory/region-memory.ts';

export interface Traffic {
  readonly messages: number;
  readonly bytes: number;
}

export interface BridgedFunctionStatistics {
  /** QEMUs that connected. */
  readonly clients: number;
  /** One is there now. */
  readonly connected: boolean;
  readonly fromQemu: Traffic;
  readonly fromServer: Traffic;
  /** Bytes of guest memory that the server read and wrote and that this bridge answered by itself. */
  readonly dmaBytesRead: number;
  readonly dmaBytesWritten: number;
  /** DMA messages of the server that only QEMU could answer. */
  readonly dmaThroughClient: number;
  /** Eventfds signalled for the server. */
  readonly interrupts: number;
  /** Requests of either side that the bridge itself refused. */
  readonly refused: number;
  readonly memory: MemoryStatistics;
}

export class RelayCounters {
  clients = 0;
  messagesFromQemu = 0;
  messagesFromServer = 0;
  bytesFromQemu = 0;
  bytesFromServer = 0;
  dmaBytesRead = 0;
  dmaBytesWritten = 0;
  dmaThroughClient = 0;
  interrupts = 0;
  refused = 0;

  /** `current`: of the client that is there, whose bytes are not counted yet. */
  snapshot(
    memory: MemoryStatistics,
    current: { readonly fromQemu: number; readonly fromServer: number } | undefined,
  ): BridgedFunctionStatistics {
    return {
      clients: this.clients,
      connected: current !== undefined,
      fromQemu: { messages: this.messagesFromQemu, bytes: this.bytesFromQemu + (current?.fromQemu ?? 0) },
      fromServer: { messages: this.messagesFromServer, bytes: this.bytesFromServer + (current?.fromServer ?? 0) },
      dmaBytesRead: this.dmaBytesRead,
      dmaBytesWritten: this.dmaBytesWritten,
      dmaThroughClient: this.dmaThroughClient,
      interrupts: this.interrupts,
      refused: this.refused,
      memory,
    };
  }
}
