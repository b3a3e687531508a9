/** Faults at pages that nothing is mapped at: what was there before, or is beside it, says which mistake it was. */
import type { DetectorName } from './detectors.ts';
import { type RefusedRequest, refusedEvidence } from './fault.ts';
import type { Evidence } from './finding.ts';
import type { Explanation } from './finding-log.ts';
import {
  concernsRequester,
  goingText,
  invalidationEvidence,
  liveEvidence,
  pastEvidence,
  transferAddress,
  triedText,
} from './history-evidence.ts';
import { MAX_EXAMPLES } from './limits.ts';
import type { LiveInterval } from './live-mappings.ts';
import { addressOf, PAGE_BYTES } from './pages.ts';
import { type PastMapping, REPLACED } from './past-mappings.ts';
import { addressText, bytesText, domainText, durationText, rangeText } from './text.ts';
import type { World } from './world.ts';

interface Verdict {
  readonly detector: DetectorName;
  /** Tells the history from others at the same page. Default: there is none. */
  readonly history?: string | number;
  readonly explain: () => Omit<Explanation, 'iova' | 'length' | 'domain'>;
}

export function classifyNotPresent(world: World, request: RefusedRequest): void {
  const { fault, transfer, domain } = request;
  const { detector, history = '', explain } = judge(world, request);
  const occurrence = {
    detector,
    device: world.deviceOf(fault.requesterId),
    key: history === '' ? `${fault.page} ${fault.pasid}` : `${fault.page} ${fault.pasid} ${domain} ${history}`,
    access: { time: fault.time, tell: () => refusedEvidence(world, request) },
  };
  world.log.report(occurrence, () => ({
    ...explain(),
    iova: transferAddress(transfer),
    ...(transfer.length > 0 ? { length: transfer.length } : {}),
    ...(domain >= 0 ? { domain } : {}),
  }));
}

function judge(world: World, request: RefusedRequest): Verdict {
  const { fault, transfer, domain } = request;
  const { mappings } = world;
  const { page } = fault;

  const live = mappings.at(domain, page);
  if (live !== undefined) return unmappedQuietly(world, request, live);
  const past = pastOf(world, request);
  if (transfer.page !== page) return leavesMapping(world, request, past);
  if (past !== undefined) return usedAfterUnmap(world, request, past);
  const before = mappings.at(domain, page - 1);
  const after = mappings.at(domain, page + 1);
  const nearEnd = transfer.offset <= PAGE_BYTES - transfer.offset;
  if (before !== undefined && (nearEnd || after === undefined)) return behindMapping(world, request, before);
  if (after !== undefined) return beforeMapping(world, request, after);
  const invalidation = world.invalidations.lastNaming(domain, page);
  if (invalidation !== undefined && world.attachments.concerns(fault.requesterId, domain, invalidation.time)) {
    return {
      detector: 'use-after-unmap',
      history: `invalidation ${invalidation.time}`,
      explain: () => ({
        summary: `${tried(world, request)}, which was probably unmapped ${durationText(fault.time - invalidation.time)} before`,
        explanation: join(
          `An invalidation named this page earlier, so something was probably mapped here until then. The IOMMU did not see that mapping, because no device used it, so this is likely but not certain.`,
          neighbourText(world, request),
          world.gaps(fault.time),
        ),
        evidence: [invalidationEvidence(invalidation, fault.time)],
      }),
    };
  }
  return neverMapped(world, request);
}

/** What was mapped at the page last, unless that was in another domain of the same number. */
function pastOf(world: World, { fault, domain }: RefusedRequest): PastMapping | undefined {
  const past = world.mappings.past.find(domain, fault.page);
  return past !== undefined && concernsRequester(world, fault.requesterId, past) ? past : undefined;
}

function usedAfterUnmap(world: World, request: RefusedRequest, past: PastMapping): Verdict {
  const { fault } = request;
  return {
    detector: 'use-after-unmap',
    history: Number.isNaN(past.since) ? `removed ${past.removed}` : past.since,
    explain: () => {
      const since = Number.isNaN(past.since)
        ? 'When it was mapped is not known.'
        : `It had been there for ${durationText(past.removed - past.since)}.`;
      return {
        summary: `${tried(world, request)}, which was unmapped ${durationText(fault.time - past.removed)} before`,
        explanation: join(
          `The page belonged to the mapping ${rangeText(past.start, past.pages)} of ${domainText(past.domain)}, which is ${goingText(past.removedHow)}. ${since} The device, or a descriptor that it still holds, goes on using it. Without an IOMMU the access would have reached whatever is in that memory now.`,
          past.removedHow === REPLACED ? 'What replaced it is not there any more either.' : '',
          neighbourText(world, request),
        ),
        evidence: pastEvidence(world, past, fault.page, fault.time),
      };
    },
  };
}

