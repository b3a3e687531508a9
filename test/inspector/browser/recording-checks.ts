/** What `viommu inspect FILE` shows of a file that was recorded beside the page. */
import type { Browser } from 'playwright-core';
import { expect } from 'vitest';
import { RecordingReader } from '../../../src/trace/recording/reader.ts';
import type { Finding } from '../../../src/trace/sanitizer/finding.ts';
import { startProgram } from '../../support.ts';
import { InspectorPage, SHOWN } from './inspector-page.ts';

const HARDWARE_VIEWS = ['rates', 'tables', 'registers'] as const;

export async function checkRecording(browser: Browser, path: string): Promise<void> {
  const reader = RecordingReader.open(path);
  const { records } = reader;
  const ids = new Set<string>();
  const cursor = reader.cursor();
  for (const { words } of reader.read()) {
    cursor.load(words);
    while (cursor.next()) {
      if (cursor.decoder.kind(cursor.kind)?.name === 'finding') ids.add((cursor.value() as Finding).id);
    }
  }
  reader.close();
  expect(ids.size).toBeGreaterThan(0);

  const program = startProgram(['inspect', path]);
  try {
    await program.says(/http:\/\/\S+/);
    const inspector = await InspectorPage.open(browser, program.stdout().trim());
    await inspector.connected();
    expect(await inspector.at('run-state').getAttribute('data-state')).toBe('recording');
    for (const view of HARDWARE_VIEWS) {
      await inspector.show(view);
      expect(await inspector.text('unavailable')).toMatch(/recording/);
    }
    await inspector.screenshot('recording-registers');
    await inspector.show('findings');
    await expect
      .poll(async () => (await inspector.state()).findings.map(({ id }) => id).sort(), SHOWN)
      .toEqual([...ids].sort());
    const [first] = [...ids].sort();
    await inspector.at(`finding-${first}`).click();
    await inspector.at('around').waitFor();
    await inspector.screenshots('recording-findings');
    await inspector.show('trace', { class: 'all' });
    // The page keeps the newest million.
    await expect
      .poll(async () => (await inspector.state()).records.count, { timeout: 30_000, interval: 100 })
      .toBe(Math.min(records, 1_000_000));
    await inspector.screenshots('recording-trace');
    await inspector.show('space');
    expect(await inspector.text('touch-count')).toMatch(/[1-9].* transfers in the recording/);
    await inspector.screenshots('recording-space');
    await inspector.show('overview');
    await inspector.at('way-of-the-data').waitFor();
    await inspector.screenshots('recording-overview');
    expect(inspector.problems).toEqual([]);
    await inspector.close();
  } finally {
    program.child.kill('SIGINT');
    expect((await program.ended).status).toBe(0);
  }
}
