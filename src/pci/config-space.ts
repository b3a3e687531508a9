import { type Capability, capabilitiesOf } from './capabilities.ts';
import { type ConfigField, headerFields } from './config-fields.ts';
import {
  BAR_CONFIG_BYTES,
  BAR_COUNT,
  CapabilityId,
  CONVENTIONAL_CONFIG_BYTES,
  EXPRESS_CONFIG_BYTES,
  FIRST_CAPABILITY,
  Header,
  PowerManagement,
} from './config-layout.ts';
import type { FunctionDefinition } from './definition.ts';
import { checkDefinition } from './definition-check.ts';
import { type Saveable, StateError, stateBytes } from './state.ts';

/**
 * The configuration space of one function: a byte array of values beside byte arrays of masks, so that a write of any width at
 * any offset is the same loop. It reacts to nothing; `PciFunction` looks at what a write changed.
 */
export class ConfigSpace implements Saveable {
  /** The values as software reads them; 256 bytes, or 4096 for PCI Express. */
  readonly bytes: Uint8Array;
  /** Every register, with its offset from the start of configuration space. */
  readonly fields: readonly ConfigField[];
  private readonly powerOn: Uint8Array;
  private readonly writable: Uint8Array;
  private readonly clearable: Uint8Array;
  private readonly strobes: Uint8Array;
  private readonly struck: Uint8Array;
  private readonly kept: Uint8Array;
  /** Bits that only hardware changes. */
  private readonly owned: Uint8Array;
  private readonly places = new Map<number, number>();
  private readonly powerControl: number;
  private readonly barMasks = new Int32Array(BAR_COUNT);
  private readonly wideBars: readonly boolean[];

  /** Throws an Error on a definition that cannot be laid out. */
  constructor(readonly definition: FunctionDefinition) {
    checkDefinition(definition);
    const size = definition.express ? EXPRESS_CONFIG_BYTES : CONVENTIONAL_CONFIG_BYTES;
    this.bytes = new Uint8Array(size);
    this.powerOn = new Uint8Array(size);
    this.writable = new Uint8Array(size);
    this.clearable = new Uint8Array(size);
    this.strobes = new Uint8Array(size);
    this.struck = new Uint8Array(size);
    this.kept = new Uint8Array(size);
    this.owned = new Uint8Array(size);
    this.fields = [
      ...headerFields(definition, FIRST_CAPABILITY),
      ...this.placeCapabilities(capabilitiesOf(definition)),
    ];
    for (const field of this.fields) this.lay(field);
    this.powerControl = this.capability(CapabilityId.powerManagement) + PowerManagement.controlStatus;
    for (let index = 0; index < BAR_COUNT; index++) {
      this.barMasks[index] = word(this.writable, Header.bar0 + BAR_CONFIG_BYTES * index);
    }
    this.wideBars = Array.from({ length: BAR_COUNT }, (_, index) =>
      definition.bars.some(bar => bar.index === index && bar.width === 64),
    );
    this.reset();
  }

  /** Back to power-on. */
  reset(): void {
    this.bytes.set(this.powerOn);
    this.struck.fill(0);
  }

  /** Function-level reset: as `reset`, but what belongs to the link stays (PCIe 6.6.2). */
  resetFunction(): void {
    for (let offset = 0; offset < this.bytes.length; offset++) {
      const kept = this.kept[offset]!;
      this.bytes[offset] = (this.bytes[offset]! & kept) | (this.powerOn[offset]! & ~kept);
    }
    this.struck.fill(0);
  }

  save(): Uint8Array {
    return this.bytes.slice();
  }

  restore(state: unknown): () => void {
    const bytes = stateBytes(state, 'the configuration space', this.bytes.length);
    for (let offset = 0; offset < bytes.length; offset++) {
      const free = this.writable[offset]! | this.clearable[offset]! | this.owned[offset]!;
      if (((bytes[offset]! ^ this.powerOn[offset]!) & ~free & 0xff) === 0) continue;
      throw new StateError(`configuration space: bits at 0x${offset.toString(16)} that never change are others`);
    }
    const power = bytes[this.powerControl]! & PowerManagement.stateMask;
    if (power !== PowerManagement.d0 && power !== PowerManagement.d3hot) {
      throw new StateError(`configuration space: the function has no power state D${power}`);
    }
    const copy = bytes.slice();
    return () => {
      this.bytes.set(copy);
      this.struck.fill(0);
    };
  }

  /** Declares bits of the 16-bit or 32-bit register at `offset` that hardware sets and software cannot. */
  own(offset: number, mask: number): void {
    for (let i = 0; i < 4 && mask >>> (8 * i) !== 0; i++) {
      this.owned[offset + i] = this.owned[offset + i]! | (mask >>> (8 * i));
    }
  }

  /** Offset of a capability by its id; 0 where the function does not have it. */
  capability(id: number): number {
    return this.places.get(id) ?? 0;
  }