/** The tables do not have it any more, and no event said so: the entry was cleared, but not invalidated yet. */
function unmappedQuietly(world: World, request: RefusedRequest, live: LiveInterval): Verdict {
  const { fault, domain } = request;
  return {
    detector: 'use-after-unmap',
    history: live.since,
    explain: () => ({
      summary: `${tried(world, request)}, which is not in the page tables any more; no invalidation said so yet`,
      explanation: `The page belonged to the mapping ${rangeText(live.start, live.pages)} of ${domainText(domain)}, last known ${durationText(fault.time - live.since)} before. Since then software took it out of the tables without an invalidation; the IOTLB did not hold it, else the device would have reached the memory.`,
      evidence: [liveEvidence(world, domain, live, fault.time)],
    }),
  };
}

function leavesMapping(world: World, request: RefusedRequest, past: PastMapping | undefined): Verdict {
  const { fault, transfer, domain } = request;
  return {
    detector: 'out-of-bounds',
    explain: () => {
      const live = world.mappings.at(domain, fault.page - 1) ?? world.mappings.at(domain, transfer.page);
      const inside = (fault.page - transfer.page) * PAGE_BYTES - transfer.offset;
      const beyond = transfer.length - inside;
      const where = live === undefined ? 'the mapped pages' : `the mapping ${extentText(world, domain, live)}`;
      const formerly =
        past === undefined
          ? ''
          : `The page behind it was mapped once, too, until ${durationText(fault.time - past.removed)} before.`;
      return {
        summary: `${triedText(world, fault.requesterId, transfer, fault.pasid)}: ${bytesText(Math.max(beyond, 0))} of it ${beyond === 1 ? 'lies' : 'lie'} beyond the end of ${where}`,
        explanation: join(
          `The transfer began in mapped memory and ran out of it at ${addressText(addressOf(fault.page))}; the pages before may have been transferred. The length, or the offset, does not fit the buffer.`,
          formerly,
        ),
        evidence: live === undefined ? [] : [liveEvidence(world, domain, live, fault.time)],
      };
    },
  };
}

function behindMapping(world: World, request: RefusedRequest, live: LiveInterval): Verdict {
  const { transfer, domain, fault } = request;
  return {
    detector: 'out-of-bounds',
    explain: () => {
      const where = transfer.offset === 0 ? 'right behind the end' : `${bytesText(transfer.offset)} behind the end`;
      return {
        summary: `${tried(world, request)}, ${where} of the mapping ${extentText(world, domain, live)}`,
        explanation: `${absenceText(world, domain)}, but the one before it is mapped: an offset or the number of pieces goes beyond the buffer.`,
        evidence: [liveEvidence(world, domain, live, fault.time)],
      };
    },
  };
}

function beforeMapping(world: World, request: RefusedRequest, live: LiveInterval): Verdict {
  const { transfer, domain, fault } = request;
  return {
    detector: 'out-of-bounds',
    explain: () => ({
      summary: `${tried(world, request)}, ${bytesText(PAGE_BYTES - transfer.offset)} before the begin of the mapping ${extentText(world, domain, live)}`,
      explanation: `${absenceText(world, domain)}, but the one behind it is mapped: an offset is negative, or was subtracted twice.`,
      evidence: [liveEvidence(world, domain, live, fault.time)],
    }),
  };
}

