/** The host's side of the agent in the guest: runs commands there over a serial port. The protocol is told in `agent`. */
import { randomInt } from 'node:crypto';
import { createConnection } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { LineReader } from './lines.ts';

export interface ConnectOptions {
  /** How long the socket may take to come into being and to accept, in milliseconds. Default: CONNECT_TIMEOUT_MS. */
  readonly timeoutMs?: number;
}

export interface RunOptions {
  /** Called with each line of output as it arrives. */
  readonly onLine?: (line: string) => void;
  /** What the command reads from its standard input, in base64's characters, at most MAX_INPUT_CHARACTERS. Default: nothing. */
  readonly input?: string | undefined;
  /** Default: none. A command that takes longer is interrupted (SIGINT) and its run() rejects. */
  readonly timeoutMs?: number;
  /** Default: none. The same for a command that says nothing, or nothing more, for so long; those ahead of it in the queue count. */
  readonly quietMs?: number;
  /** Aborted: the command is interrupted (SIGINT) and its run() rejects. */
  readonly signal?: AbortSignal;
}

export interface CommandResult {
  /** As the shell counts: 0 to 255, 128 + n for signal n. */
  readonly status: number;
  /** Standard output and standard error, line by line. */
  readonly output: string[];
}

/** The guest started anew, or its agent did, while a command ran: it will never say how the command ended. */
export class GuestRestarted extends Error {
  override readonly name = 'GuestRestarted';
}

/** A command took longer than it was given. */
export class GuestTimeout extends Error {
  override readonly name = 'GuestTimeout';
}

/** The serial port was closed: QEMU ended, or close() was called. */
export class GuestGone extends Error {
  override readonly name = 'GuestGone';
}

const CONNECT_TIMEOUT_MS = 10_000;
const CONNECT_RETRY_MS = 50;
/** A command line, in bytes: what a terminal takes in one piece (N_TTY_BUF_SIZE), less room for its number. */
export const MAX_COMMAND_BYTES = 4000;
/** Of one command's input. */
export const MAX_INPUT_CHARACTERS = 131_072;
/** Lines of one command's output that are kept. */
export const MAX_OUTPUT_LINES = 100_000;
/**
 * Ready lines, one a second, after which a command counts as lost: an agent that waits for a command has none. A few are on
 * the way when the command is sent, and each empty line brings another.
 */
export const LOST_AFTER_READY_LINES = 10;
/** The same, after which it has none that was given up. */
const IDLE_AFTER_READY_LINES = 4;
/** Lines that are no part of the protocol (a firmware's, a kernel's) kept for error messages. */
const KEPT_NOISE_LINES = 5;

/** Room for more commands than anyone sends before numbers lose their digits. */
const MAX_FIRST_ID = 1_000_000_000;

const INTERRUPT = '\x03';
const READY = /^#ready (\S+) (\S+)$/;
const OUTPUT = /^(\d+)\|(.*)$/s;
/** It takes so many bytes more of its input. */
const WANTS = /^(\d+)\?(\d{1,6})$/;
const INPUT = /^[A-Za-z0-9+/=]*$/;
const ENDED = /^(\d+)=(\d{1,3})$/;

interface Command {
  readonly id: number;
  readonly text: string;
  readonly output: string[];
  /** It was given an input. */
  readonly isFed: boolean;
  /** What the guest has not asked for yet. */
  input: string;
  readonly onLine: ((line: string) => void) | undefined;
  /** Of its silence. */
  readonly quiet: NodeJS.Timeout | undefined;
  /** Its run() has ended, but the guest may still run it. */
  settled: boolean;
  settle(outcome: CommandResult | Error): void;
}

interface Waiter {
  /** Ready lines of this instance do not count. */
  readonly unlike: string | undefined;
  settle(outcome: string | Error): void;
}

