/**
 * Lets any number of processes use the one agent of a guest: listens on a unix socket and gives each command its turn. The protocol is
 * told in protocol.ts.
 */
import { chmodSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { type GuestAgent, GuestGone, GuestRestarted, GuestTimeout } from '../../../images/guest/agent.ts';
import { LineReader } from '../../../images/guest/lines.ts';
import { CommandFailure } from '../errors.ts';
import {
  type ExecRequest,
  FailureReason,
  type GuestAnswer,
  type GuestRequest,
  MAX_CLIENTS,
  MAX_REQUESTS,
  MAX_UNREAD_BYTES,
  parseRequest,
  RequestError,
} from './protocol.ts';

/** What the broker needs of a `GuestAgent`. */
export type BrokeredAgent = Pick<GuestAgent, 'run' | 'ready'>;

const OWNER_ONLY = 0o600;
/** Does nothing, and shows that commands are taken: those that were sent before have ended. */
const NOTHING = 'true';

/** A request that ends without an answer of the guest. */
class Failure extends Error {
  constructor(
    readonly reason: FailureReason,
    message: string,
  ) {
    super(message);
  }
}

export class GuestBroker {
  private readonly server: Server;
  private readonly clients = new Set<Socket>();
  /** Commands that run or wait for their turn. */
  private commands = 0;
  /** Settles when the last of them has ended. */
  private turn: Promise<unknown> = Promise.resolve();
  /** A command that was given up and may still run in the guest, until the guest tells its end: what is sent then would run late. */
  private leftover: { readonly command: string; readonly ended: Promise<void> } | undefined;

  /** Rejects where the socket cannot be made, or another guest has it. */
  static async start(path: string, agent: BrokeredAgent): Promise<GuestBroker> {
    await refuseTaken(path);
    rmSync(path, { force: true });
    const broker = new GuestBroker(path, agent);
    await broker.listen();
    return broker;
  }

  private constructor(
    private readonly path: string,
    private readonly agent: BrokeredAgent,
  ) {
    this.server = createServer(socket => this.welcome(socket));
    this.server.maxConnections = MAX_CLIENTS;
  }

  /** Takes leave of every client and removes the socket. */
  async close(): Promise<void> {
    const closed = new Promise<void>(resolve => this.server.close(() => resolve()));
    for (const client of this.clients) client.destroy();
    await closed;
  }

  private listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.server.once('error', error => {
        reject(new CommandFailure(`cannot listen at ${this.path}: ${error.message}`));
      });
      this.server.listen(this.path, () => {
        chmodSync(this.path, OWNER_ONLY);
        resolve();
      });
    });
  }

  private welcome(socket: Socket): void {
    this.clients.add(socket);
    const gone = new AbortController();
    let requests = 0;
    const send = (answer: GuestAnswer) => {
      if (socket.writable) socket.write(`${JSON.stringify(answer)}\n`);
    };
    const fail = (id: number | null, error: unknown) => {
      const { reason, message } = failureOf(error);
      send({ id, error: message, reason });
    };
    const reader = new LineReader(line => {
      let request: GuestRequest;
      try {
        request = parseRequest(line);
      } catch (error) {
        fail(error instanceof RequestError ? error.id : null, error);
        return;
      }
      if (requests >= MAX_REQUESTS) {
        fail(request.id, new RequestError(`at most ${MAX_REQUESTS} requests of one client at once`, request.id));
        return;
      }
      requests++;
      this.answer(request, socket, send, gone.signal)
        .catch(error => fail(request.id, error))
        .finally(() => {
          requests--;
        });
    });
    socket.on('data', chunk => {
      try {
        reader.push(chunk);
      } catch (error) {
        fail(null, error);
        socket.destroySoon();
      }
    });
    // The close that follows is all that matters.
    socket.on('error', () => {});
    socket.once('close', () => {
      this.clients.delete(socket);
      gone.abort();
    });
  }

  private async answer(
    request: GuestRequest,
    socket: Socket,
    send: (answer: GuestAnswer) => void,
    gone: AbortSignal,
  ): Promise<void> {
    const { id } = request;
    if ('wait' in request) {
      await this.wait(request.wait.timeoutMs, gone);
      send({ id, ready: true });
    } else {
      send({ id, status: await this.exec(request, socket, send, gone) });
    }
  }

  private async exec(
    { id, exec }: ExecRequest,
    socket: Socket,
    send: (answer: GuestAnswer) => void,
    gone: AbortSignal,
  ): Promise<number> {
    const unread = new AbortController();
    const onLine = (line: string) => {
      send({ id, line });
      if (socket.writableLength > MAX_UNREAD_BYTES) unread.abort();
    };
    const signal = AbortSignal.any([gone, unread.signal]);
    const { timeoutMs } = exec;
    const run = async () => {
      // Its client went while it waited.
      signal.throwIfAborted();
      const left = await this.untilFree(timeoutMs, signal);
      const limit = left === undefined ? {} : { timeoutMs: left };
      try {
        return await this.agent.run(exec.command, { onLine, signal, input: exec.input, ...limit });
      } catch (error) {
        if (error instanceof GuestTimeout || signal.aborted) this.abandon(exec.command);
        throw error;
      }
    };
    try {
      return (await this.inTurn(run)).status;
    } catch (error) {
      if (unread.signal.aborted) throw new Failure(FailureReason.failed, 'the output of the command was not read');
      throw error;
    }
  }

  private abandon(command: string): void {
    const told = () => {
      this.leftover = undefined;
    };
    // An agent that answers, or never will: either way nothing stands before the next command.
    this.leftover = { command, ended: this.agent.run(NOTHING).then(told, told) };
  }

  /** Until the guest runs nothing that was given up. Gives what is left of the time; rejects when it is over, or nobody wants it. */
  private async untilFree(timeoutMs: number | undefined, signal: AbortSignal): Promise<number | undefined> {
    if (this.leftover === undefined) return timeoutMs;
    const { command, ended } = this.leftover;
    const begin = performance.now();
    let stop = () => {};
    const stopped = new Promise<never>((_, reject) => {
      const late = () =>
        reject(
          new GuestTimeout(`Not begun within ${timeoutMs} ms: the guest still runs what was given up: ${command}`),
        );
      const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
      const goes = () => reject(signal.reason);
      signal.addEventListener('abort', goes, { once: true });
      stop = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', goes);
      };
    });
    try {
      await Promise.race([ended, stopped]);
    } finally {
      stop();
    }
    return timeoutMs === undefined ? undefined : Math.max(1, timeoutMs - (performance.now() - begin));
  }

  /** A guest that restarts loses what it is sent meanwhile: it is asked again until it answers, or the time is over. */
  private async wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    const left = () => Math.max(0, deadline - performance.now());
    for (;;) {
      await this.agent.ready(left()).catch(error => {
        throw error instanceof GuestGone ? error : new Failure(FailureReason.timeout, error.message);
      });
      // A guest with work to do must not be kept from it, nor be taken for dead.
      if (this.commands > 0) return;
      try {
        await this.inTurn(() => this.agent.run(NOTHING, { timeoutMs: left(), signal }));
        return;
      } catch (error) {
        if (error instanceof GuestGone || error instanceof GuestTimeout || left() === 0 || signal.aborted) throw error;
      }
    }
  }

  /** One after the other: what waits in the guest's terminal has little room there. */
  private async inTurn<T>(work: () => Promise<T>): Promise<T> {
    this.commands++;
    const result = this.turn.then(work);
    this.turn = result.catch(() => {});
    try {
      return await result;
    } finally {
      this.commands--;
    }
  }
}

function failureOf(error: unknown): { readonly reason: FailureReason; readonly message: string } {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof Failure) return { reason: error.reason, message };
  if (error instanceof RequestError) return { reason: FailureReason.refused, message };
  if (error instanceof GuestTimeout) return { reason: FailureReason.timeout, message };
  if (error instanceof GuestRestarted) return { reason: FailureReason.restarted, message };
  if (error instanceof GuestGone) return { reason: FailureReason.gone, message };
  return { reason: FailureReason.failed, message };
}

/** Rejects with a CommandFailure where a guest has the socket. */
export async function refuseTaken(path: string): Promise<void> {
  if (!(await isTaken(path))) return;
  throw new CommandFailure(`another guest runs there already: ${path} answers. End it, or use another directory`);
}

/** Somebody answers there; what nobody listens on is left from one that was killed. */
function isTaken(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(false);
      else reject(new CommandFailure(`cannot use ${path}: ${error.message}`));
    });
  });
}
