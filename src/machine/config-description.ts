/** Configuration space as the inspector shows it: the fields of its registers, as far as they are known by name. */
import type { ConfigField } from '../pci/config-fields.ts';
import { CommandBit, Express, Msi, Msix, PowerManagement, StatusBit } from '../pci/config-layout.ts';
import type { ConfigSpace } from '../pci/config-space.ts';
import type { RegisterBlockDescription, RegisterDescription } from './inspection.ts';

type Fields = RegisterDescription['fields'];
type Bits = readonly [name: string, high: number, low: number];

const flags = (names: Readonly<Record<string, number>>): Bits[] =>
  Object.entries(names).map(([name, mask]): Bits => [name, Math.log2(mask), Math.log2(mask)]);

/** By the name of the register. */
const NAMED: ReadonlyMap<string, readonly Bits[]> = new Map([
  ['command', flags(CommandBit)],
  ['status', flags(StatusBit)],
  ['PMCSR', [['powerState', Math.log2(PowerManagement.stateMask + 1) - 1, 0]]],
  [
    'MSI message control',
    [
      ['enable', Math.log2(Msi.enable), Math.log2(Msi.enable)],
      ['capableLog2', Msi.allocatedShift - 1, 1],
      ['allocatedLog2', Msi.allocatedShift + 2, Msi.allocatedShift],
      ['wide', Math.log2(Msi.wide), Math.log2(Msi.wide)],
      ['maskable', Math.log2(Msi.maskable), Math.log2(Msi.maskable)],
    ],
  ],
  [
    'MSI-X message control',
    [
      ['lastVector', 10, 0],
      ['functionMask', Math.log2(Msix.functionMask), Math.log2(Msix.functionMask)],
      ['enable', Math.log2(Msix.enable), Math.log2(Msix.enable)],
    ],
  ],
  ['device control', [['initiateReset', Math.log2(Express.initiateReset), Math.log2(Express.initiateReset)]]],
]);

export function configDescription(config: ConfigSpace): Pick<RegisterBlockDescription, 'specification' | 'registers'> {
  const registers = config.fields.map(field => ({
    name: field.name,
    offset: field.offset,
    bytes: field.bytes,
    section: field.section,
    fields: fieldsOf(field),
  }));
  return {
    specification: 'PCI Local Bus 3.0, PCI Express Base 5.0',
    registers: registers.sort((one, other) => one.offset - other.offset),
  };
}

function fieldsOf(field: ConfigField): Fields {
  const named = NAMED.get(field.name) ?? [['value', field.bytes * 8 - 1, 0] as const];
  return named.map(([name, high, low]) => ({ name, bits: [high, low], access: accessOf(field, high, low) }));
}

/** That of the most that software can do with any of the bits. */
function accessOf({ writable = 0, clearable = 0, strobe = 0 }: ConfigField, high: number, low: number): string {
  const mask = high - low === 31 ? -1 : ((1 << (high - low + 1)) - 1) << low;
  if ((writable & mask) !== 0) return 'rw';
  if ((clearable & mask) !== 0) return 'w1c';
  return (strobe & mask) !== 0 ? 'wo' : 'ro';
}
