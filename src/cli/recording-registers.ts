/** Which register an access of the guest meant: the definitions of the machine's functions, by function, region and offset. */
import { findKind } from '../devices/kinds.ts';
import { dmaIommuFunctionDefinition, REGISTER_BAR } from '../iommu/dma-iommu/function/identity.ts';
import { dmaIommuRegisters } from '../iommu/dma-iommu/function/registers.ts';
import { vtdCapabilities } from '../iommu/vtd/capabilities.ts';
import { vtdFunctionDefinition } from '../iommu/vtd/function.ts';
import { vtdRegisters } from '../iommu/vtd/registers.ts';
import { checkDescription, DescriptionError, type MachineDescription } from '../machine/description.ts';
import type { ConfigField } from '../pci/config-fields.ts';
import { CommandBit, Msi, Msix, StatusBit } from '../pci/config-layout.ts';
import { ConfigSpace } from '../pci/config-space.ts';
import type { FunctionDefinition, MsixDefinition } from '../pci/definition.ts';
import type { RegisterBlock } from '../pci/registers.ts';

/** linux/vfio.h, VFIO_PCI_CONFIG_REGION_INDEX. */
export const CONFIG_REGION = 7;
const IOMMU_NAME = 'iommu';

/** Bits of a register, right-aligned; `whole`: the register is its value and nothing else. */
export interface DecodedField {
  readonly name: string;
  readonly high: number;
  readonly low: number;
  readonly whole: boolean;
}

export interface DecodedRegister {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
  readonly fields: readonly DecodedField[];
}

/** Registers in the order of their offsets. */
type Registers = readonly DecodedRegister[];

export class RegisterMap {
  private readonly regions = new Map<string, Map<number, Registers>>();

  /** `machine`: a description from a file or a server; where it is none, nothing is known. */
  constructor(machine: unknown) {
    let description: MachineDescription;
    try {
      description = checkDescription(machine);
    } catch (error) {
      if (error instanceof DescriptionError) return;
      throw error;
    }
    this.addIommu(description);
    for (const { id, kind, options } of description.endpoints) {
      const { registers, define } = findKind(kind);
      this.add(id, define(options), registers);
    }
  }

  /** The registers that an access touches. */
  find(source: string, region: number, offset: number, width: number): DecodedRegister[] {
    const registers = this.regions.get(source)?.get(region) ?? [];
    return registers.filter(one => one.offset < offset + width && offset < one.offset + one.bytes);
  }

  private addIommu({ iommu }: MachineDescription): void {
    if (iommu.kind === 'vtd') {
      const block = vtdRegisters(vtdCapabilities({ cachingMode: iommu.cachingMode }));
      this.add(IOMMU_NAME, vtdFunctionDefinition, [block]);
    } else if (iommu.kind === 'dma-iommu') {
      this.add(IOMMU_NAME, dmaIommuFunctionDefinition, [dmaIommuRegisters(iommu.compat)], REGISTER_BAR);
    }
  }

  /** The blocks are those of the function's BARs, from the first one on. */
  private add(name: string, definition: FunctionDefinition, blocks: readonly RegisterBlock[], firstBar = 0): void {
    const regions = new Map<number, Registers>();
    blocks.forEach((block, index) => {
      const bar = definition.bars[index]?.index ?? firstBar;
      regions.set(bar, block.registers.map(fromRegister));
    });
    if (definition.msix) {
      const { bar } = definition.msix.table;
      regions.set(bar, [...(regions.get(bar) ?? []), ...msixRegisters(definition.msix)]);
    }
    regions.set(CONFIG_REGION, new ConfigSpace(definition).fields.map(fromConfigField));
    this.regions.set(name, regions);
  }
}

function fromRegister({ name, offset, bytes, fields }: RegisterBlock['registers'][number]): DecodedRegister {
  return {
    name,
    offset,
    bytes,
    fields: fields.map(field => {
      const [high, low] = field.bits;
      return { name: field.name, high, low, whole: fields.length === 1 && low === 0 && high === bytes * 8 - 1 };
    }),
  };
}

/** Bits that have names in config-layout.ts, by the register's name in config-fields.ts and capabilities.ts. */
const CONFIG_BITS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  command: CommandBit,
  status: StatusBit,
  'MSI message control': { enable: Msi.enable },
  'MSI-X message control': { enable: Msix.enable, functionMask: Msix.functionMask },
};

function fromConfigField({ name, offset, bytes }: ConfigField): DecodedRegister {
  const bits = Object.entries(CONFIG_BITS[name] ?? {});
  const whole = { name: 'value', high: bytes * 8 - 1, low: 0, whole: true };
  const fields = bits.map(([bit, mask]) => {
    const low = Math.log2(mask);
    return { name: bit, high: low, low, whole: false };
  });
  return { name: name.replaceAll(' ', '-'), offset, bytes, fields: fields.length > 0 ? fields : [whole] };
}

/** PCI 6.8.2.6 to 6.8.2.9. */
function msixRegisters({ vectors, table }: MsixDefinition): DecodedRegister[] {
  const registers: DecodedRegister[] = [];
  const value = [{ name: 'value', high: 31, low: 0, whole: true }];
  for (let vector = 0; vector < vectors; vector++) {
    const offset = table.offset + vector * Msix.entryBytes;
    registers.push(
      { name: `MSIX${vector}.address`, offset, bytes: 4, fields: value },
      { name: `MSIX${vector}.upper-address`, offset: offset + 4, bytes: 4, fields: value },
      { name: `MSIX${vector}.data`, offset: offset + 8, bytes: 4, fields: value },
      {
        name: `MSIX${vector}.control`,
        offset: offset + 12,
        bytes: 4,
        fields: [{ name: 'masked', high: 0, low: 0, whole: false }],
      },
    );
  }
  return registers;
}
