import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { EventClass } from '../../../src/trace/event-kinds.ts';
import { describeInBrowser, launchChromium } from '../../browser.ts';
import { bytesText, classOf, firstDifference, isDoorbell, mappingRows } from './expected.ts';
import { checkQueue, checkRegisters, checkTlb, checkWalk } from './hardware-checks.ts';
import { InspectedGuest, Witness } from './inspected-guest.ts';
import { InspectorPage, SCREENSHOTS, SHOWN } from './inspector-page.ts';
import { checkRecording } from './recording-checks.ts';
import { domainWithMappings, transfersOf, until } from './run-state.ts';
import { checkClassFilter, checkFilters } from './trace-checks.ts';

/** Of one flow of records that is compared one by one. */
const ENOUGH_RECORDS = 3000;
const ENOUGH_TRANSFERS = 500;
const ENOUGH_SAMPLES = 6;
const PAGE_STEPS = 3;

describeInBrowser('the inspector beside a running guest', program => {
  let browser: Browser;
  let guest: InspectedGuest;
  let inspector: InspectorPage;
  let isOver = false;

  beforeAll(async () => {
    browser = await launchChromium(program);
    guest = await InspectedGuest.start();
    console.log(`screenshots: ${SCREENSHOTS}`);
    await guest.program('dma-demo --json');
    guest.startLoad();
    inspector = await InspectorPage.open(browser, guest.url);
    await inspector.connected();
  });

  afterAll(async () => {
    await browser?.close();
    if (!isOver) await guest?.end();
    guest?.remove();
  });

  afterEach(async () => {
    // One that failed while it was paused must not take the others with it.
    if (!isOver && (await guest.host.inspect()).state === 'paused') {
      await guest.host.resume();
      await inspector.refresh();
      await inspector.page.locator('[data-testid=run-state][data-state=running]').waitFor();
    }
    expect(inspector.problems.splice(0)).toEqual([]);
  });

  /** By the page's own button; the machine itself must agree. */
  async function pause(): Promise<void> {
    await inspector.at('pause').click();
    await expect.poll(() => inspector.at('run-state').getAttribute('data-state'), SHOWN).toBe('paused');
    expect((await guest.host.inspect()).state).toBe('paused');
  }

  async function resume(): Promise<void> {
    await inspector.at('pause').click();
    await expect.poll(() => inspector.at('run-state').getAttribute('data-state'), SHOWN).toBe('running');
    expect((await guest.host.inspect()).state).toBe('running');
  }

  /** Stops where there is something to look at; returns a domain that devices use. */
  async function pauseWithMappings(): Promise<number> {
    return await until('a domain with mappings', async () => {
      await pause();
      const domain = domainWithMappings(await guest.host.mappings());
      if (domain === undefined) await resume();
      return domain;
    });
  }

  describe('overview', () => {
    it('shows the load as it goes', async () => {
      await inspector.show('overview');
      await expect.poll(() => inspector.text('hit-rate'), SHOWN).toMatch(/^[\d.]+ %$/);
      await expect.poll(() => inspector.text('iommu-box'), SHOWN).toMatch(/● connected/);
      await expect.poll(() => inspector.text('way-of-the-data'), SHOWN).toMatch(/[1-9][\d.]* [KM]iB\/s written/);
      await inspector.screenshots('overview', true);
    });

    it('says who is attached to what, and what each function did', async () => {
      await pauseWithMappings();
      const { functions } = await guest.host.inspect();
      const { attachments, mappings } = await guest.host.mappings();
      const counted = (await guest.host.statistics()).functions;
      await inspector.refresh();
      for (const { name, kind, requesterId, connected } of functions) {
        const dma = counted[name]?.dma;
        const numbers = dma && [dma.reads, dma.writes, dma.byStatus.slice(1).reduce((sum, n) => sum + n, 0)];
        await expect.poll(() => inspector.text(`function-${name}`), SHOWN).toContain(`${name} ${kind}`);
        const row = await inspector.text(`function-${name}`);
        expect(row).toContain(connected ? '● connected' : '○ no client');
        if (requesterId === undefined || numbers === undefined) continue;
        const digits = numbers.map(n => String(n).replace(/\B(?=(?:\d{3})+$)/g, ' '));
        await expect.poll(() => inspector.text(`function-${name}`), SHOWN).toContain(digits[0]!);
        expect(await inspector.text(`function-${name}`)).toContain(digits[1]!);
        const domain = attachments.find(one => one.requesterId === requesterId && one.pasid === -1)?.domain;
        const attached = domain === undefined ? 'attached to nothing' : `domain ${domain}`;
        expect(await inspector.text(`device-${name}`)).toContain(attached);
      }
      for (const domain of new Set(attachments.map(one => one.domain))) {
        const own = mappings.filter(one => one.domain === domain);
        const bytes = own.reduce((sum, { pages }) => sum + pages * 4096, 0);
        const words = `${own.length} ${own.length === 1 ? 'mapping' : 'mappings'} · ${own.length === 0 ? '0 B' : bytesText(bytes)}`;
        expect(await inspector.text(`domain-${domain}`)).toContain(words);
      }
      await resume();
    });
  });

  describe('findings', () => {
    it('are those of the machine, each with its history', async () => {
      const { findings } = await guest.host.findings();
      expect(findings.length).toBeGreaterThan(0);
      await inspector.show('findings');
      await inspector.refresh();
      await expect.poll(() => inspector.text('findings-badge'), SHOWN).toBe(String(findings.length));
      expect(await inspector.text('findings-count')).toMatch(new RegExp(`^${findings.length} finding`));
      for (const { id, summary, count, device, detector, explanation, suggestion, evidence } of findings) {
        const row = await inspector.text(`finding-${id}`);
        expect(row).toContain(summary);
        expect(row).toContain(`${detector} ${device} ${count} `);
        await inspector.at(`finding-${id}`).click();
        const plain = (text: string) => text.replace(/\s+/g, ' ').trim();
        await expect.poll(() => inspector.text('finding-detail'), SHOWN).toContain(plain(explanation));
        expect(await inspector.text('finding-detail')).toContain(plain(suggestion));
        const told = await inspector.text('evidence');
        for (const piece of evidence) expect(told).toContain(plain(piece.text));
        expect(await inspector.at('evidence').locator('li').count()).toBe(evidence.length);
      }
      await inspector.screenshots('findings');
    });

    it('can be hidden by their severity', async () => {
      const { findings } = await guest.host.findings();
      const [{ severity, id }] = findings as [(typeof findings)[number]];
      await inspector.at(`severity-${severity}`).click();
      await expect.poll(() => inspector.at(`finding-${id}`).count(), SHOWN).toBe(0);
      await inspector.at(`severity-${severity}`).click();
      await inspector.at(`finding-${id}`).waitFor();
    });
  });

  describe('address space', () => {
    it('counts each transfer since it was opened, and lists what is mapped', async () => {
      await pause();
      const fresh = await InspectorPage.open(browser, `${guest.url}#/space`);
      await expect.poll(async () => ((await fresh.state()).records.classes & EventClass.dma) !== 0, SHOWN).toBe(true);
      const before = transfersOf(await guest.host.statistics());
      await resume();
      await expect.poll(async () => (await fresh.state()).touches.transfers, SHOWN).toBeGreaterThan(ENOUGH_TRANSFERS);
      const domain = await pauseWithMappings();
      const made = transfersOf(await guest.host.statistics()) - before;
      await expect.poll(async () => (await fresh.state()).touches.transfers, SHOWN).toBe(made);
      const { mappings } = await guest.host.mappings();
      await fresh.show('space', { domain: String(domain) });
      await fresh.refresh();
      const wanted = mappingRows(mappings, domain);
      const shown = async () => (await fresh.cells('[data-testid=space-table] tbody')).map(row => row.slice(0, 5));
      await expect.poll(async () => firstDifference(await shown(), wanted), SHOWN).toBeUndefined();
      expect((await fresh.state()).mappings.length).toBe(mappings.length);
      expect(fresh.problems).toEqual([]);
      await fresh.screenshots('space', true);
      await fresh.close();
      await resume();
    });

    it('is zoomed by wheel and keys, and folds what is empty', async () => {
      const domain = await pauseWithMappings();
      await inspector.show('space', { domain: String(domain) });
      await inspector.refresh();
      const range = () => inspector.text('visible-range');
      const whole = await range();
      const pages = async () => {
        const [from, to] = (await range()).split(' – ').map(text => BigInt(text));
        return (to! - from! + 1n) >> 12n;
      };
      const wide = await pages();
      await inspector.at('space-map').hover();
      await inspector.page.mouse.wheel(0, -400);
      await expect.poll(pages, SHOWN).toBeLessThan(wide);
      await inspector.page.mouse.move(1, 1);
      await inspector.page.keyboard.press('Home');
      await expect.poll(range, SHOWN).toBe(whole);
      await inspector.page.keyboard.press('+');
      await expect.poll(pages, SHOWN).toBeLessThan(wide);
      await inspector.page.keyboard.press('-');
      await inspector.at('zoom-all').click();
      await expect.poll(range, SHOWN).toBe(whole);
      const [first] = mappingRows((await guest.host.mappings()).mappings, domain);
      await inspector.page.keyboard.press('/');
      await inspector.page.keyboard.type(first![0]!);
      await inspector.page.keyboard.press('Enter');
      await expect.poll(() => inspector.text('page-address'), SHOWN).toBe(first![0]);
      expect(await inspector.text('space-detail')).toContain(
        `leads to ${first![4] === 'scattered' ? 'not' : first![4]}`,
      );
      await inspector.screenshots('space-page');
      await inspector.page.keyboard.press('Escape');
      await resume();
    });
  });

  describe('hardware', () => {
    it('is walked, entry by entry, as the machine walks it', async () => {
      const domain = await pauseWithMappings();
      await checkWalk(inspector, guest.host, domain);
      await resume();
    });

    it('has the register values of the machine, and its TLB and queue', async () => {
      await pauseWithMappings();
      await checkRegisters(inspector, guest.host);
      await checkTlb(inspector, guest.host);
      await checkQueue(inspector, guest.host);
      await resume();
    });
  });

  describe('rates', () => {
    it('add up to what the machine counted', async () => {
      await inspector.show('overview');
      await pause();
      const fresh = await InspectorPage.open(browser, `${guest.url}#/rates`);
      const rates = () => fresh.ask<{ times: number[]; dma: (number | null)[]; registers: (number | null)[] }>('rates');
      await expect.poll(async () => (await rates()).times.length, SHOWN).toBeGreaterThan(0);
      const before = transfersOf(await guest.host.statistics());
      await resume();
      await expect.poll(async () => (await rates()).times.length, SHOWN).toBeGreaterThan(ENOUGH_SAMPLES);
      await fresh.screenshots('rates');
      await pause();
      const made = transfersOf(await guest.host.statistics()) - before;
      await expect.poll(() => fresh.text('latest-dma'), SHOWN).toBe('0');
      const { times, dma } = await rates();
      // The first sample is of a machine that stood still.
      const counted = dma.slice(1).reduce<number>((sum, rate, n) => sum + (rate ?? 0) * (times[n + 1]! - times[n]!), 0);
      expect(Math.round(counted)).toBe(made);
      expect(fresh.problems).toEqual([]);
      await fresh.close();
      await resume();
    });
  });

  describe('trace', () => {
    it('has every record that the machine makes, in their order', async () => {
      await inspector.show('trace', { class: 'all' });
      await pause();
      const witness = new Witness(guest.host, -1);
      const fresh = await InspectorPage.open(browser, `${guest.url}#/trace?class=all`);
      await expect.poll(async () => (await fresh.state()).records.classes, SHOWN).not.toBe(0);
      await resume();
      await expect.poll(async () => (await fresh.state()).records.count, SHOWN).toBeGreaterThan(ENOUGH_RECORDS);
      await pause();
      const since = (list: readonly { kind: string; note?: string }[]) =>
        list.slice(list.findLastIndex(one => one.note === 'machine.resumed')).filter(one => one.kind !== 'source');
      await expect
        .poll(async () => firstDifference(since(await fresh.records()), since(witness.records)), SHOWN)
        .toBeUndefined();
      expect(since(witness.records).length).toBeGreaterThan(ENOUGH_RECORDS / 2);
      expect((await fresh.state()).records).toMatchObject({ damaged: 0, dropped: 0 });
      witness.stop();
      await fresh.screenshots('trace');
      await checkFilters(fresh);
      await checkClassFilter(fresh);
      expect(fresh.problems).toEqual([]);
      await fresh.close();
      await resume();
    });
  });

  describe('run control', () => {
    it('makes exactly one transfer with a step of DMA, and one access with a step of registers', async () => {
      await inspector.show('trace', { class: 'register,dma,note' });
      await pause();
      const witness = new Witness(guest.host, EventClass.register | EventClass.dma);
      const pauses = async () => (await inspector.records()).filter(one => one.note === 'machine.paused');
      await expect.poll(async () => (await pauses()).length, SHOWN).toBeGreaterThan(0);
      const paused = (await pauses()).at(-1)!.time;
      const countOf = (name: string) => witness.records.filter(one => classOf(one) === name).length;
      const shownOf = async (name: string) => (await inspector.records()).filter(one => classOf(one) === name).length;
      const step = async (what: 'dma' | 'register') => {
        const done = guest.host.waitFor(event => event.kind === 'machine.stepped');
        await inspector.at(`step-${what}`).click();
        return (await done).detail as { readonly transfers?: number; readonly accesses?: number };
      };
      const before = transfersOf(await guest.host.statistics());
      let accesses = 0;
      for (let n = 0; n < PAGE_STEPS; n++) {
        const [seen, shown] = [countOf('register'), await shownOf('register')];
        accesses += (await step('register')).accesses ?? 0;
        await expect.poll(() => countOf('register'), SHOWN).toBe(seen + 1);
        await expect.poll(() => shownOf('register'), SHOWN).toBe(shown + 1);
      }
      expect(accesses).toBe(PAGE_STEPS);
      // On from there to where a device is told to begin: nothing but the step of DMA makes it do so.
      const begun = () => witness.records.some(isDoorbell) || undefined;
      await until('a device told to begin', async () => {
        const seen = countOf('register');
        const { stepped } = await guest.host.step('register');
        await expect.poll(() => countOf('register'), { ...SHOWN, interval: 1 }).toBe(seen + (stepped ? 1 : 0));
        // What the IOMMU has to do waits as well, and the guest may wait for that.
        if (!begun()) expect(await guest.host.step('dma')).toMatchObject({ stepped: false });
        return begun();
      });
      expect(transfersOf(await guest.host.statistics())).toBe(before);
      expect(await step('dma')).toMatchObject({ transfers: 1 });
      expect(transfersOf(await guest.host.statistics())).toBe(before + 1);
      await expect.poll(() => countOf('dma'), SHOWN).toBe(1);
      const shown = async () =>
        (await inspector.records()).filter(one => classOf(one) === 'dma' && one.time > paused).length;
      await expect.poll(shown, SHOWN).toBe(1);
      expect(await step('dma')).toMatchObject({ transfers: 0 });
      await expect.poll(() => inspector.text('control-error'), SHOWN).toMatch(/nothing to step/);
      expect(await shown()).toBe(1);
      expect((await guest.host.inspect()).state).toBe('paused');
      await inspector.screenshot('stepped');
      witness.stop();
      await resume();
      await expect.poll(async () => transfersOf(await guest.host.statistics()), SHOWN).toBeGreaterThan(before + 1);
    });

    it('has keys, and lists them', async () => {
      await inspector.page.keyboard.press('?');
      await expect.poll(() => inspector.at('help-dialog').isVisible(), SHOWN).toBe(true);
      await inspector.screenshots('help');
      await inspector.page.keyboard.press('Escape');
      await expect.poll(() => inspector.at('help-dialog').isVisible(), SHOWN).toBe(false);
      for (const [key, view] of [...'1234567'].map((key, n) => [key, VIEWS[n]!] as const)) {
        await inspector.page.keyboard.press(key);
        await inspector.at(`view-${view}`).waitFor();
      }
      await inspector.page.keyboard.press('p');
      await expect.poll(async () => (await guest.host.inspect()).state, SHOWN).toBe('paused');
      await expect.poll(() => inspector.at('run-state').getAttribute('data-state'), SHOWN).toBe('paused');
      await inspector.page.keyboard.press('p');
      await expect.poll(async () => (await guest.host.inspect()).state, SHOWN).toBe('running');
    });

    it('leaves the guest with every byte right', async () => {
      await guest.stopLoad();
      expect(guest.soaks.length).toBeGreaterThan(0);
      for (const facts of guest.soaks) expect(facts).toMatchObject({ pass: true });
    });
  });

  describe('the end', () => {
    it('is told, and what was recorded can be looked at', async () => {
      isOver = true;
      await guest.end();
      await expect.poll(() => inspector.at('connection').getAttribute('data-state'), SHOWN).not.toBe('open');
      expect(await inspector.text('banner')).toMatch(/connection is closed/);
      // That the server is gone is what the browser says.
      inspector.problems.length = 0;
      await inspector.close();
      await checkRecording(browser, guest.recording);
    });
  });
});

const VIEWS = ['overview', 'space', 'rates', 'findings', 'tables', 'registers', 'trace'] as const;
