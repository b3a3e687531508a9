/**
 * What a client waits for, against our server and against a C server that does nothing else, by one C client: on one processor, and on
 * two, where ours polls and the C server blocks.
 */
import { availableParallelism } from 'node:os';
import { ONE_PROCESSOR, PinnedServers, type Processors, TWO_PROCESSORS, type Work } from './pinned-servers.ts';
import { type BenchResult, result } from './result.ts';

const BATCHES = 60;
/** Of the time of the floor, at most: on one processor, and on two with polling beside a floor that blocks. */
const ONE_PROCESSOR_GOAL = 1 / 1.1;
const POLLING_GOAL = 1 / 0.6;

const ROUND_TRIPS: readonly { readonly work: Work; readonly name: string; readonly goal?: number }[] = [
  { work: 'read', name: 'REGION_READ', goal: ONE_PROCESSOR_GOAL },
  { work: 'write-read', name: 'posted write and read', goal: ONE_PROCESSOR_GOAL },
  { work: 'message-dma', name: 'DMA of 64 B by a message, and read', goal: ONE_PROCESSOR_GOAL },
  { work: 'message-dma-done', name: 'DMA of 64 B by a message, until done', goal: ONE_PROCESSOR_GOAL },
  { work: 'mapped-dma', name: 'mapped DMA of 64 B, written and read', goal: ONE_PROCESSOR_GOAL },
];

export async function benchRoundTrip(): Promise<BenchResult[]> {
  const results: BenchResult[] = [];
  for (const { work, name, goal } of ROUND_TRIPS) results.push(...(await compare(work, name, ONE_PROCESSOR, goal)));
  results.push(...(await compare('posted', 'a posted write among many', ONE_PROCESSOR)));
  if (availableParallelism() < 2) return results;
  for (const { work, name } of ROUND_TRIPS.slice(0, 3)) {
    results.push(...(await compare(work, `${name}, 2 processors, blocking`, TWO_PROCESSORS)));
    const goal = work === 'read' ? POLLING_GOAL : undefined;
    results.push(...(await compare(work, `${name}, 2 processors, polling`, TWO_PROCESSORS, goal, '--poll-us', '50')));
  }
  results.push(
    ...(await compare('read', 'REGION_READ, 1 processor, polling', ONE_PROCESSOR, undefined, '--poll-us', '50')),
  );
  return results;
}

async function compare(
  work: Work,
  name: string,
  processors: Processors,
  goal?: number,
  ...flags: string[]
): Promise<BenchResult[]> {
  const servers = new PinnedServers(processors);
  try {
    const floorSocket = await servers.startFloor();
    const sockets = await servers.startOurs(1, ...flags);
    const [floor, ours] = servers.measure(work, BATCHES, [floorSocket], sockets);
    return [
      result(`${name}, median`, 'ns', [ours!.median], [floor!.median], goal),
      result(`${name}, p99`, 'ns', [ours!.p99], [floor!.p99]),
    ];
  } finally {
    await servers.close();
  }
}
