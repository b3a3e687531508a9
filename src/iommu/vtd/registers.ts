/**
 * The register set of a VT-d unit in legacy mode, as data. Fields that belong to a feature which is not advertised are
 * `reserved` where the specification says RsvdZ or "valid only for implementations supporting", and `ro` where it says RO.
 */
import type { Field, FieldAccess, Register, RegisterBlock } from '../../pci/registers.ts';
import {
  FAULT_RECORD_BYTES,
  FAULT_RECORD_OFFSET,
  IOTLB_OFFSET,
  MAX_ADDRESS_MASK,
  REGISTER_BYTES,
  type VtdCapabilities,
} from './capabilities.ts';

function field(name: string, high: number, low: number, access: FieldAccess, reset = 0): Field {
  return { name, bits: [high, low], access, reset };
}

function capability(name: string, high: number, low: number, value: number, why: string): Field {
  return { name, bits: [high, low], access: 'ro', reset: value, why };
}

/** An event's control, data and address registers come in the same shape for faults and for completions. */
function eventRegisters(
  prefix: string,
  offset: number,
  sections: readonly [string, string, string, string],
): Register[] {
  return [
    {
      name: `${prefix}CTL`,
      offset,
      bytes: 4,
      section: sections[0],
      fields: [field('IM', 31, 31, 'rw', 1), field('IP', 30, 30, 'ro')],
    },
    // Without extended interrupt mode only 16 bits of data exist.
    { name: `${prefix}DATA`, offset: offset + 4, bytes: 4, section: sections[1], fields: [field('IMD', 15, 0, 'rw')] },
    { name: `${prefix}ADDR`, offset: offset + 8, bytes: 4, section: sections[2], fields: [field('MA', 31, 2, 'rw')] },
    // May be reserved without extended interrupt mode; writable, because Linux writes it in any case.
    {
      name: `${prefix}UADDR`,
      offset: offset + 12,
      bytes: 4,
      section: sections[3],
      fields: [field('MUA', 31, 0, 'rw')],
    },
  ];
}

function capabilityFields(unit: VtdCapabilities): Field[] {
  const sagaw = unit.levels.reduce((bits, levels) => bits | (1 << (levels - 2)), 0);
  const largePages = (unit.largePages['2M'] ? 1 : 0) | (unit.largePages['1G'] ? 2 : 0);
  return [
    capability('ND', 2, 0, (unit.domainIdBits - 4) / 2, 'domain ids are tags of the caches, any width up to 16 bits'),
    capability('AFL', 3, 3, 0, 'advanced fault logging has left the specification'),
    capability('RWBF', 4, 4, 0, 'guest memory is coherent: there is no write buffer to flush'),
    capability('PLMR', 5, 5, 0, 'protected memory ranges are on their way out; no driver needs them'),
    capability('PHMR', 6, 6, 0, 'protected memory ranges are on their way out; no driver needs them'),
    capability(
      'CM',
      7,
      7,
      unit.cachingMode ? 1 : 0,
      'an option: shows drivers that forget to invalidate after mapping',
    ),
    capability('SAGAW', 12, 8, sagaw, 'the walker takes any number of levels'),
    capability('MGAW', 21, 16, unit.guestAddressWidth - 1, 'the reach of the largest number of levels'),
    capability('ZLR', 22, 22, 1, 'recommended, and a zero-length read needs no data'),
    capability('FRO', 33, 24, FAULT_RECORD_OFFSET / 16, 'where the fault records are'),
    capability('SSLPS', 37, 34, largePages, 'the walker stops at any level that may hold a leaf'),
    capability('PSI', 39, 39, 1, 'the IOTLB is searched by page'),
    capability('NFR', 47, 40, unit.faultRecords - 1, 'one less than the number of fault records'),
    capability('MAMV', 53, 48, MAX_ADDRESS_MASK, 'recommended with 1 GiB pages'),
    capability('DWD', 54, 54, 1, 'DMA and invalidations are jobs in one order: earlier writes are complete'),
    capability('DRD', 55, 55, 1, 'DMA and invalidations are jobs in one order: earlier reads are complete'),
    capability('FS1GP', 56, 56, 0, 'first-stage translation needs scalable mode'),
    capability('PI', 59, 59, 0, 'posted interrupts need interrupt remapping'),
    capability('FS5LP', 60, 60, 0, 'first-stage translation needs scalable mode'),
    capability('ECMDS', 61, 61, 0, 'no enhanced command is needed without performance counters'),
    capability('ESIRTPS', 62, 62, 0, 'there is no interrupt-remapping table'),
    capability(
      'ESRTPS',
      63,
      63,
      0,
      'software has to invalidate after setting the root table, and is caught if it does not',
    ),
  ];
}

