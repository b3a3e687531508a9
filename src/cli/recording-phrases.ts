/** Records of a timeline in a few words each: what a reader wants to know first. `viommu trace` has every field. */
import type { Fields, FieldValue } from '../trace/record-fields.ts';

/** What to call a requester. */
export type NameOf = (requesterId: number) => string;

type Phrase = (fields: Fields, nameOf: NameOf) => string;

const PAGE = 4096n;
/** A frame of -1, as an address: pages that do not follow one another. */
const SCATTERED = 0xffff_ffffn * PAGE;

const CAUSES: Readonly<Record<string, string>> = {
  notPresent: 'not mapped',
  denied: 'not allowed there',
  malformedEntry: 'a page-table entry is malformed',
  tableUnreachable: 'a page table is not in guest memory',
  notAttached: 'it is attached to no domain',
  malformedContext: 'its context entry is malformed',
  addressTooWide: 'the address has too many bits',
  interruptRange: 'this is the range of interrupt messages',
  blocked: 'its domain lets nothing through',
  noPasid: 'it has no such PASID',
};
const STATUSES: Readonly<Record<string, string>> = {
  fault: 'refused by the IOMMU',
  notBusMaster: 'bus mastering is off',
  noMemory: 'no memory is there',
  aborted: 'aborted',
};
const STALE: Readonly<Record<string, string>> = {
  iotlb: 'a stale IOTLB entry',
  context: 'a stale context entry',
  pagingStructure: 'a stale paging-structure cache entry',
  notPresent: 'a remembered absence',
};
const ANSWERS: Readonly<Record<string, string>> = {
  untranslated: 'untranslated',
  passThrough: 'passed through',
  iotlb: 'IOTLB',
  walk: 'page walk',
};
const PERMISSIONS: Readonly<Record<string, string>> = { read: 'r', write: 'w', 'read-write': 'rw' };
const RESETS: Readonly<Record<string, string>> = {
  functionLevel: 'function-level reset',
  client: 'reset by QEMU',
  disconnected: 'QEMU disconnected',
  iommu: 'the IOMMU was reset',
};

const transfer: Phrase = ({ length, iova, pasid }) => `${bytes(length)} at ${hex(iova)}${withPasid(pasid)}`;

const PHRASES: Readonly<Record<string, Phrase>> = {
  attach: ({ requesterId, domain, kind, pasid }, nameOf) =>
    `${who(requesterId, nameOf)}${withPasid(pasid)} to domain ${domain}${kind === 'translated' ? '' : `, ${kind}`}`,
  detach: ({ requesterId, domain, pasid }, nameOf) =>
    `${who(requesterId, nameOf)}${withPasid(pasid)} from domain ${domain}`,
  'dma.read': transfer,
  'dma.write': transfer,
  'dma.failed': (fields, nameOf) =>
    `${fields.write ? 'write' : 'read'} of ${transfer(fields, nameOf)}: ${inWords(STATUSES, fields.status)}`,
  fault: ({ requesterId, access, iova, pasid, cause, reason }, nameOf) =>
    `${who(requesterId, nameOf)}${withPasid(pasid)} ${access} at ${hex(iova)} refused: ${inWords(CAUSES, cause)} (reason ${hex(reason)})`,
  invalidation: invalidationPhrase,
  'mapping.added': mappingPhrase,
  'mapping.removed': mappingPhrase,
  'mapping.changed': fields =>
    `${mappingPhrase(fields)}; before: ${frame(fields.oldFrame)} ${allowed(fields.oldPermissions)}`,
  reset: ({ what }) => inWords(RESETS, what),
  stale: ({ requesterId, access, iova, what, usedFrame }, nameOf) =>
    `${who(requesterId, nameOf)} ${access} at ${hex(iova)} was answered from ${inWords(STALE, what)}, ${frame(usedFrame)}`,
  translation: ({ requesterId, access, iova, frame: to, source }, nameOf) =>
    `${who(requesterId, nameOf)} ${access} at ${hex(iova)} -> ${frame(to)} (${inWords(ANSWERS, source)})`,
};

/** undefined: this kind has no words of its own. Members that an older file's records lack are shown as `?`. */
export function phraseOf(kind: string, fields: Fields, nameOf: NameOf): string | undefined {
  return Object.hasOwn(PHRASES, kind) ? PHRASES[kind]!(fields, nameOf) : undefined;
}

function invalidationPhrase({ target, scope, domain, iova, pages, leafOnly, requesterId }: Fields, nameOf: NameOf) {
  const cache = target === 'context' ? 'context cache' : 'IOTLB';
  if (scope === 'all') return `${cache}, everything`;
  if (scope === 'device') return `${cache}, ${who(requesterId, nameOf)}`;
  const hint = leafOnly ? ', leaf entries only' : '';
  return scope === 'range'
    ? `${cache}, ${span(iova, pages)} of domain ${domain}${hint}`
    : `${cache}, all of domain ${domain}`;
}

function mappingPhrase({ iova, pages, frame: to, permissions, domain, how }: Fields): string {
  return `${span(iova, pages)} -> ${frame(to)} ${allowed(permissions)}, domain ${domain} (${how ?? '?'})`;
}

function allowed(permissions: FieldValue | undefined): string {
  return inWords(PERMISSIONS, permissions);
}

function inWords(table: Readonly<Record<string, string>>, value: FieldValue | undefined): string {
  const name = String(value ?? '?');
  return Object.hasOwn(table, name) ? table[name]! : name;
}

function who(requesterId: FieldValue | undefined, nameOf: NameOf): string {
  return typeof requesterId === 'number' ? nameOf(requesterId) : '?';
}

function hex(value: FieldValue | undefined): string {
  return typeof value === 'bigint' || typeof value === 'number' ? `0x${value.toString(16)}` : '?';
}

function frame(value: FieldValue | undefined): string {
  return value === SCATTERED ? 'scattered pages' : hex(value);
}

function span(iova: FieldValue | undefined, pages: FieldValue | undefined): string {
  if (typeof iova !== 'bigint' || typeof pages !== 'number') return hex(iova);
  return `${hex(iova)}-${hex(iova + BigInt(Math.max(1, pages)) * PAGE - 1n)}`;
}

function bytes(length: FieldValue | undefined): string {
  return length === 1 ? '1 byte' : `${length} bytes`;
}

function withPasid(pasid: FieldValue | undefined): string {
  return typeof pasid === 'number' ? ` PASID ${pasid}` : '';
}
