/** The directory registers: a guest enumerates by them the devices that the unit serves. They are looked up when they are read. */

import type { DeviceDirectory } from '../types.ts';
import { bitOf, type FunctionCore } from './core.ts';

const ACPI = bitOf(16);
const PASID = bitOf(17);
const VALID = bitOf(31);
const REQUESTER_ID_MASK = 0xffff;

export class DirectoryRegisters {
  private readonly count: number;
  private readonly index: number;
  private readonly entry: number;
  private readonly mappings: number;

  constructor(
    private readonly core: FunctionCore,
    private readonly directory: DeviceDirectory,
  ) {
    const { registers } = core;
    this.count = registers.offset('DIRECTORY_COUNT') >>> 2;
    this.index = registers.offset('DIRECTORY_INDEX') >>> 2;
    this.entry = registers.offset('DIRECTORY_ENTRY') >>> 2;
    this.mappings = registers.offset('DIRECTORY_MAPPINGS') >>> 2;
  }

  /** Software is about to read the word at this index. */
  refresh(word: number): void {
    if (word < this.count || word > this.mappings) return;
    const { words } = this.core.registers;
    const all = this.directory.all();
    const device = all[words[this.index]! >>> 0];
    words[this.count] = all.length;
    words[this.mappings] = device?.inputMappingIds.length ?? 0;
    words[this.entry] =
      device === undefined
        ? 0
        : VALID |
          (device.acpi ? ACPI : 0) |
          (device.pasidCapable ? PASID : 0) |
          (device.requesterId & REQUESTER_ID_MASK);
  }
}
