/** Refused operations of a dma-iommu, and those that it carries out though something is odd about them. */
import { MappingSource } from '../event-kinds.ts';
import type { DetectorName } from './detectors.ts';
import type { Evidence } from './finding.ts';
import { liveEvidence, pastEvidence } from './history-evidence.ts';
import { reportLeak } from './leaks.ts';
import { MAX_EXAMPLES } from './limits.ts';
import type { LiveInterval } from './live-mappings.ts';
import { type NoteDetail, wordText } from './note-words.ts';
import { addressOf, PAGE_BYTES } from './pages.ts';
import { countText, domainText, durationText, rangeText } from './text.ts';
import type { World } from './world.ts';

interface Refusal {
  readonly detector: DetectorName;
  /** Goes on after `mapLogicalRange was refused (STATUS_...): `. */
  readonly what: string;
}

const IN_USE = 'STATUS_RESOURCE_IN_USE';
const overMapped: Refusal = { detector: 'overlapping-map', what: 'something is mapped there already' };
const outOfOrder = (what: string): Refusal => ({ detector: 'operation-order', what });
const pasid = (what: string): Refusal => ({ detector: 'pasid-misuse', what });

/** By operation and status: those that mean a mistake of the caller's that has a detector. */
const REFUSALS: Readonly<Record<string, Readonly<Record<string, Refusal>>>> = {
  mapLogicalRange: { [IN_USE]: overMapped },
  mapLogicalRangeEx: { [IN_USE]: overMapped },
  mapIdentityRange: { [IN_USE]: overMapped },
  mapIdentityRangeEx: { [IN_USE]: overMapped },
  mapReservedLogicalRange: { [IN_USE]: overMapped },
  reserveLogicalAddressRange: { [IN_USE]: overMapped },
  unmapReservedLogicalRange: {
    STATUS_INVALID_PARAMETER: { detector: 'double-unmap', what: 'there is no such mapped segment, or no longer' },
  },
  freeReservedLogicalAddressRange: {
    [IN_USE]: { detector: 'mapping-leak', what: 'segments of the range are still mapped' },
  },
  deleteDomain: { [IN_USE]: outOfOrder('devices are still attached to it, or ranges reserved in it') },
  deleteDevice: { [IN_USE]: outOfOrder('it is still attached, or has PASID devices') },
  deletePasidDevice: { [IN_USE]: outOfOrder('it is still attached') },
  createPasidDevice: { STATUS_INVALID_PARAMETER_1: pasid('the device was not made for DMA with PASIDs') },
  attachPasidDevice: {
    STATUS_INVALID_PARAMETER_1: pasid('domains of this type take no PASID devices'),
    STATUS_UNSUCCESSFUL: outOfOrder('it is attached already'),
  },
  detachPasidDevice: { STATUS_INVALID_PARAMETER_1: outOfOrder('it is attached to nothing') },
};

const UNMAPS: ReadonlySet<string> = new Set(['unmapLogicalRange', 'unmapIdentityRange', 'unmapIdentityRangeEx']);

/** Of the whole address space. */
const BYTES_MAX = 2n ** 64n;

/** Pages that an operation named. */
interface Target {
  readonly domain: number;
  readonly start: number;
  readonly pages: number;
}

/** DomainTypeTranslate and DomainTypeTranslateS1 of DMA_IOMMU_DOMAIN_TYPE: the IOMMU writes the tables. */
const OPERATED_TYPES: readonly unknown[] = [0, 3];

export function domainCreated(world: World, _source: string, _time: number, { domain, type }: NoteDetail): void {
  if (typeof domain !== 'number') return;
  if (OPERATED_TYPES.includes(type)) world.noteOperated(domain);
  else world.forgetOperated(domain);
}

export function operationRefused(world: World, source: string, time: number, detail: NoteDetail): void {
  const operation = wordText(detail.operation);
  const status = wordText(detail.statusName ?? detail.status);
  const target = targetOf(detail);
  if (UNMAPS.has(operation)) {
    if (status === 'STATUS_NOT_FOUND' && target !== undefined) unmapRefused(world, source, time, operation, target);
    return;
  }
  const byStatus = Object.hasOwn(REFUSALS, operation) ? REFUSALS[operation]! : {};
  const refusal = Object.hasOwn(byStatus, status) ? byStatus[status] : undefined;
  if (refusal === undefined) return;
  const { detector, what } = refusal;
  const where = target === undefined ? '' : ` of ${targetText(target)}`;
  const text = `${operation}${where} was refused (${status}): ${what}`;
  const occurrence = {
    detector,
    device: source,
    key: `${operation} ${target?.domain ?? wordText(detail.domain)} ${target?.start ?? wordText(detail.device)}`,
    access: { time, kind: 'dma-iommu.refused', source, text },
  };
  world.log.report(occurrence, () => {
    const live = target && world.mappings.firstOverlap(target.domain, target.start, target.pages);
    return {
      summary: text,
      explanation:
        live === undefined || target === undefined
          ? 'The operation changed nothing.'
          : `The mapping ${rangeText(live.start, live.pages)} has been there for ${durationText(time - live.since)}. The operation changed nothing.`,
      evidence: live === undefined || target === undefined ? [] : [liveEvidence(world, target.domain, live, time)],
      ...targetFields(target),
      ...(typeof detail.domain === 'number' ? { domain: detail.domain } : {}),
    };
  });
}