function extendedCapabilityFields(unit: VtdCapabilities): Field[] {
  return [
    capability('C', 0, 0, 1, 'table walks read the same memory as the processors'),
    capability('QI', 1, 1, 1, 'what all current drivers use'),
    capability('DT', 2, 2, 0, 'no endpoint here has a device-TLB'),
    capability('IR', 3, 3, 0, 'interrupts of the endpoints do not pass this unit'),
    capability('EIM', 4, 4, 0, 'needs interrupt remapping'),
    capability('PT', 6, 6, unit.passThrough ? 1 : 0, 'drivers use it for identity domains'),
    capability('SC', 7, 7, unit.snoopControl ? 1 : 0, 'every access is coherent, so the snoop bit is always honoured'),
    capability('IRO', 17, 8, IOTLB_OFFSET / 16, 'where the IOTLB registers are'),
    capability('MHMV', 23, 20, 0, 'zero without interrupt remapping'),
    capability('MTS', 25, 25, 0, 'no endpoint is in the coherency domain of a processor'),
    capability('NEST', 26, 26, 0, 'needs scalable mode'),
    capability('PRS', 29, 29, 0, 'needs device-TLBs and scalable mode'),
    capability('ERS', 30, 30, 0, 'deprecated'),
    capability('SRS', 31, 31, 0, 'needs scalable mode'),
    capability('NWFS', 33, 33, 0, 'needs device-TLBs'),
    capability('EAFS', 34, 34, 0, 'needs first-stage translation'),
    capability('PSS', 39, 35, 0, 'needs PASID'),
    capability('PASID', 40, 40, 0, 'needs scalable mode'),
    capability('DIT', 41, 41, 0, 'needs device-TLBs'),
    capability('PDS', 42, 42, 0, 'needs device-TLBs'),
    capability('SMTS', 43, 43, 0, 'this unit is legacy mode only'),
    capability('VCS', 44, 44, 0, 'no virtual command is offered'),
    capability('SSADS', 45, 45, 0, 'needs scalable mode'),
    capability('SSTS', 46, 46, 0, 'about scalable mode; legacy mode always has the second stage'),
    capability('FSTS', 47, 47, 0, 'needs scalable mode'),
    capability('SMPWCS', 48, 48, 0, 'needs scalable mode'),
    capability('RPS', 49, 49, 0, 'needs scalable mode'),
    capability('PMS', 51, 51, 0, 'needs enhanced commands; counters are on the inspector instead'),
    capability('ADMS', 52, 52, 0, 'needs 256-bit descriptors, which legacy mode does not'),
    capability('RPRIVS', 53, 53, 0, 'needs scalable mode'),
    capability('SMS', 58, 58, 0, 'needs page requests'),
  ];
}

function faultRecord(index: number, unit: VtdCapabilities): Register {
  return {
    name: `FRCD${index}`,
    offset: FAULT_RECORD_OFFSET + index * FAULT_RECORD_BYTES,
    bytes: 16,
    section: '11.4.7.6',
    fields: [
      field('FI', unit.guestAddressWidth - 1, 12, 'ro'),
      field('SID', 79, 64, 'ro'),
      field('T2', 92, 92, 'ro'),
      field('FR', 103, 96, 'ro'),
      field('T1', 126, 126, 'ro'),
      field('F', 127, 127, 'w1c'),
    ],
  };
}

