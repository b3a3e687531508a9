/** The client in docs/websocket.md, as it stands there, against the acceptor. */
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { defaultLinkLimits, MAX_CONTROL_CHARACTERS } from '../../../src/vfio-user/websocket/limits.ts';
import { message, messages, Rig } from './rig.ts';

interface DocumentedClient {
  send(message: Uint8Array): void;
  close(): void;
  readonly waiting: number;
}

type Connect = (
  url: string,
  options: { grace?: number; onMessage: (bytes: Buffer) => void; onEnd: (reason: string) => void },
) => DocumentedClient;

const repository = join(import.meta.dirname, '..', '..', '..');
const page = readFileSync(join(repository, 'docs', 'websocket.md'), 'utf8');
let directory: string;
let connect: Connect;
let rig: Rig;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-websocket-'));
  symlinkSync(join(repository, 'node_modules'), join(directory, 'node_modules'));
  const [, code] = /```js\n([\s\S]*?)```/.exec(page)!;
  writeFileSync(join(directory, 'client.mjs'), code!);
  ({ connect } = (await import(pathToFileURL(join(directory, 'client.mjs')).href)) as { connect: Connect });
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

afterEach(() => rig.close());

function client(url: string) {
  const chunks: Buffer[] = [];
  let heard: () => void = () => {};
  let end: (reason: string) => void = () => {};
  const ended = new Promise<string>(resolve => {
    end = resolve;
  });
  const made = connect(url, {
    onMessage: bytes => {
      chunks.push(bytes);
      heard();
    },
    onEnd: end,
  });
  const all = async (bytes: number) => {
    const length = () => chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    while (length() < bytes) {
      await new Promise<void>(resolve => {
        heard = resolve;
      });
    }
    return Buffer.concat(chunks);
  };
  return { made, all, ended };
}

describe('the documented client', () => {
  test('loses nothing over connections that break', async () => {
    rig = await Rig.start({ windowFrames: 64 }, { proxy: true });
    const { made, all, ended } = client(rig.url());
    await rig.heardOf('link.opened');
    const up = messages(1500, i => 16 + ((i * 7919) % 3000));
    const down = messages(1500, i => 16 + ((i * 104729) % 3000));
    for (const one of up) made.send(one);
    const sending = rig.machine[0]!.write(Buffer.concat(down));
    for (let i = 1; i <= 4; i++) {
      await rig.machine[0]!.take((i * Buffer.concat(up).length) / 6);
      rig.proxy!.cut();
      await rig.until(() => rig.acceptor.statistics.resumed >= i);
    }
    expect((await rig.machine[0]!.take(Buffer.concat(up).length)).equals(Buffer.concat(up))).toBe(true);
    expect((await all(Buffer.concat(down).length)).equals(Buffer.concat(down))).toBe(true);
    await sending;
    made.close();
    await rig.machine[0]!.ended;
    expect(await ended).toBe('closed by this side');
  });

  test('hears of the end of the stream', async () => {
    rig = await Rig.start();
    const { all, ended } = client(rig.url());
    await rig.heardOf('link.opened');
    rig.machine[0]!.socket.end(message(1));
    expect(await all(24)).toEqual(message(1));
    expect(await ended).toBe('the local stream ended');
  });

  test('hears that it is refused', async () => {
    rig = await Rig.start();
    const { ended } = client(`${rig.url()}/more`);
    expect(await ended).toBe('refused: 404');
  });
});

test('the page names the limits that hold', async () => {
  rig = await Rig.start();
  const limits = defaultLinkLimits;
  const { windowBytes, windowFrames, graceMilliseconds, maxGraceMilliseconds, maxSessions } = limits;
  expect(page).toContain(`16 to ${limits.maxMessage} bytes`);
  expect(page).toContain(`at most ${MAX_CONTROL_CHARACTERS} characters`);
  expect(page).toContain(`"window":{"bytes":${windowBytes},"frames":${windowFrames}}`);
  expect(page).toContain(`(default ${graceMilliseconds})`);
  expect(page).toContain(`its own limit (${maxGraceMilliseconds})`);
  expect(page).toContain(`there are ${maxSessions} sessions already`);
  expect(page).toContain(`after ${limits.ackFrames} frames, after ${limits.ackBytes / 1024} KiB`);
  expect(page).toContain(`${limits.ackMilliseconds} ms after the first frame`);
  expect(page).toContain(
    `pauses of ${limits.redialPauseMilliseconds}, ${2 * limits.redialPauseMilliseconds}, ... ${limits.maxRedialPauseMilliseconds} ms`,
  );
  expect([limits.keepAliveMilliseconds, limits.silentIntervals]).toEqual([1000, 3]);
  expect([limits.openMilliseconds, limits.lingerMilliseconds, limits.closeMilliseconds]).toEqual([10_000, 2000, 2000]);
});
