/**
 * What more DMA regions cost: DMA of 64 bytes spread over all of them, and taking one away and giving it again, beside the same with
 * one. By messages up to all that a client may have; mapped up to as many as are mapped (`FILE_MAPPING_LIMIT`: what comes
 * beyond is reached by messages).
 */
import { REGION_LIMIT } from '../src/memory/region-memory.ts';
import { FILE_MAPPING_LIMIT } from '../src/posix/window-pool.ts';
import { PinnedServers, type Work } from './pinned-servers.ts';
import { type BenchResult, result } from './result.ts';

const BATCHES = 20;
/** At most 1.2 times the time. */
const GOAL = 1 / 1.2;

const CASES: readonly { readonly work: Work; readonly name: string; readonly regions: number }[] = [
  { work: 'message-dma', name: 'DMA by messages', regions: REGION_LIMIT },
  { work: 'message-map', name: 'unmap and map, without descriptor', regions: REGION_LIMIT },
  { work: 'mapped-dma', name: 'mapped DMA', regions: FILE_MAPPING_LIMIT },
  { work: 'mapped-map', name: 'unmap and map, with descriptor', regions: FILE_MAPPING_LIMIT },
];

export async function benchRegions(): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const { work, name, regions } of CASES) {
    const servers = new PinnedServers();
    try {
      const [one] = await servers.startOurs(1);
      const [many] = await servers.startOurs(1);
      const [alone, among] = servers.measure(work, BATCHES, [one!], [`${regions}*${many}`]);
      results.push(result(`${name}, ${regions} regions, beside 1`, 'ns', [among!.median], [alone!.median], GOAL));
    } finally {
      await servers.close();
    }
  }
  return results;
}
