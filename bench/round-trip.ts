/** A REGION_READ round trip against our server and against a C server that does nothing else, by one C client. */
import { PinnedServers } from './pinned-servers.ts';
import { type BenchResult, result } from './result.ts';

const BATCHES = 60;
/** At most 1.15 times the floor's time. */
const GOAL = 1 / 1.15;

export async function benchRoundTrip(): Promise<BenchResult[]> {
  const servers = new PinnedServers();
  try {
    const floorSocket = await servers.startFloor();
    const sockets = await servers.startOurs(1);
    const [floor, ours] = servers.measure(BATCHES, [floorSocket], sockets);
    return [
      result('REGION_READ round trip, median', 'ns', [ours!.median], [floor!.median], GOAL),
      result('REGION_READ round trip, p99', 'ns', [ours!.p99], [floor!.p99]),
    ];
  } finally {
    await servers.close();
  }
}
