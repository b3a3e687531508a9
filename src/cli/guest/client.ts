/** The side of `viommu guest ...`: asks a guest that runs headless, through the socket in its directory. */
import { createConnection, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { CommandResult, RunOptions } from '../../../images/guest/agent.ts';
import { LineReader } from '../../../images/guest/lines.ts';
import { CommandFailure } from '../errors.ts';
import { agentSocket } from './directory.ts';
import { FailureReason, type GuestAnswer } from './protocol.ts';

const RETRY_MS = 100;

/** The guest did not do it, or nobody knows. */
export class GuestFailure extends CommandFailure {
  constructor(
    readonly reason: FailureReason,
    message: string,
  ) {
    super(message);
  }
}

type Ended = { readonly status: number } | { readonly ready: true };

interface Pending {
  readonly onLine: ((line: string) => void) | undefined;
  readonly resolve: (answer: Ended) => void;
  readonly reject: (error: Error) => void;
}

export class GuestClient {
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private failure: GuestFailure | undefined;

  /** Rejects with a GuestFailure: there is no guest within the time, by default now. */
  static async connect(directory: string, timeoutMs = 0): Promise<GuestClient> {
    const path = agentSocket(directory);
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      try {
        return new GuestClient(await open(path));
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        const mayCome = code === 'ENOENT' || code === 'ECONNREFUSED';
        if (mayCome && performance.now() < deadline) {
          await delay(RETRY_MS);
          continue;
        }
        throw new GuestFailure(FailureReason.gone, mayCome ? noGuest(directory) : `cannot reach ${path}: ${message}`);
      }
    }
  }

  private constructor(private readonly socket: Socket) {
    const reader = new LineReader(line => this.hear(JSON.parse(line) as GuestAnswer));
    socket.on('data', chunk => {
      try {
        reader.push(chunk);
      } catch (error) {
        this.end(`what came is no answer: ${(error as Error).message}`);
      }
    });
    socket.on('error', error => this.end(error.message));
    socket.on('close', () => this.end('the guest has ended'));
  }

  /** Until the guest's agent answers. Rejects with a GuestFailure. */
  async wait(timeoutMs: number): Promise<void> {
    await this.ask({ wait: { timeoutMs } });
  }

  /** As `GuestAgent.run`. Rejects with a GuestFailure where the command's end is not known. */
  async run(
    command: string,
    { onLine, timeoutMs, input }: Pick<RunOptions, 'onLine' | 'timeoutMs' | 'input'> = {},
  ): Promise<CommandResult> {
    const output: string[] = [];
    const answer = await this.ask({ exec: { command, timeoutMs, input } }, line => {
      output.push(line);
      onLine?.(line);
    });
    return { status: 'status' in answer ? answer.status : 0, output };
  }

  /** What runs is given up. */
  close(): void {
    this.socket.destroy();
  }

  private ask(request: object, onLine?: (line: string) => void): Promise<Ended> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      this.pending.set(id, { onLine, resolve, reject });
      this.socket.write(`${JSON.stringify({ id, ...request })}\n`);
    });
  }

  private hear(answer: GuestAnswer): void {
    const { id } = answer;
    const pending = id === null ? undefined : this.pending.get(id);
    if ('line' in answer) {
      pending?.onLine?.(answer.line);
      return;
    }
    if (id !== null) this.pending.delete(id);
    if (!('error' in answer)) pending?.resolve(answer);
    else if (pending === undefined) this.end(answer.error);
    else pending.reject(new GuestFailure(answer.reason, answer.error));
  }

  private end(why: string): void {
    this.failure ??= new GuestFailure(FailureReason.gone, `the guest cannot be reached any more: ${why}`);
    for (const { reject } of this.pending.values()) reject(this.failure);
    this.pending.clear();
    this.socket.destroy();
  }
}

function noGuest(directory: string): string {
  return `no guest runs in ${directory}: start 'viommu boot --headless --guest-dir ${directory}' first`;
}

function open(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
