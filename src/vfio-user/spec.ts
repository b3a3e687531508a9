/**
 * Numbers and layouts of the vfio-user protocol, version 0.0 (QEMU, docs/interop/vfio-user.rst). Offsets are in bytes from
 * the end of the header unless they start with `HEADER`; all fields are little-endian, the byte order of every host we run on.
 */

/** Section "Commands". */
export const Command = {
  version: 1,
  dmaMap: 2,
  dmaUnmap: 3,
  deviceGetInfo: 4,
  deviceGetRegionInfo: 5,
  deviceGetRegionIoFds: 6,
  deviceGetIrqInfo: 7,
  deviceSetIrqs: 8,
  regionRead: 9,
  regionWrite: 10,
  dmaRead: 11,
  dmaWrite: 12,
  deviceReset: 13,
  dirtyPages: 14,
  regionWriteMulti: 15,
  deviceFeature: 16,
  migrationDataRead: 17,
  migrationDataWrite: 18,
  /** Of the messages profile alone (see `Interrupt`): numbers from 8000h on are not the specification's. */
  interrupt: 0x8001,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(Command).map(([name, value]) => [value, name]));

/** One more than the specification's highest command. */
export const COMMAND_COUNT = 19;

/** `regionRead`, or `command 77` where the number has no name. */
export function commandName(command: number): string {
  return NAMES.get(command) ?? `command ${command}`;
}

/** Section "Header". */
export const HEADER_BYTES = 16;
export const HEADER_ID = 0;
export const HEADER_COMMAND = 2;
export const HEADER_SIZE = 4;
export const HEADER_FLAGS = 8;
export const HEADER_ERROR = 12;

export const HeaderFlag = {
  typeMask: 0xf,
  typeCommand: 0,
  typeReply: 1,
  noReply: 0x10,
  error: 0x20,
  /** Everything that the specification gives no meaning to. */
  reserved: ~0x3f,
} as const;

/** Section "VFIO_USER_VERSION". */
export const Version = { major: 0, minor: 0, majorAt: 0, minorAt: 2, dataAt: 4, bytes: 4 } as const;

/** What the peer's silence on a capability means (same section). */
export const CapabilityDefault = {
  maxMsgFds: 1,
  maxDataXferSize: 1048576,
  maxDmaMaps: 65535,
  pageSizes: 4096,
} as const;

/**
 * Section "VFIO_USER_DMA_MAP". `mmap` and `fileIo` are not in the text yet: libvfio-user's include/vfio-user.h has them,
 * VFIO_USER_F_DMA_REGION_MMAP and VFIO_USER_F_DMA_REGION_FILE_IO.
 */
export const DmaMap = {
  argsz: 0,
  flags: 4,
  offset: 8,
  address: 16,
  size: 24,
  bytes: 32,
  readable: 1,
  writable: 2,
  /** The descriptor, which there must be, is for mmap(2). */
  mmap: 4,
  /** The descriptor, which there must be, is for pread(2) and pwrite(2); without effect beside `mmap`. */
  fileIo: 8,
} as const;

/** Section "VFIO_USER_DMA_UNMAP"; the flags are those of linux/vfio.h, VFIO_DMA_UNMAP_FLAG_*, as QEMU sends them. */
export const DmaUnmap = {
  argsz: 0,
  flags: 4,
  address: 8,
  size: 16,
  bytes: 24,
  getDirtyBitmap: 1,
  all: 2,
} as const;

/** Section "VFIO_USER_DEVICE_GET_INFO". */
export const DeviceInfo = { argsz: 0, flags: 4, regions: 8, irqs: 12, bytes: 16, reset: 1, pci: 2 } as const;

/** Section "VFIO_USER_DEVICE_GET_REGION_INFO". */
export const RegionInfo = {
  argsz: 0,
  flags: 4,
  index: 8,
  capOffset: 12,
  size: 16,
  offset: 24,
  bytes: 32,
  read: 1,
  write: 2,
  mmap: 4,
  caps: 8,
} as const;

/** Section "VFIO cap header format"; `id` and `version` have 16 bits each. The id is linux/vfio.h, VFIO_REGION_INFO_CAP_SPARSE_MMAP. */
export const InfoCapability = { id: 0, version: 2, next: 4, bytes: 8, sparseMmap: 1 } as const;

/** Section "VFIO region info cap sparse mmap", from the start of the capability. */
export const SparseMmap = {
  version: 1,
  count: 8,
  reserved: 12,
  areas: 16,
  areaOffset: 0,
  areaSize: 8,
  areaBytes: 16,
} as const;

/** Section "VFIO_USER_DEVICE_GET_REGION_IO_FDS"; sub-regions follow. */
export const RegionIoFds = { argsz: 0, flags: 4, index: 8, count: 12, bytes: 16 } as const;

