/** For how long a device thread polls before it blocks. */
import type { PollMicroseconds } from './description.ts';

/** What 'auto' stands for: about what waking another processor takes (measured: 20 to 60 microseconds in a virtual machine). */
export const AUTO_POLL_MICROSECONDS = 50;

/** `processors`: how many this process may run on. With one alone, polling keeps the client from it. */
export function pollNanoseconds(asked: PollMicroseconds | undefined, processors: number): number {
  if (asked === undefined) return 0;
  if (asked !== 'auto') return asked * 1000;
  return processors > 1 ? AUTO_POLL_MICROSECONDS * 1000 : 0;
}
