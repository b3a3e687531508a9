/** Several clients with one guest: turns, output as it comes, and every way in which a command's end is not known. */
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type CommandResult,
  GuestGone,
  GuestRestarted,
  GuestTimeout,
  type RunOptions,
} from '../../../images/guest/agent.ts';
import { type BrokeredAgent, GuestBroker } from '../../../src/cli/guest/broker.ts';
import { GuestClient } from '../../../src/cli/guest/client.ts';
import { agentSocket, readGuestState, removeGuestState, writeGuestState } from '../../../src/cli/guest/directory.ts';
import { MAX_REQUESTS } from '../../../src/cli/guest/protocol.ts';
import { temporaryDirectory } from '../../guest/support.ts';

const LONG_MS = 10_000;

interface Running {
  readonly command: string;
  readonly options: RunOptions;
  say(line: string): void;
  end(status: number): void;
  fail(error: Error): void;
}

/** A guest whose commands do what the test says. */
class FakeAgent implements BrokeredAgent {
  readonly begun: Running[] = [];
  /** Tells at once that what was given up has ended. */
  isInterrupted = false;
  isReady: () => Promise<void> = () => Promise.resolve();

  ready(): Promise<void> {
    return this.isReady();
  }

  run(command: string, options: RunOptions = {}): Promise<CommandResult> {
    if (command === 'true' && this.isInterrupted) return Promise.resolve({ status: 0, output: [] });
    return new Promise((resolve, reject) => {
      const output: string[] = [];
      options.signal?.addEventListener('abort', () => reject(new Error('Given up in the guest')));
      if (options.signal?.aborted) reject(new Error('Given up before it began'));
      this.begun.push({
        command,
        options,
        say(line) {
          output.push(line);
          options.onLine?.(line);
        },
        end: status => resolve({ status, output }),
        fail: reject,
      });
    });
  }

  /** The nth command that began, once it has. */
  async command(number: number): Promise<Running> {
    await expect.poll(() => this.begun.length).toBeGreaterThan(number);
    return this.begun[number]!;
  }

  async named(name: string): Promise<Running> {
    return await vi.waitFor(
      () => this.begun.find(({ command }) => command === name) ?? Promise.reject(new Error(name)),
      { timeout: 20_000 },
    );
  }
}

let directory: ReturnType<typeof temporaryDirectory>;
let path: string;
let agent: FakeAgent;
let broker: GuestBroker;
const clients: GuestClient[] = [];

beforeEach(async () => {
  directory = temporaryDirectory();
  path = agentSocket(directory.path);
  agent = new FakeAgent();
  broker = await GuestBroker.start(path, agent);
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await broker.close();
  directory.remove();
});

async function connect(): Promise<GuestClient> {
  const client = await GuestClient.connect(directory.path);
  clients.push(client);
  return client;
}

/** What comes back for a line, whatever that is. */
function answerTo(...lines: readonly string[]): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.on('error', reject);
    socket.once('data', chunk => {
      resolve(JSON.parse(chunk.toString().split('\n')[0]!));
      socket.destroy();
    });
    for (const line of lines) socket.write(`${line}\n`);
  });
}

