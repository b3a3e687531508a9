/**
 * Where things are in PCI configuration space. Sections: "PCI" is PCI Local Bus 3.0, "PCIe" is PCI Express Base 5.0, "PM" is
 * PCI Bus Power Management Interface 1.2.
 */

export const CONVENTIONAL_CONFIG_BYTES = 256;
export const EXPRESS_CONFIG_BYTES = 4096;

/** Type 0 header, PCI 6.1. */
export const Header = {
  vendorId: 0x00,
  deviceId: 0x02,
  command: 0x04,
  status: 0x06,
  revisionId: 0x08,
  classCode: 0x09,
  cacheLineSize: 0x0c,
  latencyTimer: 0x0d,
  headerType: 0x0e,
  bist: 0x0f,
  bar0: 0x10,
  cardbusCis: 0x28,
  subsystemVendorId: 0x2c,
  subsystemId: 0x2e,
  romBar: 0x30,
  capabilities: 0x34,
  interruptLine: 0x3c,
  interruptPin: 0x3d,
  minGrant: 0x3e,
  maxLatency: 0x3f,
} as const;

export const BAR_COUNT = 6;
export const BAR_CONFIG_BYTES = 4;

/** PCI 6.2.2. */
export const CommandBit = {
  memorySpace: 1 << 1,
  busMaster: 1 << 2,
  parityErrorResponse: 1 << 6,
  serr: 1 << 8,
  interruptDisable: 1 << 10,
} as const;

/** PCI 6.2.3. */
export const StatusBit = {
  interrupt: 1 << 3,
  capabilityList: 1 << 4,
  masterDataParityError: 1 << 8,
  signaledTargetAbort: 1 << 11,
  receivedTargetAbort: 1 << 12,
  receivedMasterAbort: 1 << 13,
  signaledSystemError: 1 << 14,
  detectedParityError: 1 << 15,
} as const;

/** PCI 6.2.5.1: the low bits of a memory BAR. */
export const BarBit = { wide: 0b10 << 1, prefetchable: 1 << 3, all: 0xf } as const;

/** Where the first capability goes; each starts at a multiple of 4 (PCI 6.7). */
export const FIRST_CAPABILITY = 0x40;

/** PCI appendix H. */
export const CapabilityId = { powerManagement: 0x01, msi: 0x05, express: 0x10, msix: 0x11 } as const;

/** PM 3.2.4: offset from the capability, and the states that are offered. */
export const PowerManagement = { controlStatus: 4, stateMask: 0b11, d0: 0, d3hot: 3 } as const;

/** PCI 6.8.1.3: the message control register of MSI. */
export const Msi = { control: 2, enable: 1 << 0, allocatedShift: 4, wide: 1 << 7, maskable: 1 << 8 } as const;

/** PCI 6.8.2.3: the message control register of MSI-X. */
export const Msix = { control: 2, enable: 1 << 15, functionMask: 1 << 14, entryBytes: 16 } as const;

/** PCIe 7.5.3.4. */
export const Express = { deviceControl: 8, initiateReset: 1 << 15 } as const;
