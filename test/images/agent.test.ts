import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import {
  GuestAgent,
  GuestGone,
  GuestRestarted,
  GuestTimeout,
  LOST_AFTER_READY_LINES,
  MAX_COMMAND_BYTES,
  MAX_INPUT_CHARACTERS,
  MAX_OUTPUT_LINES,
} from '../../images/guest/agent.ts';

const SOON_MS = 20;
const LONG_MS = 10_000;
/** ^C is the last that came. */
const INTERRUPTED = new RegExp(`${String.fromCharCode(3)}$`);

/** A serial port whose other end is the test. */
class FakePort extends Duplex {
  received = '';
  /** Takes nothing any more. */
  deaf = false;
  readonly #waiting: { pattern: RegExp; resolve: (match: RegExpExecArray) => void }[] = [];

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (this.deaf) return;
    this.received += chunk.toString();
    this.#check();
    done();
  }

  /** As from the guest, at once. */
  say(...pieces: string[]): void {
    for (const piece of pieces) this.push(Buffer.from(piece));
  }

  /** Resolves when what came from the host matches. */
  expectCommand(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise(resolve => {
      this.#waiting.push({ pattern, resolve });
      this.#check();
    });
  }

  #check(): void {
    for (const waiting of [...this.#waiting]) {
      const match = waiting.pattern.exec(this.received);
      if (match === null) continue;
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      waiting.resolve(match);
    }
  }
}

async function readyAgent(): Promise<{ port: FakePort; agent: GuestAgent }> {
  const port = new FakePort();
  const agent = await GuestAgent.connect(port);
  port.say('#ready boot1 6.12\n');
  await agent.ready(LONG_MS);
  return { port, agent };
}

describe('ready', () => {
  it('waits for the ready line, whatever a firmware says before it', async () => {
    const port = new FakePort();
    const agent = await GuestAgent.connect(port);
    let ready = false;
    const wait = agent.ready(LONG_MS).then(() => {
      ready = true;
    });
    port.say('\x1b[2JBdsDxe: loading\r\n', '1|x\n1=0\n');
    await new Promise(setImmediate);
    expect(ready).toBe(false);
    port.say('\n#rea', 'dy boot1', ' 6.12\n');
    await wait;
    expect(ready).toBe(true);
  });

  it('is there at once when the guest has said so before', async () => {
    const { agent } = await readyAgent();
    await agent.ready(0);
  });

  it('gives up after its time and tells what came instead', async () => {
    const port = new FakePort();
    const agent = await GuestAgent.connect(port);
    port.say('Kernel panic\n');
    await expect(agent.ready(SOON_MS)).rejects.toThrow(/not ready within 20 ms.*\nKernel panic/s);
  });

  it('fails when the port is closed meanwhile, and afterwards', async () => {
    const port = new FakePort();
    const agent = await GuestAgent.connect(port);
    const wait = agent.ready(LONG_MS);
    port.destroy();
    await expect(wait).rejects.toThrow(GuestGone);
    await expect(agent.ready(LONG_MS)).rejects.toThrow(GuestGone);
    await agent.closed();
  });

  it('fails when the port ends', async () => {
    const port = new FakePort();
    const agent = await GuestAgent.connect(port);
    const wait = agent.ready(LONG_MS);
    port.push(null);
    await expect(wait).rejects.toThrow(GuestGone);
  });
});

