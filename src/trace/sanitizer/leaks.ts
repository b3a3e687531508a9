/** Mappings that are still there when nobody can need them any more. */
import { MappingSource } from '../event-kinds.ts';
import type { Evidence } from './finding.ts';
import type { Explanation } from './finding-log.ts';
import { liveEvidence } from './history-evidence.ts';
import { MAX_EXAMPLES } from './limits.ts';
import type { LiveInterval } from './live-mappings.ts';
import { addressOf, PAGE_BYTES } from './pages.ts';
import { countText, domainText, durationText, rangeText, sizeText } from './text.ts';
import type { World } from './world.ts';

interface Leak {
  readonly mappings: number;
  readonly pages: number;
  readonly oldest: LiveInterval;
  /** In the order of addresses. */
  readonly examples: readonly LiveInterval[];
}

export interface LeakOccasion {
  /** Who left them behind; `iommu` where it is nobody in particular. */
  readonly device: string;
  readonly domain: number;
  readonly time: number;
  /** Tells occasions of one device and domain apart: detach, delete, reset, end. */
  readonly kind: string;
  /** Ends the sentence that begins with the number of mappings: `were left behind when ...`. */
  readonly when: string;
  /** Why it may be in order, as a sentence: then it is a note. */
  readonly excuse?: string;
  /** What happened, as evidence. */
  readonly evidence: Evidence;
}

export function reportLeak(world: World, occasion: LeakOccasion): void {
  const { device, domain, kind, evidence } = occasion;
  const leak = leakOf(world, domain);
  if (leak === undefined) return;
  const occurrence = { detector: 'mapping-leak', device, key: `${kind} ${domain}`, access: evidence } as const;
  world.log.report(occurrence, () => explain(world, leak, occasion));
}

/** Identity mappings are made for regions that devices need whatever happens, and stay. */
function leakOf(world: World, domain: number): Leak | undefined {
  let mappings = 0;
  let pages = 0;
  let oldest: LiveInterval | undefined;
  const examples: LiveInterval[] = [];
  for (const interval of world.mappings.of(domain)) {
    if (interval.frame === interval.start) continue;
    mappings++;
    pages += interval.pages;
    if (oldest === undefined || interval.since < oldest.since) oldest = interval;
    if (examples.length < MAX_EXAMPLES) examples.push(interval);
  }
  return oldest === undefined ? undefined : { mappings, pages, oldest, examples };
}

function explain(
  world: World,
  { mappings, pages, oldest, examples }: Leak,
  { domain, time, when, excuse }: LeakOccasion,
): Explanation {
  const size = sizeText(pages * PAGE_BYTES);
  const list = examples.map(one => rangeText(one.start, one.pages)).join(', ');
  const more = mappings > examples.length ? ` and ${countText(mappings - examples.length, 'other')}` : '';
  const evidence = new Set([oldest, ...examples]);
  const seen =
    oldest.how === MappingSource.operation
      ? ''
      : ' Only mappings that a device used, or an invalidation showed, are known.';
  return {
    summary: `${countText(mappings, 'mapping')} (${size}) of ${domainText(domain)} ${mappings === 1 ? 'was' : 'were'} left behind ${when}`,
    explanation: `Left behind: ${list}${more}. The oldest is ${rangeText(oldest.start, oldest.pages)}, first known ${durationText(time - oldest.since)} before.${seen}${excuse === undefined ? '' : ` ${excuse}`}`,
    evidence: [...evidence].map(one => liveEvidence(world, domain, one, time)),
    iova: addressOf(oldest.start),
    domain,
    ...(excuse === undefined ? {} : { severity: 'note' }),
  };
}
