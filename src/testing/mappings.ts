/** What is mapped, in an order and a form that can be compared. */
import type { LiveMapping } from '../trace/sanitizer/sanitizer.ts';

export interface FormatOptions {
  /** Whether to say where mappings lead to. Default: true. Where a guest's kernel chooses pages, no two runs lead to the same. */
  readonly addresses?: boolean;
}

interface Run {
  readonly domain: number;
  readonly permissions: number;
  readonly first: bigint;
  /** Behind the last byte. */
  readonly end: bigint;
  /** Guest-physical address; undefined: scattered, or not to be told. */
  readonly to: bigint | undefined;
}

const PAGE = 4096n;
const PERMISSIONS = ['none', 'read', 'write', 'read-write'];

/** By domain, then by address. */
export function sortMappings(mappings: readonly LiveMapping[]): LiveMapping[] {
  return [...mappings].sort((a, b) => a.domain - b.domain || (a.iova < b.iova ? -1 : a.iova > b.iova ? 1 : 0));
}

/**
 * As text, a line for each range: what lies side by side for the device, in memory too and with the same permissions, is one, however
 * it was mapped or seen.
 */
export function formatMappings(mappings: readonly LiveMapping[], { addresses = true }: FormatOptions = {}): string {
  const lines: string[] = [];
  let domain: number | undefined;
  for (const run of runs(sortMappings(mappings), addresses)) {
    if (run.domain !== domain) lines.push(`domain ${run.domain}`);
    domain = run.domain;
    lines.push(`  ${formatRun(run, addresses)}`);
  }
  return lines.join('\n');
}

function formatRun({ first, end, to, permissions }: Run, addresses: boolean): string {
  const where = to === undefined ? 'scattered pages' : hex(to);
  return `${hex(first)}-${hex(end - 1n)} ${PERMISSIONS[permissions & 3]}${addresses ? ` -> ${where}` : ''}`;
}

function runs(sorted: readonly LiveMapping[], addresses: boolean): Run[] {
  const all: Run[] = [];
  for (const { domain, permissions, iova, pages, frame } of sorted) {
    const to = addresses && frame >= 0 ? BigInt(frame) * PAGE : undefined;
    const end = iova + BigInt(pages) * PAGE;
    const last = all.at(-1);
    const continues =
      last !== undefined && last.domain === domain && last.permissions === permissions && last.end === iova;
    if (continues && follows(last, to)) all[all.length - 1] = { ...last, end };
    else all.push({ domain, permissions, first: iova, end, to });
  }
  return all;
}

function follows(run: Run, to: bigint | undefined): boolean {
  return run.to === undefined ? to === undefined : to === run.to + (run.end - run.first);
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