describe('a command', () => {
  it('gives its output as it comes, then its status', async () => {
    const client = await connect();
    const lines: string[] = [];
    const result = client.run('make noise', { onLine: line => lines.push(line) });
    const running = await agent.command(0);
    expect(running.command).toBe('make noise');
    running.say('one');
    await expect.poll(() => lines).toEqual(['one']);
    running.say('zwei ü "quoted"');
    running.end(7);
    expect(await result).toEqual({ status: 7, output: ['one', 'zwei ü "quoted"'] });
  });

  it('waits for its turn, whoever asked before', async () => {
    const [a, b] = [await connect(), await connect()];
    const first = a.run('first');
    const running = await agent.command(0);
    const second = b.run('second');
    const third = a.run('third');
    running.end(0);
    await first;
    (await agent.command(1)).end(1);
    (await agent.command(2)).end(2);
    expect([(await second).status, (await third).status]).toEqual([1, 2]);
    expect(agent.begun.map(({ command }) => command)).toEqual(['first', 'second', 'third']);
  });

  it('has its time from when it begins', async () => {
    const client = await connect();
    const result = client.run('slow', { timeoutMs: 1234 });
    const running = await agent.command(0);
    expect(running.options.timeoutMs).toBe(1234);
    running.fail(new GuestTimeout('Not done within 1234 ms'));
    await expect(result).rejects.toMatchObject({ reason: 'timeout', message: 'Not done within 1234 ms' });
  });

  it.each([
    ['restarted', new GuestRestarted('the guest restarted')],
    ['gone', new GuestGone('the port was closed')],
    ['failed', new Error('something else')],
  ])('that has no end is told as %s, and the next one begins', async (reason, error) => {
    const client = await connect();
    const result = client.run('first');
    (await agent.command(0)).fail(error);
    await expect(result).rejects.toMatchObject({ reason, message: error.message });
    const next = client.run('next');
    (await agent.command(1)).end(0);
    expect((await next).status).toBe(0);
  });

  it('is given up when its client goes', async () => {
    const [leaves, stays] = [await connect(), await connect()];
    leaves.run('forever').catch(() => {});
    const running = await agent.command(0);
    const next = stays.run('next');
    leaves.close();
    await expect.poll(() => running.options.signal?.aborted).toBe(true);
    (await agent.named('true')).end(0);
    (await agent.named('next')).end(0);
    expect((await next).status).toBe(0);
  });

  it('is not sent before the guest tells the end of one that was given up', async () => {
    const client = await connect();
    const hung = client.run('hung', { timeoutMs: 1 });
    (await agent.named('hung')).fail(new GuestTimeout('Not done within 1 ms'));
    await expect(hung).rejects.toMatchObject({ reason: 'timeout' });
    const probe = await agent.named('true');
    const late = client.run('late', { timeoutMs: 1 });
    await expect(late).rejects.toMatchObject({ reason: 'timeout', message: /Not begun within 1 ms.*hung/ });
    const next = client.run('next', { timeoutMs: LONG_MS });
    expect(agent.begun.map(({ command }) => command)).toEqual(['hung', 'true']);
    probe.end(0);
    const running = await agent.named('next');
    expect(running.options.timeoutMs).toBeLessThanOrEqual(LONG_MS);
    running.end(4);
    expect((await next).status).toBe(4);
    expect(agent.begun.map(({ command }) => command)).toEqual(['hung', 'true', 'next']);
  });

  it('is given up when its client goes while it waits for one that was given up', async () => {
    const [leaves, stays] = [await connect(), await connect()];
    const hung = leaves.run('hung');
    (await agent.named('hung')).fail(new GuestTimeout('Not done'));
    await expect(hung).rejects.toMatchObject({ reason: 'timeout' });
    const probe = await agent.named('true');
    // What begins in the moment in which its client goes is given up too.
    agent.isInterrupted = true;
    leaves.run('never').catch(() => {});
    // Answered in turn: what was asked before has arrived.
    await leaves.wait(LONG_MS);
    leaves.close();
    const next = stays.run('next');
    probe.end(0);
    (await agent.named('next')).end(0);
    expect((await next).status).toBe(0);
  });

  it('does not run when its client went while it waited', async () => {
    agent.isInterrupted = true;
    const [stays, leaves] = [await connect(), await connect()];
    const first = stays.run('first');
    const running = await agent.command(0);
    leaves.run('never').catch(() => {});
    // Answered at once, because the guest works: what was asked before has arrived.
    await leaves.wait(LONG_MS);
    leaves.close();
    running.end(0);
    await first;
    const last = stays.run('last');
    (await agent.named('last')).end(3);
    expect((await last).status).toBe(3);
    // Or was given up in the moment in which it began.
    const began = agent.begun.filter(({ command }) => command === 'never');
    expect(began.filter(({ options }) => !options.signal?.aborted)).toEqual([]);
  });
});

