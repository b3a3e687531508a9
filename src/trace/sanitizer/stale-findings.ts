/** What is told of answers that the tables do not give any more. */
import { FreshStatus, StaleWhat } from '../event-kinds.ts';
import type { DetectorName } from './detectors.ts';
import type { Evidence } from './finding.ts';
import type { Explanation } from './finding-log.ts';
import {
  concernsRequester,
  didText,
  invalidationEvidence,
  invalidationText,
  liveEvidence,
  pastEvidence,
  transferAddress,
  triedText,
} from './history-evidence.ts';
import type { Invalidation } from './invalidation-log.ts';
import type { LiveInterval } from './live-mappings.ts';
import type { PastMapping } from './past-mappings.ts';
import { isGone, isRefusal, type StaleAnswer } from './stale-answer.ts';
import { accessVerb, domainText, durationText, frameText, permissionText } from './text.ts';
import type { World } from './world.ts';

/** Accesses that one stale entry let through, up to an invalidation or a deadline. */
export interface StaleAccesses {
  readonly first: StaleAnswer;
  readonly last: StaleAnswer;
  readonly count: number;
}

function freshText(answer: StaleAnswer): string {
  switch (answer.fresh) {
    case FreshStatus.mapped:
      return answer.freshFrame === answer.usedFrame
        ? `the page tables now allow ${permissionText(answer.freshPermissions)} only`
        : `the page tables now say ${frameText(answer.freshFrame)}`;
    case FreshStatus.denied:
      return `the page tables do not allow to ${accessVerb(answer.transfer.access)} any more`;
    case FreshStatus.malformed:
      return 'the page tables now hold an entry that cannot be used';
    case FreshStatus.detached:
      return 'the device has no context entry any more';
    default:
      return 'the page is not in the page tables any more';
  }
}

const AT_ONCE: Readonly<Partial<Record<number, DetectorName>>> = {
  [StaleWhat.pagingStructure]: 'stale-paging-structure',
  [StaleWhat.notPresent]: 'missing-map-invalidation',
};

export function tellAtOnce(world: World, answer: StaleAnswer): void {
  const detector = AT_ONCE[answer.what];
  if (detector === undefined) return;
  tell(world, detector, { first: answer, last: answer, count: 1 }, () => ({
    summary: staleSummary(world, answer),
    explanation: atOnceExplanation(world, answer),
    evidence: history(world, answer),
  }));
}

/** The machine stops: what the grace would have shown is not known. */
export function tellNotWaited(world: World, detector: DetectorName, answer: StaleAnswer): void {
  const entry = answer.what === StaleWhat.context ? 'context' : 'IOTLB';
  tell(world, detector, { first: answer, last: answer, count: 1 }, () => ({
    summary: staleSummary(world, answer),
    explanation: `A stale ${entry} entry was used; whether its invalidation was only late was not waited for, because the machine was to stop. ${lastFlushText(world, answer)}`,
    evidence: history(world, answer),
  }));
}

function contextText({ fresh, domain, freshDomain }: StaleAnswer): string {
  if (fresh === FreshStatus.detached) return 'it is not present in memory any more';
  return freshDomain === domain ? 'the one in memory differs' : `the one in memory says ${domainText(freshDomain)}`;
}

function staleSummary(world: World, answer: StaleAnswer): string {
  const { domain, usedFrame, freshFrame } = answer;
  const did = accessText(world, answer);
  const at = isRefusal(answer) ? '' : `, at ${frameText(usedFrame)}`;
  switch (answer.what) {
    case StaleWhat.notPresent:
      return `${did}, though the page is mapped to ${frameText(freshFrame)} by now; no invalidation told of it`;
    case StaleWhat.context:
      return `${did} by a stale context entry (${domainText(domain)}): ${contextText(answer)}`;
    case StaleWhat.pagingStructure:
      return `${did} through a stale pointer to a page table${at}: ${freshText(answer)}`;
    default:
      return `${did} by a stale IOTLB entry${at}: ${freshText(answer)}`;
  }
}

function lastFlushText(world: World, { domain, transfer, time }: StaleAnswer): string {
  const last = world.invalidations.lastCovering(domain, transfer.page, time);
  return last === undefined
    ? 'No invalidation for this page was seen.'
    : `The last invalidation for this page was ${durationText(time - last.time)} before: ${invalidationText(last)}.`;
}

function atOnceExplanation(world: World, answer: StaleAnswer): string {
  const flushed = lastFlushText(world, answer);
  return answer.what === StaleWhat.notPresent
    ? `In caching mode the IOMMU may remember that nothing is mapped, until it is told otherwise. ${flushed}`
    : `An upper-level table was changed. ${flushed} What is cached of upper levels goes only with an invalidation that is not limited to leaf entries.`;
}

/** What software had done to the tables, and what the cache did about it. */
function causeText(answer: StaleAnswer): string {
  if (answer.what === StaleWhat.context) {
    return `The context entry in memory had been changed already (${contextText(answer)}), but the context cache still held the old one`;
  }
  const how = isGone(answer.fresh) ? 'had gone from the tables' : 'had been changed in the tables';
  return `The mapping ${how} already (${freshText(answer)}), but the IOTLB still held it`;
}