describe('run', () => {
  it('sends the command with a number and gives back output and status', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('uname -a');
    const [, id] = await port.expectCommand(/^(\d+) uname -a\n/m);
    port.say(`${id}|Linux\n${id}|two\n${id}=7\n`);
    expect(await done).toEqual({ status: 7, output: ['Linux', 'two'] });
  });

  it('puts together lines that come in pieces', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('x');
    const [, id] = await port.expectCommand(/^(\d+) x\n/m);
    port.say(id!, '|hel', 'lo wor', 'ld\n', `${id}`, '=', '0', '\n');
    expect(await done).toEqual({ status: 0, output: ['hello world'] });
  });

  it('does not take output for protocol', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('x');
    const [, id] = await port.expectCommand(/^(\d+) x\n/m);
    port.say(`${id}|${id}=5\n${id}|#ready boot2 6.12\n${id}|\n${id}|a|b\n${id}=0\n`);
    expect(await done).toEqual({ status: 0, output: [`${id}=5`, '#ready boot2 6.12', '', 'a|b'] });
  });

  it('hands over each line as it comes', async () => {
    const { port, agent } = await readyAgent();
    const lines: string[] = [];
    let first: () => void;
    const firstLine = new Promise<void>(resolve => {
      first = resolve;
    });
    const done = agent.run('x', {
      onLine: line => {
        lines.push(line);
        first();
      },
    });
    const [, id] = await port.expectCommand(/^(\d+) x\n/m);
    port.say(`${id}|one\n`);
    await firstLine;
    expect(lines).toEqual(['one']);
    port.say(`${id}|two\n${id}=0\n`);
    await done;
    expect(lines).toEqual(['one', 'two']);
  });

  it('keeps several commands apart', async () => {
    const { port, agent } = await readyAgent();
    const first = agent.run('first');
    const second = agent.run('second');
    const [, a] = await port.expectCommand(/^(\d+) first\n/m);
    const [, b] = await port.expectCommand(/^(\d+) second\n/m);
    port.say(`${a}|from first\n${a}=0\n#ready boot1 6.12\n${b}|from second\n${b}=1\n`);
    expect(await first).toEqual({ status: 0, output: ['from first'] });
    expect(await second).toEqual({ status: 1, output: ['from second'] });
  });

  it('fails when the guest goes on waiting for a command: it got lost', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('lost');
    await port.expectCommand(/ lost\n/);
    port.say('#error no command number: garbage\n', '#ready boot1 6.12\n'.repeat(LOST_AFTER_READY_LINES));
    await expect(done).rejects.toThrow(/did not take the command lost.*\n#error no command number/s);
  });

  it('does not take a command for lost while lines of it come, however often the guest was ready before', async () => {
    const { port, agent } = await readyAgent();
    port.say('#ready boot1 6.12\n'.repeat(LOST_AFTER_READY_LINES));
    const done = agent.run('x');
    const [, id] = await port.expectCommand(/^(\d+) x\n/m);
    const some = '#ready boot1 6.12\n'.repeat(LOST_AFTER_READY_LINES - 1);
    port.say(some, `${id}|line\n`, some, `${id}=0\n`);
    expect((await done).status).toBe(0);
  });

  it('is refused before the guest is ready, when a firmware would read it', async () => {
    const port = new FakePort();
    const agent = await GuestAgent.connect(port);
    await expect(agent.run('x')).rejects.toThrow('not ready yet');
    expect(port.received).toBe('');
  });

  it.each(['a\nb', 'a\rb', '\x03', 'a\0b', '\x7f'])('refuses %j, which is not one line of text', async command => {
    const { port, agent } = await readyAgent();
    await expect(agent.run(command)).rejects.toThrow('one line of text');
    expect(port.received).toBe('');
  });

  it('refuses an empty command and one that is too long, and takes the longest', async () => {
    const { port, agent } = await readyAgent();
    await expect(agent.run('  ')).rejects.toThrow('empty');
    await expect(agent.run('x'.repeat(MAX_COMMAND_BYTES + 1))).rejects.toThrow('it may have');
    const done = agent.run('x'.repeat(MAX_COMMAND_BYTES));
    const [, id] = await port.expectCommand(/^(\d+) x+\n/m);
    port.say(`${id}=0\n`);
    expect((await done).status).toBe(0);
  });

  it('interrupts a command that takes too long, shows its last output, and goes on with the next', async () => {
    const { port, agent } = await readyAgent();
    const slow = agent.run('slow', { timeoutMs: SOON_MS });
    const [, a] = await port.expectCommand(/^(\d+) slow\n/m);
    port.say(`${a}|halfway\n`);
    await expect(slow).rejects.toThrow(/Not done within 20 ms in the guest: slow.*\nhalfway/s);
    expect(port.received).toContain('\x03');
    const next = agent.run('next');
    const [, b] = await port.expectCommand(/^(\d+) next\n/m);
    port.say(`${a}|late\n${a}=130\n${b}|good\n${b}=0\n`);
    expect(await next).toEqual({ status: 0, output: ['good'] });
  });

  it('interrupts a command that has nothing more to say, however long it has talked', async () => {
    vi.useFakeTimers();
    try {
      const { port, agent } = await readyAgent();
      const talking = agent.run('talk', { quietMs: LONG_MS });
      const failed = expect(talking).rejects.toThrow(/Nothing was said for 10000 ms in the guest: talk.*\nfour/s);
      const [, id] = await port.expectCommand(/^(\d+) talk\n/m);
      for (const word of ['one', 'two', 'three', 'four']) {
        await vi.advanceTimersByTimeAsync(LONG_MS - 1);
        expect(port.received).not.toContain('\x03');
        port.say(`${id}|${word}\n`);
        await vi.advanceTimersByTimeAsync(0);
      }
      await vi.advanceTimersByTimeAsync(LONG_MS);
      await failed;
      expect(port.received).toContain('\x03');
    } finally {
      vi.useRealTimers();
    }
  });

  it('does not interrupt the command before when one that still waits takes too long', async () => {
    const { port, agent } = await readyAgent();
    const first = agent.run('first');
    await expect(agent.run('second', { timeoutMs: SOON_MS })).rejects.toThrow('Not done within');
    expect(port.received).not.toContain('\x03');
    const [, a] = await port.expectCommand(/^(\d+) first\n/m);
    port.say(`${a}=0\n`);
    expect((await first).status).toBe(0);
  });

  it('stops a command that floods the host', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('yes');
    const [, id] = await port.expectCommand(/^(\d+) yes\n/m);
    port.say(`${id}|y\n`.repeat(MAX_OUTPUT_LINES + 1));
    await expect(done).rejects.toThrow(`More than ${MAX_OUTPUT_LINES} lines`);
    expect(port.received).toContain('\x03');
  });

  it('passes on what onLine throws, and the agent stays usable', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('x', {
      onLine: () => {
        throw new Error('not this line');
      },
    });
    const [, a] = await port.expectCommand(/^(\d+) x\n/m);
    port.say(`${a}|one\n${a}|two\n${a}=0\n`);
    await expect(done).rejects.toThrow('not this line');
    const next = agent.run('next');
    const [, b] = await port.expectCommand(/^(\d+) next\n/m);
    port.say(`${b}=0\n`);
    expect((await next).status).toBe(0);
  });

  it('fails when the guest goes away', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('poweroff');
    await port.expectCommand(/ poweroff\n/);
    port.destroy();
    await expect(done).rejects.toThrow(GuestGone);
    await agent.closed();
    await expect(agent.run('x')).rejects.toThrow(GuestGone);
  });

  it('fails when the connection is closed on this side', async () => {
    const { agent } = await readyAgent();
    const done = agent.run('x');
    agent.close();
    await expect(done).rejects.toThrow('was closed');
    await agent.closed();
  });

  it('fails the port when a line never ends', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('x');
    port.say('z'.repeat(1024 * 1024 + 1));
    await expect(done).rejects.toThrow('A line has more than');
    await agent.closed();
  });
});