export function vtdRegisters(unit: VtdCapabilities): RegisterBlock {
  // Address bits above the host address width may be left out (11.4.5, 11.4.9.3): written ones are reported as reserved.
  const top = unit.hostAddressWidth - 1;
  const registers: Register[] = [
    {
      name: 'VER',
      offset: 0x00,
      bytes: 4,
      section: '11.4.1',
      fields: [
        capability('MIN', 3, 0, 0, 'no minor revision is told apart'),
        capability('MAX', 7, 4, 1, 'the version that has register-based invalidation and draining on request'),
      ],
    },
    { name: 'CAP', offset: 0x08, bytes: 8, section: '11.4.2', fields: capabilityFields(unit) },
    { name: 'ECAP', offset: 0x10, bytes: 8, section: '11.4.3', fields: extendedCapabilityFields(unit) },
    {
      name: 'GCMD',
      offset: 0x18,
      bytes: 4,
      section: '11.4.4.1',
      fields: [
        field('TE', 31, 31, 'wo'),
        field('SRTP', 30, 30, 'wo'),
        field('SFL', 29, 29, 'reserved'),
        field('EAFL', 28, 28, 'reserved'),
        field('WBF', 27, 27, 'reserved'),
        field('QIE', 26, 26, 'wo'),
        field('IRE', 25, 25, 'reserved'),
        field('SIRTP', 24, 24, 'reserved'),
        field('CFI', 23, 23, 'reserved'),
      ],
    },
    {
      name: 'GSTS',
      offset: 0x1c,
      bytes: 4,
      section: '11.4.4.2',
      fields: [
        field('TES', 31, 31, 'ro'),
        field('RTPS', 30, 30, 'ro'),
        field('FLS', 29, 29, 'ro'),
        field('AFLS', 28, 28, 'ro'),
        field('WBFS', 27, 27, 'ro'),
        field('QIES', 26, 26, 'ro'),
        field('IRES', 25, 25, 'ro'),
        field('IRTPS', 24, 24, 'ro'),
        field('CFIS', 23, 23, 'ro'),
      ],
    },
    {
      name: 'RTADDR',
      offset: 0x20,
      bytes: 8,
      section: '11.4.5',
      fields: [field('TTM', 11, 10, 'rw'), field('RTA', top, 12, 'rw')],
    },
    {
      name: 'CCMD',
      offset: 0x28,
      bytes: 8,
      section: '11.4.6.1',
      fields: [
        field('DID', 15, 0, 'rw'),
        field('SID', 31, 16, 'wo'),
        field('FM', 33, 32, 'wo'),
        field('CAIG', 60, 59, 'ro'),
        field('CIRG', 62, 61, 'rw'),
        field('ICC', 63, 63, 'rw'),
      ],
    },
    {
      name: 'FSTS',
      offset: 0x34,
      bytes: 4,
      section: '11.4.7.1',
      fields: [
        field('PFO', 0, 0, 'w1c'),
        field('PPF', 1, 1, 'ro'),
        field('IQE', 4, 4, 'w1c'),
        // RsvdZ without device-TLBs.
        field('ICE', 5, 5, 'reserved'),
        field('ITE', 6, 6, 'reserved'),
        // Was Page Request Overflow; read-only rather than reserved, because Linux clears it on every fault.
        field('DEP', 7, 7, 'ro'),
        field('FRI', 15, 8, 'ro'),
      ],
    },
    ...eventRegisters('FE', 0x38, ['11.4.7.2', '11.4.7.3', '11.4.7.4', '11.4.7.5']),
    {
      name: 'AFLOG',
      offset: 0x58,
      bytes: 8,
      section: '11.4 (reserved; advanced fault log of earlier revisions)',
      fields: [field('FLS', 11, 9, 'reserved'), field('FLA', 63, 12, 'reserved')],
    },
    {
      name: 'PMEN',
      offset: 0x64,
      bytes: 4,
      section: '11.4.8.1',
      fields: [field('PRS', 0, 0, 'ro'), field('EPM', 31, 31, 'ro')],
    },
    { name: 'PLMBASE', offset: 0x68, bytes: 4, section: '11.4.8.2', fields: [field('PLMB', 31, 0, 'ro')] },
    { name: 'PLMLIMIT', offset: 0x6c, bytes: 4, section: '11.4.8.3', fields: [field('PLML', 31, 0, 'ro')] },
    { name: 'PHMBASE', offset: 0x70, bytes: 8, section: '11.4.8.4', fields: [field('PHMB', 63, 0, 'ro')] },
    { name: 'PHMLIMIT', offset: 0x78, bytes: 8, section: '11.4.8.5', fields: [field('PHML', 63, 0, 'ro')] },
    { name: 'IQH', offset: 0x80, bytes: 8, section: '11.4.9.1', fields: [field('QH', 18, 4, 'ro')] },
    { name: 'IQT', offset: 0x88, bytes: 8, section: '11.4.9.2', fields: [field('QT', 18, 4, 'rw')] },
    {
      name: 'IQA',
      offset: 0x90,
      bytes: 8,
      section: '11.4.9.3',
      fields: [field('QS', 2, 0, 'rw'), field('DW', 11, 11, 'rw'), field('IQA', top, 12, 'rw')],
    },
    { name: 'ICS', offset: 0x9c, bytes: 4, section: '11.4.9.4', fields: [field('IWC', 0, 0, 'w1c')] },
    ...eventRegisters('IE', 0xa0, ['11.4.9.5', '11.4.9.6', '11.4.9.7', '11.4.9.8']),
    {
      name: 'IQERCD',
      offset: 0xb0,
      bytes: 8,
      section: '11.4.9.9',
      fields: [field('IQEI', 3, 0, 'ro'), field('ITESID', 47, 32, 'ro'), field('ICESID', 63, 48, 'ro')],
    },
    {
      name: 'IRTA',
      offset: 0xb8,
      bytes: 8,
      section: '11.4.10',
      fields: [field('S', 3, 0, 'reserved'), field('EIME', 11, 11, 'reserved'), field('IRTA', 63, 12, 'reserved')],
    },
    {
      name: 'IVA',
      offset: IOTLB_OFFSET,
      bytes: 8,
      section: '11.4.6.4',
      fields: [field('AM', 5, 0, 'wo'), field('IH', 6, 6, 'wo'), field('ADDR', 63, 12, 'wo')],
    },
    {
      name: 'IOTLB',
      offset: IOTLB_OFFSET + 8,
      bytes: 8,
      section: '11.4.6.3',
      fields: [
        field('DID', 47, 32, 'rw'),
        field('DW', 48, 48, 'rw'),
        field('DR', 49, 49, 'rw'),
        field('IAIG', 58, 57, 'ro'),
        field('IIRG', 61, 60, 'rw'),
        field('IVT', 63, 63, 'rw'),
      ],
    },
  ];
  for (let index = 0; index < unit.faultRecords; index++) registers.push(faultRecord(index, unit));
  return {
    name: 'vtd',
    specification: 'Intel Virtualization Technology for Directed I/O, revision 5.10',
    bytes: REGISTER_BYTES,
    registers,
  };
}
