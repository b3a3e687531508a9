/** Findings as SARIF 2.1.0 (OASIS), which code hosts and editors show. There are no files, so places are logical locations. */
import { DETECTOR_NAMES, detectorTable } from '../sanitizer/detectors.ts';
import type { Evidence, Finding } from '../sanitizer/finding.ts';
import { addressText, durationText } from '../sanitizer/text.ts';
import type { ReportOptions } from './counts.ts';

const SCHEMA = 'https://json.schemastore.org/sarif-2.1.0.json';
const LEVELS = { note: 'note', warning: 'warning', stop: 'error' } as const;

/** An object that `JSON.stringify` takes as it is. */
export function reportSarif(findings: readonly Finding[], { lost = 0, version }: ReportOptions = {}): object {
  return {
    $schema: SCHEMA,
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'viommu',
            ...(version === undefined ? {} : { semanticVersion: version }),
            rules: detectorTable().map(({ name, title, about, suggestion, severity }) => ({
              id: name,
              name: title,
              shortDescription: { text: title },
              fullDescription: { text: about },
              help: { text: suggestion },
              defaultConfiguration: { level: LEVELS[severity] },
            })),
          },
        },
        invocations: [
          {
            executionSuccessful: true,
            ...(lost > 0
              ? {
                  toolExecutionNotifications: [
                    { level: 'warning', message: { text: `${lost} more occurrences were not kept.` } },
                  ],
                }
              : {}),
          },
        ],
        results: findings.map(result),
      },
    ],
  };
}

function result(finding: Finding): object {
  const { id, detector, severity, summary, explanation, suggestion, evidence, device, iova, count } = finding;
  const { domain, length, first, last } = finding;
  const times = count > 1 ? ` (${count} times within ${durationText(last - first)})` : '';
  return {
    ruleId: detector,
    ruleIndex: DETECTOR_NAMES.indexOf(detector),
    level: LEVELS[severity],
    message: { text: `${summary}${times}. ${explanation}` },
    occurrenceCount: count,
    locations: [{ logicalLocations: [place(finding)] }],
    ...(evidence.length > 0 ? { codeFlows: [{ threadFlows: [{ locations: evidence.map(flowStep) }] }] } : {}),
    properties: {
      id,
      device,
      suggestion,
      firstNanoseconds: first,
      lastNanoseconds: last,
      ...(iova === undefined ? {} : { iova: addressText(iova) }),
      ...(length === undefined ? {} : { length }),
      ...(domain === undefined ? {} : { domain }),
    },
  };
}

function place({ device, domain, iova }: Finding): object {
  const parts = [device];
  if (domain !== undefined) parts.push(`domain ${domain}`);
  if (iova !== undefined) parts.push(addressText(iova));
  return { name: device, fullyQualifiedName: parts.join('/'), kind: 'resource' };
}

function flowStep({ time, kind, source, text }: Evidence, index: number): object {
  return {
    executionOrder: index + 1,
    location: {
      message: { text },
      logicalLocations: [{ name: source, fullyQualifiedName: source, kind: 'resource' }],
    },
    properties: { kind, nanoseconds: time },
  };
}
