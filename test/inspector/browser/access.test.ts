import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type ServedRemote, serveAt } from '../../../dist/src/cli/serve-remote.js';
// The device thread is a worker, which runs compiled code.
import { HostPort } from '../../../dist/src/inspector/host-port.js';
import { MachineHost } from '../../../dist/src/machine/host.js';
import { encodeMessage } from '../../../src/inspector/codec.ts';
import { MAX_REQUEST_BYTES } from '../../../src/inspector/limits.ts';
import { describeMachine } from '../../../src/machine/description.ts';
import { describeInBrowser, launchChromium } from '../../browser.ts';
import { temporaryDirectory } from '../../guest/support.ts';
import { InspectorPage, SHOWN } from './inspector-page.ts';

const PAGE = '<!doctype html><title>another page</title>';
const PROTOCOL = 'viommu.v1';

describeInBrowser('who may use the inspector', program => {
  const directory = temporaryDirectory();
  let browser: Browser;
  let host: MachineHost;
  let open: ServedRemote;
  let guarded: ServedRemote;
  let stranger: Server;
  let strangerUrl: string;
  const pages: InspectorPage[] = [];

  beforeAll(async () => {
    browser = await launchChromium(program);
    host = await MachineHost.start(describeMachine('vtd', ['edu@01:00.0']), directory.path);
    open = await serveAt('0', new HostPort(host), { page: true });
    guarded = await serveAt('0.0.0.0:0', new HostPort(host), { page: true });
    stranger = createServer((_request, response) => response.setHeader('content-type', 'text/html').end(PAGE));
    await new Promise<void>(resolve => stranger.listen(0, '127.0.0.1', resolve));
    strangerUrl = `http://127.0.0.1:${(stranger.address() as AddressInfo).port}/`;
  });

  afterEach(async () => {
    for (const page of pages.splice(0)) await page.close();
  });

  afterAll(async () => {
    await browser?.close();
    stranger?.close();
    await open?.close();
    await guarded?.close();
    await host?.stop();
    directory.remove();
  });

  async function inspect(url: string): Promise<InspectorPage> {
    const inspector = await InspectorPage.open(browser, url);
    pages.push(inspector);
    return inspector;
  }

  /** Whether a page gets the WebSocket that it asks for. */
  async function socketFrom(page: Page, url: string, protocols: readonly string[]): Promise<string> {
    return await page.evaluate(
      ([url, protocols]) => {
        const { WebSocket } = globalThis as unknown as { WebSocket: new (url: string, protocols: string[]) => Socket };
        return new Promise<string>(resolve => {
          const socket = new WebSocket(url, [...protocols]);
          socket.onopen = () => resolve('open');
          // Where the page's own policy forbids it, there is an error and no end.
          socket.onerror = () => resolve('refused');
        });
      },
      [url, protocols] as const,
    );
  }

  const here = (url: string) => url.replace('0.0.0.0', '127.0.0.1');
  const tokenOf = (url: string) => new URL(url).hash.replace('#token=', '');

  it('a page with the token', async () => {
    const inspector = await inspect(here(guarded.pageUrl!));
    await inspector.connected();
    await expect.poll(async () => (await inspector.state()).machine, SHOWN).toBe('machine');
    expect(inspector.problems).toEqual([]);
  });

  it.each([
    ['without a token', ''],
    ['with a wrong token', '#token=wrong'],
  ])('no page %s, and it says what it needs', async (_name, fragment) => {
    const inspector = await inspect(here(guarded.pageUrl!).replace(/#.*/, fragment));
    await expect.poll(() => inspector.text('banner'), SHOWN).toMatch(/token/);
    expect(await inspector.at('connection').getAttribute('data-state')).not.toBe('open');
    expect(await inspector.at('run-state').getAttribute('data-state')).toBe('unknown');
    expect((await inspector.state()).machine).toBeUndefined();
    await inspector.screenshot('no-token');
  });

  it('no page of another place, not even with the token', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(strangerUrl);
    const token = `viommu.token.${tokenOf(guarded.pageUrl!)}`;
    expect(await socketFrom(page, open.url, [PROTOCOL])).toBe('refused');
    expect(await socketFrom(page, here(guarded.url), [PROTOCOL, token])).toBe('refused');
    await page.goto(`data:text/html,${encodeURIComponent(PAGE)}`);
    expect(await socketFrom(page, open.url, [PROTOCOL])).toBe('refused');
    expect(await socketFrom(page, here(guarded.url), [PROTOCOL, token])).toBe('refused');
    await context.close();
  });

  it('no page of another place within itself', async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(strangerUrl);
    const refused = page.waitForEvent('console', message => /frame/i.test(message.text()));
    await page.evaluate(url => {
      const { document } = globalThis as unknown as { document: { body: { innerHTML: string } } };
      document.body.innerHTML = `<iframe src="${url}"></iframe>`;
    }, open.pageUrl!);
    expect((await refused).text()).toMatch(/frame-ancestors|X-Frame-Options|frame/i);
    await context.close();
  });

  it('a page of its own place, whose own security policy lets it reach nobody else', async () => {
    const inspector = await inspect(open.pageUrl!);
    await inspector.connected();
    expect(await socketFrom(inspector.page, open.url, [PROTOCOL])).toBe('open');
    expect(await socketFrom(inspector.page, here(guarded.url), [PROTOCOL])).toBe('refused');
    const reached = await inspector.page.evaluate(
      url =>
        fetch(url).then(
          () => true,
          () => false,
        ),
      strangerUrl,
    );
    expect(reached).toBe(false);
    expect(inspector.problems.join('\n')).toMatch(/Content Security Policy/);
  });

  describe('what is no request', () => {
    const garbage = Buffer.from([0xc1, 0xff, 0x00]);
    it.each<[string, () => string | number[], RegExp]>([
      ['bytes that are no MessagePack', () => [...garbage], /answered malformed/],
      ['text', () => 'machines', /answered malformed/],
      ['a list', () => [...encodeMessage([1, 2] as unknown as object)], /answered malformed/],
      ['more than a request may have', () => Array<number>(1).fill(MAX_REQUEST_BYTES + 1), /closed 1009/],
    ])('%s is refused, and nobody else is disturbed', async (name, make, outcome) => {
      const inspector = await inspect(open.pageUrl!);
      await inspector.connected();
      const isLarge = name.startsWith('more');
      const told = await inspector.page.evaluate(
        ([url, protocol, bytes, isLarge]) => {
          const { WebSocket } = globalThis as unknown as { WebSocket: new (url: string, protocol: string) => Socket };
          return new Promise<string>(resolve => {
            const socket = new WebSocket(url, protocol);
            socket.onopen = () => {
              if (typeof bytes === 'string') socket.send(bytes);
              else socket.send(isLarge ? new Uint8Array(bytes[0]!) : Uint8Array.from(bytes));
            };
            socket.onclose = ({ code }) => resolve(`closed ${code}`);
            socket.onmessage = async ({ data }) =>
              resolve((await data.text()).includes('malformed') ? 'answered malformed' : 'answered');
          });
        },
        [open.url, PROTOCOL, make(), isLarge] as const,
      );
      expect(told).toMatch(outcome);
      await inspector.refresh();
      await inspector.connected();
      expect((await host.inspect()).state).toBe('running');
      expect(inspector.problems).toEqual([]);
    });
  });
});

interface Socket {
  onopen: () => void;
  onerror: () => void;
  onclose: (event: { readonly code: number }) => void;
  onmessage: (event: { readonly data: { text(): Promise<string> } }) => void;
  send(data: string | Uint8Array): void;
}
