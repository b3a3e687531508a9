/** What each device does in a second, from its counters at two times. */
import type { DeviceCounters } from './counters.ts';
import { perSecond } from './rates.ts';

export interface DeviceRates {
  readonly dma: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly registers: number;
}

type Devices = Readonly<Record<string, DeviceCounters>>;

/** By the devices' names. */
export function ratesOf(before: Devices | undefined, now: Devices, seconds: number): Record<string, DeviceRates> {
  const rates = Object.entries(now).map(([name, counters]) => {
    const earlier = before?.[name];
    const rate = (pick: (counters: DeviceCounters) => number) =>
      perSecond(earlier && pick(earlier), pick(counters), seconds);
    const one: DeviceRates = {
      dma: rate(({ reads, writes }) => reads + writes),
      bytesRead: rate(({ bytesRead }) => bytesRead),
      bytesWritten: rate(({ bytesWritten }) => bytesWritten),
      registers: rate(({ registerAccesses }) => registerAccesses),
    };
    return [name, one] as const;
  });
  return Object.fromEntries(rates);
}
