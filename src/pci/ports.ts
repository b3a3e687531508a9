/**
 * What an endpoint or an IOMMU is given instead of a socket. Everything an endpoint does to the world goes through these
 * three, so each is tested with three fakes and runs unchanged over unix sockets, WebSockets or in-process.
 */

/** Why a DMA did not reach memory. `ok` is zero so that a result can be tested as a flag. */
export const DmaStatus = {
  ok: 0,
  /** The IOMMU refused the translation and recorded the fault, or it is gone and records none. */
  fault: 1,
  /** The function's bus mastering is off (PCI Local Bus 3.0, 6.2.2, Command bit 2): nothing was sent. */
  notBusMaster: 2,
  /** Translated, but no memory answers at that guest-physical address, or it is read-only. */
  noMemory: 3,
  /** The client went away, or the function was reset, while the DMA was under way. */
  aborted: 4,
} as const;
export type DmaStatus = (typeof DmaStatus)[keyof typeof DmaStatus];

/**
 * DMA in the address space that the endpoint sees. An IOVA is given as two 32-bit words (either signedness), so that no
 * BigInt and no rounding is on the way. A transfer may cross pages; on a failure the pages before the failing one are done.
 */
export interface DmaPort {
  /** Guest memory at the IOVA to `target[at, at + length)`. */
  read(high: number, low: number, target: Uint8Array, at: number, length: number): DmaStatus;
  /** `source[at, at + length)` to guest memory at the IOVA. */
  write(high: number, low: number, source: Uint8Array, at: number, length: number): DmaStatus;
}

/** The function's interrupts: MSI-X, MSI or INTx, whichever the driver enabled. */
export interface InterruptLine {
  /** Asserts INTx, or sends the message of `vector` (MSI, MSI-X). */
  raise(vector?: number): void;
  /** Deasserts INTx; nothing for messages. */
  lower(): void;
}

export interface Clock {
  /** Monotonic time in nanoseconds, as a double. */
  now(): number;
}

/** Work that register writes cause: runs in order, after the reply to the register access is out. */
export interface JobQueue {
  /** Queues `job`; a job may touch guest memory and so may take as long as a message to the client takes. */
  push(job: () => void): void;
}

/** Interrupt messages that a function sends itself, as memory writes (an IOMMU's own events). Called from jobs only. */
export interface InterruptMessages {
  /** Writes the 32-bit `data` at the address; false where nothing took it. */
  send(high: number, low: number, data: number): boolean;
}
