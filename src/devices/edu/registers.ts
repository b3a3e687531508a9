import type { Register, RegisterBlock } from '../../pci/registers.ts';

const SECTION = 'MMIO area spec';
/** What QEMU's documentation of the device does not know. */
const OUR_EXTENSION = 'none: an extension of viommu';

function word(name: string, offset: number, access: 'ro' | 'rw' | 'wo', reset = 0): Register {
  return { name, offset, bytes: 4, section: SECTION, fields: [{ name: 'value', bits: [31, 0], access, reset }] };
}

function doubleWord(name: string, offset: number): Register {
  return { name, offset, bytes: 8, section: SECTION, fields: [{ name: 'value', bits: [63, 0], access: 'rw' }] };
}

/**
 * The registers of QEMU's `edu` teaching device, and behind them one of our own. Below 0x80 they take 4-byte accesses only, from
 * there 4 or 8.
 */
export const eduRegisters: RegisterBlock = {
  name: 'edu',
  specification: 'QEMU, docs/specs/edu',
  bytes: 0xa8,
  registers: [
    word('identification', 0x00, 'ro', 0x010000ed),
    word('liveness', 0x04, 'rw'),
    word('factorial', 0x08, 'rw'),
    {
      name: 'status',
      offset: 0x20,
      bytes: 4,
      section: SECTION,
      fields: [
        { name: 'computing', bits: [0, 0], access: 'ro' },
        { name: 'interruptAfterFactorial', bits: [7, 7], access: 'rw' },
      ],
    },
    word('interruptStatus', 0x24, 'ro'),
    word('interruptRaise', 0x60, 'wo'),
    word('interruptAcknowledge', 0x64, 'wo'),
    doubleWord('dmaSource', 0x80),
    doubleWord('dmaDestination', 0x88),
    doubleWord('dmaCount', 0x90),
    {
      name: 'dmaCommand',
      offset: 0x98,
      bytes: 8,
      section: 'MMIO area spec, DMA controller',
      fields: [
        { name: 'start', bits: [0, 0], access: 'rw' },
        { name: 'toMemory', bits: [1, 1], access: 'rw' },
        { name: 'interruptWhenDone', bits: [2, 2], access: 'rw' },
      ],
    },
    {
      // QEMU's device has nothing here. The PASID has 20 bits as in PCI Express Base 6.0, 6.20.
      name: 'dmaPasid',
      offset: 0xa0,
      bytes: 8,
      section: OUR_EXTENSION,
      fields: [
        { name: 'pasid', bits: [19, 0], access: 'rw' },
        { name: 'enable', bits: [31, 31], access: 'rw' },
      ],
    },
  ],
};

/** From here on registers take 4-byte and 8-byte accesses, below only 4-byte ones. */
export const WIDE_REGISTERS_START = 0x80;

/** The device's own memory, in the address space of its DMA registers. */
export const BUFFER_START = 0x40000;
export const BUFFER_BYTES = 4096;

/** What the device puts into the interrupt status register. */
export const InterruptCause = { factorial: 0x001, dma: 0x100 } as const;
