/**
 * Everything that is recorded while a machine runs, as data: which kinds of events there are, to which class each belongs, and what its
 * payload words mean. The writer, the reader, recorded files (which carry these definitions) and the sanitizer all go by this table.
 *
 * An event is one record of 32-bit words: kind, source, time, and a payload of up to 5 words (a short record) or 13 (a long one).
 */

/** Classes can be switched on and off one by one; the value is the class's bit in a mask. */
export const EventClass = {
  /** Register and configuration space accesses of the guest. */
  register: 1 << 0,
  /** Answers of the IOMMU, with where they came from. */
  translation: 1 << 1,
  /** Transfers of endpoints that went through. */
  dma: 1 << 2,
  /** Mappings as they come, change and go. */
  mapping: 1 << 3,
  /** Devices attached to and detached from domains. */
  attach: 1 << 4,
  invalidation: 1 << 5,
  /** Faults, failed transfers and stale answers. */
  fault: 1 << 6,
  interrupt: 1 << 7,
  /** Clients, memory regions, resets. */
  connection: 1 << 8,
  /** What rooms note: rare and in words. */
  note: 1 << 9,
  finding: 1 << 10,
} as const;
export type EventClassName = keyof typeof EventClass;

/** How a payload field is shown, and what filters know it by. */
export type PayloadType =
  | 'uint'
  | 'hex'
  /** bus << 8 | device << 3 | function. */
  | 'requesterId'
  /** -1: none. */
  | 'pasid'
  /** -1: all. */
  | 'domain'
  /** Two words, the upper one first. */
  | 'iova'
  | 'guestAddress'
  /** A page frame number of 4 KiB. */
  | 'frame'
  /** Index into `names`. */
  | 'name'
  | 'flag'
  /** Bit 0 read, bit 1 write. */
  | 'access';

export interface PayloadField {
  readonly name: string;
  readonly type: PayloadType;
  /** Payload word, from 0. `iova`, `guestAddress` and 64-bit `hex` (bits: 64) take this word (upper half) and the next. */
  readonly word: number;
  /** Lowest bit within the word. Default 0. */
  readonly shift?: number;
  /** Default 32; 64 for two words. */
  readonly bits?: number;
  /** Of `name` fields. */
  readonly names?: readonly string[];
}

export interface EventKind {
  /** Dotted and stable. */
  readonly name: string;
  /** The number in records and files: never given to another kind. */
  readonly code: number;
  readonly class: EventClassName;
  readonly about: string;
  readonly fields: readonly PayloadField[];
  /** The rest of the record's slots hold one MessagePack value instead of payload words from word 1 on; word 0 is its length in bytes. */
  readonly text?: true;
}

export const SHORT_PAYLOAD_WORDS = 5;
export const LONG_PAYLOAD_WORDS = 13;

/** Where a translation came from. */
export const TranslationSource = { untranslated: 0, passThrough: 1, iotlb: 2, walk: 3 } as const;
/** How a mapping's coming and going was noticed. */
export const MappingSource = { operation: 0, walk: 1, invalidation: 2, detach: 3, reset: 4 } as const;
export const AttachKind = { translated: 0, passThrough: 1, blocked: 2, faulty: 3 } as const;
export const InvalidationTarget = { iotlb: 0, context: 1 } as const;
export const InvalidationScope = { all: 0, domain: 1, range: 2, device: 3 } as const;
export const InvalidationOrigin = { queue: 0, register: 1, operation: 2 } as const;
/** What stands behind a fault, whatever number the IOMMU has for it. */
export const FaultCause = {
  /** No present entry for the address. */
  notPresent: 0,
  /** Present, but without the permission. */
  denied: 1,
  /** Reserved bits, or a value that is not valid, in a page-table entry. */
  malformedEntry: 2,
  /** A page table that is not in guest memory. */
  tableUnreachable: 3,
  /** The requester has no (present) root or context entry, or is attached to no domain. */
  notAttached: 4,
  /** The requester's root or context entry cannot be used. */
  malformedContext: 5,
  /** Wider than the tables or the unit can translate. */
  addressTooWide: 6,
  /** To the range of interrupt messages, or mapped to it. */
  interruptRange: 7,
  /** The domain's state does not allow it: not configured, blocked. */
  blocked: 8,
  /** No such PASID for this requester. */
  noPasid: 9,
} as const;
export type FaultCause = (typeof FaultCause)[keyof typeof FaultCause];
export const FaultOutcome = { recorded: 0, suppressed: 1, collapsed: 2, overflowed: 3 } as const;
/** What of the IOMMU's caches was found to differ from the tables. */
export const StaleWhat = { iotlb: 0, context: 1, pagingStructure: 2, notPresent: 3 } as const;
/** What a walk from the root says at the moment. */
export const FreshStatus = { mapped: 0, notPresent: 1, denied: 2, malformed: 3, detached: 4 } as const;
export const InterruptWay = { intx: 0, msi: 1, msix: 2, message: 3 } as const;
export const InterruptAction = { raised: 0, lowered: 1, pending: 2, lost: 3 } as const;
export const ResetWhat = { functionLevel: 0, client: 1, disconnected: 2, iommu: 3 } as const;

