/** Keeps the machine recording what the page wants to see at the moment, and nothing else. One change at a time. */
import type { EventKind } from '../../../trace/event-kinds.ts';
import { EVENT_KINDS } from '../../../trace/event-kinds.ts';
import { Decoder, standardDecoder } from '../../../trace/record-fields.ts';
import type { Connection } from '../connection.ts';
import { DisconnectedError } from '../connection.ts';
import { type Answer, toNumber, toRecord } from '../wire.ts';
import type { RecordStore } from './record-store.ts';

export interface RecorderOptions {
  readonly store: RecordStore;
  /** What the server says of the machine that it records. */
  readonly onMachine: (description: Answer) => void;
  /** After each batch. */
  readonly onRecords: () => void;
  readonly onChange: () => void;
}

export class Recorder {
  /** `EventClass` bits that the server was asked for; 0: it was not. */
  classes = 0;
  /** Batches that the server could not send because the page did not read fast enough. */
  dropped = 0;
  /** Why nothing is recorded although something is wanted. */
  error = '';
  private wanted = 0;
  private connection: Connection | undefined;
  private machine: string | undefined;
  private subscription: number | undefined;
  private changing = false;
  private droppedBefore = 0;
  /** Raised with each connection, so that what an older one says late is not taken for news. */
  private generation = 0;

  constructor(private readonly options: RecorderOptions) {}

  connected(connection: Connection, machine: string | undefined): void {
    this.generation++;
    this.connection = connection;
    this.machine = machine;
    this.subscription = undefined;
    this.classes = 0;
    void this.change();
  }

  /** Another machine is looked at by the same connection: of this one nothing more is to come. */
  leave(): void {
    const { connection, subscription } = this;
    this.disconnected();
    if (connection !== undefined && subscription !== undefined) drop(connection, subscription);
  }

  disconnected(): void {
    this.generation++;
    this.connection = undefined;
    this.subscription = undefined;
    if (this.classes !== 0) this.options.store.markGap();
    this.classes = 0;
    this.options.onChange();
  }

  want(classes: number): void {
    if (classes === this.wanted) return;
    this.wanted = classes;
    void this.change();
  }

  private async change(): Promise<void> {
    if (this.changing) return;
    this.changing = true;
    try {
      while (this.connection !== undefined && this.wanted !== this.classes) await this.step(this.connection);
      this.error = '';
    } catch (error) {
      this.error = error instanceof DisconnectedError ? '' : String((error as Error).message);
    } finally {
      this.changing = false;
      this.options.onChange();
    }
    // What another connection wants was not looked at meanwhile.
    if (this.error === '' && this.connection !== undefined && this.wanted !== this.classes) await this.change();
  }

  /** The old subscription ends before the new one begins: two of them would send everything twice. */
  private async step(connection: Connection): Promise<void> {
    const { generation, wanted, subscription } = this;
    if (wanted === 0) {
      this.classes = 0;
      this.subscription = undefined;
      if (subscription !== undefined) await connection.unsubscribe(subscription);
      if (generation === this.generation) this.options.store.markGap();
      return;
    }
    if (subscription !== undefined) {
      // What was not asked for until now did not happen less.
      if ((wanted & ~this.classes) !== 0) this.options.store.markGap(this.classes);
      this.subscription = undefined;
      await connection.unsubscribe(subscription);
      if (generation !== this.generation) return;
    }
    this.droppedBefore = this.dropped;
    const answer = await connection.request('record', { classes: wanted }, this.machine, ({ detail, dropped }) => {
      if (generation !== this.generation) return;
      this.dropped = this.droppedBefore + dropped;
      if (detail.words instanceof Uint8Array) this.options.store.append(wordsOf(detail.words));
      this.options.onRecords();
    });
    if (generation !== this.generation) {
      drop(connection, toNumber(answer.subscription));
      return;
    }
    this.learn(answer.kinds);
    this.options.onMachine(toRecord(answer.machine));
    this.subscription = toNumber(answer.subscription);
    this.classes = wanted;
  }

  /** The server's own table of kinds, where it is not the one that this page was built with. */
  private learn(kinds: unknown): void {
    const { store } = this.options;
    const isOurs = kinds === undefined || sameKinds(kinds, EVENT_KINDS);
    if (isOurs) {
      if (store.decoder !== standardDecoder) store.useDecoder(standardDecoder);
    } else if (!sameKinds(kinds, store.decoder.kinds)) {
      store.useDecoder(Decoder.fromTable(kinds));
    }
  }
}

/** Where it fails there is no connection, and no subscription either. */
function drop(connection: Connection, subscription: number): void {
  connection.unsubscribe(subscription).catch(() => {});
}

function sameKinds(kinds: unknown, others: readonly EventKind[]): boolean {
  return JSON.stringify(kinds) === JSON.stringify(others);
}

/** In place where the bytes lie as words must. */
function wordsOf(bytes: Uint8Array): Int32Array {
  const whole = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return new Int32Array(whole.buffer, whole.byteOffset, whole.length >> 2);
}
