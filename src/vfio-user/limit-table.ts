/**
 * The limits of one connection that its user may set, as data: the defaults, the checks, the command line's help and docs/limits.md
 * are made from it. What each is for is said at `Limits`.
 */

export type LimitUnit = 'bytes' | 'ms' | 'messages' | 'descriptors' | 'regions' | 'ranges' | 'writes' | 'connections';

export interface LimitDefinition {
  readonly unit: LimitUnit;
  readonly least: number;
  readonly most: number;
  readonly default: number;
  readonly what: string;
  /** What happens to what goes beyond it. */
  readonly beyond: string;
}

const KIB = 1024;
const MIB = 1024 * KIB;
/** Ids of messages, of which each can be under way once (section "Header"). */
const DMA_IDS = 65536;
/** All that is given up as unanswered keeps its ids, and there must be some left: one that is free is looked for until it is found. */
const MOST_DMA_MESSAGES = 512;

export const limitTable = {
  maxDataTransfer: {
    unit: 'bytes',
    least: 8 * KIB,
    most: 16 * MIB,
    default: MIB,
    what: 'in one REGION_READ, REGION_WRITE, DMA_READ or DMA_WRITE (`max_data_xfer_size`); over a stream at most 1 MiB',
    beyond: 'EINVAL; a larger message ends the connection',
  },
  maxDmaRead: {
    unit: 'bytes',
    least: 512,
    most: 16 * MIB,
    default: 32 * KIB,
    what: 'that one DMA_READ asks for over a unix socket; QEMU 11.1 loses what is beyond 32 KiB',
    beyond: 'more messages',
  },
  maxDmaMessages: {
    unit: 'messages',
    least: 1,
    most: MOST_DMA_MESSAGES,
    default: 64,
    what: 'of DMA under way over a unix socket',
    beyond: 'DMA waits',
  },
  maxDmaBytes: {
    unit: 'bytes',
    least: 4 * KIB,
    most: 32 * MIB,
    default: 128 * KIB,
    what: 'that these carry or ask for together; a larger message goes alone',
    beyond: 'DMA waits',
  },
  streamDmaMessages: {
    unit: 'messages',
    least: 1,
    most: MOST_DMA_MESSAGES,
    default: 256,
    what: 'of DMA under way over a stream without descriptors',
    beyond: 'DMA waits',
  },
  streamDmaBytes: {
    unit: 'bytes',
    least: 4 * KIB,
    most: 32 * MIB,
    default: 2 * MIB,
    what: 'that these carry or ask for together',
    beyond: 'DMA waits',
  },
  maxCoalescedWrites: {
    unit: 'writes',
    least: 1,
    most: 65536,
    default: 4096,
    what: 'in one REGION_WRITE_MULTI; QEMU 11.1 sends up to 200',
    beyond: 'EINVAL',
  },
  maxDescriptors: {
    unit: 'descriptors',
    least: 1,
    most: 253,
    default: 16,
    what: 'in one message (`max_msg_fds`)',
    beyond: 'the connection ends',
  },
  maxDmaMaps: {
    unit: 'regions',
    least: 1,
    most: 65535,
    default: 65535,
    what: 'of DMA at a time (`max_dma_maps`)',
    beyond: 'ENOSPC',
  },
  maxVersionData: {
    unit: 'bytes',
    least: 512,
    most: 64 * KIB,
    default: 4 * KIB,
    what: 'of JSON in a VERSION request, its NUL included',
    beyond: 'the connection ends',
  },
  receiveAhead: {
    unit: 'bytes',
    least: 4 * KIB,
    most: 16 * MIB,
    default: 64 * KIB,
    what: 'that one receive may take beyond the largest message',
    beyond: 'they stay in the socket',
  },
  maxQueuedBytes: {
    unit: 'bytes',
    least: 64 * KIB,
    most: 64 * MIB,
    default: 2 * MIB + 64 * KIB,
    what: 'that wait for a peer that does not read',
    beyond: 'requests wait',
  },
  maxQueuedMessages: {
    unit: 'messages',
    least: 64,
    most: 65536,
    default: 4096,
    what: 'that wait for a peer that does not read',
    beyond: 'requests wait',
  },
  maxMigrationData: {
    unit: 'bytes',
    least: 64 * KIB,
    most: 64 * MIB,
    default: 8 * MIB,
    what: 'of one saved state',
    beyond: 'E2BIG',
  },
  maxDirtyBitmap: {
    unit: 'bytes',
    least: 8,
    most: 15 * MIB,
    default: 512 * KIB,
    what: 'of the bitmap in one DMA_LOGGING_REPORT (`migration.max_bitmap_size`)',
    beyond: 'EINVAL',
  },
  maxLoggedRanges: {
    unit: 'ranges',
    least: 1,
    most: 65536,
    default: 1024,
    what: 'in one DMA_LOGGING_START',
    beyond: 'EINVAL',
  },
  dmaTimeout: {
    unit: 'ms',
    least: 10,
    most: 600_000,
    default: 10_000,
    what: 'until a DMA_READ or DMA_WRITE over a unix socket counts as unanswered',
    beyond: 'DMA fails (ETIMEDOUT)',
  },
  streamDmaTimeout: {
    unit: 'ms',
    least: 10,
    most: 600_000,
    default: 30_000,
    what: 'the same over a stream, which may be away for its grace time meanwhile',
    beyond: 'DMA fails (ETIMEDOUT)',
  },
  maxUnanswered: {
    unit: 'messages',
    least: 0,
    most: DMA_IDS / MOST_DMA_MESSAGES - 2,
    default: 64,
    what: 'of DMA, or rows of them, given up as unanswered whose replies may still come',
    beyond: 'the connection ends',
  },
  maxReceivesPerCheck: {
    unit: 'messages',
    least: 1,
    most: 1024,
    default: 64,
    what: 'taken from a client when another one knocks, to find out whether the first is still there',
    beyond: 'the newcomer is refused',
  },
  maxAcceptsPerTurn: {
    unit: 'connections',
    least: 1,
    most: 4096,
    default: 16,
    what: 'taken from the listener in one go',
    beyond: 'they wait',
  },
} as const satisfies Readonly<Record<string, LimitDefinition>>;

