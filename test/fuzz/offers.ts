/**
 * What the offering device has that no other device here has: memory to map, and eventfds to write to. The device is made of it, and the
 * reference knows it.
 */
import type { InterruptDescription, IoEventFd, RegionArea } from '../../src/vfio-user/device-model.ts';

export interface OfferedRegion {
  /** Bytes; zero: the region is the inner device's, and has only eventfds in addition. */
  readonly size: number;
  /** In the one file behind all memory; what may be mapped, and all of it where that is missing. */
  readonly memory?: { readonly offset: number; readonly areas?: readonly RegionArea[] };
  readonly ioEventFds?: readonly IoEventFd[];
}

const PAGE = 4096;

/** Where the device looks for work when it is told to: entries of `ENTRY_BYTES` in the memory of this region. */
export const WORK_REGION = 4;
export const ENTRY_BYTES = 16;
export const ENTRIES = 16;
/** A write anywhere else in this region, or to one of its eventfds, tells it. */
export const DOORBELL_REGION = 5;

/** By region index. */
export const offers: Readonly<Record<number, OfferedRegion>> = {
  // edu's registers: the DMA command with two values, raise, acknowledge, status, liveness.
  0: {
    size: 0,
    ioEventFds: [
      { offset: 0x98, size: 4, value: 1n },
      { offset: 0x98, size: 4, value: 3n },
      { offset: 0x60, size: 4 },
      { offset: 0x64, size: 4, value: 0xffffffffn },
      { offset: 0x20, size: 4, value: 0x80n },
      { offset: 0x04, size: 0 },
    ],
  },
  2: {
    size: 16 * PAGE,
    memory: {
      offset: PAGE,
      areas: [
        { offset: PAGE, size: 2 * PAGE },
        { offset: 8 * PAGE, size: PAGE },
        { offset: 15 * PAGE, size: PAGE },
      ],
    },
    ioEventFds: [{ offset: 8, size: 8, value: 0x123456789abcdef0n }],
  },
  // As many areas as there may be.
  3: {
    size: 256 * PAGE,
    memory: {
      offset: 32 * PAGE,
      areas: Array.from({ length: 128 }, (_, i) => ({ offset: 2 * i * PAGE, size: PAGE })),
    },
  },
  [WORK_REGION]: { size: 4 * PAGE, memory: { offset: 512 * PAGE } },
  // More than one message carries.
  [DOORBELL_REGION]: {
    size: PAGE,
    ioEventFds: Array.from({ length: 20 }, (_, i) => ({ offset: 4 * i, size: [0, 1, 2, 4, 8][i % 5]! })),
  },
};

export const OFFERED_FILE_BYTES = 1024 * PAGE;

/** MSI-X, ERR and REQ: those before them are the inner device's. */
export const offeredInterrupts: readonly InterruptDescription[] = [
  { count: 32, eventfd: true, maskable: true, automasked: false, noresize: false },
  { count: 1, eventfd: true, maskable: false, automasked: false, noresize: true },
  { count: 3, eventfd: true, maskable: true, automasked: true, noresize: false },
];
export const FIRST_OFFERED_INTERRUPT = 2;
