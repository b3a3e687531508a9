/** Findings for programs. */
import { DETECTORS } from '../sanitizer/detectors.ts';
import type { Evidence, Finding } from '../sanitizer/finding.ts';
import { addressText } from '../sanitizer/text.ts';
import { countByDetector, countBySeverity, type ReportOptions } from './counts.ts';

/** Changes when a field changes its meaning or goes; new fields do not change it. */
export const JSON_REPORT_VERSION = 1;

export interface JsonFinding extends Omit<Finding, 'iova'> {
  /** Hexadecimal, with 0x. */
  readonly iova?: string;
  readonly title: string;
  readonly evidence: readonly Evidence[];
}

export interface JsonReport {
  readonly format: 'viommu-findings';
  readonly version: typeof JSON_REPORT_VERSION;
  readonly tool: { readonly name: 'viommu'; readonly version?: string };
  readonly machine?: unknown;
  readonly findings: readonly JsonFinding[];
  readonly lost: number;
  readonly lostByDetector: Readonly<Partial<Record<string, number>>>;
  readonly counts: {
    readonly bySeverity: Readonly<Record<Finding['severity'], number>>;
    readonly byDetector: Readonly<Partial<Record<string, number>>>;
  };
}

/** An object that `JSON.stringify` takes as it is; times are nanoseconds. */
export function reportJson(
  findings: readonly Finding[],
  { lost = 0, lostByDetector = {}, version, machine }: ReportOptions = {},
): JsonReport {
  return {
    format: 'viommu-findings',
    version: JSON_REPORT_VERSION,
    tool: { name: 'viommu', ...(version === undefined ? {} : { version }) },
    ...(machine === undefined ? {} : { machine: plain(machine) }),
    findings: findings.map(({ iova, ...rest }) => ({
      ...rest,
      title: DETECTORS[rest.detector].title,
      ...(iova === undefined ? {} : { iova: addressText(iova) }),
    })),
    lost,
    lostByDetector,
    counts: { bySeverity: countBySeverity(findings), byDetector: countByDetector(findings) },
  };
}

/** 64-bit numbers as hexadecimal text. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? addressText(one) : one)));
}
