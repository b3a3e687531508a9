/** The views of the hardware's state, beside what the machine itself answers while it stands still. */
import { expect } from 'vitest';
import type { MachineHost } from '../../../dist/src/machine/host.js';
import type { WalkAnswer } from '../../../src/machine/inspection.ts';
import { formatRequesterId } from '../../../src/trace/record-fields.ts';
import { firstDifference, hex, registerValues, tlbRows } from './expected.ts';
import { type InspectorPage, SHOWN } from './inspector-page.ts';

const TLB_LIMIT = 2048;
const PAGE = 4096n;

/** An address that is mapped, and one that is not. */
export async function checkWalk(inspector: InspectorPage, host: MachineHost, domain: number): Promise<void> {
  const { mappings, attachments } = await host.mappings();
  const mapping = mappings.find(one => one.domain === domain && one.frame >= 0)!;
  const { requesterId } = attachments.find(one => one.domain === domain && one.pasid === -1)!;
  const iova = mapping.iova + 0x123n;
  const mapped = await checkOneWalk(inspector, host, requesterId, iova);
  expect(mapped).toMatchObject({ status: 'mapped', domain, address: BigInt(mapping.frame) * PAGE + 0x123n });
  await inspector.screenshots('tables');
  const level = mapped.steps.at(-1)!.what.replaceAll(' ', '-');
  await inspector.at(`step-${level}`).click();
  await inspector.at('bits').waitFor();
  const nothing = await checkOneWalk(inspector, host, requesterId, 0x123_4567_8000n);
  expect(nothing.status).not.toBe('mapped');
}

async function checkOneWalk(
  inspector: InspectorPage,
  host: MachineHost,
  requesterId: number,
  iova: bigint,
): Promise<WalkAnswer> {
  const answer = await host.walk(requesterId, iova);
  await inspector.show('tables');
  await inspector.at('walk-device').fill(formatRequesterId(requesterId));
  await inspector.at('walk-iova').fill(hex(iova));
  await inspector.at('walk').click();
  const wanted = answer.steps.map(({ what, address, present, words }) => [
    what,
    hex(address),
    present ? '● present' : '▲ not present',
    [...words]
      .reverse()
      .map(word => word.toString(16).padStart(16, '0'))
      .join(''),
  ]);
  const shown = async () =>
    (await inspector.cells('[data-testid=walk-steps] tbody'))
      .filter(row => row.length > 1)
      .map(([what, at, state, value]) => [what, at, state, value!.replaceAll(' ', '')]);
  await expect.poll(async () => firstDifference(await shown(), wanted), SHOWN).toBeUndefined();
  for (const { what, fields } of answer.steps) {
    const row = await inspector.text(`step-${what.replaceAll(' ', '-')}`);
    for (const { name, value } of fields) expect(row).toContain(`${name}=${hex(value)}`);
  }
  const status = await inspector.text('walk-status');
  expect(status).toContain(answer.status);
  if (answer.address !== undefined) expect(status).toContain(`→ ${hex(answer.address)}`);
  expect(await inspector.text('walk-tlb')).toContain(
    answer.cached === undefined ? 'nothing is cached' : answer.agrees ? '● agrees' : '▲ stale',
  );
  return answer;
}

/** Every register of every block of every function. */
export async function checkRegisters(inspector: InspectorPage, host: MachineHost): Promise<void> {
  const { registers, functions } = await host.inspect();
  for (const { name } of functions) {
    const { blocks } = await host.registers(name);
    expect(blocks.length).toBeGreaterThan(0);
    await inspector.show('registers');
    await inspector.at(`registers-of-${name}`).click();
    for (const { block, bytes } of blocks) {
      const description = registers.find(one => one.function === name && one.block === block)!;
      const wanted = registerValues(description.registers, bytes);
      expect(Object.keys(wanted).length).toBeGreaterThan(0);
      const shown = () =>
        inspector.ask('attributes', `[data-testid=block-${block}] [data-value]`, 'data-testid', 'data-value');
      await expect.poll(shown, SHOWN).toEqual(wanted);
    }
    await inspector.screenshots(`registers-${name}`);
  }
}

export async function checkTlb(inspector: InspectorPage, host: MachineHost): Promise<void> {
  const { entries, total } = await host.tlb(TLB_LIMIT);
  await inspector.show('registers', { function: 'iommu' });
  await inspector.at('show-tlb').click();
  const wanted = tlbRows(entries);
  const shown = () => inspector.cells('[data-testid=tlb-table] tbody');
  await expect.poll(async () => firstDifference(await shown(), wanted), SHOWN).toBeUndefined();
  expect(await inspector.text('tlb-count')).toContain(`${total} entries`);
  await inspector.screenshots('tlb');
}

export async function checkQueue(inspector: InspectorPage, host: MachineHost): Promise<void> {
  const { enabled, base, head, tail, entries } = await host.queue();
  expect(enabled).toBe(true);
  await inspector.at('show-queue').click();
  const wanted = entries.map(({ offset, words, text, state }) => [
    hex(offset),
    state,
    words.map(word => word.toString(16).padStart(16, '0')).join(''),
    text,
  ]);
  const shown = async () =>
    (await inspector.cells('[data-testid=queue-table] tbody')).map(([offset, state, words, text]) => [
      hex(Number(offset!.split(' ').at(-1))),
      state!.split(' ')[1],
      words!.replaceAll(' ', ''),
      text,
    ]);
  await expect.poll(async () => firstDifference(await shown(), wanted), SHOWN).toBeUndefined();
  const state = await inspector.text('queue-state');
  for (const part of ['● enabled', hex(base), `head ${hex(head)}`, `tail ${hex(tail)}`]) expect(state).toContain(part);
  await inspector.screenshots('queue');
}
