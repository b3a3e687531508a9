/** The capabilities as data, each with the fields after its id and next pointer. */
import type { ConfigField } from './config-fields.ts';
import { CapabilityId, Express, Msi, Msix, PowerManagement } from './config-layout.ts';
import type { FunctionDefinition, MsiDefinition, MsixDefinition } from './definition.ts';

export interface Capability {
  readonly name: string;
  readonly id: number;
  readonly bytes: number;
  /** Offsets are relative to the capability. */
  readonly fields: readonly ConfigField[];
}

/** In the order of the list. */
export function capabilitiesOf(definition: FunctionDefinition): Capability[] {
  const list = [powerManagement];
  if (definition.msi) list.push(msiCapability(definition.msi));
  if (definition.msix) list.push(msixCapability(definition.msix));
  if (definition.express) list.push(express);
  return list;
}

/**
 * D0 and D3hot, no power management events. No_Soft_Reset is set: coming back to D0 keeps the function's state, so that a driver
 * that lets the function sleep finds it as it was (PM 5.4.1).
 */
const powerManagement: Capability = {
  name: 'power management',
  id: CapabilityId.powerManagement,
  bytes: 8,
  fields: [
    { name: 'PMC', offset: 2, bytes: 2, section: 'PM 3.2.3: version 1.2', value: 3 },
    {
      name: 'PMCSR',
      offset: PowerManagement.controlStatus,
      bytes: 2,
      section: 'PM 3.2.4',
      value: 1 << 3,
      writable: PowerManagement.stateMask,
    },
    { name: 'PMCSR_BSE and data', offset: 6, bytes: 2, section: 'PM 3.2.5, 3.2.6', value: 0 },
  ],
};

/** PCI 6.8.1. */
function msiCapability(msi: MsiDefinition): Capability {
  const data = msi.wide ? 0x0c : 0x08;
  const capable = Math.log2(msi.vectors);
  const vectorMask = msi.vectors === 32 ? -1 : (1 << msi.vectors) - 1;
  const control = (msi.wide ? Msi.wide : 0) | (msi.maskable ? Msi.maskable : 0) | (capable << 1);
  const fields: ConfigField[] = [
    {
      name: 'MSI message control',
      offset: Msi.control,
      bytes: 2,
      section: 'PCI 6.8.1.3',
      value: control,
      writable: Msi.enable | (0b111 << Msi.allocatedShift),
    },
    { name: 'MSI message address', offset: 4, bytes: 4, section: 'PCI 6.8.1.4', value: 0, writable: ~0b11 },
    { name: 'MSI message data', offset: data, bytes: 2, section: 'PCI 6.8.1.6', value: 0, writable: 0xffff },
  ];
  if (msi.wide) {
    fields.push({ name: 'MSI upper address', offset: 8, bytes: 4, section: 'PCI 6.8.1.5', value: 0, writable: -1 });
  }
  if (msi.maskable) {
    fields.push(
      {
        name: 'MSI mask',
        offset: msiMaskOffset(msi),
        bytes: 4,
        section: 'PCI 6.8.1.7',
        value: 0,
        writable: vectorMask,
      },
      { name: 'MSI pending', offset: msiPendingOffset(msi), bytes: 4, section: 'PCI 6.8.1.8', value: 0 },
    );
  }
  // Without masks the capability ends with the data register; the list still goes on at a multiple of 4.
  return { name: 'MSI', id: CapabilityId.msi, bytes: msi.maskable ? data + 12 : data + 4, fields };
}

/** From the start of the MSI capability. */
export function msiMaskOffset(msi: MsiDefinition): number {
  return msi.wide ? 0x10 : 0x0c;
}

export function msiPendingOffset(msi: MsiDefinition): number {
  return msiMaskOffset(msi) + 4;
}

/** PCI 6.8.2. */
function msixCapability(msix: MsixDefinition): Capability {
  return {
    name: 'MSI-X',
    id: CapabilityId.msix,
    bytes: 12,
    fields: [
      {
        name: 'MSI-X message control',
        offset: Msix.control,
        bytes: 2,
        section: 'PCI 6.8.2.3',
        value: msix.vectors - 1,
        writable: Msix.enable | Msix.functionMask,
      },
      {
        name: 'MSI-X table',
        offset: 4,
        bytes: 4,
        section: 'PCI 6.8.2.4',
        value: msix.table.offset | msix.table.bar,
      },
      {
        name: 'MSI-X pending bits',
        offset: 8,
        bytes: 4,
        section: 'PCI 6.8.2.5',
        value: msix.pending.offset | msix.pending.bar,
      },
    ],
  };
}

/** A PCI Express endpoint with a 2.5 GT/s x1 link, 128-byte payloads and function-level reset; capability version 2. */
const express: Capability = {
  name: 'PCI Express',
  id: CapabilityId.express,
  bytes: 0x3c,
  fields: [
    {
      name: 'PCI Express capabilities',
      offset: 0x02,
      bytes: 2,
      section: 'PCIe 7.5.3.2: version 2, endpoint',
      value: 2,
    },
    {
      name: 'device capabilities',
      offset: 0x04,
      bytes: 4,
      section: 'PCIe 7.5.3.3: role-based error reporting, function-level reset',
      value: (1 << 15) | (1 << 28),
    },
    {
      name: 'device control',
      offset: Express.deviceControl,
      bytes: 2,
      section: 'PCIe 7.5.3.4',
      // Relaxed ordering and no snoop enabled, 512-byte read requests: the defaults that the specification gives.
      value: (1 << 4) | (1 << 11) | (0b010 << 12),
      writable: 0b1111 | (1 << 4) | (1 << 11) | (0b111 << 12),
      strobe: Express.initiateReset,
    },
    { name: 'device status', offset: 0x0a, bytes: 2, section: 'PCIe 7.5.3.5', value: 0, clearable: 0b1111 },
    {
      name: 'link capabilities',
      offset: 0x0c,
      bytes: 4,
      section: 'PCIe 7.5.3.6: 2.5 GT/s, x1, no ASPM (and says so)',
      value: 1 | (1 << 4) | (1 << 22),
    },
    {
      name: 'link control',
      offset: 0x10,
      bytes: 2,
      section: 'PCIe 7.5.3.7: ASPM control, read completion boundary, common clock, extended synch',
      value: 0,
      writable: 0b11 | (1 << 3) | (1 << 6) | (1 << 7),
      kept: 0b11 | (1 << 3) | (1 << 6) | (1 << 7),
    },
    { name: 'link status', offset: 0x12, bytes: 2, section: 'PCIe 7.5.3.8: 2.5 GT/s, x1', value: 1 | (1 << 4) },
    {
      name: 'device capabilities 2',
      offset: 0x24,
      bytes: 4,
      section: 'PCIe 7.5.3.15: completion timeout can be disabled',
      value: 1 << 4,
    },
    { name: 'device control 2', offset: 0x28, bytes: 2, section: 'PCIe 7.5.3.16', value: 0, writable: 1 << 4 },
    { name: 'link capabilities 2', offset: 0x2c, bytes: 4, section: 'PCIe 7.5.3.18: 2.5 GT/s', value: 1 << 1 },
  ],
};
