/**
 * The PCI function that carries a VT-d unit's registers. Systems find the unit by the DMAR table, not by this function, which
 * exists only so that the firmware gives the registers an address.
 */
import type { FunctionDefinition } from '../../pci/definition.ts';
import { REGISTER_BYTES } from './capabilities.ts';

/**
 * The vendor id that QEMU's own demonstration devices use, and that no vendor owns. Of its devices Linux and Windows know
 * 1111 (display) only; Intel's ids would attract drivers for the chips that they belong to.
 */
const VENDOR_ID = 0x1234;
const DEVICE_ID = 0x5644;
/** Base system peripheral, other: no driver binds to the class. */
const CLASS_CODE = 0x088000;
const COMMAND_MEMORY_SPACE = 1 << 1;
const COMMAND_BUS_MASTER = 1 << 2;

export const vtdFunctionDefinition: FunctionDefinition = {
  identity: {
    vendorId: VENDOR_ID,
    deviceId: DEVICE_ID,
    revisionId: 1,
    classCode: CLASS_CODE,
    subsystemVendorId: VENDOR_ID,
    subsystemId: DEVICE_ID,
  },
  bars: [{ index: 0, bytes: REGISTER_BYTES, width: 64, prefetchable: false }],
  express: false,
  interruptPin: 0,
  // No driver will ever turn on bus mastering, and the unit's event messages need it.
  hardwiredCommand: COMMAND_BUS_MASTER,
};

/** What the hiding rule needs of a PCI function. */
export interface HideableFunction {
  /** Configuration reads answer all ones. */
  hidden: boolean;
  onCommand?: ((command: number) => void) | undefined;
  onReset?: (() => void) | undefined;
  onConnected?: (() => void) | undefined;
  onDisconnected?: (() => void) | undefined;
}

/**
 * Hides the function from the moment the firmware enables its memory space, until its reset or its next client: a system that
 * still saw it would find the BAR in conflict with the registers of the DMAR table, and move it away.
 */
export function hideAfterPlacement(pci: HideableFunction): void {
  const { onCommand, onReset, onConnected, onDisconnected } = pci;
  pci.onCommand = command => {
    onCommand?.(command);
    if (command & COMMAND_MEMORY_SPACE) pci.hidden = true;
  };
  pci.onReset = () => {
    onReset?.();
    pci.hidden = false;
  };
  pci.onConnected = () => {
    onConnected?.();
    pci.hidden = false;
  };
  pci.onDisconnected = () => {
    onDisconnected?.();
    pci.hidden = false;
  };
}
