/**
 * Findings as SARIF 2.1.0 (OASIS), which code hosts and editors show. Places are logical locations; the physical one, without which some
 * readers drop a result, is the file that the findings are in.
 */
import { createHash } from 'node:crypto';
import { DETECTOR_NAMES, detectorTable } from '../sanitizer/detectors.ts';
import type { Evidence, Finding } from '../sanitizer/finding.ts';
import { PAGE_BYTES } from '../sanitizer/pages.ts';
import { addressText, durationText } from '../sanitizer/text.ts';
import { lostText, type ReportOptions } from './counts.ts';

const SCHEMA = 'https://json.schemastore.org/sarif-2.1.0.json';
/** Where there is no file. */
const NO_FILE = 'viommu-findings';
/** The version of how fingerprints are made. */
const FINGERPRINT = 'viommuFinding/v1';
const FINGERPRINT_DIGITS = 32;
const LEVELS = { note: 'note', warning: 'warning', stop: 'error' } as const;

/** An object that `JSON.stringify` takes as it is. */
export function reportSarif(findings: readonly Finding[], options: ReportOptions = {}): object {
  const { version, artifact } = options;
  const lost = lostText(options);
  const uri = artifact === undefined ? NO_FILE : uriOf(artifact);
  const fingerprint = fingerprints();
  return {
    $schema: SCHEMA,
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'viommu',
            ...(version === undefined ? {} : { version }),
            ...(version !== undefined && SEMANTIC.test(version) ? { semanticVersion: version } : {}),
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
            ...(lost === ''
              ? {}
              : { toolExecutionNotifications: [{ level: 'warning', message: { text: `${lost}.` } }] }),
          },
        ],
        artifacts: [
          {
            location: { uri },
            description: { text: artifact === undefined ? 'The findings of a machine; there is no file.' : artifact },
          },
        ],
        results: findings.map(finding => result(finding, uri, fingerprint(finding))),
      },
    ],
  };
}

const SEMANTIC = /^\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?$/;

function result(finding: Finding, uri: string, fingerprint: string): object {
  const { id, detector, severity, summary, explanation, suggestion, evidence, device, iova, count } = finding;
  const { domain, length, first, last } = finding;
  const times = count > 1 ? ` (${count} times within ${durationText(last - first)})` : '';
  return {
    ruleId: detector,
    ruleIndex: DETECTOR_NAMES.indexOf(detector),
    level: LEVELS[severity],
    message: { text: `${summary}${times}. ${explanation}` },
    occurrenceCount: count,
    partialFingerprints: { [FINGERPRINT]: fingerprint },
    locations: [{ physicalLocation: { artifactLocation: { uri, index: 0 } }, logicalLocations: [place(finding)] }],
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

/**
 * The same in every run for the same detector, device and page; where one run has several of these, their order tells them apart.
 */
function fingerprints(): (finding: Finding) => string {
  const seen = new Map<string, number>();
  return ({ detector, device, iova }) => {
    const page = iova === undefined ? '' : addressText(iova / BigInt(PAGE_BYTES));
    const hash = createHash('sha256')
      .update(JSON.stringify([detector, device, page]))
      .digest('hex');
    const short = hash.slice(0, FINGERPRINT_DIGITS);
    const number = (seen.get(short) ?? 0) + 1;
    seen.set(short, number);
    return `${short}:${number}`;
  };
}

/** Without lone surrogates, which no URI can hold. */
function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd');
}

/** RFC 3986: a relative reference, or for absolute paths one with the scheme `file`. */
function uriOf(path: string): string {
  const parts = path.replaceAll('\\', '/').split('/');
  const isDrive = /^[A-Za-z]:$/.test(parts[0]!);
  const encoded = parts.map((part, i) => (isDrive && i === 0 ? part : encodeURIComponent(wellFormed(part)))).join('/');
  if (encoded.startsWith('/')) return `file://${encoded}`;
  return isDrive ? `file:///${encoded}` : encoded;
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