describe('waiting for the guest', () => {
  it('ends when it takes a command', async () => {
    const waiting = (await connect()).wait(LONG_MS);
    (await agent.command(0)).end(0);
    await waiting;
  });

  it('asks again while the guest restarts', async () => {
    const waiting = (await connect()).wait(LONG_MS);
    (await agent.command(0)).fail(new GuestRestarted('the guest restarted'));
    (await agent.command(1)).fail(new Error('the agent did not take it'));
    (await agent.command(2)).end(0);
    await waiting;
  });

  it('does not disturb a guest that works', async () => {
    const [works, waits] = [await connect(), await connect()];
    const result = works.run('work');
    const running = await agent.command(0);
    await waits.wait(LONG_MS);
    expect(agent.begun).toHaveLength(1);
    running.end(0);
    await result;
  });

  it('ends with the time', async () => {
    agent.isReady = () => Promise.reject(new Error('The agent was not ready within 1 ms'));
    await expect((await connect()).wait(1)).rejects.toMatchObject({ reason: 'timeout' });
  });

  it('ends with the guest', async () => {
    agent.isReady = () => Promise.reject(new GuestGone('QEMU ended'));
    await expect((await connect()).wait(LONG_MS)).rejects.toMatchObject({ reason: 'gone', message: 'QEMU ended' });
  });
});

describe('what is no request', () => {
  it.each(['garbage', '{"id":1}', '{"exec":{"command":"x"}}'])('is refused: %s', async line => {
    expect(await answerTo(line)).toMatchObject({ reason: 'refused' });
    expect(agent.begun).toEqual([]);
  });

  it('keeps its number', async () => {
    expect(await answerTo('{"id":42}')).toMatchObject({ id: 42, reason: 'refused' });
  });

  it('is one too many of a client', async () => {
    const lines = Array.from({ length: MAX_REQUESTS + 1 }, (_, id) => JSON.stringify({ id, exec: { command: 'x' } }));
    expect(await answerTo(...lines)).toMatchObject({ id: MAX_REQUESTS, reason: 'refused' });
  });
});

describe('the socket', () => {
  it('is for its owner only', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('goes with the broker, and clients hear of it', async () => {
    const client = await connect();
    const result = client.run('forever');
    await agent.command(0);
    await Promise.all([broker.close(), expect(result).rejects.toMatchObject({ reason: 'gone' })]);
    expect(existsSync(path)).toBe(false);
    await expect(client.run('more')).rejects.toMatchObject({ reason: 'gone' });
    await expect(GuestClient.connect(directory.path)).rejects.toThrow(/viommu boot --headless --guest-dir/);
    broker = await GuestBroker.start(path, agent);
  });

  it('is not taken from a guest that lives', async () => {
    await expect(GuestBroker.start(path, agent)).rejects.toThrow(/another guest runs there already/);
    const client = await connect();
    const result = client.run('still there');
    (await agent.command(0)).end(0);
    await result;
  });

  it('is taken from one that was killed', async () => {
    const left = join(directory.path, 'left.sock');
    // Nobody listens there.
    writeFileSync(left, '');
    const next = await GuestBroker.start(left, agent);
    await next.close();
  });

  it('needs a path that a socket can have', () => {
    expect(() => agentSocket(`/${'long/'.repeat(30)}`)).toThrow(/at most 107 bytes/);
  });
});

describe('a client', () => {
  it('waits for a guest that is yet to start', async () => {
    await broker.close();
    const coming = GuestClient.connect(directory.path, LONG_MS);
    broker = await GuestBroker.start(path, agent);
    clients.push(await coming);
  });
});

describe('guest.json', () => {
  it('says who runs the guest and whether it is ready', () => {
    expect(readGuestState(directory.path)).toBeUndefined();
    writeGuestState(directory.path, { pid: 7, ready: false });
    writeGuestState(directory.path, { pid: 7, ready: true });
    expect(readGuestState(directory.path)).toEqual({ pid: 7, ready: true });
    removeGuestState(directory.path);
    expect(readGuestState(directory.path)).toBeUndefined();
  });

  it.each(['', '{', '{"pid":"x"}'])('is not believed where it is damaged: %j', text => {
    writeFileSync(join(directory.path, 'guest.json'), text);
    expect(readGuestState(directory.path)).toBeUndefined();
  });
});