export type LimitName = keyof typeof limitTable;
export type GivenLimits = Readonly<Partial<Record<LimitName, number>>>;

export const limitNames = Object.keys(limitTable) as readonly LimitName[];

/** `factor * small + spare` is at most `large`. */
interface Within {
  readonly small: LimitName;
  readonly factor: number;
  readonly spare: number;
  readonly large: LimitName;
  readonly why: string;
}

const ONE_MESSAGE = 'it must fit into one message';
const ROOM_BESIDES = 'other answers need room besides';

export const limitRules: readonly Within[] = [
  { small: 'maxDataTransfer', factor: 1, spare: 4096, large: 'maxQueuedBytes', why: 'the largest message must fit' },
  { small: 'maxVersionData', factor: 1, spare: 4096, large: 'maxQueuedBytes', why: 'the largest message must fit' },
  // The fixed parts of the message, and of its answer.
  { small: 'maxDirtyBitmap', factor: 1, spare: 64, large: 'maxDataTransfer', why: ONE_MESSAGE },
  { small: 'maxLoggedRanges', factor: 16, spare: 64, large: 'maxDataTransfer', why: 'they must fit into one message' },
  {
    small: 'maxCoalescedWrites',
    factor: 24,
    spare: 64,
    large: 'maxDataTransfer',
    why: 'they must fit into one message',
  },
  { small: 'maxDmaBytes', factor: 1, spare: 4096, large: 'maxQueuedBytes', why: ROOM_BESIDES },
  { small: 'streamDmaBytes', factor: 1, spare: 4096, large: 'maxQueuedBytes', why: ROOM_BESIDES },
  { small: 'maxDmaMessages', factor: 1, spare: 16, large: 'maxQueuedMessages', why: ROOM_BESIDES },
  { small: 'streamDmaMessages', factor: 1, spare: 16, large: 'maxQueuedMessages', why: ROOM_BESIDES },
];
