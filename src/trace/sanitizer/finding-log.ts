/** Findings as they are made: counted where they were made before, bounded, with what the policy says about them. */
import { DETECTORS, type DetectorName } from './detectors.ts';
import type { Evidence, Finding } from './finding.ts';
import { MAX_EVIDENCE, MAX_FINDINGS_PER_DETECTOR, MAX_FINDINGS_PER_DEVICE } from './limits.ts';
import type { SanitizePolicy } from './policy.ts';

/** Evidence that is put into words only when somebody reads it: of what may happen again and again. */
export interface LateEvidence {
  readonly time: number;
  readonly tell: () => Evidence;
}

/** What makes two occurrences the same finding. */
export interface Occurrence {
  readonly detector: DetectorName;
  readonly device: string;
  /** The page, or what else tells one from another. */
  readonly key: string | number;
  /** What happened: the end of the evidence, and the time of the occurrence. */
  readonly access: Evidence | LateEvidence;
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
  /** Whether `onFinding` is called again when a finding happens again. */
  readonly everyOccurrence?: boolean | undefined;
  readonly onStop?: ((finding: Finding) => void) | undefined;
}

interface Kept {
  readonly index: number;
  /** The evidence of the first occurrence; later ones add their last access to it. */
  readonly evidence: readonly Evidence[];
  count: number;
  /** Of the last occurrence, until somebody reads the finding. */
  access: Evidence | LateEvidence | undefined;
}

export class FindingLog {
  readonly #lost = new Map<DetectorName, number>();
  /** Findings kept, by detector, and by detector and device. */
  readonly #kept = new Map<string, number>();
  /** Those for which there was no room included. */
  #made = 0;
  readonly #findings: Finding[] = [];
  readonly #known = new Map<string, Kept>();
  /** Those that happened again since they were read. */
  readonly #changed = new Set<Kept>();

  constructor(private readonly options: FindingLogOptions) {}

  /** A finding that happens again is replaced by one with a higher count. */
  get findings(): readonly Finding[] {
    for (const kept of this.#changed) this.#update(kept);
    this.#changed.clear();
    return this.#findings;
  }

  /** Occurrences that came when there was no room for another finding of their detector. */
  get lost(): number {
    let sum = 0;
    for (const count of this.#lost.values()) sum += count;
    return sum;
  }

  /** The same of each detector that has any. */
  get lostByDetector(): Partial<Record<DetectorName, number>> {
    return Object.fromEntries(this.#lost);
  }

  wants(detector: DetectorName): boolean {
    return this.options.policy[detector] !== 'off';
  }

  stops(detector: DetectorName): boolean {
    return this.options.policy[detector] === 'stop';
  }

  /** `explain` is asked only for the first occurrence. */
  report(occurrence: Occurrence, explain: () => Explanation): void {
    const { detector, device } = occurrence;
    if (!this.wants(detector)) return;
    const key = `${detector} ${device} ${occurrence.key}`;
    const kept = this.#known.get(key);
    if (kept !== undefined) {
      this.#again(kept, occurrence);
    } else if (this.#hasRoom(occurrence)) {
      const finding = this.#make(occurrence, explain());
      const index = this.#findings.push(finding) - 1;
      const { evidence, count } = finding;
      this.#known.set(key, { index, evidence, count, access: undefined });
      this.#tell(finding, true);
    } else {
      this.#lost.set(detector, (this.#lost.get(detector) ?? 0) + (occurrence.count ?? 1));
      // Whether there is room is no reason for the machine to go on.
      if (this.stops(detector)) this.#tell(this.#make(occurrence, explain()), true);
    }
  }

  /** Takes it, if there is some. */
  #hasRoom({ detector, device }: Occurrence): boolean {
    const deviceKey = `${detector} ${device}`;
    const ofDetector = this.#kept.get(detector) ?? 0;
    const ofDevice = this.#kept.get(deviceKey) ?? 0;
    if (ofDetector >= MAX_FINDINGS_PER_DETECTOR || ofDevice >= MAX_FINDINGS_PER_DEVICE) return false;
    this.#kept.set(detector, ofDetector + 1);
    this.#kept.set(deviceKey, ofDevice + 1);
    return true;
  }

  #make(occurrence: Occurrence, explanation: Explanation): Finding {
    const { detector, device, count = 1, first = occurrence.access.time } = occurrence;
    const { evidence = [], severity, ...told } = explanation;
    const access = inWords(occurrence.access);
    const history = [...evidence].sort(byTime).slice(-(MAX_EVIDENCE - 2));
    const all = [...history, access].sort(byTime);
    this.#made++;
    return {
      id: `F${this.#made}`,
      detector,
      severity: this.stops(detector) ? 'stop' : (severity ?? DETECTORS[detector].severity),
      suggestion: DETECTORS[detector].suggestion,
      ...told,
      evidence: all,
      device,
      first,
      last: access.time,
      count,
    };
  }

  #again(kept: Kept, { access, count = 1 }: Occurrence): void {
    kept.count += count;
    kept.access = access;
    this.#changed.add(kept);
    const { everyOccurrence } = this.options;
    // A device that fails all the time would else be slowed down by what nobody reads.
    if (everyOccurrence === true || this.#findings[kept.index]!.severity === 'stop') {
      this.#tell(this.findings[kept.index]!, false);
    }
  }

  #update({ index, evidence, count, access }: Kept): void {
    if (access === undefined) return;
    const last = inWords(access);
    this.#findings[index] = { ...this.#findings[index]!, evidence: [...evidence, last], last: last.time, count };
  }

  #tell(finding: Finding, isNew: boolean): void {
    const { onFinding, onStop, everyOccurrence } = this.options;
    if (isNew || everyOccurrence === true) onFinding?.(finding, isNew);
    if (finding.severity === 'stop') onStop?.(finding);
  }
}

function inWords(evidence: Evidence | LateEvidence): Evidence {
  return 'tell' in evidence ? evidence.tell() : evidence;
}

function byTime(a: Evidence, b: Evidence): number {
  return a.time - b.time;
}