  /** Software reads; the range must lie within the space. */
  read(offset: number, target: Uint8Array, at: number, length: number): void {
    for (let i = 0; i < length; i++) target[at + i] = this.bytes[offset + i]!;
  }

  /** Software writes; the range must lie within the space. */
  write(offset: number, source: Uint8Array, at: number, length: number): void {
    const state = this.powerState;
    for (let i = 0; i < length; i++) {
      const index = offset + i;
      const value = source[at + i]!;
      const writable = this.writable[index]!;
      this.bytes[index] = ((this.bytes[index]! & ~writable) | (value & writable)) & ~(value & this.clearable[index]!);
      this.struck[index] = this.struck[index]! | (value & this.strobes[index]!);
    }
    // PM 3.2.4: the write of a state that the function does not have completes and changes nothing.
    const now = this.powerState;
    if (now !== PowerManagement.d0 && now !== PowerManagement.d3hot) this.setBits(this.powerControl, 0b11, state);
  }

  /** True once after software struck this bit of the 16-bit register at `offset`. */
  takeStrobe(offset: number, mask: number): boolean {
    const low = this.struck[offset]! & mask & 0xff;
    const high = this.struck[offset + 1]! & (mask >>> 8);
    this.struck[offset] = this.struck[offset]! & ~mask;
    this.struck[offset + 1] = this.struck[offset + 1]! & ~(mask >>> 8);
    return (low | high) !== 0;
  }

  get16(offset: number): number {
    return this.bytes[offset]! | (this.bytes[offset + 1]! << 8);
  }

  /** As int32. */
  get32(offset: number): number {
    return word(this.bytes, offset);
  }

  /** Hardware writes a 32-bit register. */
  set32(offset: number, value: number): void {
    for (let i = 0; i < 4; i++) this.bytes[offset + i] = value >>> (8 * i);
  }

  /** Hardware sets the bits under `mask` of the 16-bit register at `offset`. */
  setBits(offset: number, mask: number, value: number): void {
    const next = (this.get16(offset) & ~mask) | (value & mask);
    this.bytes[offset] = next;
    this.bytes[offset + 1] = next >>> 8;
  }

  get command(): number {
    return this.get16(Header.command);
  }

  /** 0 for D0, 3 for D3hot. */
  get powerState(): number {
    return this.bytes[this.powerControl]! & PowerManagement.stateMask;
  }

  /** The words of a BAR without its type bits, as int32; the high one is 0 for 32-bit BARs. */
  barLow(index: number): number {
    return this.get32(Header.bar0 + BAR_CONFIG_BYTES * index) & this.barMasks[index]!;
  }

  barHigh(index: number): number {
    return this.wideBars[index] ? this.get32(Header.bar0 + BAR_CONFIG_BYTES * (index + 1)) : 0;
  }

  /** The address in a BAR, 0 where it is not programmed. */
  barAddress(index: number): bigint {
    return (BigInt(this.barHigh(index) >>> 0) << 32n) | BigInt(this.barLow(index) >>> 0);
  }

  /**
   * True where a BAR holds an address, and not zero or a step of the sizing dance: all ones in either half (PCI 6.2.5.1, the
   * implementation note on sizing). No machine has memory space at 0xffffffff00000000.
   */
  isBarPlaced(index: number): boolean {
    const low = this.barLow(index);
    const high = this.barHigh(index);
    return high !== -1 && (high !== 0 || (low !== 0 && low !== this.barMasks[index]));
  }

  private placeCapabilities(list: readonly Capability[]): ConfigField[] {
    const fields: ConfigField[] = [];
    let offset = FIRST_CAPABILITY;
    list.forEach((capability, position) => {
      const end = offset + ((capability.bytes + 3) & ~3);
      const next = position + 1 < list.length ? end : 0;
      const name = `${capability.name} capability`;
      fields.push({ name: `${name} id`, offset, bytes: 1, section: 'PCI 6.7', value: capability.id });
      fields.push({ name: `${name} next`, offset: offset + 1, bytes: 1, section: 'PCI 6.7', value: next });
      for (const field of capability.fields) fields.push({ ...field, offset: offset + field.offset });
      this.places.set(capability.id, offset);
      offset = end;
    });
    return fields;
  }

  private lay(field: ConfigField): void {
    for (let i = 0; i < field.bytes; i++) {
      const offset = field.offset + i;
      this.powerOn[offset] = field.value >>> (8 * i);
      this.writable[offset] = (field.writable ?? 0) >>> (8 * i);
      this.clearable[offset] = (field.clearable ?? 0) >>> (8 * i);
      this.strobes[offset] = (field.strobe ?? 0) >>> (8 * i);
      this.kept[offset] = (field.kept ?? 0) >>> (8 * i);
    }
  }
}

function word(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! | (bytes[offset + 1]! << 8) | (bytes[offset + 2]! << 16) | (bytes[offset + 3]! << 24);
}
