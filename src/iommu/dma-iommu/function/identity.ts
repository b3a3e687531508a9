/** The PCI function through which a guest drives a dma-iommu unit: an ordinary device of the root bus, found by its ids. */
import type { FunctionDefinition } from '../../../pci/definition.ts';

/**
 * The vendor id that QEMU's own demonstration devices use, and that no vendor owns; the device id (`DM`) is taken by none of them.
 */
export const VENDOR_ID = 0x1234;
export const DEVICE_ID = 0x444d;
/** Base system peripheral, other: no driver binds to the class. */
export const CLASS_CODE = 0x088000;
const COMMAND_BUS_MASTER = 1 << 2;

export const REGISTER_BAR = 0;
export const REGISTER_BAR_BYTES = 4096;
export const MSIX_BAR = 2;
const MSIX_BAR_BYTES = 4096;
const MSIX_PENDING_OFFSET = 0x800;

/** MSI-X vectors, and how many there are. */
export const Vector = { completion: 0, fault: 1, stateChange: 2 } as const;
export const VECTORS = 3;

export const dmaIommuFunctionDefinition: FunctionDefinition = {
  identity: {
    vendorId: VENDOR_ID,
    deviceId: DEVICE_ID,
    revisionId: 1,
    classCode: CLASS_CODE,
    subsystemVendorId: VENDOR_ID,
    subsystemId: DEVICE_ID,
  },
  bars: [
    { index: REGISTER_BAR, bytes: REGISTER_BAR_BYTES, width: 64, prefetchable: false },
    { index: MSIX_BAR, bytes: MSIX_BAR_BYTES, width: 32, prefetchable: false },
  ],
  // A conventional function fits the root bus as it is; reset is a bit of its own registers, so function-level reset is not needed.
  express: false,
  // For drivers in user space (uio_pci_generic) that get no MSI-X.
  interruptPin: 1,
  msix: {
    vectors: VECTORS,
    table: { bar: MSIX_BAR, offset: 0 },
    pending: { bar: MSIX_BAR, offset: MSIX_PENDING_OFFSET },
  },
  // The unit reads page tables whatever a driver sets here, so nothing else would be true.
  hardwiredCommand: COMMAND_BUS_MASTER,
};