describe('a guest that restarts', () => {
  it('is waited for, not mistaken for the one before', async () => {
    const { port, agent } = await readyAgent();
    let back = false;
    const reboot = agent.reboot(LONG_MS).then(() => {
      back = true;
    });
    await port.expectCommand(/^\d+ reboot\n/m);
    port.say('#ready boot1 6.12\n');
    await new Promise(setImmediate);
    expect(back).toBe(false);
    port.say('SeaBIOS\r\n', '\n#ready boot2 6.12\n');
    await reboot;
    const done = agent.run('x');
    const [, id] = await port.expectCommand(/^(\d+) x\n/m);
    port.say(`${id}=0\n`);
    expect((await done).status).toBe(0);
  });

  it('ends the commands that ran, with an error that says so', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('sleep 1000');
    await port.expectCommand(/sleep/);
    port.say('#ready boot2 6.12\n');
    await expect(done).rejects.toThrow(GuestRestarted);
    await expect(done).rejects.toThrow('sleep 1000');
  });

  it('does not end commands when it is only the same instance that says ready again', async () => {
    const { port, agent } = await readyAgent();
    const done = agent.run('x');
    const [, id] = await port.expectCommand(/^(\d+) x\n/m);
    port.say('#ready boot1 6.12\n', `${id}=0\n`);
    expect((await done).status).toBe(0);
  });

  it('can be waited for when something else restarts it', async () => {
    const { port, agent } = await readyAgent();
    const restarted = agent.restarted(LONG_MS);
    port.say('#ready boot1 6.12\n#ready boot2 6.12\n');
    await restarted;
  });

  it('is not waited for for ever', async () => {
    const { agent } = await readyAgent();
    await expect(agent.reboot(SOON_MS)).rejects.toThrow('not ready within');
  });

  it('fails the wait when it does not restart but goes away', async () => {
    const { port, agent } = await readyAgent();
    const reboot = agent.reboot(LONG_MS);
    await port.expectCommand(/ reboot\n/);
    port.destroy();
    await expect(reboot).rejects.toThrow(GuestGone);
  });
});

