/** The filters of the trace view, beside a plain count of the same records. Nothing must be recorded meanwhile. */
import { expect } from 'vitest';
import type { JsonRecord } from '../../../src/trace/record-format.ts';
import { classOf, hex, isOfDevice, touches } from './expected.ts';
import { type InspectorPage, SHOWN } from './inspector-page.ts';

const DEVICE = 'edu0';
const REQUESTER_ID = '01:00.0';

const isTransfer = ({ kind }: JsonRecord) => kind === 'dma.read' || kind === 'dma.write' || kind === 'dma.failed';

export async function checkFilters(inspector: InspectorPage): Promise<void> {
  const records = (await inspector.records()).filter(({ kind }) => kind !== 'source');
  const shows = async (what: string, passes: (record: JsonRecord) => boolean) => {
    const wanted = records.filter(passes).length;
    await expect
      .poll(async () => Number((await inspector.text('shown-count')).replace(/\D/g, '')), {
        ...SHOWN,
        message: what,
      })
      .toBe(wanted);
    const rows = await inspector.ask<{ number: number; kind: string }[]>('rows');
    expect(rows.length > 0, `rows of ${what}`).toBe(wanted > 0);
    return rows;
  };
  const clear = async () => {
    for (const name of ['device', 'domain', 'iova', 'text']) await inspector.at(`filter-${name}`).fill('');
    await inspector.at('filter-kind').selectOption('');
  };
  await shows('no filter', () => true);

  await inspector.at('filter-kind').selectOption('dma.write');
  const rows = await shows('kind dma.write', ({ kind }) => kind === 'dma.write');
  expect(new Set(rows.map(({ kind }) => kind))).toEqual(new Set(['dma.write']));

  await inspector.at('filter-device').fill(DEVICE);
  await shows('kind and device', record => record.kind === 'dma.write' && isOfDevice(record, DEVICE, REQUESTER_ID));
  await inspector.at('filter-kind').selectOption('');
  await shows('device', record => isOfDevice(record, DEVICE, REQUESTER_ID));
  await inspector.at('filter-device').fill(REQUESTER_ID);
  await shows('requester id', record => isOfDevice(record, DEVICE, REQUESTER_ID));
  await clear();

  const { iova } = records.find(isTransfer)!.detail as { iova: string };
  const first = (BigInt(iova) >> 12n) << 12n;
  await inspector.at('filter-kind').selectOption('dma.read');
  await inspector.at('filter-iova').fill(`${hex(first)}-${hex(first + 4095n)}`);
  await shows('reads of a page', record => record.kind === 'dma.read' && touches(record, first, first + 4095n));
  await inspector.at('filter-kind').selectOption('dma.write');
  await shows('writes of a page', record => record.kind === 'dma.write' && touches(record, first, first + 4095n));
  await clear();

  const mapped = records.find(({ kind }) => kind === 'mapping.added')?.detail as { domain: number } | undefined;
  if (mapped !== undefined) {
    await inspector.at('filter-kind').selectOption('mapping.added');
    await inspector.at('filter-domain').fill(String(mapped.domain));
    const isOf = ({ kind, detail }: JsonRecord) =>
      kind === 'mapping.added' && (detail as { domain: number }).domain === mapped.domain;
    await shows('mappings of a domain', isOf);
    await clear();
  }

  await inspector.at('filter-text').fill('regionREAD-is-nowhere');
  await shows('a text that is nowhere', () => false);
  await clear();
  await inspector.at('filter-iova').fill('0xnonsense');
  expect(await inspector.text('filter-error')).toMatch(/nonsense/);
  await clear();
  await shows('no filter again', () => true);
}

/** The classes change what is recorded from then on, and what is shown of what was. */
export async function checkClassFilter(inspector: InspectorPage): Promise<void> {
  await inspector.at('class-dma').click({ modifiers: ['Shift'] });
  await expect
    .poll(async () => (await inspector.ask<{ kind: string }[]>('rows')).map(({ kind }) => kind), SHOWN)
    .not.toContain('register.write');
  const wanted = (await inspector.records()).filter(record => classOf(record) === 'dma').length;
  await expect.poll(async () => Number((await inspector.text('shown-count')).replace(/\D/g, '')), SHOWN).toBe(wanted);
  expect(await inspector.at('class-dma').getAttribute('aria-pressed')).toBe('true');
  expect(await inspector.at('class-register').getAttribute('aria-pressed')).toBe('false');
}
