/**
 * The seam between the protocol and what it carries: a server drives one `DeviceModel`, which knows nothing of sockets,
 * and hands it a `ClientPort` for as long as a client is connected.
 */

/** Linux errno values a device model may answer with; zero is success. */
export const Errno = {
  ok: 0,
  EIO: 5,
  E2BIG: 7,
  ENOMEM: 12,
  EFAULT: 14,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTSUP: 95,
} as const;

/** vfio-user `VFIO_USER_DEVICE_GET_REGION_INFO`: zero size means the region does not exist. */
export interface RegionDescription {
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Memory that the client may map. QEMU posts no write to a device of which any region has some. */
  readonly mapping?: RegionMapping;
  /** Places where an eventfd stands for a write; of accesses that two of them fit, the client takes either. */
  readonly ioEventFds?: readonly IoEventFd[];
}

/** Whole pages of a region, or of a file. */
export interface RegionArea {
  readonly offset: number;
  readonly size: number;
}

/** The memory behind a region. Whether and when the model looks at it is its own business. */
export interface RegionMapping {
  /** The model's, and open for as long as clients may come. */
  readonly descriptor: number;
  /** Where in the file the region starts. */
  readonly offset: number;
  /** What of the region may be mapped, in order; all of it where missing. Accesses to the rest come as messages. */
  readonly areas?: readonly RegionArea[];
}

/** A write that reaches the model without a message; several that came close together are one. */
export interface IoEventFd {
  readonly offset: number;
  /** 1, 2, 4 or 8 bytes, or 0 where the size does not matter: then the model sees a write of 4 bytes. */
  readonly size: number;
  /** Only writes of this value; where missing the value does not matter, and the model sees 0. */
  readonly value?: bigint;
}

/** vfio-user `VFIO_USER_DEVICE_GET_IRQ_INFO`; zero count means the index does not exist. */
export interface InterruptDescription {
  readonly count: number;
  readonly eventfd: boolean;
  readonly maskable: boolean;
  readonly automasked: boolean;
  readonly noresize: boolean;
}

/**
 * DMA in several runs whose answers are waited for once. Targets may be written until `end` returns, and must not be read before;
 * sources are free again when `send` returns.
 */
export interface DmaBatch {
  begin(): void;
  /**
   * Sends what reads or writes the run at `frame << 12 | offset`, without waiting for its answers. `mark` names the run. False where
   * something of the batch has failed: the rest of it need not be sent.
   */
  send(
    writing: boolean,
    frame: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    length: number,
    mark: number,
  ): boolean;
  /** Waits for all answers: the errno of the first failure in the order of sending, zero where there is none. */
  end(): number;
  /** After an `end` with an errno: the run that failed, and the page of its message that did. */
  readonly failedMark: number;
  readonly failedFrame: number;
}

/** What a connected client offers to the device model. Every call is a no-op (or fails) after the client has gone. */
export interface ClientPort {
  /** Signals the eventfd that the client set for this vector. False where none is set or the vector is masked. */
  trigger(index: number, vector: number): boolean;
  /** True where the client has set a trigger for this vector. */
  isArmed(index: number, vector: number): boolean;
  /**
   * VFIO_USER_DMA_READ / VFIO_USER_DMA_WRITE to the client; waits for the reply while the device loop goes on serving messages.
   * The address is `frame << 12 | offset`. Returns an errno, zero on success, ENODEV where the client is gone.
   */
  dmaRead(frame: number, offset: number, target: Uint8Array, at: number, length: number): number;
  dmaWrite(frame: number, offset: number, source: Uint8Array, at: number, length: number): number;
  /** Missing where there is nothing to be gained by it. */
  readonly dmaBatch?: DmaBatch;
}

/** A DMA region as a client announces it. */
export interface DmaRegion {
  readonly address: bigint;
  readonly size: bigint;
  readonly readable: boolean;
  readonly writable: boolean;
  /** -1 where the memory is reached by messages only. */
  readonly descriptor: number;
  /** Where the region starts in the file behind `descriptor`. */
  readonly offset: bigint;
  /** How the client wants the descriptor to be used. Missing: by mmap(2), where there is one. */
  readonly access?: DmaAccessMode;
}