const names = (table: object): readonly string[] => Object.keys(table);
const rid: PayloadField = { name: 'requesterId', type: 'requesterId', word: 0, bits: 16 };
const access: PayloadField = { name: 'access', type: 'access', word: 0, shift: 16, bits: 2 };
const iova: PayloadField = { name: 'iova', type: 'iova', word: 1, bits: 64 };
const length: PayloadField = { name: 'length', type: 'uint', word: 3 };
const dmaStatus = ['ok', 'fault', 'notBusMaster', 'noMemory', 'aborted'];

const registerFields: readonly PayloadField[] = [
  { name: 'region', type: 'uint', word: 0, bits: 4 },
  { name: 'width', type: 'uint', word: 0, shift: 4, bits: 4 },
  { name: 'offset', type: 'hex', word: 1 },
  { name: 'value', type: 'hex', word: 2, bits: 64 },
];
const dmaFields: readonly PayloadField[] = [
  rid,
  { name: 'status', type: 'name', word: 0, shift: 16, bits: 4, names: dmaStatus },
  iova,
  length,
  { name: 'pasid', type: 'pasid', word: 4 },
];
const mappingFields: readonly PayloadField[] = [
  { name: 'domain', type: 'domain', word: 0 },
  iova,
  { name: 'frame', type: 'frame', word: 3 },
  { name: 'pages', type: 'uint', word: 4 },
  { name: 'permissions', type: 'access', word: 5, bits: 2 },
  { name: 'how', type: 'name', word: 5, shift: 8, bits: 4, names: names(MappingSource) },
  { name: 'shift', type: 'uint', word: 5, shift: 16, bits: 6 },
];
const regionFields: readonly PayloadField[] = [
  { name: 'writable', type: 'flag', word: 0, bits: 1 },
  { name: 'mapped', type: 'flag', word: 0, shift: 1, bits: 1 },
  { name: 'address', type: 'guestAddress', word: 1, bits: 64 },
  { name: 'bytes', type: 'hex', word: 3, bits: 64 },
];

