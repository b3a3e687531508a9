/** The register set of the PCI function, as data. */
import type { Field, FieldAccess, Register, RegisterBlock } from '../../../pci/registers.ts';
import { VA_LIST_MAX } from '../choices.ts';
import { DOMAINS_MAX, LOGICAL_ADDRESS_BITS, OBJECTS_MAX, RESERVED_REGIONS_MAX } from '../limits.ts';
import type { Compat } from '../types.ts';
import { REGISTER_BAR_BYTES, Vector } from './identity.ts';
import {
  LIST_ADDRESSES_MAX,
  LIST_CONFIGURATIONS_MAX,
  LIST_PAGES_MAX,
  LIST_REGIONS_MAX,
  RING_SIZE_MAX,
  RING_SIZE_MIN,
} from './limits.ts';

/** The characters `DIOM`, the first in the lowest byte. */
export const ID = 0x4d4f4944;
export const VERSION = { major: 1, minor: 0 } as const;

/** Bits of INTERRUPT_ENABLE and INTERRUPT_PENDING, and the byte of INTERRUPT_VECTOR. */
export const Source = { completion: 0, fault: 1, stateChange: 2, error: 3 } as const;
export type Source = (typeof Source)[keyof typeof Source];

/** PROBE_RESULT.SOURCE. */
export const ProbeSource = {
  /** There was no translation, and no table was looked at. */
  none: 0,
  /** Nothing is translated here: the device is attached to nothing and translation is off, or its domain passes through. */
  bypass: 1,
  tlb: 2,
  walk: 3,
} as const;
export type ProbeSource = (typeof ProbeSource)[keyof typeof ProbeSource];

/** Codes in ERROR. */
export const RingError = {
  none: 0,
  alignment: 1,
  size: 2,
  address: 3,
  index: 4,
  memory: 5,
} as const;
export type RingError = (typeof RingError)[keyof typeof RingError];

function field(name: string, high: number, low: number, access: FieldAccess, reset = 0): Field {
  return { name, bits: [high, low], access, reset };
}

function capability(name: string, high: number, low: number, value: number, why: string): Field {
  return { name, bits: [high, low], access: 'ro', reset: value, why };
}

function word(name: string, offset: number, section: string, fields: readonly Field[]): Register {
  return { name, offset, bytes: 4, section, fields };
}

function number(name: string, offset: number, section: string, access: FieldAccess, reset = 0): Register {
  return word(name, offset, section, [field('VALUE', 31, 0, access, reset)]);
}

function wide(name: string, offset: number, section: string, access: FieldAccess): Register {
  return { name, offset, bytes: 8, section, fields: [field('VALUE', 63, 0, access)] };
}

/** `head` and `tail`: who moves them. */
function ring(prefix: string, offset: number, head: FieldAccess, tail: FieldAccess): Register[] {
  return [
    wide(`${prefix}_BASE`, offset, 'Rings', 'rw'),
    number(`${prefix}_SIZE`, offset + 0x8, 'Rings', 'rw'),
    number(`${prefix}_HEAD`, offset + 0xc, 'Rings', head),
    number(`${prefix}_TAIL`, offset + 0x10, 'Rings', tail),
  ];
}

function capabilityFields(compat: Compat): Field[] {
  // Windows documents that it takes no x64 configuration.
  const x64 = compat === 'windows' ? 0 : 1;
  return [
    capability('V1', 0, 0, 1, 'the operations of version 1'),
    capability('V2', 1, 1, 1, 'the operations of version 2'),
    capability('V3', 2, 2, 1, 'the operations of version 3'),
    capability(
      'WINDOWS_COMPAT',
      3,
      3,
      compat === 'windows' ? 1 : 0,
      'an option: refuses what Windows documents that it refuses',
    ),
    capability('X64_LEVELS_4', 4, 4, x64, 'configureDomain takes x86-64 tables of four levels'),
    capability('X64_LEVELS_5', 5, 5, x64, 'configureDomain takes x86-64 tables of five levels'),
    capability('ARM64_4K', 6, 6, 1, 'configureDomain takes VMSAv8-64 tables with 4 KiB granules'),
    capability('ARM64_16K', 7, 7, 1, 'configureDomain takes VMSAv8-64 tables with 16 KiB granules'),
    capability('ARM64_64K', 8, 8, 1, 'configureDomain takes VMSAv8-64 tables with 64 KiB granules'),
    capability('PROBE', 9, 9, 1, 'the probe registers are there'),
    capability('PASID_BITS', 20, 16, 20, 'all that a request can carry'),
    capability('ADDRESS_BITS', 30, 24, LOGICAL_ADDRESS_BITS, 'logical addresses of domains whose tables the unit owns'),
  ];
}

function interruptBits(access: FieldAccess): Field[] {
  return [
    field('COMPLETION', Source.completion, Source.completion, access),
    field('FAULT', Source.fault, Source.fault, access),
    field('STATE_CHANGE', Source.stateChange, Source.stateChange, access),
    field('ERROR', Source.error, Source.error, access),
  ];
}