function neverMapped(world: World, request: RefusedRequest): Verdict {
  const { fault, domain } = request;
  return {
    detector: 'never-mapped',
    explain: () => {
      const region = world.memory.physicalHint(fault.page);
      const elsewhere = otherDomains(world, request);
      const hints: string[] = [];
      if (region !== undefined) {
        hints.push(
          `The address lies in guest memory (${region}): it may be a physical address, where the one that the mapping gave belongs.`,
        );
      }
      const formerly = world.mappings.past.find(domain, fault.page);
      if (formerly !== undefined) {
        hints.push(
          `It was mapped in an earlier domain with this number, until ${durationText(fault.time - formerly.removed)} before; this device was not attached to that.`,
        );
      }
      if (elsewhere.length > 0) hints.push(`It is mapped in ${elsewhere.map(one => one.text).join(', and in ')}.`);
      const isCertain = world.knowsAllMappings(domain);
      const absence = isCertain ? 'which was never mapped' : 'which is not mapped (no mapping was seen there)';
      const wide = isCertain ? undefined : wideInvalidations(world, request);
      if (wide !== undefined) hints.push(wide.text);
      const physical = region === undefined ? '' : ', and looks like a physical address';
      return {
        summary: `${tried(world, request)}, ${absence}${physical}`,
        explanation: join(
          isCertain
            ? `No operation has ever mapped this page of ${domainText(domain)}.`
            : `The IOMMU has not seen any mapping at this page of ${domainText(domain)}; it sees those that a device uses, and those that an invalidation shows.`,
          ...hints,
          world.gaps(fault.time),
        ),
        evidence: [...elsewhere.map(one => one.evidence), ...(wide === undefined ? [] : [wide.evidence])],
      };
    },
  };
}

/** Begins a sentence about a page beside a mapping. */
function absenceText(world: World, domain: number): string {
  return world.knowsAllMappings(domain) ? 'The page was never mapped' : 'No mapping was seen at this page';
}

/** A mapping right before or behind a page that was unmapped: it may be the one that was meant. */
function neighbourText(world: World, { fault, domain }: RefusedRequest): string {
  const before = world.mappings.at(domain, fault.page - 1);
  const after = world.mappings.at(domain, fault.page + 1);
  if (before === undefined && after === undefined) return '';
  const places: string[] = [];
  if (before !== undefined) places.push(`right behind the mapping ${extentText(world, domain, before)}`);
  if (after !== undefined) places.push(`right before the mapping ${extentText(world, domain, after)}`);
  const are =
    places.length > 1
      ? 'which are there now: it may also be that one of these buffers was overrun'
      : 'which is there now: it may also be an access beyond that buffer';
  return `The page lies ${places.join(' and ')}, ${are}.`;
}

/** Invalidations that name no pages, each of which may have been for an unmapping of this one. */
function wideInvalidations(
  world: World,
  { fault, domain }: RefusedRequest,
): { text: string; evidence: Evidence } | undefined {
  const since = world.attachments.of(fault.requesterId, fault.pasid)?.since;
  const { count, last } = world.invalidations.wide(domain, since ?? Number.NEGATIVE_INFINITY, fault.time);
  if (last === undefined) return undefined;
  const when = since === undefined ? 'so far' : 'since the device was attached';
  const many = count === 1 ? 'There was 1 invalidation' : `There were ${count} invalidations`;
  return {
    text: `${many} of the whole domain or of all domains ${when}, the last one ${durationText(fault.time - last.time)} before: if the page was mapped and never used, its unmapping at ${count === 1 ? 'that one' : 'one of them'} would look like this.`,
    evidence: invalidationEvidence(last, fault.time),
  };
}

/** Where else the page is mapped, or was mapped last: the device may use another one's buffer, or be in the wrong domain. */
function otherDomains(world: World, { fault, domain }: RefusedRequest): { text: string; evidence: Evidence }[] {
  const found = world.mappings.elsewhere(domain, fault.page, MAX_EXAMPLES).map(other => {
    const users = world.attachments.usersOf(other, MAX_EXAMPLES).map(one => world.describe(one.requesterId));
    const whose =
      users.length === 0 ? '' : `, to which ${users.join(', ')} ${users.length === 1 ? 'is' : 'are'} attached`;
    const live = world.mappings.at(other, fault.page)!;
    return { text: `${domainText(other)}${whose}`, evidence: liveEvidence(world, other, live, fault.time) };
  });
  if (found.length > 0) return found;
  const past = world.mappings.past.findElsewhere(domain, fault.page);
  const attached = past && world.attachments.lastOf(fault.requesterId, fault.pasid);
  if (past === undefined || attached?.domain !== past.domain) return [];
  const evidence = pastEvidence(world, past, fault.page, fault.time).at(-1)!;
  return [{ text: `no domain now; it was in ${domainText(past.domain)}, where this device was before`, evidence }];
}

function tried(world: World, { fault, transfer }: RefusedRequest): string {
  return triedText(world, fault.requesterId, transfer, fault.pasid);
}

function extentText(world: World, domain: number, live: LiveInterval): string {
  const { start, pages } = world.mappings.extent(domain, live);
  return rangeText(start, pages);
}

function join(...sentences: readonly string[]): string {
  return sentences.filter(sentence => sentence !== '').join(' ');
}
