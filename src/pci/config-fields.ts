/** The type 0 header as data: one row per register, laid into byte arrays by `ConfigSpace`. */
import { BAR_CONFIG_BYTES, BarBit, CommandBit, Header, StatusBit } from './config-layout.ts';
import type { BarDefinition, FunctionDefinition } from './definition.ts';

/** One register of configuration space. A bit that is in none of the masks is read-only. */
export interface ConfigField {
  readonly name: string;
  /** From the start of configuration space, or of the capability that the field belongs to. */
  readonly offset: number;
  readonly bytes: 1 | 2 | 3 | 4;
  readonly section: string;
  /** After power-on. */
  readonly value: number;
  /** Bits that software writes. */
  readonly writable?: number;
  /** Bits that software clears by writing 1. */
  readonly clearable?: number;
  /** Bits that start something when software writes 1, and always read as 0. */
  readonly strobe?: number;
  /** Bits that a function-level reset leaves alone (PCIe 6.6.2). */
  readonly kept?: number;
}

const WRITABLE_COMMAND =
  CommandBit.memorySpace |
  CommandBit.busMaster |
  CommandBit.parityErrorResponse |
  CommandBit.serr |
  CommandBit.interruptDisable;

const CLEARABLE_STATUS =
  StatusBit.masterDataParityError |
  StatusBit.signaledTargetAbort |
  StatusBit.receivedTargetAbort |
  StatusBit.receivedMasterAbort |
  StatusBit.signaledSystemError |
  StatusBit.detectedParityError;

export function headerFields(definition: FunctionDefinition, firstCapability: number): ConfigField[] {
  const { identity, express, interruptPin } = definition;
  const wired = definition.hardwiredCommand ?? 0;
  return [
    { name: 'vendor id', offset: Header.vendorId, bytes: 2, section: 'PCI 6.2.1', value: identity.vendorId },
    { name: 'device id', offset: Header.deviceId, bytes: 2, section: 'PCI 6.2.1', value: identity.deviceId },
    {
      name: 'command',
      offset: Header.command,
      bytes: 2,
      section: 'PCI 6.2.2',
      value: wired,
      writable: WRITABLE_COMMAND & ~wired,
    },
    {
      name: 'status',
      offset: Header.status,
      bytes: 2,
      section: 'PCI 6.2.3',
      value: StatusBit.capabilityList,
      clearable: CLEARABLE_STATUS,
    },
    { name: 'revision id', offset: Header.revisionId, bytes: 1, section: 'PCI 6.2.1', value: identity.revisionId },
    { name: 'class code', offset: Header.classCode, bytes: 3, section: 'PCI 6.2.1', value: identity.classCode },
    {
      name: 'cache line size',
      offset: Header.cacheLineSize,
      bytes: 1,
      section: express ? 'PCIe 7.5.1.1.7' : 'PCI 6.2.4',
      value: 0,
      writable: 0xff,
    },
    {
      name: 'latency timer',
      offset: Header.latencyTimer,
      bytes: 1,
      section: express ? 'PCIe 7.5.1.1.8: hard-wired to zero' : 'PCI 6.2.4: granularity of eight clocks',
      value: 0,
      writable: express ? 0 : 0xf8,
    },
    { name: 'header type', offset: Header.headerType, bytes: 1, section: 'PCI 6.2.1', value: 0 },
    { name: 'BIST', offset: Header.bist, bytes: 1, section: 'PCI 6.2.4', value: 0 },
    ...definition.bars.flatMap(barFields),
    { name: 'CardBus CIS pointer', offset: Header.cardbusCis, bytes: 4, section: 'PCI 6.2.4', value: 0 },
    {
      name: 'subsystem vendor id',
      offset: Header.subsystemVendorId,
      bytes: 2,
      section: 'PCI 6.2.4',
      value: identity.subsystemVendorId,
    },
    { name: 'subsystem id', offset: Header.subsystemId, bytes: 2, section: 'PCI 6.2.4', value: identity.subsystemId },
    { name: 'expansion ROM base', offset: Header.romBar, bytes: 4, section: 'PCI 6.2.5.2: no ROM', value: 0 },
    { name: 'capabilities pointer', offset: Header.capabilities, bytes: 1, section: 'PCI 6.7', value: firstCapability },
    { name: 'interrupt line', offset: Header.interruptLine, bytes: 1, section: 'PCI 6.2.4', value: 0, writable: 0xff },
    { name: 'interrupt pin', offset: Header.interruptPin, bytes: 1, section: 'PCI 6.2.4', value: interruptPin },
    { name: 'min_gnt', offset: Header.minGrant, bytes: 1, section: 'PCI 6.2.4', value: 0 },
    { name: 'max_lat', offset: Header.maxLatency, bytes: 1, section: 'PCI 6.2.4', value: 0 },
  ];
}

/** Address bits below the size are hard-wired to zero: that is how software finds the size (PCI 6.2.5.1). */
function barFields(bar: BarDefinition): ConfigField[] {
  const offset = Header.bar0 + BAR_CONFIG_BYTES * bar.index;
  const addressMask = -BigInt(bar.bytes);
  const low: ConfigField = {
    name: `BAR${bar.index}`,
    offset,
    bytes: 4,
    section: 'PCI 6.2.5.1',
    value: (bar.width === 64 ? BarBit.wide : 0) | (bar.prefetchable ? BarBit.prefetchable : 0),
    writable: Number(BigInt.asIntN(32, addressMask)),
  };
  if (bar.width === 32) return [low];
  const high: ConfigField = {
    name: `BAR${bar.index} upper half`,
    offset: offset + BAR_CONFIG_BYTES,
    bytes: 4,
    section: 'PCI 6.2.5.1',
    value: 0,
    writable: Number(BigInt.asIntN(32, addressMask >> 32n)),
  };
  return [low, high];
}