const identification = (compat: Compat): Register[] => [
  number('ID', 0x000, 'Identification', 'ro', ID),
  word('VERSION', 0x004, 'Identification', [
    field('MINOR', 15, 0, 'ro', VERSION.minor),
    field('MAJOR', 31, 16, 'ro', VERSION.major),
  ]),
  { name: 'CAPABILITIES', offset: 0x008, bytes: 8, section: 'Identification', fields: capabilityFields(compat) },
  number('MAX_DOMAINS', 0x010, 'Identification', 'ro', DOMAINS_MAX),
  number('MAX_DEVICES', 0x014, 'Identification', 'ro', OBJECTS_MAX),
  number('MAX_PAGES', 0x018, 'Identification', 'ro', LIST_PAGES_MAX),
  number('MAX_ADDRESSES', 0x01c, 'Identification', 'ro', Math.min(LIST_ADDRESSES_MAX, VA_LIST_MAX)),
  number('MAX_REGIONS', 0x020, 'Identification', 'ro', Math.min(LIST_REGIONS_MAX, RESERVED_REGIONS_MAX)),
  number('MAX_CONFIGURATIONS', 0x024, 'Identification', 'ro', LIST_CONFIGURATIONS_MAX),
  word('RING_LIMITS', 0x028, 'Identification', [
    capability('MIN', 4, 0, RING_SIZE_MIN, 'log2 of entries; one is always free'),
    capability('MAX', 12, 8, RING_SIZE_MAX, 'log2 of entries'),
  ]),
];

const control: Register[] = [
  word('CONTROL', 0x030, 'Control', [
    field('ENABLE', 0, 0, 'rw'),
    field('TRANSLATE', 1, 1, 'rw'),
    field('RESET', 2, 2, 'wo'),
  ]),
  word('STATUS', 0x034, 'Control', [
    field('READY', 0, 0, 'ro'),
    field('TRANSLATING', 1, 1, 'ro'),
    field('COMMAND_ERROR', 8, 8, 'w1c'),
    field('COMPLETION_ERROR', 9, 9, 'w1c'),
    field('FAULT_ERROR', 10, 10, 'w1c'),
  ]),
  word('ERROR', 0x038, 'Control', [
    field('COMMAND', 7, 0, 'ro'),
    field('COMPLETION', 15, 8, 'ro'),
    field('FAULT', 23, 16, 'ro'),
  ]),
];

const rings: Register[] = [
  ...ring('COMMAND', 0x040, 'ro', 'rw'),
  ...ring('COMPLETION', 0x060, 'rw', 'ro'),
  ...ring('FAULT', 0x080, 'rw', 'ro'),
  number('FAULT_OVERFLOW', 0x094, 'Rings', 'ro'),
];

const interrupts: Register[] = [
  word('INTERRUPT_ENABLE', 0x0a0, 'Interrupts', interruptBits('rw')),
  word('INTERRUPT_PENDING', 0x0a4, 'Interrupts', interruptBits('w1c')),
  word('INTERRUPT_VECTOR', 0x0a8, 'Interrupts', [
    field('COMPLETION', 7, 0, 'rw', Vector.completion),
    field('FAULT', 15, 8, 'rw', Vector.fault),
    field('STATE_CHANGE', 23, 16, 'rw', Vector.stateChange),
    field('ERROR', 31, 24, 'rw', Vector.completion),
  ]),
];

const directory: Register[] = [
  number('DIRECTORY_COUNT', 0x0c0, 'Directory', 'ro'),
  number('DIRECTORY_INDEX', 0x0c4, 'Directory', 'rw'),
  word('DIRECTORY_ENTRY', 0x0c8, 'Directory', [
    field('REQUESTER_ID', 15, 0, 'ro'),
    field('ACPI', 16, 16, 'ro'),
    field('PASID', 17, 17, 'ro'),
    field('VALID', 31, 31, 'ro'),
  ]),
  number('DIRECTORY_MAPPINGS', 0x0cc, 'Directory', 'ro'),
];

const probe: Register[] = [
  word('PROBE_DEVICE', 0x0e0, 'Probe', [field('REQUESTER_ID', 15, 0, 'rw')]),
  word('PROBE_PASID', 0x0e4, 'Probe', [field('PASID', 19, 0, 'rw'), field('VALID', 31, 31, 'rw')]),
  wide('PROBE_IOVA', 0x0e8, 'Probe', 'rw'),
  // The behaviour owns START: reads must show it until the result is there.
  word('PROBE_COMMAND', 0x0f0, 'Probe', [
    field('READ', 0, 0, 'rw'),
    field('WRITE', 1, 1, 'rw'),
    field('START', 31, 31, 'rw'),
  ]),
  word('PROBE_RESULT', 0x0f4, 'Probe', [
    field('TRANSLATED', 0, 0, 'ro'),
    field('STALE', 1, 1, 'ro'),
    field('SOURCE', 5, 4, 'ro'),
    field('LEVEL', 10, 8, 'ro'),
    field('PERMISSIONS', 13, 12, 'ro'),
    field('SHIFT', 21, 16, 'ro'),
    field('FAULT_TYPE', 26, 24, 'ro'),
  ]),
  wide('PROBE_ADDRESS', 0x0f8, 'Probe', 'ro'),
  number('PROBE_DOMAIN', 0x100, 'Probe', 'ro'),
];

/** Sections are those of docs/dma-iommu-function.md. */
export function dmaIommuRegisters(compat: Compat = 'extended'): RegisterBlock {
  return {
    name: 'dma-iommu',
    specification: `dma-iommu function, version ${VERSION.major}.${VERSION.minor}`,
    bytes: REGISTER_BAR_BYTES,
    registers: [...identification(compat), ...control, ...rings, ...interrupts, ...directory, ...probe],
  };
}