/** Section "Sub-Region IO FD info format (ioeventfd)"; the flag is KVM_IOEVENTFD_FLAG_DATAMATCH of linux/kvm.h. */
export const SubRegion = {
  offset: 0,
  size: 8,
  descriptor: 16,
  type: 20,
  flags: 24,
  padding: 28,
  value: 32,
  bytes: 40,
  ioEventFd: 0,
  dataMatch: 1,
} as const;

/** Section "VFIO_USER_DEVICE_GET_IRQ_INFO". */
export const IrqInfo = {
  argsz: 0,
  flags: 4,
  index: 8,
  count: 12,
  bytes: 16,
  eventfd: 1,
  maskable: 2,
  automasked: 4,
  noresize: 8,
} as const;

/** Section "VFIO_USER_DEVICE_SET_IRQS". */
export const IrqSet = {
  argsz: 0,
  flags: 4,
  index: 8,
  start: 12,
  count: 16,
  data: 20,
  bytes: 20,
  dataNone: 1,
  dataBool: 2,
  dataEventfd: 4,
  dataMask: 7,
  actionMask: 8,
  actionUnmask: 16,
  actionTrigger: 32,
  actionsMask: 56,
} as const;

/**
 * The messages profile: vfio-user over a stream that carries no descriptors. The messages are those of a unix socket but for this:
 *
 * - DMA_MAP has no descriptor: memory is reached by DMA_READ and DMA_WRITE.
 * - DEVICE_SET_IRQS with DATA_EVENTFD carries `count` int32 from `IrqSet.data` on, for each vector 0 or more where the client keeps
 *   an eventfd for it (the value means nothing else), or `NO_TRIGGER`. `argsz` may leave them out.
 * - An eventfd that masks or unmasks is watched by the side that holds it, which sends DATA_NONE with the action, no-reply, when it
 *   fires. DATA_EVENTFD with ACTION_MASK or ACTION_UNMASK is checked like any other, and changes nothing.
 * - An interrupt is a command of the server, no-reply, `Command.interrupt`, with this payload.
 */
export const Interrupt = { index: 0, vector: 4, bytes: 8 } as const;

/** In DEVICE_SET_IRQS of the messages profile: the vector has no eventfd. */
export const NO_TRIGGER = -1;

/** Sections "VFIO_USER_REGION_READ" and "VFIO_USER_REGION_WRITE". */
export const RegionAccess = { offset: 0, region: 8, count: 12, data: 16, bytes: 16 } as const;

/**
 * Sections "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE". The section on the reply to a write gives its count 4 bytes; QEMU
 * 11.1 and libvfio-user send 8, like everywhere else in the two messages. Some QEMU before that put the data at 12.
 */
export const DmaAccess = { address: 0, count: 8, data: 16, bytes: 16 } as const;

/** Section "VFIO_USER_REGION_WRITE_MULTI": the number of writes, then so many of `each` bytes with these fields. */
export const RegionWriteMulti = {
  count: 0,
  writes: 8,
  bytes: 8,
  offset: 0,
  region: 8,
  length: 12,
  data: 16,
  each: 24,
  longest: 8,
} as const;

/** Section "VFIO_USER_DEVICE_FEATURE"; the feature's own data follows. */
export const DeviceFeature = {
  argsz: 0,
  flags: 4,
  data: 8,
  bytes: 8,
  indexMask: 0xffff,
  get: 1 << 16,
  set: 1 << 17,
  probe: 1 << 18,
} as const;

/** Section "Device Features". */
export const Feature = {
  migration: 1,
  deviceState: 2,
  loggingStart: 6,
  loggingStop: 7,
  loggingReport: 8,
} as const;

/** Sections "VFIO_DEVICE_FEATURE_MIGRATION" and "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE". */
export const MigrationFeature = { flags: 0, bytes: 8, stopCopy: 1, state: 0, dataFd: 4, stateBytes: 8 } as const;

/** Section "VFIO_DEVICE_FEATURE_DMA_LOGGING_START"; ranges of `rangeBytes` (address u64, length u64) follow. */
export const DmaLogging = { pageSize: 0, rangeCount: 8, bytes: 16, rangeBytes: 16 } as const;

/** Section "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT"; the answer goes on with the bitmap. */
export const DmaReport = { address: 0, length: 8, pageSize: 16, bytes: 24 } as const;

/** Sections "VFIO_USER_MIG_DATA_READ" and "VFIO_USER_MIG_DATA_WRITE". */
export const MigrationData = { argsz: 0, size: 4, data: 8, bytes: 8 } as const;

/** The protocol's page: what `pgsizes` says, and what a DMA region is a multiple of. */
export const PAGE_BYTES = 4096;

/** The longest reply of a command that carries no data. */
export const SMALL_REPLY_BYTES = 256;

/** The longest reply of DEVICE_GET_REGION_INFO and of DEVICE_GET_REGION_IO_FDS: region-offers.ts bounds their lists. */
export const REGION_REPLY_BYTES = 4096;
