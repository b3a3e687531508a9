/** How deep the messages went: what the units behind the sockets did with them. */
import type { OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import type { MachineStatistics } from '../../src/machine/statistics.ts';
import type { OfferingStatistics } from './offering-thread.ts';

/** Operations after which caches must not answer as before. */
const INVALIDATIONS = [
  'flushDomain',
  'flushDomainByVaList',
  'unmapLogicalRange',
  'unmapIdentityRange',
  'unmapIdentityRangeEx',
] as const satisfies readonly OperationName[];

/** Numbers since the machines were made, by what was done. */
export type Units = Readonly<Record<string, number>>;

export function unitsOf(machines: Iterable<MachineStatistics | OfferingStatistics>): Units {
  const units: Record<string, number> = {
    'VT-d walks': 0,
    'VT-d IOTLB hits': 0,
    'VT-d faults': 0,
    'VT-d queued invalidations': 0,
    'VT-d register invalidations': 0,
    'VT-d wait descriptors': 0,
    'VT-d queue errors': 0,
    'dma-iommu translations': 0,
    'dma-iommu walks': 0,
    'dma-iommu IOTLB hits': 0,
    'dma-iommu flushes and unmaps': 0,
    'dma-iommu operations done': 0,
    'dma-iommu operations refused': 0,
    'dma-iommu faults': 0,
    'DMA transfers done': 0,
    'DMA transfers failed': 0,
    'DMA bytes': 0,
    'bytes by messages': 0,
    'bytes by file': 0,
    'doorbells of offering devices': 0,
    'copies of offering devices': 0,
    'interrupts of offering devices': 0,
  };
  const add = (name: string, count: number) => {
    units[name] = units[name]! + count;
  };
  for (const machine of machines) {
    const { iommu, functions } = machine;
    if ('offering' in machine) {
      add('doorbells of offering devices', machine.offering.doorbells);
      add('copies of offering devices', machine.offering.copies);
      add('interrupts of offering devices', machine.offering.interrupts);
    }
    if (iommu?.kind === 'vtd') {
      add('VT-d walks', iommu.engine.misses);
      add('VT-d IOTLB hits', iommu.engine.hits);
      add('VT-d faults', sum(iommu.faults));
      add('VT-d queued invalidations', sum(Object.values(iommu.queued)));
      add('VT-d register invalidations', sum(Object.values(iommu.registerBased)));
      add('VT-d wait descriptors', iommu.waitDescriptors);
      add('VT-d queue errors', iommu.queueErrors);
    } else if (iommu?.kind === 'dma-iommu') {
      add('dma-iommu translations', iommu.translations);
      const engines = Object.values(iommu.engines);
      add('dma-iommu walks', sum(engines.map(({ misses }) => misses)));
      add('dma-iommu IOTLB hits', sum(engines.map(({ hits }) => hits)));
      add('dma-iommu flushes and unmaps', sum(INVALIDATIONS.map(name => iommu.operations[name].succeeded)));
      const operations = Object.values(iommu.operations);
      add('dma-iommu operations done', sum(operations.map(({ succeeded }) => succeeded)));
      add('dma-iommu operations refused', sum(operations.map(({ failed }) => failed)));
      add('dma-iommu faults', sum(iommu.faults));
    }
    for (const { dma, memory } of Object.values(functions)) {
      add('bytes by messages', memory.messageBytes);
      add('bytes by file', memory.positionedBytes);
      if (dma === undefined) continue;
      const [done = 0, ...failed] = dma.byStatus;
      add('DMA transfers done', done);
      add('DMA transfers failed', sum(failed));
      add('DMA bytes', dma.bytesRead + dma.bytesWritten);
    }
  }
  return units;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0);
}
