/** Findings, counted in the ways that reports show. */
import { DETECTOR_NAMES, type DetectorName } from '../sanitizer/detectors.ts';
import type { Finding } from '../sanitizer/finding.ts';

/** Findings of each detector that has any, in the order of detectors. */
export function countByDetector(findings: readonly Finding[]): Partial<Record<DetectorName, number>> {
  const counts = new Map<DetectorName, number>();
  for (const { detector } of findings) counts.set(detector, (counts.get(detector) ?? 0) + 1);
  return Object.fromEntries(DETECTOR_NAMES.filter(name => counts.has(name)).map(name => [name, counts.get(name)]));
}

export function countBySeverity(findings: readonly Finding[]): Record<Finding['severity'], number> {
  const counts = { note: 0, warning: 0, stop: 0 };
  for (const { severity } of findings) counts[severity]++;
  return counts;
}

/** What a report says beside the findings. */
export interface ReportOptions {
  /** Occurrences for which there was no room. */
  readonly lost?: number;
  /** The same of each detector that has any. */
  readonly lostByDetector?: Readonly<Partial<Record<DetectorName, number>>>;
  /** Of the program that made the report. */
  readonly version?: string;
  /** A description of the machine, as JSON can hold it. */
  readonly machine?: unknown;
  /** Path of the recording that was looked at, or else of the report; for formats in which results must be somewhere. */
  readonly artifact?: string;
}

/** `12 more occurrences were not kept (never-mapped: 12)`; empty where all were. */
export function lostText({ lost = 0, lostByDetector = {} }: ReportOptions): string {
  if (lost === 0) return '';
  const parts = DETECTOR_NAMES.filter(name => (lostByDetector[name] ?? 0) > 0).map(
    name => `${name}: ${lostByDetector[name]}`,
  );
  return `${lost} more occurrences were not kept${parts.length > 0 ? ` (${parts.join(', ')})` : ''}`;
}