describe('a command that is given up', () => {
  it('is interrupted, and its caller told what it said', async () => {
    const { port, agent } = await readyAgent();
    const patience = new AbortController();
    const done = agent.run('work', { signal: patience.signal });
    const [, id] = await port.expectCommand(/^(\d+) work\n/m);
    port.say(`${id}|halfway\n`);
    await new Promise(setImmediate);
    patience.abort();
    await expect(done).rejects.toThrow(/Given up in the guest: work.*\nhalfway/s);
    expect(port.received.endsWith('\x03')).toBe(true);
    port.say(`${id}=130\n`);
    const next = agent.run('next');
    const [, nextId] = await port.expectCommand(/^(\d+) next\n/m);
    port.say(`${nextId}=0\n`);
    expect((await next).status).toBe(0);
  });

  it('does not begin', async () => {
    const { port, agent } = await readyAgent();
    await expect(agent.run('work', { signal: AbortSignal.abort() })).rejects.toThrow(/before it began/);
    expect(port.received).toBe('');
  });

  it('is left alone once it has ended', async () => {
    const { port, agent } = await readyAgent();
    const patience = new AbortController();
    const done = agent.run('work', { signal: patience.signal });
    const [, id] = await port.expectCommand(/^(\d+) work\n/m);
    port.say(`${id}=0\n`);
    await done;
    patience.abort();
    expect(port.received).not.toContain('\x03');
  });

  it('tells a timeout from other reasons', async () => {
    const { agent } = await readyAgent();
    await expect(agent.run('work', { timeoutMs: SOON_MS })).rejects.toThrow(GuestTimeout);
  });
});

describe('connect', () => {
  it('waits for a socket that QEMU has not made yet', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'viommu-agent-'));
    const path = join(folder, 'serial');
    const server = createServer(socket => socket.write('#ready boot1 6.12\n'));
    try {
      const connecting = GuestAgent.connect(path, { timeoutMs: LONG_MS });
      await new Promise<void>(resolve => server.listen(path, resolve));
      const agent = await connecting;
      await agent.ready(LONG_MS);
      agent.close();
      await agent.closed();
    } finally {
      await new Promise(resolve => server.close(resolve));
      await rm(folder, { recursive: true });
    }
  });

  it('says which socket it could not reach', async () => {
    await expect(GuestAgent.connect('/nonexistent/serial', { timeoutMs: 0 })).rejects.toThrow(
      /serial port \/nonexistent\/serial/,
    );
  });
});