/**
 * A DMA region as a device model gets it, checked to end within 64 bits; all in bytes. `address` and `size` are whole pages, which a
 * number holds exactly; so is `offset`, but of a region without a descriptor or for file I/O, where from 2^53 on it is the nearest
 * number. The receiver of `map` owns `descriptor` from the call on, also when it fails.
 */
export interface AnnouncedRegion {
  readonly address: number;
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** -1 where the memory is reached by messages only. */
  readonly descriptor: number;
  /** Where the region starts in the file behind `descriptor`. */
  readonly offset: number;
  /** How the client wants the descriptor to be used. Undefined: by mmap(2), where there is one. */
  readonly access: DmaAccessMode | undefined;
}

/** `fileIo`: by pread(2) and pwrite(2), for files that cannot be mapped, such as `/proc/PID/mem`. */
export type DmaAccessMode = 'mmap' | 'fileIo';

/** A range of the client's addresses, in bytes. */
export interface LoggedRange {
  readonly address: bigint;
  readonly length: bigint;
}

/** Remembers which pages DMA has written to, while somebody wants to know. */
export interface DmaLog {
  readonly active: boolean;
  /** From here on, with nothing remembered yet; no ranges: all addresses. */
  start(ranges: readonly LoggedRange[]): void;
  stop(): void;
  /**
   * Sets a bit for each `pageSize` bytes of the range that were written to (bit 0 of byte 0 for the first) and forgets the pages that
   * lie wholly in the range. The bitmap is zero, and large enough.
   */
  report(address: bigint, length: bigint, pageSize: bigint, bitmap: Uint8Array): void;
}

/** How a device model is saved and restored. */
export interface DeviceMigration {
  /**
   * Nothing changes by itself any more: no DMA, no interrupts; accesses are still answered. `stopped` is told when what was under way is
   * done: at once, or in a job.
   */
  stop(stopped: () => void): void;
  /** Goes on with what was pending. */
  run(): void;
  /** While stopped: the whole state, or why there is none that could be restored. */
  save(): Uint8Array | string;
  /** While stopped: takes a whole state over, or nothing and says why not. */
  restore(state: Uint8Array): string | undefined;
}

/** Where the server puts the DMA regions of its client; calls return an errno, zero on success. */
export interface DmaRegions {
  map(region: AnnouncedRegion): number;
  /** Exactly one region that was mapped with this address and size, in bytes; what are not whole pages is never one. */
  unmap(address: number, size: number): number;
  /** Every region; also called when the client goes away. */
  unmapAll(): void;
  /** Missing where writes cannot be logged. */
  readonly log?: DmaLog;
}

export interface DeviceModel {
  /** Nine regions: BAR0-5, ROM, configuration space, VGA (linux/vfio.h, VFIO_PCI_*_REGION_INDEX). */
  readonly regions: readonly RegionDescription[];
  /** Five interrupt indexes: INTx, MSI, MSI-X, ERR, REQ (linux/vfio.h, VFIO_PCI_*_IRQ_INDEX). */
  readonly interrupts: readonly InterruptDescription[];
  readonly dma: DmaRegions;
  /** Missing where the model cannot be saved. */
  readonly migration?: DeviceMigration | undefined;
  /**
   * Region access of any length, already checked to lie within the region and to be allowed by its flags. Returns an errno.
   * Never touches guest memory and never waits.
   */
  read(region: number, offset: number, target: Uint8Array, at: number, length: number): number;
  write(region: number, offset: number, source: Uint8Array, at: number, length: number): number;
  /** The client unmasked this vector of an automasked interrupt: trigger it again if it is still asserted. */
  unmasked(index: number, vector: number): void;
  /** The set of armed vectors of this index changed. */
  armed(index: number): void;
  /** VFIO_USER_DEVICE_RESET. */
  reset(): void;
  connected(client: ClientPort): void;
  disconnected(): void;
}
