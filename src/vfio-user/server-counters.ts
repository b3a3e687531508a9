import { COMMAND_COUNT, commandName } from './spec.ts';

/** Since the server was made; numbers never go back. */
export interface ServerStatistics {
  /** Clients accepted, whether or not they got through the handshake. */
  readonly clients: number;
  /** Commands received, by name; only those that came. */
  readonly messages: Readonly<Record<string, number>>;
  /** Commands answered with an error, or posted and failed. */
  readonly refused: number;
  /** DMA_READ and DMA_WRITE messages sent to clients. */
  readonly dmaMessages: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
}

interface Traffic {
  readonly dmaMessages: number;
  readonly connection: { readonly bytesReceived: number; readonly bytesSent: number };
}

export class ServerCounters {
  clients = 0;
  refused = 0;
  /** By command; the last one for all commands without a name. */
  private readonly commands = new Float64Array(COMMAND_COUNT + 1);
  private dmaMessages = 0;
  private bytesReceived = 0;
  private bytesSent = 0;

  count(command: number): void {
    const index = Math.min(command, COMMAND_COUNT);
    this.commands[index] = this.commands[index]! + 1;
  }

  /** Adds what a client that has gone leaves behind. */
  absorb(client: Traffic): void {
    this.dmaMessages += client.dmaMessages;
    this.bytesReceived += client.connection.bytesReceived;
    this.bytesSent += client.connection.bytesSent;
  }

  snapshot(current: Traffic | undefined): ServerStatistics {
    const messages: Record<string, number> = {};
    this.commands.forEach((count, command) => {
      if (count > 0) messages[command === COMMAND_COUNT ? 'unknown' : commandName(command)] = count;
    });
    return {
      clients: this.clients,
      messages,
      refused: this.refused,
      dmaMessages: this.dmaMessages + (current?.dmaMessages ?? 0),
      bytesReceived: this.bytesReceived + (current?.connection.bytesReceived ?? 0),
      bytesSent: this.bytesSent + (current?.connection.bytesSent ?? 0),
    };
  }
}
