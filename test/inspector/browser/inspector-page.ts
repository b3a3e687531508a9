/** The inspector's page in a browser, with everything noticed that must not happen there. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core';
import { expect } from 'vitest';
import type { JsonRecord } from '../../../src/trace/record-format.ts';

export const LAPTOP = { width: 1280, height: 800 } as const;
export const SCREENSHOTS = process.env.VIOMMU_SCREENSHOTS ?? join(tmpdir(), 'viommu-screenshots');
/** Those of the documentation are only replaced where this is set. */
const IMAGES = process.env.VIOMMU_UPDATE_IMAGES
  ? join(import.meta.dirname, '..', '..', '..', 'docs', 'images')
  : undefined;
const IN_PAGE = fileURLToPath(new URL('./in-page.js', import.meta.url));
/** Until the page shows what it was asked for. */
export const SHOWN = { timeout: 10_000, interval: 50 } as const;

/** What `window.viommu.state` says. */
export interface PageState {
  readonly link: { readonly state: string; readonly reason: string };
  readonly machine: string;
  readonly state: 'running' | 'paused';
  readonly findings: readonly { readonly id: string; readonly summary: string; readonly count: number }[];
  readonly mappings: readonly {
    readonly domain: number;
    readonly page: number;
    readonly pages: number;
    readonly frame: number;
    readonly permissions: number;
  }[];
  readonly attachments: readonly { readonly requesterId: number; readonly pasid: number; readonly domain: number }[];
  readonly statistics: Readonly<Record<string, unknown>>;
  readonly rates: Readonly<Record<string, number | null>>;
  readonly unavailable: Readonly<Record<string, string>>;
  readonly records: {
    readonly count: number;
    readonly damaged: number;
    readonly classes: number;
    readonly dropped: number;
  };
  readonly touches: { readonly transfers: number; readonly beyond: number };
}

export interface OpenOptions {
  readonly dark?: boolean;
  readonly size?: { readonly width: number; readonly height: number };
}

export class InspectorPage {
  /** Errors in the console, requests that failed, and requests to anybody but the server. */
  readonly problems: string[] = [];

  static async open(browser: Browser, url: string, options: OpenOptions = {}): Promise<InspectorPage> {
    const context = await browser.newContext({
      viewport: options.size ?? LAPTOP,
      colorScheme: options.dark ? 'dark' : 'light',
    });
    await context.addInitScript({ path: IN_PAGE });
    const inspector = new InspectorPage(context, await context.newPage(), url);
    await inspector.page.goto(url);
    return inspector;
  }

  private constructor(
    private readonly context: BrowserContext,
    readonly page: Page,
    url: string,
  ) {
    const { host } = new URL(url);
    const mind = (what: string, where: string) => {
      if (new URL(where).host !== host) this.problems.push(`${what} to another host: ${where}`);
    };
    page.on('console', message => {
      if (message.type() === 'error' || message.type() === 'warning') this.problems.push(message.text());
    });
    page.on('pageerror', error => this.problems.push(error.stack ?? error.message));
    page.on('request', request => mind('request', request.url()));
    page.on('requestfailed', request => this.problems.push(`${request.url()}: ${request.failure()?.errorText}`));
    page.on('response', response => {
      if (response.status() >= 400) this.problems.push(`${response.url()}: ${response.status()}`);
    });
    page.on('websocket', socket => {
      mind('WebSocket', socket.url());
      socket.on('socketerror', error => this.problems.push(`${socket.url()}: ${error}`));
    });
  }

  async close(): Promise<void> {
    await this.context.close();
  }

  at(testId: string): Locator {
    return this.page.getByTestId(testId);
  }

  /** Without the line breaks and narrow spaces of the layout; words that stand apart in a picture with ` | ` in between. */
  async text(testId: string): Promise<string> {
    await this.at(testId).waitFor();
    return await this.ask('text', testId);
  }

  /** A function of in-page.js. */
  async ask<T>(name: string, ...args: readonly unknown[]): Promise<T> {
    return await this.page.evaluate(
      ([name, args]) => {
        const { inspectorTest } = globalThis as unknown as {
          inspectorTest: Record<string, (...args: readonly unknown[]) => unknown>;
        };
        return inspectorTest[name]!(...args) as T;
      },
      [name, args] as const,
    );
  }

  async state(): Promise<PageState> {
    return await this.ask('state');
  }

  async records(): Promise<JsonRecord[]> {
    return await this.ask('records');
  }

  async cells(selector: string): Promise<string[][]> {
    return await this.ask('cells', selector);
  }

  /** By the page's own address, as a link would. */
  async show(view: string, args: Readonly<Record<string, string>> = {}): Promise<void> {
    const query = new URLSearchParams(args).toString();
    await this.page.evaluate(
      hash => {
        (globalThis as unknown as { location: { hash: string } }).location.hash = hash;
      },
      query === '' ? `#/${view}` : `#/${view}?${query}`,
    );
    await this.at(`view-${view}`).waitFor();
  }

  async connected(): Promise<void> {
    await this.page.locator('[data-testid=connection][data-state=open]').waitFor(SHOWN);
  }

  /** The key that reads everything again. */
  async refresh(): Promise<void> {
    await this.page.keyboard.press('u');
  }

  /** `image`: it is one of the documentation's. */
  async screenshot(name: string, image = false): Promise<void> {
    mkdirSync(SCREENSHOTS, { recursive: true });
    const path = join(SCREENSHOTS, `${name}.png`);
    await this.page.screenshot({ path });
    if (!image || IMAGES === undefined) return;
    mkdirSync(IMAGES, { recursive: true });
    copyFileSync(path, join(IMAGES, `inspector-${name}.png`));
  }

  /** The same in both colours. Whatever is pictured must be readable. */
  async screenshots(name: string, image = false): Promise<void> {
    expect(await this.ask('cutOff'), `text that does not fit in ${name}`).toEqual([]);
    await this.screenshot(name, image);
    await this.page.emulateMedia({ colorScheme: 'dark' });
    await this.screenshot(`${name}-dark`);
    await this.page.emulateMedia({ colorScheme: 'light' });
  }
}
