/** What tests look for in the state of a machine. */
import type { MappingsAnswer } from '../../../src/machine/debug-commands.ts';
import type { MachineStatistics } from '../../../src/machine/statistics.ts';

/** More attempts than any of the tests needs where things go right. */
const ATTEMPTS = 5000;

/** Of all endpoints since the start, failed ones included. */
export function transfersOf({ functions }: MachineStatistics): number {
  return Object.values(functions).reduce((sum, { dma }) => sum + (dma === undefined ? 0 : dma.reads + dma.writes), 0);
}

/** One that a device is attached to, with something in it. */
export function domainWithMappings({ mappings, attachments }: MappingsAnswer): number | undefined {
  const used = attachments.filter(({ pasid }) => pasid === -1).map(({ domain }) => domain);
  return used.find(domain => mappings.some(one => one.domain === domain && one.frame >= 0));
}

/** Again and again until it is there. */
export async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const found = await look();
    if (found !== undefined) return found;
  }
  throw new Error(`${what} did not come in ${ATTEMPTS} attempts`);
}
