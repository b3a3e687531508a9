/** What the rates are made of: a machine's counters, whatever IOMMU it has, as one flat list of numbers. */
import { type Answer, toNumber, toRecord } from '../wire.ts';

/** Since the machine started; they never go back, unless it was started anew. */
export interface Counters {
  registerAccesses: number;
  dmaReads: number;
  dmaWrites: number;
  bytesRead: number;
  bytesWritten: number;
  tlbHits: number;
  tlbMisses: number;
  invalidations: number;
  faults: number;
  /** Events that the machine could not hand on. */
  dropped: number;
}
export type CounterName = keyof Counters;

/** Of one device. */
export interface DeviceCounters {
  readonly reads: number;
  readonly writes: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly failed: number;
  readonly registerAccesses: number;
  readonly connected: boolean;
}

/** The vfio-user commands by which a guest reaches registers and configuration space. */
const REGISTER_COMMANDS: readonly string[] = ['regionRead', 'regionWrite', 'regionWriteMulti'];
const VTD_INVALIDATIONS: readonly string[] = [
  'contextGlobal',
  'contextDomain',
  'contextDevice',
  'iotlbGlobal',
  'iotlbDomain',
  'iotlbPages',
];
const ENGINE_INVALIDATIONS: readonly string[] = [
  'invalidateAll',
  'invalidateDomain',
  'invalidatePages',
  'invalidatePagesLeafOnly',
];

export function readCounters(statistics: Answer): Counters {
  const iommu = toRecord(statistics.iommu);
  const engines = enginesOf(iommu);
  const devices = Object.values(readDevices(statistics));
  const sum = (pick: (device: DeviceCounters) => number) => devices.reduce((total, device) => total + pick(device), 0);
  return {
    registerAccesses: sum(device => device.registerAccesses),
    dmaReads: sum(device => device.reads),
    dmaWrites: sum(device => device.writes),
    bytesRead: sum(device => device.bytesRead),
    bytesWritten: sum(device => device.bytesWritten),
    tlbHits: total(engines, ['hits']),
    tlbMisses: total(engines, ['misses']),
    invalidations:
      iommu.kind === 'vtd'
        ? total([toRecord(iommu.queued), toRecord(iommu.registerBased)], VTD_INVALIDATIONS)
        : total(engines, ENGINE_INVALIDATIONS),
    faults: listSum(iommu.faults),
    dropped: toNumber(toRecord(statistics.trace).dropped),
  };
}

/** By the function's name, the IOMMU's among them. */
export function readDevices(statistics: Answer): Readonly<Record<string, DeviceCounters>> {
  const functions = Object.entries(toRecord(statistics.functions)).map(([name, value]) => {
    const one = toRecord(value);
    const dma = toRecord(one.dma);
    const messages = toRecord(toRecord(one.server).messages);
    const byStatus = Array.isArray(dma.byStatus) ? dma.byStatus : [];
    const counters: DeviceCounters = {
      reads: toNumber(dma.reads),
      writes: toNumber(dma.writes),
      bytesRead: toNumber(dma.bytesRead),
      bytesWritten: toNumber(dma.bytesWritten),
      // The first status is the one of success.
      failed: listSum(byStatus.slice(1)),
      registerAccesses: Object.entries(messages)
        .filter(([command]) => REGISTER_COMMANDS.includes(command))
        .reduce((accesses, [, count]) => accesses + toNumber(count), 0),
      connected: one.connected === true,
    };
    return [name, counters] as const;
  });
  return Object.fromEntries(functions);
}

function enginesOf(iommu: Answer): Answer[] {
  return iommu.engine === undefined ? Object.values(toRecord(iommu.engines)).map(toRecord) : [toRecord(iommu.engine)];
}

function total(records: readonly Answer[], names: readonly string[]): number {
  return records.reduce((all, record) => all + names.reduce((some, name) => some + toNumber(record[name]), 0), 0);
}

function listSum(list: unknown): number {
  return Array.isArray(list) ? list.reduce<number>((all, one) => all + toNumber(one), 0) : 0;
}
