/** Answers from caches that the tables do not give any more: told at once, or after waiting whether an invalidation comes. */
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
  type Transfer,
  transferAddress,
  triedText,
} from './history-evidence.ts';
import { covers, type Invalidation } from './invalidation-log.ts';
import { MAX_SUSPICIONS } from './limits.ts';
import { pageOf } from './pages.ts';
import { accessVerb, domainText, durationText, frameText, permissionText } from './text.ts';
import type { World } from './world.ts';

interface StaleAnswer {
  readonly time: number;
  readonly source: string;
  readonly requesterId: number;
  readonly what: number;
  readonly fresh: number;
  readonly transfer: Transfer;
  /** The domain that the answer was for. */
  readonly domain: number;
  readonly usedFrame: number;
  readonly freshFrame: number;
  readonly usedPermissions: number;
  readonly freshPermissions: number;
  readonly freshDomain: number;
}

interface Suspicion {
  readonly first: StaleAnswer;
  last: StaleAnswer;
  count: number;
  readonly due: number;
}

export class StaleWatch {
  /** In the order of their time, and so of their deadlines. */
  readonly #suspicions = new Map<string, Suspicion>();

  constructor(
    private readonly world: World,
    private readonly grace: number,
  ) {}

  get deadline(): number {
    for (const suspicion of this.#suspicions.values()) return suspicion.due;
    return Number.POSITIVE_INFINITY;
  }

  get waiting(): number {
    return this.#suspicions.size;
  }

  /** Returns the page, whose refusal, if that is what comes next, needs no other explanation. */
  stale(source: string, time: number, payload: Int32Array): { readonly requesterId: number; readonly page: number } {
    const answer = readStale(source, time, payload);
    if (answer.what === StaleWhat.iotlb && isGone(answer.fresh)) this.#suspect(answer);
    else tellAtOnce(this.world, answer);
    return { requesterId: answer.requesterId, page: answer.transfer.page };
  }

  /** Everything that waited for this invalidation was DMA before it. */
  invalidated(invalidation: Invalidation): void {
    for (const [key, suspicion] of this.#suspicions) {
      const { domain, transfer } = suspicion.first;
      if (!covers(invalidation, domain, transfer.page)) continue;
      this.#suspicions.delete(key);
      tellBeforeFlush(this.world, suspicion, invalidation);
    }
  }

  tick(now: number): void {
    if (this.#suspicions.size === 0) return;
    for (const [key, suspicion] of this.#suspicions) {
      if (suspicion.due > now) return;
      this.#decide(key, suspicion, now);
    }
  }

  /** No invalidation can come any more. */
  finish(now: number): void {
    for (const [key, suspicion] of this.#suspicions) this.#decide(key, suspicion, now);
  }

  #suspect(answer: StaleAnswer): void {
    const key = `${answer.requesterId} ${answer.domain} ${answer.transfer.page}`;
    const known = this.#suspicions.get(key);
    if (known !== undefined) {
      known.last = answer;
      known.count++;
      return;
    }
    if (this.#suspicions.size >= MAX_SUSPICIONS) {
      for (const [oldest, suspicion] of this.#suspicions) {
        this.#decide(oldest, suspicion, answer.time);
        break;
      }
    }
    this.#suspicions.set(key, { first: answer, last: answer, count: 1, due: answer.time + this.grace });
  }

  #decide(key: string, suspicion: Suspicion, now: number): void {
    this.#suspicions.delete(key);
    tellNeverFlushed(this.world, suspicion, now);
  }
}

/** An answer that lets nothing through: the tables would by now. */
function isRefusal({ what, usedPermissions }: StaleAnswer): boolean {
  return what === StaleWhat.notPresent || usedPermissions === 0;
}

function isGone(fresh: number): boolean {
  return fresh === FreshStatus.notPresent || fresh === FreshStatus.detached;
}

function readStale(source: string, time: number, payload: Int32Array): StaleAnswer {
  const first = payload[0]!;
  const permissions = payload[6]!;
  const transfer: Transfer = {
    page: pageOf(payload[1]!, payload[2]!),
    offset: payload[2]! & 0xfff,
    length: payload[7]! >>> 0,
    access: (first >>> 16) & 3,
    time,
  };
  return {
    time,
    source,
    requesterId: first & 0xffff,
    what: (first >>> 18) & 7,
    fresh: (first >>> 21) & 7,
    transfer,
    usedFrame: payload[3]!,
    domain: payload[4]!,
    freshFrame: payload[5]!,
    usedPermissions: permissions & 3,
    freshPermissions: (permissions >>> 2) & 3,
    freshDomain: payload[8]!,
  };
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

const AT_ONCE: Readonly<Record<number, DetectorName>> = {
  [StaleWhat.iotlb]: 'stale-iotlb',
  [StaleWhat.context]: 'stale-context',
  [StaleWhat.pagingStructure]: 'stale-paging-structure',
  [StaleWhat.notPresent]: 'missing-map-invalidation',
};

function tellAtOnce(world: World, answer: StaleAnswer): void {
  const detector = AT_ONCE[answer.what];
  if (detector === undefined) return;
  tell(world, detector, { first: answer, last: answer, count: 1 }, () => ({
    summary: atOnceSummary(world, answer),
    explanation: atOnceExplanation(world, answer),
    evidence: history(world, answer),
  }));
}

function atOnceSummary(world: World, answer: StaleAnswer): string {
  const { requesterId, transfer, domain, freshDomain, usedFrame, freshFrame } = answer;
  const did = isRefusal(answer)
    ? `${triedText(world, requesterId, transfer)} and was refused`
    : didText(world, requesterId, transfer);
  const at = isRefusal(answer) ? '' : `, at ${frameText(usedFrame)}`;
  switch (answer.what) {
    case StaleWhat.notPresent:
      return `${did}, though the page is mapped to ${frameText(freshFrame)} by now; no invalidation told of it`;
    case StaleWhat.context: {
      const now =
        answer.fresh === FreshStatus.detached
          ? 'it is not present in memory any more'
          : freshDomain === domain
            ? 'the one in memory differs'
            : `the one in memory says ${domainText(freshDomain)}`;
      return `${did} by a stale context entry (${domainText(domain)}): ${now}`;
    }
    case StaleWhat.pagingStructure:
      return `${did} through a stale pointer to a page table${at}: ${freshText(answer)}`;
    default:
      return `${did} by a stale IOTLB entry${at}: ${freshText(answer)}`;
  }
}

function atOnceExplanation(world: World, answer: StaleAnswer): string {
  const { what, domain, transfer, time, usedFrame } = answer;
  const last = world.invalidations.lastCovering(domain, transfer.page, time);
  const flushed =
    last === undefined
      ? 'No invalidation for this page was seen.'
      : `The last invalidation for this page was ${durationText(time - last.time)} before: ${invalidationText(last)}.`;
  switch (what) {
    case StaleWhat.notPresent:
      return `In caching mode the IOMMU may remember that nothing is mapped, until it is told otherwise. ${flushed}`;
    case StaleWhat.context:
      return 'The context entry in memory was changed, but not invalidated in the context cache with the domain id that it had, so the device still goes by the old one.';
    case StaleWhat.pagingStructure:
      return `An upper-level table was changed. ${flushed} What is cached of upper levels goes only with an invalidation that is not limited to leaf entries.`;
    default:
      return isRefusal(answer)
        ? `The entry was changed while the IOTLB held it. ${flushed} The device was refused what the tables allow by now.`
        : `The entry was changed while the IOTLB held it. ${flushed} The device reached ${frameText(usedFrame)}, which may belong to somebody else.`;
  }
}

function tellBeforeFlush(world: World, suspicion: Suspicion, invalidation: Invalidation): void {
  const { first } = suspicion;
  tell(world, 'dma-before-flush', suspicion, () => {
    const window = durationText(invalidation.time - first.time);
    return {
      summary: `${didText(world, first.requesterId, first.transfer)}, ${window} before the invalidation that its unmapping needs`,
      explanation: `The mapping had gone from the tables already (${freshText(first)}), but the IOTLB still held it, so the device reached ${frameText(first.usedFrame)}. The invalidation came ${window} later. Within that window the device can use memory that is nobody's, or somebody else's.`,
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

function tellNeverFlushed(world: World, suspicion: Suspicion, now: number): void {
  const { first } = suspicion;
  tell(world, 'stale-iotlb', suspicion, () => ({
    summary: `${didText(world, first.requesterId, first.transfer)} by a stale IOTLB entry, at ${frameText(first.usedFrame)}: ${freshText(first)}`,
    explanation: `The mapping is gone from the tables, but the IOTLB still holds it, and in the ${durationText(now - first.time)} since this access no invalidation for it came. The device reached ${frameText(first.usedFrame)}, which may belong to somebody else.`,
    evidence: history(world, first),
  }));
}

function accessEvidence(world: World, answer: StaleAnswer): Evidence {
  const { time, source, requesterId, transfer, usedFrame } = answer;
  const text = isRefusal(answer)
    ? `${triedText(world, requesterId, transfer)} and was refused`
    : `${didText(world, requesterId, transfer)}, led to ${frameText(usedFrame)} by a cache`;
  return { time, kind: 'stale', source, text };
}

function history(world: World, { requesterId, domain, transfer, time }: StaleAnswer): Evidence[] {
  const live = world.mappings.at(domain, transfer.page);
  const past = world.mappings.past.find(domain, transfer.page);
  const isOurs = past !== undefined && concernsRequester(world, requesterId, past);
  const evidence: Evidence[] = isOurs ? pastEvidence(world, past, transfer.page, time) : [];
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
  { first, last, count }: Pick<Suspicion, 'first' | 'last' | 'count'>,
  explain: () => Explanation & { readonly evidence: readonly Evidence[] },
): void {
  const { requesterId, transfer, domain } = first;
  const access = accessEvidence(world, last);
  const occurrence = {
    detector,
    device: world.deviceOf(requesterId),
    key: transfer.page,
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