/** `value` of register events: upper word first, as everywhere. */
export const EVENT_KINDS = [
  { name: 'register.read', code: 1, class: 'register', about: 'the guest read a register', fields: registerFields },
  { name: 'register.write', code: 2, class: 'register', about: 'the guest wrote a register', fields: registerFields },
  {
    name: 'translation',
    code: 3,
    class: 'translation',
    about: 'the IOMMU translated a run of physically contiguous pages for a device',
    fields: [
      rid,
      access,
      { name: 'source', type: 'name', word: 0, shift: 18, bits: 2, names: names(TranslationSource) },
      { name: 'permissions', type: 'access', word: 0, shift: 20, bits: 2 },
      { name: 'shift', type: 'uint', word: 0, shift: 22, bits: 6 },
      iova,
      { name: 'frame', type: 'frame', word: 3 },
      { name: 'domain', type: 'domain', word: 4 },
    ],
  },
  { name: 'dma.read', code: 4, class: 'dma', about: 'a device read guest memory', fields: dmaFields },
  { name: 'dma.write', code: 5, class: 'dma', about: 'a device wrote guest memory', fields: dmaFields },
  {
    name: 'dma.failed',
    code: 6,
    class: 'fault',
    about: 'a transfer did not go through; follows the fault that says why',
    fields: [...dmaFields, { name: 'write', type: 'flag', word: 0, shift: 20, bits: 1 }],
  },
  {
    name: 'mapping.added',
    code: 7,
    class: 'mapping',
    about: 'a mapping was made, or seen for the first time',
    fields: mappingFields,
  },
  { name: 'mapping.removed', code: 8, class: 'mapping', about: 'a mapping is gone', fields: mappingFields },
  {
    name: 'mapping.changed',
    code: 9,
    class: 'mapping',
    about: 'a mapping leads elsewhere, or allows something else, than before',
    fields: [
      ...mappingFields,
      { name: 'oldFrame', type: 'frame', word: 6 },
      { name: 'oldPermissions', type: 'access', word: 7, bits: 2 },
    ],
  },
  {
    name: 'attach',
    code: 10,
    class: 'attach',
    about: 'a device was attached to a domain, or its context entry was seen for the first time',
    fields: [
      rid,
      { name: 'domain', type: 'domain', word: 1 },
      { name: 'kind', type: 'name', word: 2, bits: 4, names: names(AttachKind) },
      { name: 'pasid', type: 'pasid', word: 3 },
    ],
  },
  {
    name: 'detach',
    code: 11,
    class: 'attach',
    about: 'a device was detached from a domain',
    fields: [rid, { name: 'domain', type: 'domain', word: 1 }, { name: 'pasid', type: 'pasid', word: 3 }],
  },
  {
    name: 'invalidation',
    code: 12,
    class: 'invalidation',
    about: 'software invalidated entries of a cache; the range is that of `pages` pages of 4 KiB from the IOVA on',
    fields: [
      { name: 'domain', type: 'domain', word: 0 },
      iova,
      { name: 'pages', type: 'uint', word: 3 },
      { name: 'target', type: 'name', word: 4, bits: 4, names: names(InvalidationTarget) },
      { name: 'scope', type: 'name', word: 4, shift: 4, bits: 4, names: names(InvalidationScope) },
      { name: 'origin', type: 'name', word: 4, shift: 8, bits: 4, names: names(InvalidationOrigin) },
      { name: 'leafOnly', type: 'flag', word: 4, shift: 12, bits: 1 },
      { name: 'requesterId', type: 'requesterId', word: 4, shift: 16, bits: 16 },
    ],
  },
  {
    name: 'invalidation.wait',
    code: 13,
    class: 'invalidation',
    about: 'the IOMMU said that the invalidations before are complete',
    fields: [
      { name: 'written', type: 'flag', word: 0, bits: 1 },
      { name: 'interrupt', type: 'flag', word: 0, shift: 1, bits: 1 },
      { name: 'address', type: 'guestAddress', word: 1, bits: 64 },
      { name: 'data', type: 'hex', word: 3 },
    ],
  },
  {
    name: 'fault',
    code: 14,
    class: 'fault',
    about: 'the IOMMU refused a request',
    fields: [
      rid,
      access,
      { name: 'outcome', type: 'name', word: 0, shift: 18, bits: 4, names: names(FaultOutcome) },
      { name: 'cause', type: 'name', word: 0, shift: 22, bits: 6, names: names(FaultCause) },
      iova,
      { name: 'reason', type: 'hex', word: 3 },
      { name: 'domain', type: 'domain', word: 4 },
      { name: 'pasid', type: 'pasid', word: 5 },
      { name: 'level', type: 'uint', word: 6 },
      { name: 'entry', type: 'hex', word: 7, bits: 64 },
      { name: 'entryAddress', type: 'guestAddress', word: 9, bits: 64 },
      { name: 'addressWidth', type: 'uint', word: 11 },
    ],
  },
  {
    name: 'stale',
    code: 15,
    class: 'fault',
    about: 'the IOMMU answered from a cache what the tables do not say any more',
    fields: [
      rid,
      access,
      { name: 'what', type: 'name', word: 0, shift: 18, bits: 3, names: names(StaleWhat) },
      { name: 'fresh', type: 'name', word: 0, shift: 21, bits: 3, names: names(FreshStatus) },
      iova,
      { name: 'usedFrame', type: 'frame', word: 3 },
      { name: 'domain', type: 'domain', word: 4 },
      { name: 'freshFrame', type: 'frame', word: 5 },
      { name: 'usedPermissions', type: 'access', word: 6, bits: 2 },
      { name: 'freshPermissions', type: 'access', word: 6, shift: 2, bits: 2 },
      { name: 'shift', type: 'uint', word: 6, shift: 8, bits: 6 },
      { name: 'length', type: 'uint', word: 7 },
      { name: 'freshDomain', type: 'domain', word: 8 },
    ],
  },
  {
    name: 'interrupt',
    code: 16,
    class: 'interrupt',
    about: 'an interrupt of a function',
    fields: [
      { name: 'way', type: 'name', word: 0, bits: 4, names: names(InterruptWay) },
      { name: 'action', type: 'name', word: 0, shift: 4, bits: 4, names: names(InterruptAction) },
      { name: 'vector', type: 'uint', word: 1 },
    ],
  },
  {
    name: 'memory.added',
    code: 17,
    class: 'connection',
    about: 'a client told of a memory region',
    fields: regionFields,
  },
  { name: 'memory.removed', code: 18, class: 'connection', about: 'a memory region is gone', fields: regionFields },
  {
    name: 'reset',
    code: 19,
    class: 'connection',
    about: 'a function or the IOMMU was reset',
    fields: [{ name: 'what', type: 'name', word: 0, bits: 4, names: names(ResetWhat) }],
  },
  { name: 'note', code: 20, class: 'note', about: 'what a room notes: [kind, source, detail]', fields: [], text: true },
  {
    name: 'source',
    code: 21,
    class: 'note',
    about: "a source's name: the number in records, and the name",
    fields: [],
    text: true,
  },
  {
    name: 'dropped',
    code: 22,
    class: 'note',
    about: 'so many records were lost here because the reader was too slow',
    fields: [{ name: 'records', type: 'uint', word: 0 }],
  },
  { name: 'finding', code: 23, class: 'finding', about: 'the sanitizer found a mistake', fields: [], text: true },
  {
    name: 'register.spin',
    code: 24,
    class: 'fault',
    about: 'the guest reads the same value from the same register again and again',
    fields: [
      { name: 'region', type: 'uint', word: 0, bits: 4 },
      { name: 'width', type: 'uint', word: 0, shift: 4, bits: 4 },
      { name: 'offset', type: 'hex', word: 1 },
      { name: 'value', type: 'hex', word: 2 },
      { name: 'reads', type: 'uint', word: 3 },
      { name: 'milliseconds', type: 'uint', word: 4 },
    ],
  },
  {
    name: 'descriptor.changed',
    code: 25,
    class: 'fault',
    about: 'a descriptor in guest memory changed while it was being read',
    fields: [
      { name: 'address', type: 'guestAddress', word: 1, bits: 64 },
      { name: 'offset', type: 'uint', word: 3 },
      { name: 'bytes', type: 'uint', word: 4 },
      { name: 'before', type: 'hex', word: 5, bits: 64 },
      { name: 'after', type: 'hex', word: 7, bits: 64 },
    ],
  },
  {
    name: 'context.present',
    code: 26,
    class: 'fault',
    about:
      'told beside a fault of a requester without a context entry, and when it is detached: another requester that has one',
    fields: [rid, { name: 'for', type: 'requesterId', word: 1, bits: 16 }, { name: 'domain', type: 'domain', word: 2 }],
  },
  {
    name: 'table.loop',
    code: 27,
    class: 'fault',
    about: 'a walk came to a page table that it had been at before: a table is its own ancestor',
    fields: [
      rid,
      { name: 'level', type: 'uint', word: 0, shift: 16, bits: 4 },
      { name: 'ancestorLevel', type: 'uint', word: 0, shift: 20, bits: 4 },
      iova,
      { name: 'domain', type: 'domain', word: 3 },
      { name: 'table', type: 'guestAddress', word: 4, bits: 64 },
    ],
  },
] as const satisfies readonly EventKind[];

export type EventKindName = (typeof EVENT_KINDS)[number]['name'];

/** Codes by name, for those who emit: `Kind['dma.read']`. */
export const Kind = Object.fromEntries(EVENT_KINDS.map(kind => [kind.name, kind.code])) as Readonly<
  Record<EventKindName, number>
>;