export class GuestAgent {
  readonly #stream: Duplex;
  readonly #commands = new Map<number, Command>();
  /** Lines of commands that are not sent before those that were given up have ended. */
  readonly #held = new Map<number, string>();
  readonly #waiters = new Set<Waiter>();
  readonly #noise: string[] = [];
  readonly #closed: Promise<void>;
  #instance: string | undefined;
  /** Ready lines since the guest last spoke of a command or was sent one. */
  #idleLines = 0;
  // Not the numbers of an earlier host, whose last commands may still speak.
  #nextId = randomInt(MAX_FIRST_ID);
  #failure: Error | undefined;

  /** @param endpoint path of a unix socket (QEMU's chardev), or a stream that is the serial port. */
  static async connect(endpoint: string | Duplex, options: ConnectOptions = {}): Promise<GuestAgent> {
    if (typeof endpoint !== 'string') return new GuestAgent(endpoint);
    return new GuestAgent(await connectSocket(endpoint, options.timeoutMs ?? CONNECT_TIMEOUT_MS));
  }

  private constructor(stream: Duplex) {
    this.#stream = stream;
    const reader = new LineReader(line => this.#receive(line));
    stream.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch (error) {
        this.#fail(error as Error);
      }
    });
    stream.on('error', (error: Error) => this.#fail(new GuestGone(`The guest's serial port failed: ${error.message}`)));
    stream.on('end', () => this.#fail(new GuestGone("The guest's serial port was closed")));
    this.#closed = new Promise(resolve => {
      stream.on('close', () => {
        this.#fail(new GuestGone("The guest's serial port was closed"));
        resolve();
      });
    });
  }

  /** Resolves once the agent has said that it is ready; at once when it has since the guest last started. */
  async ready(timeoutMs: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#instance !== undefined) return;
    await this.#nextInstance(undefined, timeoutMs);
  }

  /**
   * Runs `sh -c command` in the guest, once ready() has resolved. Commands given while another runs wait for it. The
   * command is one line of text.
   * Rejects with GuestRestarted or GuestGone when its end will never be told, and when `timeoutMs` have passed.
   * A command that got lost on the way rejects once the guest has said often enough that it has none.
   */
  async run(command: string, options: RunOptions = {}): Promise<CommandResult> {
    if (this.#failure !== undefined) throw this.#failure;
    // Before that, a firmware would read what is written.
    if (this.#instance === undefined) throw new Error("The guest's agent is not ready yet: await ready() first");
    checkCommand(command);
    const { signal, input } = options;
    if (input !== undefined) checkInput(input);
    if (signal?.aborted) throw new Error(`Given up before it began: ${command}`);
    return await new Promise<CommandResult>((resolve, reject) => {
      const id = this.#nextId++;
      const { timeoutMs, quietMs } = options;
      const expire = (milliseconds: number | undefined, why: string) =>
        milliseconds === undefined
          ? undefined
          : setTimeout(() => this.#abandon(id, `${why} ${milliseconds} ms`, GuestTimeout), milliseconds);
      const timer = expire(timeoutMs, 'Not done within');
      const quiet = expire(quietMs, 'Nothing was said for');
      const giveUp = () => this.#abandon(id, 'Given up', Error);
      const entry: Command = {
        id,
        text: command,
        output: [],
        isFed: input !== undefined,
        input: input ?? '',
        onLine: options.onLine,
        quiet,
        settled: false,
        settle: outcome => {
          entry.settled = true;
          clearTimeout(timer);
          clearTimeout(quiet);
          signal?.removeEventListener('abort', giveUp);
          // A promise takes the first outcome; those of a command that was given up earlier do nothing.
          if (outcome instanceof Error) reject(outcome);
          else resolve(outcome);
        },
      };
      const isInterrupting = this.#isInterrupting;
      this.#commands.set(id, entry);
      signal?.addEventListener('abort', giveUp, { once: true });
      // The empty line ends whatever an earlier host left unfinished.
      const line = `\n${id}${input === undefined ? '' : `<${input.length}`} ${command}\n`;
      if (isInterrupting) this.#held.set(id, line);
      else this.#send(line);
    });
  }

  /** Restarts the guest and waits until it is ready again. */
  async reboot(timeoutMs: number): Promise<void> {
    const restarted = this.restarted(timeoutMs);
    // Its end is the restart, which the line above waits for; whatever else ends it also ends that wait.
    this.run('reboot').catch(() => {});
    await restarted;
  }

  /** Resolves when the guest that is there now has been followed by another that is ready. Call it before the restart. */
  async restarted(timeoutMs: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    await this.#nextInstance(this.#instance, timeoutMs);
  }

  /** Lets go of the serial port; commands that still run in the guest go on there. */
  close(): void {
    this.#fail(new GuestGone('The connection to the guest was closed'));
  }

  /** Resolves when the serial port is closed, e.g. because the guest powered off and QEMU ended. */
  async closed(): Promise<void> {
    await this.#closed;
  }

  /** A command that was given up may still ask for input: the ^C that answers would hit the one that runs by then. */
  get #isInterrupting(): boolean {
    for (const command of this.#commands.values()) if (command.settled && command.isFed) return true;
    return false;
  }

  #send(line: string): void {
    this.#idleLines = 0;
    this.#stream.write(line);
  }

  #sendHeld(): void {
    const lines = [...this.#held.values()];
    this.#held.clear();
    for (const line of lines) this.#send(line);
  }

  #nextInstance(unlike: string | undefined, timeoutMs: number): Promise<string> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        waiter.settle(new Error(`The guest's agent was not ready within ${timeoutMs} ms${this.#lastNoise()}`));
      }, timeoutMs);
      const waiter: Waiter = {
        unlike,
        settle: outcome => {
          clearTimeout(timer);
          this.#waiters.delete(waiter);
          if (outcome instanceof Error) reject(outcome);
          else resolve(outcome);
        },
      };
      this.#waiters.add(waiter);
    });
  }

  #receive(line: string): void {
    const ready = READY.exec(line);
    if (ready !== null) {
      this.#becomeReady(ready[1]!);
      return;
    }
    const output = OUTPUT.exec(line);
    const running = output === null ? undefined : this.#commands.get(Number(output[1]));
    if (output !== null && running !== undefined) {
      this.#takeOutput(running, output[2]!);
      return;
    }
    const wants = WANTS.exec(line);
    if (wants !== null) {
      this.#feed(this.#commands.get(Number(wants[1])), Number(wants[2]));
      return;
    }
    const ended = ENDED.exec(line);
    const command = ended === null ? undefined : this.#commands.get(Number(ended[1]));
    if (ended !== null && command !== undefined) {
      this.#idleLines = 0;
      this.#commands.delete(command.id);
      command.settle({ status: Number(ended[2]), output: command.output });
      if (!this.#isInterrupting) this.#sendHeld();
      return;
    }
    if (line !== '') this.#noise.push(line);
    if (this.#noise.length > KEPT_NOISE_LINES) this.#noise.shift();
  }

  #becomeReady(instance: string): void {
    if (this.#instance !== undefined && this.#instance !== instance) {
      for (const command of this.#commands.values()) {
        command.settle(new GuestRestarted(`The guest restarted while it ran: ${command.text}`));
      }
      this.#commands.clear();
      this.#held.clear();
    }
    this.#instance = instance;
    this.#idleLines++;
    if (this.#idleLines >= LOST_AFTER_READY_LINES) this.#loseCommands();
    else if (this.#idleLines >= IDLE_AFTER_READY_LINES && this.#held.size > 0) this.#forgetGivenUp();
    for (const waiter of [...this.#waiters]) {
      if (waiter.unlike !== instance) waiter.settle(instance);
    }
  }

  /** An agent that goes on waiting for a command runs none, told or not. */
  #forgetGivenUp(): void {
    for (const command of [...this.#commands.values()]) if (command.settled) this.#commands.delete(command.id);
    this.#sendHeld();
  }

  #loseCommands(): void {
    for (const command of this.#commands.values()) {
      command.settle(new Error(`The guest's agent did not take the command ${command.text}${this.#lastNoise()}`));
    }
    this.#commands.clear();
    this.#held.clear();
  }

  /** What was given up, by this host or an earlier one, would wait for ever. */
  #feed(command: Command | undefined, bytes: number): void {
    this.#idleLines = 0;
    if (command === undefined || command.settled) {
      // A guest that asks and asks and does not read has its interrupts on the way.
      if (!this.#stream.writableNeedDrain) this.#stream.write(INTERRUPT);
      return;
    }
    command.quiet?.refresh();
    this.#stream.write(command.input.slice(0, bytes));
    command.input = command.input.slice(bytes);
  }

  #takeOutput(command: Command, text: string): void {
    this.#idleLines = 0;
    if (command.settled) return;
    command.quiet?.refresh();
    if (command.output.length === MAX_OUTPUT_LINES) {
      this.#stream.write(INTERRUPT);
      command.settle(new Error(`More than ${MAX_OUTPUT_LINES} lines of output from: ${command.text}`));
      return;
    }
    command.output.push(text);
    try {
      command.onLine?.(text);
    } catch (error) {
      // The caller's own mistake or wish: it belongs to whoever waits for this command, not to the serial port.
      command.settle(error as Error);
    }
  }

  /** The command stays known until the guest tells its end, so that late lines are not taken for noise. */
  #abandon(id: number, why: string, Reason: new (message: string) => Error): void {
    const command = this.#commands.get(id);
    if (command === undefined) return;
    const first = this.#commands.keys().next().value === id;
    // A command that has not begun cannot be interrupted; the one that runs is another.
    if (first) this.#stream.write(INTERRUPT);
    // What was never sent never ends.
    if (this.#held.delete(id)) this.#commands.delete(id);
    const last = command.output.slice(-KEPT_NOISE_LINES).join('\n');
    const told = last === '' ? ' (no output)' : `; its last output:\n${last}`;
    command.settle(new Reason(`${why} in the guest: ${command.text}${told}`));
  }

  #lastNoise(): string {
    return this.#noise.length === 0 ? ' (nothing came)' : `; what came last:\n${this.#noise.join('\n')}`;
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    for (const command of this.#commands.values()) command.settle(error);
    this.#commands.clear();
    this.#held.clear();
    for (const waiter of [...this.#waiters]) waiter.settle(error);
    this.#stream.destroy();
  }
}

function checkCommand(command: string): void {
  if (command.trim() === '') throw new Error('The command for the guest is empty');
  // Control characters mean something to the terminal in between, or end the line.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(command)) throw new Error('A command for the guest is one line of text');
  const bytes = Buffer.byteLength(command);
  if (bytes > MAX_COMMAND_BYTES) {
    throw new Error(`The command for the guest has ${bytes} bytes; it may have ${MAX_COMMAND_BYTES}`);
  }
}

function checkInput(input: string): void {
  if (input.length <= MAX_INPUT_CHARACTERS && INPUT.test(input)) return;
  throw new Error(`A command's input is at most ${MAX_INPUT_CHARACTERS} characters of base64`);
}

/** QEMU makes the socket some time after it was started: until the deadline, a socket that is not there yet is no error. */
async function connectSocket(path: string, timeoutMs: number): Promise<Duplex> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await connectOnce(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const mayCome = code === 'ENOENT' || code === 'ECONNREFUSED';
      if (!mayCome || performance.now() >= deadline) {
        throw new Error(`Cannot connect to the guest's serial port ${path}: ${(error as Error).message}`);
      }
      await delay(CONNECT_RETRY_MS);
    }
  }
}

function connectOnce(path: string): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}
