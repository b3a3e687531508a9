/** Findings as they are made: counted where they were made before, bounded, with what the policy says about them. */
import { DETECTORS, type DetectorName } from './detectors.ts';
import type { Evidence, Finding } from './finding.ts';
import { MAX_EVIDENCE, MAX_FINDINGS } from './limits.ts';
import type { SanitizePolicy } from './policy.ts';

/** What makes two occurrences the same finding. */
export interface Occurrence {
  readonly detector: DetectorName;
  readonly device: string;
  /** The page, or what else tells one from another. */
  readonly key: string | number;
  /** What happened: the end of the evidence, and the time of the occurrence. */
  readonly access: Evidence;
  /** Default: 1. */
  readonly count?: number;
  /** Where these were several, the time of the first. Default: that of the access. */
  readonly first?: number;
}

/** What is told of the first one. */
export interface Explanation {
  readonly summary: string;
  readonly explanation: string;
  /** Without the access. In any order. */
  readonly evidence?: readonly Evidence[];
  /** Default: the detector's. */
  readonly suggestion?: string;
  /** Of a lesser or graver occasion than the detector's. */
  readonly severity?: 'note' | 'warning';
  readonly iova?: bigint;
  readonly length?: number;
  readonly domain?: number;
}

export interface FindingLogOptions {
  readonly policy: SanitizePolicy;
  readonly onFinding?: ((finding: Finding, isNew: boolean) => void) | undefined;
  readonly onStop?: ((finding: Finding) => void) | undefined;
}

interface Kept {
  readonly index: number;
  /** The evidence of the first occurrence; later ones add their last access to it. */
  readonly evidence: readonly Evidence[];
}

export class FindingLog {
  readonly findings: Finding[] = [];
  /** Occurrences that came when there was no room for another finding. */
  lost = 0;
  readonly #known = new Map<string, Kept>();

  constructor(private readonly options: FindingLogOptions) {}

  wants(detector: DetectorName): boolean {
    return this.options.policy[detector] !== 'off';
  }

  /** `explain` is asked only for the first occurrence. */
  report(occurrence: Occurrence, explain: () => Explanation): void {
    const { detector, device } = occurrence;
    if (!this.wants(detector)) return;
    const key = `${detector} ${device} ${occurrence.key}`;
    const kept = this.#known.get(key);
    if (kept !== undefined) {
      this.#again(kept, occurrence);
    } else if (this.findings.length >= MAX_FINDINGS) {
      this.lost++;
    } else {
      this.#first(key, occurrence, explain());
    }
  }

  #first(key: string, occurrence: Occurrence, explanation: Explanation): void {
    const { detector, device, access, count = 1, first = access.time } = occurrence;
    const { evidence = [], severity, ...told } = explanation;
    const stop = this.options.policy[detector] === 'stop';
    const history = [...evidence].sort(byTime).slice(-(MAX_EVIDENCE - 2));
    const all = [...history, access].sort(byTime);
    const finding: Finding = {
      id: `F${this.findings.length + 1}`,
      detector,
      severity: stop ? 'stop' : (severity ?? DETECTORS[detector].severity),
      suggestion: DETECTORS[detector].suggestion,
      ...told,
      evidence: all,
      device,
      first,
      last: access.time,
      count,
    };
    this.#known.set(key, { index: this.findings.length, evidence: all });
    this.findings.push(finding);
    this.#tell(finding, true);
  }

  #again({ index, evidence }: Kept, { access, count = 1 }: Occurrence): void {
    const before = this.findings[index]!;
    const finding: Finding = {
      ...before,
      evidence: [...evidence, access],
      last: access.time,
      count: before.count + count,
    };
    this.findings[index] = finding;
    this.#tell(finding, false);
  }

  #tell(finding: Finding, isNew: boolean): void {
    this.options.onFinding?.(finding, isNew);
    if (finding.severity === 'stop') this.options.onStop?.(finding);
  }
}

function byTime(a: Evidence, b: Evidence): number {
  return a.time - b.time;
}