/** What is mapped around it says whether it is an unmap of nothing, or of something else than was mapped. */
function unmapRefused(world: World, source: string, time: number, operation: string, target: Target): void {
  const { domain, start, pages } = target;
  const live = world.mappings.firstOverlap(domain, start, pages);
  const elsewhere = live === undefined ? mappedElsewhere(world, target) : undefined;
  const text = `${operation} of ${targetText(target)} was refused`;
  const key = `${operation} ${domain} ${start}`;
  const access = { time, kind: 'dma-iommu.refused', source, text };
  const past = world.mappings.past.find(domain, start);
  // Unmapped before and mapped in another domain by chance: the same numbers are used in many domains.
  if (live !== undefined || (elsewhere !== undefined && past === undefined)) {
    world.log.report({ detector: 'mismatched-unmap', device: source, key, access }, () => ({
      summary: `${text}: ${live === undefined ? `it is mapped in ${domainText(elsewhere!.domain)}` : mismatch(target, live)}`,
      explanation: 'An unmap has to name what was mapped. Nothing was unmapped, so the mapping is still there.',
      evidence:
        live === undefined
          ? [liveEvidence(world, elsewhere!.domain, elsewhere!.interval, time)]
          : [liveEvidence(world, domain, live, time)],
      ...targetFields(target),
      domain,
    }));
    return;
  }
  world.log.report({ detector: 'double-unmap', device: source, key, access }, () => ({
    summary:
      past === undefined
        ? `${text}: nothing was ever mapped there`
        : `${text}: it was unmapped ${durationText(time - past.removed)} before already`,
    explanation: join(
      'Nothing is mapped at these pages. Had another mapping taken the address meanwhile, it would have been unmapped in its place.',
      past === undefined ? world.gaps(time) : '',
    ),
    evidence: past === undefined ? [] : pastEvidence(world, past, start, time),
    ...targetFields(target),
    domain,
  }));
}

function mismatch({ start, pages }: Target, live: LiveInterval): string {
  const mapped = rangeText(live.start, live.pages);
  if (live.start === start && live.pages === pages) return `${mapped} was mapped by another operation`;
  if (live.start === start)
    return `${countText(live.pages, 'page is', 'pages are')} mapped from there on (${mapped}), not ${pages}`;
  return `what is mapped there is ${mapped}`;
}

function mappedElsewhere(
  world: World,
  { domain, start }: Target,
): { domain: number; interval: LiveInterval } | undefined {
  for (const other of world.mappings.elsewhere(domain, start, MAX_EXAMPLES)) {
    const interval = world.mappings.at(other, start)!;
    if (interval.start === start && interval.how === MappingSource.operation) return { domain: other, interval };
  }
  return undefined;
}

/** Carried out, but it was not what one mapping operation had mapped. */
export function unmapMismatched(world: World, source: string, time: number, detail: NoteDetail): void {
  const target = targetOf(detail);
  const mapped = targetOf({ domain: detail.domain, iova: detail.mappedIova, bytes: detail.mappedBytes });
  if (target === undefined || mapped === undefined) return;
  const text = `an unmap of ${targetText(target)} cut the mapping ${rangeText(mapped.start, mapped.pages)}`;
  const access: Evidence = { time, kind: 'dma-iommu.unmapMismatch', source, text };
  const key = `cut ${target.domain} ${target.start}`;
  world.log.report({ detector: 'mismatched-unmap', device: source, key, access }, () => ({
    summary: `${text}, which one operation had mapped`,
    explanation:
      'The unmap named other pages than were mapped together. It was carried out; the rest, if any, stays mapped.',
    // Where no allocator gave the address, this is allowed.
    severity: 'note',
    ...targetFields(target),
    domain: target.domain,
  }));
}

/** A domain is deleted while something is mapped in it. */
export function mappingsLeft(world: World, source: string, time: number, detail: NoteDetail): void {
  const { domain, mappings } = detail;
  if (typeof domain !== 'number' || !Number.isSafeInteger(domain)) return;
  const left = typeof mappings === 'number' ? countText(mappings, 'mapping') : 'mappings';
  const text = `${domainText(domain)} was deleted with ${left}`;
  reportLeak(world, {
    device: source,
    domain,
    time,
    kind: 'delete',
    when: 'when the domain was deleted',
    evidence: { time, kind: 'dma-iommu.mappingsLeft', source, text },
  });
}

function targetOf({ domain, iova, bytes }: NoteDetail): Target | undefined {
  if (typeof domain !== 'number' || !Number.isSafeInteger(domain) || typeof iova !== 'bigint') return undefined;
  if (typeof bytes !== 'bigint' && typeof bytes !== 'number') return undefined;
  if (!(bytes >= 0 && bytes <= BYTES_MAX)) return undefined;
  const page = BigInt(PAGE_BYTES);
  const start = Number(BigInt.asUintN(64, iova) / page);
  const pages = Math.ceil(Number(bytes) / PAGE_BYTES);
  return { domain: domain | 0, start, pages: Math.max(1, pages) };
}

function targetText({ domain, start, pages }: Target): string {
  return `${rangeText(start, pages)} in ${domainText(domain)}`;
}

function targetFields(target: Target | undefined): { iova?: bigint; length?: number } {
  return target === undefined ? {} : { iova: addressOf(target.start), length: target.pages * PAGE_BYTES };
}

function join(...sentences: readonly string[]): string {
  return sentences.filter(sentence => sentence !== '').join(' ');
}
