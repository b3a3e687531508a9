/** Every bound of the protocol's server and client. Those that a user may set are in limit-table.ts, with range and default. */
import { tableDefaults } from './limit-settings.ts';
import { DmaAccess, HEADER_BYTES } from './spec.ts';

export interface Limits {
  /** Bytes in one REGION_READ, REGION_WRITE, DMA_READ or DMA_WRITE; announced as `max_data_xfer_size`. */
  readonly maxDataTransfer: number;
  /**
   * Bytes that one DMA_READ asks for. QEMU 11.1 sends its answer without waiting and forgets what the socket did not take, which
   * leaves the stream broken for good (measured: 219264 bytes of 262176). Up to 32 KiB and its headers Linux takes in one piece or not at all
   * (net/unix: one socket buffer), and for "not at all" QEMU does wait.
   */
  readonly maxDmaRead: number;
  /** DMA messages that may be on their way to a client and back at a time. */
  readonly maxDmaMessages: number;
  /**
   * Bytes that they carry or ask for together; one that is larger goes alone. For a unix socket less than what its buffer takes, so
   * that QEMU's answers never find it full.
   */
  readonly maxDmaBytes: number;
  /** Both for a client over a stream without descriptors. Less than `maxQueuedBytes`, so that other answers have room besides. */
  readonly streamDmaMessages: number;
  readonly streamDmaBytes: number;
  /**
   * REGION_WRITE_MULTI is agreed on with a client that proposes it. QEMU 10.1 and 10.2 then hand every message to a thread of its own (the
   * flag's value holds the bit of another one, hw/vfio-user/proxy.h), so that each access takes longer; later ones do not.
   */
  readonly writeMultiple: boolean;
  /** Writes in one REGION_WRITE_MULTI; QEMU 11.1 sends 200 at most. */
  readonly maxCoalescedWrites: number;
  /** Descriptors in one message; announced as `max_msg_fds`. QEMU accepts at most 16. */
  readonly maxDescriptors: number;
  /** DMA regions at a time; announced as `max_dma_maps`. QEMU accepts at most 65535. */
  readonly maxDmaMaps: number;
  /** Bytes of JSON in a VERSION request, its NUL included. */
  readonly maxVersionData: number;
  /** Bytes that one receive may take beyond the largest message. */
  readonly receiveAhead: number;
  /** Bytes that wait for a peer that does not read; at least one largest message. Requests are held back while it is full. */
  readonly maxQueuedBytes: number;
  /** Messages that wait for a peer that does not read. */
  readonly maxQueuedMessages: number;
  /** Bytes of one saved state, read or written. */
  readonly maxMigrationData: number;
  /** Bytes of the bitmap in one DMA_LOGGING_REPORT; announced as `migration.max_bitmap_size`. Its answer fits into one message. */
  readonly maxDirtyBitmap: number;
  /** Ranges in one DMA_LOGGING_START. */
  readonly maxLoggedRanges: number;
  /** Milliseconds until a DMA_READ or DMA_WRITE counts as unanswered. */
  readonly dmaTimeout: number;
  /**
   * The same for a client over a stream without descriptors, which may be far away: a transport that resumes a lost connection must
   * do so within it.
   */
  readonly streamDmaTimeout: number;
  /** Transfers given up as unanswered whose replies may still come; one more closes the connection. */
  readonly maxUnanswered: number;
  /** Receives from a client when another one knocks, to find out whether the first is still there. */
  readonly maxReceivesPerCheck: number;
  /** Connections taken from the listener in one go. */
  readonly maxAcceptsPerTurn: number;
  /** Milliseconds that the client of this room waits for an answer. */
  readonly replyTimeout: number;
}

export const defaultLimits: Limits = { ...tableDefaults, writeMultiple: true, replyTimeout: 10_000 };

/** What comes with the bitmap in one message. */
const DIRTY_REPORT_BYTES = 64;

/**
 * What holds for a client over a stream without descriptors: nothing on it answers as QEMU does. Whatever carries the stream counts on
 * messages that are no larger than by default.
 */
export function streamLimits(limits: Limits): Limits {
  const maxDataTransfer = Math.min(limits.maxDataTransfer, tableDefaults.maxDataTransfer);
  return {
    ...limits,
    maxDescriptors: 0,
    maxDataTransfer,
    maxDmaRead: maxDataTransfer,
    maxDirtyBitmap: Math.min(limits.maxDirtyBitmap, maxDataTransfer - DIRTY_REPORT_BYTES),
    maxDmaMessages: limits.streamDmaMessages,
    maxDmaBytes: limits.streamDmaBytes,
    dmaTimeout: limits.streamDmaTimeout,
  };
}

/** Bytes of the largest message that these limits allow: the header, address or offset and count, and the data. */
export function largestMessage(limits: Limits): number {
  return HEADER_BYTES + Math.max(DmaAccess.bytes + limits.maxDataTransfer, limits.maxVersionData + 4);
}
