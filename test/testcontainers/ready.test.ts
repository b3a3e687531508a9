import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { GuestReady, plainLog } from '../../src/testcontainers/ready.ts';

type Container = Parameters<GuestReady['waitUntilReady']>[0];

interface Plan {
  /** Exit codes of `viommu guest wait`, one an attempt; 'refused': the container does not run. */
  readonly answers: readonly (number | 'refused')[];
  /** After so many attempts the container has ended with this status. */
  readonly ends?: { readonly after: number; readonly status: number };
}

function frame(text: string, stream = 1): Buffer {
  const body = Buffer.from(text);
  const header = Buffer.alloc(8);
  header[0] = stream;
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

function fake({ answers, ends }: Plan) {
  const commands: string[][] = [];
  let exit: (value: { StatusCode: number }) => void = () => {};
  const exited = new Promise<{ StatusCode: number }>(resolve => {
    exit = resolve;
  });
  const container = {
    wait: () => exited,
    logs: async () => Buffer.concat([frame('booting\n'), frame('viommu: no server\n', 2)]),
    async exec({ Cmd }: { Cmd: string[] }) {
      commands.push(Cmd);
      if (ends !== undefined && commands.length >= ends.after) exit({ StatusCode: ends.status });
      const answer = answers[Math.min(commands.length, answers.length) - 1]!;
      if (answer === 'refused') throw Object.assign(new Error('is not running'), { statusCode: 409 });
      return {
        start: async () => Readable.from([]),
        inspect: async () => ({ ExitCode: answer }),
      };
    },
  };
  return { container: container as unknown as Container, commands };
}

describe('waiting for a guest', () => {
  it('ends when the guest answers', async () => {
    const { container, commands } = fake({ answers: [0] });
    await new GuestReady(60_000).waitUntilReady(container);
    expect(commands).toEqual([['viommu', 'guest', 'wait', '--dir', '/run/guest', '--timeout', '60']]);
  });

  it('asks again where the guest is not there yet', async () => {
    const { container, commands } = fake({ answers: [1, 'refused', 1, 0] });
    await new GuestReady(60_000).waitUntilReady(container);
    expect(commands).toHaveLength(4);
  });

  it('rejects with what the container said when it ends before', async () => {
    const { container } = fake({ answers: ['refused'], ends: { after: 2, status: 7 } });
    await expect(new GuestReady(60_000).waitUntilReady(container)).rejects.toThrow(
      "the guest's container ended with status 7:\nbooting\nviommu: no server\n",
    );
  });

  it('rejects with what the container said when the time is over', async () => {
    const { container } = fake({ answers: [1] });
    await expect(new GuestReady(1).waitUntilReady(container)).rejects.toThrow(
      'the guest was not ready within 1 ms:\nbooting\nviommu: no server\n',
    );
  });

  it('passes on what the engine says otherwise', async () => {
    const { container } = fake({ answers: [0] });
    const broken = { ...container, exec: async () => Promise.reject(new Error('no engine')) } as unknown as Container;
    await expect(new GuestReady(60_000).waitUntilReady(broken)).rejects.toThrow('no engine');
  });

  it('takes another time', () => {
    const ready = new GuestReady(1000);
    expect(ready.isStartupTimeoutSet()).toBe(false);
    expect(ready.withStartupTimeout(5)).toBe(ready);
    expect([ready.isStartupTimeoutSet(), ready.getStartupTimeout()]).toEqual([true, 5]);
  });
});

describe("a container's log", () => {
  it('is the text of its frames, in their order', () => {
    expect(plainLog(Buffer.concat([frame('a\n'), frame('é\n', 2), frame('')]))).toBe('a\né\n');
  });

  it('may end in the middle of a frame', () => {
    expect(plainLog(frame('abcdef').subarray(0, 11))).toBe('abc');
    expect(plainLog(Buffer.of(1, 0, 0))).toBe('');
  });
});
