/**
 * What the server answers, as the page uses it. The shapes are those of `src/machine/inspection.ts`, the sanitizer and the statistics;
 * numbers may come as integers of 64 bits, lists of numbers as plain lists, and what is missing is taken as empty.
 */
import type {
  InspectionAnswer,
  QueueAnswer,
  RegisterValues,
  RunState,
  TlbAnswer,
  WalkAnswer,
} from '../../machine/inspection.ts';
import type { Finding } from '../../trace/sanitizer/finding.ts';

export type Answer = Readonly<Record<string, unknown>>;

export interface Mapping {
  readonly domain: number;
  /** IOVA >> 12. */
  readonly page: number;
  readonly pages: number;
  /** Guest page that the first one leads to; -1: they do not follow one another. */
  readonly frame: number;
  /** 1 read, 2 write. */
  readonly permissions: number;
  /** Nanoseconds. */
  readonly since: number;
  /** Of one that is gone. */
  readonly until?: number;
}

export interface Attachment {
  readonly requesterId: number;
  /** -1: none. */
  readonly pasid: number;
  readonly domain: number;
  /** `AttachKind`. */
  readonly kind: number;
}

export interface Mappings {
  readonly mappings: readonly Mapping[];
  readonly attachments: readonly Attachment[];
}

export function toNumber(value: unknown, missing = 0): number {
  if (typeof value === 'number') return value;
  return typeof value === 'bigint' ? Number(value) : missing;
}

export function toBigInt(value: unknown): bigint {
  if (typeof value === 'bigint') return value;
  return typeof value === 'number' && Number.isFinite(value) ? BigInt(Math.trunc(value)) : 0n;
}

export function toText(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

export function toList(value: unknown): readonly Answer[] {
  return Array.isArray(value) ? value.filter((one): one is Answer => typeof one === 'object' && one !== null) : [];
}

export function toRecord(value: unknown): Answer {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Answer) : {};
}

export function readMappings(answer: Answer): Mappings {
  return {
    mappings: toList(answer.mappings).map(one => ({
      domain: toNumber(one.domain),
      page: Number(toBigInt(one.iova) >> 12n),
      pages: toNumber(one.pages),
      frame: toNumber(one.frame, -1),
      permissions: toNumber(one.permissions),
      since: toNumber(one.since),
    })),
    attachments: toList(answer.attachments).map(one => ({
      requesterId: toNumber(one.requesterId),
      pasid: toNumber(one.pasid, -1),
      domain: toNumber(one.domain),
      kind: toNumber(one.kind),
    })),
  };
}

export function readFindings(answer: Answer): { readonly findings: readonly Finding[]; readonly lost: number } {
  const findings = toList(answer.findings).map(one => {
    const { iova, length, domain } = one;
    return {
      ...(one as unknown as Finding),
      evidence: toList(one.evidence).map(piece => ({
        time: toNumber(piece.time),
        kind: toText(piece.kind),
        source: toText(piece.source),
        text: toText(piece.text),
      })),
      first: toNumber(one.first),
      last: toNumber(one.last),
      count: toNumber(one.count, 1),
      ...(iova === undefined || iova === null ? {} : { iova: toBigInt(iova) }),
      ...(length === undefined || length === null ? {} : { length: toNumber(length) }),
      ...(domain === undefined || domain === null ? {} : { domain: toNumber(domain) }),
    };
  });
  return { findings, lost: toNumber(answer.lost) };
}

export function readInspection(answer: Answer): InspectionAnswer {
  return {
    registers: toList(answer.registers) as unknown as InspectionAnswer['registers'],
    functions: toList(answer.functions) as unknown as InspectionAnswer['functions'],
    state: readRunState(answer) ?? 'running',
  };
}

/** The functions of a machine by its description, in place of an inspection. */
export function readDescription(description: Answer): InspectionAnswer['functions'] {
  const kind = toText(toRecord(description.iommu).kind);
  if (kind === '') return [];
  const gone = { connected: false, busMaster: false };
  return [
    { name: 'iommu', kind, ...gone },
    ...toList(description.endpoints).map(one => ({
      name: toText(one.id),
      kind: toText(one.kind),
      requesterId: toNumber(one.requesterId),
      ...gone,
    })),
  ];
}

/** The machines of a server. */
export function readNames({ machines }: Answer): readonly string[] {
  return Array.isArray(machines) ? machines.map(String) : [];
}

export function readRunState(answer: Answer): RunState | undefined {
  return answer.state === 'paused' || answer.state === 'running' ? answer.state : undefined;
}

export function readRegisters(answer: Answer): readonly RegisterValues[] {
  return toList(answer.blocks).flatMap(({ function: name, block, bytes }) =>
    bytes instanceof Uint8Array ? [{ function: toText(name), block: toText(block), bytes }] : [],
  );
}

/** The walk stands in a member of its own, because an answer's `status` is the NTSTATUS. */
export function readWalk(response: Answer): WalkAnswer {
  const answer = toRecord(response.walk);
  const { address, shift, permissions, domain, cached } = answer;
  const given = <T>(value: unknown, read: (value: unknown) => T) =>
    value === undefined || value === null ? undefined : read(value);
  const found = given(cached, toRecord);
  const members = {
    address: given(address, toBigInt),
    shift: given(shift, toNumber),
    permissions: given(permissions, toNumber),
    domain: given(domain, toNumber),
    cached: found && {
      address: toBigInt(found.address),
      shift: toNumber(found.shift, 12),
      permissions: toNumber(found.permissions),
    },
  };
  return {
    status: (toText(answer.status) ||
      (members.address === undefined ? 'not present' : 'mapped')) as WalkAnswer['status'],
    agrees: answer.agrees !== false,
    steps: toList(answer.steps).map(step => ({
      what: toText(step.what),
      address: toBigInt(step.address),
      words: Array.isArray(step.words) ? step.words.map(toBigInt) : [],
      present: step.present === true,
      fields: toList(step.fields).map(field => ({
        name: toText(field.name),
        bits: readBits(field.bits),
        value: toBigInt(field.value),
      })),
    })),
    ...Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)),
  } as WalkAnswer;
}

function readBits(value: unknown): [number, number] {
  const [high, low] = Array.isArray(value) ? value : [];
  return [toNumber(high), toNumber(low)];
}

export function readTlb(answer: Answer): TlbAnswer {
  const entries = toList(answer.entries).map(one => ({
    domain: toNumber(one.domain),
    iova: toBigInt(one.iova),
    address: toBigInt(one.address),
    shift: toNumber(one.shift, 12),
    permissions: toNumber(one.permissions),
  }));
  return { entries, total: toNumber(answer.total, entries.length) };
}

export function readQueue(answer: Answer): QueueAnswer {
  return {
    enabled: answer.enabled === true,
    base: toBigInt(answer.base),
    bytes: toNumber(answer.bytes),
    head: toNumber(answer.head),
    tail: toNumber(answer.tail),
    entries: toList(answer.entries).map(entry => ({
      offset: toNumber(entry.offset),
      words: Array.isArray(entry.words) ? entry.words.map(toBigInt) : [],
      text: toText(entry.text),
      state: toText(entry.state) as QueueAnswer['entries'][number]['state'],
    })),
  };
}