describe('the input of a command', () => {
  it('is sent piece by piece, as the guest asks for it', async () => {
    const { port, agent } = await readyAgent();
    const run = agent.run('cat', { input: 'abcdefghij' });
    const [, id] = await port.expectCommand(/\n(\d+)<10 cat\n$/);
    port.say(`${id}?4\n`);
    await port.expectCommand(/cat\nabcd$/);
    port.say(`${id}?4\n`, `${id}?2\n`);
    await port.expectCommand(/cat\nabcdefghij$/);
    port.say(`${id}|abcdefghij\n`, `${id}=0\n`);
    expect(await run).toEqual({ status: 0, output: ['abcdefghij'] });
  });

  it('ends where the guest asks for more than there is', async () => {
    const { port, agent } = await readyAgent();
    const run = agent.run('cat', { input: 'ab' });
    const [, id] = await port.expectCommand(/\n(\d+)<2 cat\n$/);
    port.say(`${id}?999999\n`, `${id}?5\n`, `${id}=0\n`);
    await run;
    expect(port.received.endsWith('cat\nab')).toBe(true);
  });

  it('does not come any more when the command was given up: it is interrupted, so that it does not wait for ever', async () => {
    const { port, agent } = await readyAgent();
    const first = agent.run('sleep 1');
    const [, other] = await port.expectCommand(/\n(\d+) sleep 1\n$/);
    const late = agent.run('cat', { input: 'secret', timeoutMs: SOON_MS });
    const [, id] = await port.expectCommand(/\n(\d+)<6 cat\n$/);
    await expect(late).rejects.toThrow(GuestTimeout);
    port.say(`${other}=0\n`);
    await first;
    port.say(`${id}?6\n`);
    await port.expectCommand(INTERRUPTED);
    expect(port.received).not.toContain('secret');
  });

  it('holds the next command back until the one that was given up has ended', async () => {
    const { port, agent } = await readyAgent();
    const given = agent.run('wait', { input: 'abcd', timeoutMs: SOON_MS });
    const [, a] = await port.expectCommand(/^(\d+)<4 wait\n/m);
    await expect(given).rejects.toThrow(GuestTimeout);
    const next = agent.run('next');
    port.say(`${a}?4\n`);
    await port.expectCommand(INTERRUPTED);
    expect(port.received).not.toContain('next');
    port.say(`${a}=130\n`);
    const [, b] = await port.expectCommand(/^(\d+) next\n/m);
    port.say(`${b}=0\n`);
    expect((await next).status).toBe(0);
  });

  it('holds it back no longer than the guest is busy: an end may get lost', async () => {
    const { port, agent } = await readyAgent();
    const given = agent.run('wait', { input: 'abcd', timeoutMs: SOON_MS });
    await expect(given).rejects.toThrow(GuestTimeout);
    const next = agent.run('next');
    port.say('#ready boot1 6.12\n'.repeat(5));
    const [, b] = await port.expectCommand(/^(\d+) next\n/m);
    port.say(`${b}=0\n`);
    expect((await next).status).toBe(0);
  });

  it('lets one that is held back be given up', async () => {
    const { port, agent } = await readyAgent();
    const given = agent.run('wait', { input: 'abcd', timeoutMs: SOON_MS });
    const [, a] = await port.expectCommand(/^(\d+)<4 wait\n/m);
    await expect(given).rejects.toThrow(GuestTimeout);
    await expect(agent.run('held', { timeoutMs: SOON_MS })).rejects.toThrow(GuestTimeout);
    port.say(`${a}=130\n`);
    const next = agent.run('next');
    const [, b] = await port.expectCommand(/^(\d+) next\n/m);
    expect(port.received).not.toContain('held');
    port.say(`${b}=0\n`);
    expect((await next).status).toBe(0);
  });

  it('is interrupted where an earlier host has left the command that asks', async () => {
    const { port } = await readyAgent();
    port.say('7?16384\n');
    await port.expectCommand(INTERRUPTED);
  });

  it('is asked for by a guest that does not read: nothing piles up', async () => {
    const { port } = await readyAgent();
    port.deaf = true;
    for (let i = 0; i < 100_000; i += 1000) port.say(`${i}?1\n`.repeat(1000));
    await new Promise(setImmediate);
    expect(port.writableLength).toBeLessThanOrEqual(port.writableHighWaterMark);
  });

  it('keeps a command from counting as silent', async () => {
    const { port, agent } = await readyAgent();
    const run = agent.run('cat', { input: 'ab', quietMs: LONG_MS });
    const [, id] = await port.expectCommand(/\n(\d+)<2 cat\n$/);
    for (let i = 1; i < LOST_AFTER_READY_LINES; i++) port.say('#ready boot1 6.12\n');
    port.say(`${id}?2\n`);
    for (let i = 1; i < LOST_AFTER_READY_LINES; i++) port.say('#ready boot1 6.12\n');
    port.say(`${id}=0\n`);
    expect((await run).status).toBe(0);
  });

  it.each([['a b'], ['\x03'], ['\n'], ['a'.repeat(MAX_INPUT_CHARACTERS + 1)]])(
    'is base64 of a bounded length: not %.3j',
    async input => {
      const { port, agent } = await readyAgent();
      await expect(agent.run('cat', { input })).rejects.toThrow(/characters of base64/);
      expect(port.received).toBe('');
    },
  );
});