function effectText(answer: StaleAnswer): string {
  return isRefusal(answer)
    ? 'the device was refused what the tables allow by now'
    : `the device reached ${frameText(answer.usedFrame)}`;
}

function changeText({ what, fresh }: StaleAnswer): string {
  if (what === StaleWhat.context) return 'the change of its context entry';
  return isGone(fresh) ? 'its unmapping' : 'the change of its mapping';
}

export function tellBeforeFlush(world: World, accesses: StaleAccesses, invalidation: Invalidation): void {
  const { first } = accesses;
  tell(world, 'dma-before-flush', accesses, () => {
    const window = durationText(invalidation.time - first.time);
    return {
      summary: `${accessText(world, first)}, ${window} before the invalidation that ${changeText(first)} needs`,
      explanation: `${causeText(first)}, so ${effectText(first)}. The invalidation came ${window} later. Within that window the device can use memory that is nobody's, or somebody else's.`,
      evidence: [
        ...history(world, first),
        {
          ...invalidationEvidence(invalidation, first.time),
          text: `${invalidationText(invalidation)}, ${window} after the first access`,
        },
      ],
    };
  });
}

export function tellNeverFlushed(world: World, accesses: StaleAccesses, now: number): void {
  const { first } = accesses;
  const detector = first.what === StaleWhat.context ? 'stale-context' : 'stale-iotlb';
  tell(world, detector, accesses, () => ({
    summary: staleSummary(world, first),
    explanation: neverFlushedText(world, first, now),
    evidence: history(world, first),
  }));
}

function neverFlushedText(world: World, answer: StaleAnswer, now: number): string {
  const waited = durationText(now - answer.time);
  if (answer.what === StaleWhat.context) {
    return `The context entry in memory was changed, and in the ${waited} since this access it was not invalidated in the context cache with the domain id that it had, so the device still goes by the old one.`;
  }
  const which = isGone(answer.fresh)
    ? 'The mapping is gone from the tables, but the IOTLB still holds it'
    : 'The entry was changed while the IOTLB held it';
  const effect = isRefusal(answer)
    ? 'The device was refused what the tables allow by now.'
    : `The device reached ${frameText(answer.usedFrame)}, which may belong to somebody else.`;
  return `${which}, and in the ${waited} since this access no invalidation for it came. ${lastFlushText(world, answer)} ${effect}`;
}

/** What the device did, or tried. */
function accessText(world: World, answer: StaleAnswer): string {
  const { requesterId, transfer } = answer;
  return isRefusal(answer)
    ? `${triedText(world, requesterId, transfer)} and was refused`
    : didText(world, requesterId, transfer);
}

function accessEvidence(world: World, answer: StaleAnswer): Evidence {
  const { time, source, usedFrame } = answer;
  const did = accessText(world, answer);
  const text = isRefusal(answer) ? did : `${did}, led to ${frameText(usedFrame)} by a cache`;
  return { time, kind: 'stale', source, text };
}

function pastOf(world: World, { requesterId, domain, transfer }: StaleAnswer): PastMapping | undefined {
  const past = world.mappings.past.find(domain, transfer.page);
  return past !== undefined && concernsRequester(world, requesterId, past) ? past : undefined;
}

/** Tells the mapping that the cache remembers from others that were made at the same page. */
function mappingKey(world: World, answer: StaleAnswer): string | number {
  const { domain, transfer, usedFrame } = answer;
  const { page } = transfer;
  const isUsed = (one: PastMapping | LiveInterval) => one.frame >= 0 && one.frame + (page - one.start) === usedFrame;
  const live = world.mappings.at(domain, page);
  if (live !== undefined && isUsed(live)) return live.since;
  const past = pastOf(world, answer);
  return past !== undefined && isUsed(past) && !Number.isNaN(past.since) ? past.since : `frame ${usedFrame}`;
}

function history(world: World, answer: StaleAnswer): Evidence[] {
  const { domain, transfer, time } = answer;
  const live = world.mappings.at(domain, transfer.page);
  const past = pastOf(world, answer);
  const evidence: Evidence[] = past === undefined ? [] : pastEvidence(world, past, transfer.page, time);
  if (live !== undefined) {
    evidence.push(liveEvidence(world, domain, live, time));
    const flushed = world.invalidations.lastCovering(domain, transfer.page, time);
    if (flushed !== undefined && !evidence.some(one => one.kind === 'invalidation')) {
      evidence.push(invalidationEvidence(flushed, time));
    }
  }
  return evidence;
}

function tell(
  world: World,
  detector: DetectorName,
  { first, last, count }: StaleAccesses,
  explain: () => Explanation & { readonly evidence: readonly Evidence[] },
): void {
  const { requesterId, transfer, domain } = first;
  const access = accessEvidence(world, last);
  const occurrence = {
    detector,
    device: world.deviceOf(requesterId),
    key: `${transfer.page} ${domain} ${mappingKey(world, first)}`,
    access,
    count,
    first: first.time,
  };
  world.log.report(occurrence, () => {
    const told = explain();
    return {
      ...told,
      evidence: count > 1 ? [...told.evidence, accessEvidence(world, first)] : told.evidence,
      iova: transferAddress(transfer),
      ...(transfer.length > 0 ? { length: transfer.length } : {}),
      ...(domain >= 0 ? { domain } : {}),
    };
  });
}
