/** Page tables that contain themselves. */
import { transferAddress } from './history-evidence.ts';
import { pageOf } from './pages.ts';
import { addressText, domainText, wordsText } from './text.ts';
import type { World } from './world.ts';

export function tableLoops(world: World, source: string, time: number, payload: Int32Array): void {
  const first = payload[0]!;
  const requesterId = first & 0xffff;
  const level = (first >>> 16) & 0xf;
  const ancestor = (first >>> 20) & 0xf;
  const page = pageOf(payload[1]!, payload[2]!);
  const domain = payload[3]!;
  const table = wordsText(payload[4]!, payload[5]!);
  const iova = transferAddress({ page, offset: payload[2]! & 0xfff });
  const text = `${world.describe(requesterId)} used ${addressText(iova)}, and on the way through the page tables the level-${ancestor} table at ${table} came again as the level-${level} table`;
  const access = { time, kind: 'table.loop', source, text };
  const device = world.deviceOf(requesterId);
  world.log.report({ detector: 'malformed-table', device, key: `loop ${table}`, access }, () => ({
    summary: text,
    explanation: `An entry of ${domainText(domain)} below the table at ${table} leads back to it. Hardware does not mind: it takes the entries of the upper table for those of a lower one, so that addresses lead to the page tables themselves, and the device can read and change what it may reach.`,
    suggestion:
      'Look for who wrote the entry that leads back: a stray write, or a page that was freed as a page table and taken for another.',
    iova,
    ...(domain >= 0 ? { domain } : {}),
  }));
}
