/**
 * What more functions on one device thread cost: a REGION_READ round trip with 64 of them, all connected, beside the same with
 * one. Once with 63 that are silent, as most of a machine's are most of the time, and once with all of them read in turn.
 */
import { PinnedServers } from './pinned-servers.ts';
import { type BenchResult, result } from './result.ts';

const BATCHES = 60;
const FUNCTIONS = 64;
/** At most 1.2 times the time. */
const GOAL = 1 / 1.2;

export async function benchFunctions(): Promise<BenchResult[]> {
  const servers = new PinnedServers();
  try {
    const one = await servers.startOurs(1);
    const [busy, ...silent] = await servers.startOurs(FUNCTIONS);
    const many = await servers.startOurs(FUNCTIONS);
    const [alone, beside, turns] = servers.measure(
      'read',
      BATCHES,
      one,
      [busy!, ...silent.map(path => `-${path}`)],
      many,
    );
    return [
      result('round trip, 1 of 64 functions, beside 1 of 1', 'ns', [beside!.median], [alone!.median], GOAL),
      result('round trip, 64 functions in turn, beside 1', 'ns', [turns!.median], [alone!.median], GOAL),
    ];
  } finally {
    await servers.close();
  }
}
