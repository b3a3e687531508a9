/** What `edu` is to a machine description: its options and its PCI function. */
import type { FunctionDefinition } from '../../pci/definition.ts';
import type { EndpointKind, EndpointOptions } from '../endpoint.ts';
import { booleanOption, integerOption, refuseUnknownOptions } from '../options.ts';
import { Edu } from './edu.ts';
import { eduRegisters } from './registers.ts';

const KIND = 'edu';
const BAR_BYTES = 1024 * 1024;
/** At least a page's worth of bits; 28 is the documented default, which students are meant to trip over. */
const ADDRESS_BITS = { minimum: 12, maximum: 64, fallback: 28 } as const;

const OPTIONS = {
  dmaMask: `how many address bits its DMA drives, ${ADDRESS_BITS.minimum} to ${ADDRESS_BITS.maximum} (default ${ADDRESS_BITS.fallback})`,
  express: 'true: a PCI Express endpoint with function-level reset (default); false: conventional PCI, as in QEMU',
} as const;

interface EduOptions {
  readonly addressBits: number;
  readonly express: boolean;
}

function readOptions(options: EndpointOptions): EduOptions {
  refuseUnknownOptions(KIND, options, Object.keys(OPTIONS));
  return {
    addressBits: integerOption(KIND, options, 'dmaMask', ADDRESS_BITS),
    express: booleanOption(KIND, options, 'express', true),
  };
}

function define(options: EndpointOptions): FunctionDefinition {
  const { express } = readOptions(options);
  return {
    // QEMU's ids, so that drivers written for its device bind to this one.
    identity: {
      vendorId: 0x1234,
      deviceId: 0x11e8,
      revisionId: 0x10,
      classCode: 0x00ff00,
      subsystemVendorId: 0x1af4,
      subsystemId: 0x1100,
    },
    bars: [{ index: 0, bytes: BAR_BYTES, width: 32, prefetchable: false }],
    express,
    interruptPin: 1,
    msi: { vectors: 1, wide: true, maskable: false },
  };
}

export const eduKind: EndpointKind = {
  kind: KIND,
  about: "QEMU's teaching device: a factorial, interrupts, and DMA through a 4 KiB buffer",
  options: OPTIONS,
  registers: [eduRegisters],
  define,
  create: (ports, options) => new Edu(ports, readOptions(options).addressBits),
};
