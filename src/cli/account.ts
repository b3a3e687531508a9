/** The server's own account of a run, for people: what the IOMMU and the functions counted. */
import type { DmaIommuStatistics } from '../iommu/dma-iommu/statistics.ts';
import { FaultType } from '../iommu/dma-iommu/types.ts';
import type { TranslationCounters } from '../iommu/translation-engine.ts';
import { FAULT_REASONS, type FaultReason } from '../iommu/vtd/fault-reasons.ts';
import type { InvalidationCounts, VtdStatistics } from '../iommu/vtd/statistics.ts';
import type { FunctionStatistics, MachineStatistics } from '../machine/statistics.ts';

const LABEL_WIDTH = 16;

export function formatAccount({ iommu, functions }: MachineStatistics): string[] {
  const ends = Object.entries(functions).flatMap(([name, one]) => functionLines(name, one));
  if (iommu === undefined) return ends;
  return [...(iommu.kind === 'vtd' ? vtdLines(iommu) : dmaIommuLines(iommu)), ...ends];
}

function vtdLines(vtd: VtdStatistics): string[] {
  const { translations, passThrough, untranslated } = vtd;
  return [
    line(
      'translations',
      `${translations} translated, ${passThrough} passed through, ${untranslated} before the unit was on`,
    ),
    ...engineLines(vtd.engine),
    line('context cache', `${vtd.contextHits} hits, ${vtd.contextMisses} misses`),
    line('invalidations', invalidations(vtd)),
    line('faults', faults(vtd)),
    line('interrupts', `${vtd.faultInterrupts} for faults, ${vtd.completionInterrupts} for completed invalidations`),
  ];
}

function dmaIommuLines(unit: DmaIommuStatistics): string[] {
  const counts = Object.values(unit.operations);
  const sum = (of: 'succeeded' | 'failed') => counts.reduce((total, count) => total + count[of], 0);
  const kinds = Object.entries(FaultType)
    .map(([name, type]) => ({ name, count: unit.faults[type] ?? 0 }))
    .filter(({ count }) => count > 0)
    .map(({ name, count }) => `${count} ${name}`);
  return [
    line('operations', `${sum('succeeded')} succeeded, ${sum('failed')} refused`),
    line('translations', `${unit.translations}, of which ${unit.blocked} blocked and ${unit.staleHits} stale`),
    ...Object.entries(unit.engines).flatMap(([format, engine]) => [`  ${format}`, ...engineLines(engine)]),
    line('faults', kinds.join(', ') || 'none'),
  ];
}

function engineLines({ hits, misses, walksByLevelsRead }: TranslationCounters): string[] {
  return [
    line('IOTLB', `${hits} hits, ${misses} misses${share(hits, hits + misses)}`),
    line('walks', walks(walksByLevelsRead)),
  ];
}

function walks(byLevels: ArrayLike<number>): string {
  const parts = Array.from(byLevels, (count, levels) => ({ count, levels }))
    .filter(({ count }) => count > 0)
    .map(({ count, levels }) => `${count} of ${levels} level${levels === 1 ? '' : 's'}`);
  return parts.join(', ') || 'none';
}

const INVALIDATION_NAMES: Readonly<Record<keyof InvalidationCounts, string>> = {
  contextGlobal: 'context global',
  contextDomain: 'context by domain',
  contextDevice: 'context by device',
  iotlbGlobal: 'IOTLB global',
  iotlbDomain: 'IOTLB by domain',
  iotlbPages: 'IOTLB by page',
};

function invalidations(vtd: VtdStatistics): string {
  const parts = (Object.keys(INVALIDATION_NAMES) as (keyof InvalidationCounts)[])
    .map(kind => ({ name: INVALIDATION_NAMES[kind], count: vtd.queued[kind] + vtd.registerBased[kind] }))
    .filter(({ count }) => count > 0)
    .map(({ name, count }) => `${count} ${name}`);
  if (vtd.waitDescriptors > 0) parts.push(`${vtd.waitDescriptors} waits`);
  return parts.join(', ') || 'none';
}

function faults(vtd: VtdStatistics): string {
  const parts = vtd.faults
    .map((count, reason) => ({ count, reason }))
    .filter(({ count }) => count > 0)
    .map(({ count, reason }) => `${count} ${FAULT_REASONS[reason as FaultReason]?.name ?? 'unknown'} (${reason})`);
  return parts.join(', ') || 'none';
}

function functionLines(name: string, { server, memory, dma }: FunctionStatistics): string[] {
  const messages = Object.values(server.messages).reduce((sum, count) => sum + count, 0);
  const traffic = `${messages} messages, ${bytes(server.bytesReceived)} in, ${bytes(server.bytesSent)} out`;
  const reached = `${bytes(memory.directBytesRead + memory.directBytesWritten)} mapped, ${bytes(memory.messageBytes)} by ${server.dmaMessages} messages`;
  return [
    line(name, traffic),
    line('  memory', reached),
    ...(dma
      ? [
          line(
            '  DMA',
            `${dma.reads} reads of ${bytes(dma.bytesRead)}, ${dma.writes} writes of ${bytes(dma.bytesWritten)}`,
          ),
        ]
      : []),
  ];
}

function line(label: string, text: string): string {
  return `  ${label.padEnd(LABEL_WIDTH)}${text}`;
}

function share(part: number, whole: number): string {
  return whole === 0 ? '' : ` (${((100 * part) / whole).toFixed(1)}% hits)`;
}

function bytes(count: number): string {
  if (count < 10_000) return `${count} B`;
  return count < 10_000_000 ? `${(count / 1000).toFixed(1)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}
