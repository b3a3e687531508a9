/** Looks for findings, and says which there are. */

import type { FindingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import { formatRequesterId } from '../trace/record-fields.ts';
import type { DetectorName } from '../trace/sanitizer/detectors.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';

export interface ExpectedFinding {
  /** The endpoint's name, or its address as 01:00.0; `iommu` where it is nobody's DMA. */
  readonly device?: string;
  /** Any address in a page of the access: later ones to the same page are the same finding. */
  readonly iova?: bigint;
  readonly domain?: number;
  /** In the summary. */
  readonly text?: string | RegExp;
}

const PAGE_SHIFT = 12n;
const ADDRESS = /^[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$/;

/** By which name the machine tells of a device: an endpoint's own, also where its address was given. Throws an Error for a name nobody has. */
export function deviceName({ endpoints }: MachineDescription, device: string): string {
  const endpoint = endpoints.find(({ id, requesterId }) => id === device || formatRequesterId(requesterId) === device);
  if (endpoint !== undefined) return endpoint.id;
  if (device === 'iommu' || ADDRESS.test(device)) return device;
  const known = endpoints.map(({ id }) => id).join(', ') || 'none';
  throw new Error(`there is no device '${device}': the machine has ${known}`);
}

/** `device` as `deviceName` gives it. */
export function findFinding(
  findings: readonly Finding[],
  detector: DetectorName,
  expected: ExpectedFinding = {},
): Finding | undefined {
  return findings.find(finding => finding.detector === detector && fits(finding, expected));
}

/** No findings mean nothing where nobody looked: throws an Error. */
export function checkLooked({ state }: Pick<FindingsAnswer, 'state'>): void {
  if (state === 'off') throw new Error("the machine looks for no mistakes: it was started with sanitize 'off'");
  if (state === 'failed')
    throw new Error(
      'the sanitizer failed, or the machine cannot be asked any more: an event internal.error may say why',
    );
}

export function describeFindings(findings: readonly Finding[]): string {
  return findings.map(describeFinding).join('\n') || '  (none)';
}

export function describeFinding({ id, detector, severity, summary, count }: Finding): string {
  return `  ${id} ${severity} ${detector}: ${summary}${count > 1 ? ` (${count} times)` : ''}`;
}

export function describeExpectedFinding(detector: DetectorName, expected: ExpectedFinding): string {
  const { device, iova, domain, text } = expected;
  return [
    detector,
    ...(device === undefined ? [] : [`of ${device}`]),
    ...(iova === undefined ? [] : [`at 0x${iova.toString(16)}`]),
    ...(domain === undefined ? [] : [`in domain ${domain}`]),
    ...(text === undefined ? [] : [`with ${text instanceof RegExp ? text : `'${text}'`} in its summary`]),
  ].join(' ');
}

function fits(finding: Finding, { device, iova, domain, text }: ExpectedFinding): boolean {
  if (device !== undefined && finding.device !== device) return false;
  if (domain !== undefined && finding.domain !== domain) return false;
  if (iova !== undefined) {
    if (finding.iova === undefined) return false;
    const last = finding.iova + BigInt(Math.max(1, finding.length ?? 1)) - 1n;
    const page = iova >> PAGE_SHIFT;
    if (page < finding.iova >> PAGE_SHIFT || page > last >> PAGE_SHIFT) return false;
  }
  if (text === undefined) return true;
  // A pattern with the flag g would go on from where it found something last.
  return typeof text === 'string' ? finding.summary.includes(text) : finding.summary.search(text) >= 0;
}
