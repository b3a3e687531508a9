/**
 * Registers as data. A hardware block is defined once, as a list of registers and fields with their access and reset value;
 * the running block, the inspector, the docs and the tests all read that one definition.
 */
import type { Trace } from '../trace/trace.ts';
import { type Saveable, StateError, savedWords, stateWords } from './state.ts';

/**
 * - `ro`: hardware owns it; writes are ignored.
 * - `rw`: software writes it.
 * - `wo`: software writes it, it reads as zero; the behaviour sees the written value in `written`.
 * - `w1c`: hardware sets it, software clears it by writing 1.
 * - `reserved`: must be written as zero (or preserved); a 1 written to it is reported.
 */
export type FieldAccess = 'ro' | 'rw' | 'wo' | 'w1c' | 'reserved';

export interface Field {
  readonly name: string;
  /** Highest and lowest bit, inclusive; the same number twice for one bit. */
  readonly bits: readonly [high: number, low: number];
  readonly access: FieldAccess;
  /** Value after reset, right-aligned; zero where left out. */
  readonly reset?: number | bigint;
  /** For capability bits: why it is advertised. */
  readonly why?: string;
}

export interface Register {
  readonly name: string;
  readonly offset: number;
  /** Width in bytes. */
  readonly bytes: 4 | 8 | 16;
  /** Section of the specification that defines it. */
  readonly section: string;
  /** Bits that no field names are reserved. */
  readonly fields: readonly Field[];
}

export interface RegisterBlock {
  readonly name: string;
  /** Specification and revision. */
  readonly specification: string;
  /** Size of the register space in bytes, a multiple of 4. */
  readonly bytes: number;
  readonly registers: readonly Register[];
}

/** One access of 1, 2, 4 or 8 bytes. A single mutable object is reused for all accesses; low and high are int32 words. */
export interface RegisterAccess {
  offset: number;
  width: number;
  low: number;
  high: number;
}

/** Reads fill `low` (and `high` for 8 bytes); writes find their value there. */
export interface RegisterHandler {
  read(access: RegisterAccess): void;
  write(access: RegisterAccess): void;
}

/** A field at run time: which 32-bit words of the block hold it. Made once, used on every access. */
export interface FieldHandle {
  readonly word: number;
  readonly shift: number;
  /** Right-aligned mask within one word. */
  readonly mask: number;
}

/**
 * The state of one register block: 32-bit words with their access masks. Hardware behaviour reads and sets words and fields
 * freely; software goes through `softwareWrite`, which applies access rules.
 */
export class RegisterFile implements Saveable {
  readonly words: Int32Array;
  /** What software last wrote, word by word, `wo` bits included: what a behaviour reacts to. */
  readonly written: Int32Array;
  private readonly resetWords: Int32Array;
  private readonly writable: Int32Array;
  private readonly clearable: Int32Array;
  private readonly writeOnly: Int32Array;
  private readonly defined: Int32Array;
  /** Bits that are the same for good: capabilities. */
  private readonly constant: Int32Array;
  private readonly owners: (Register | undefined)[];

  constructor(
    readonly block: RegisterBlock,
    private readonly trace: Trace,
    private readonly source: string = block.name,
  ) {
    const count = block.bytes >>> 2;
    this.words = new Int32Array(count);
    this.written = new Int32Array(count);
    this.resetWords = new Int32Array(count);
    this.writable = new Int32Array(count);
    this.clearable = new Int32Array(count);
    this.writeOnly = new Int32Array(count);
    this.defined = new Int32Array(count);
    this.constant = new Int32Array(count);
    this.owners = new Array<Register | undefined>(count).fill(undefined);
    for (const register of block.registers) this.lay(register);
    this.reset();
  }

  reset(): void {
    this.words.set(this.resetWords);
    this.written.fill(0);
  }

  save(): Uint8Array {
    return savedWords(this.words);
  }

  restore(state: unknown): () => void {
    const words = stateWords(state, `the registers of ${this.block.name}`, this.words.length);
    for (let index = 0; index < words.length; index++) {
      const fixed = ~this.defined[index]! | this.constant[index]!;
      if (((words[index]! ^ this.resetWords[index]!) & fixed) === 0) continue;
      const name = this.owners[index]?.name ?? 'no register';
      throw new StateError(
        `${this.block.name}: bits at 0x${(index * 4).toString(16)} (${name}) that never change are others`,
      );
    }
    return () => {
      this.words.set(words);
      this.written.fill(0);
    };
  }

  /** The register that covers this byte offset. */
  registerAt(offset: number): Register | undefined {
    return this.owners[offset >>> 2];
  }

  /** A handle for a field of at most 32 bits within one word. Throws on a name that the definition does not have. */
  field(registerName: string, fieldName: string): FieldHandle {
    const register = this.block.registers.find(one => one.name === registerName);
    const field = register?.fields.find(one => one.name === fieldName);
    if (!register || !field) throw new Error(`${this.block.name} has no field ${registerName}.${fieldName}`);
    const [high, low] = field.bits;
    if (high >>> 5 !== low >>> 5) throw new Error(`${registerName}.${fieldName} spans two words: use the words`);
    return {
      word: (register.offset >>> 2) + (low >>> 5),
      shift: low & 31,
      mask: high - low === 31 ? -1 : (1 << (high - low + 1)) - 1,
    };
  }

  /** The byte offset of a register. */
  offset(registerName: string): number {
    const register = this.block.registers.find(one => one.name === registerName);
    if (!register) throw new Error(`${this.block.name} has no register ${registerName}`);
    return register.offset;
  }

  get(field: FieldHandle): number {
    return ((this.words[field.word] >>> field.shift) & field.mask) >>> 0;
  }

  set(field: FieldHandle, value: number): void {
    const mask = field.mask << field.shift;
    this.words[field.word] = (this.words[field.word] & ~mask) | ((value << field.shift) & mask);
  }

  /** Software's view of one 32-bit word. */
  softwareRead(offset: number): number {
    const index = offset >>> 2;
    if (index >= this.words.length || this.owners[index] === undefined) {
      this.trace.note('register.unknown', this.source, { offset, access: 'read' });
      return 0;
    }
    return this.words[index] & ~this.writeOnly[index];
  }

  /** Applies the access rules to one 32-bit word and reports what software should not have written. */
  softwareWrite(offset: number, value: number): void {
    const index = offset >>> 2;
    const owner = index < this.words.length ? this.owners[index] : undefined;
    if (owner === undefined) {
      this.trace.note('register.unknown', this.source, { offset, access: 'write', value: value >>> 0 });
      return;
    }
    const reserved = value & ~this.defined[index];
    if (reserved !== 0) {
      this.trace.note('register.reserved', this.source, { register: owner.name, offset, bits: reserved >>> 0 });
    }
    const writable = this.writable[index] | this.writeOnly[index];
    this.written[index] = value;
    this.words[index] = ((this.words[index] & ~writable) | (value & writable)) & ~(value & this.clearable[index]);
  }

  private lay(register: Register): void {
    const first = register.offset >>> 2;
    for (let word = 0; word < register.bytes >>> 2; word++) {
      if (this.owners[first + word]) throw new Error(`${register.name} overlaps ${this.owners[first + word]?.name}`);
      this.owners[first + word] = register;
    }
    for (const field of register.fields) this.layField(first, field);
  }

  private layField(first: number, field: Field): void {
    const [high, low] = field.bits;
    const reset = BigInt(field.reset ?? 0);
    for (let bit = low; bit <= high; bit++) {
      const word = first + (bit >>> 5);
      const mask = 1 << (bit & 31);
      if (field.access !== 'reserved') this.defined[word] |= mask;
      if (field.access === 'ro' && field.why !== undefined) this.constant[word] |= mask;
      if (field.access === 'rw') this.writable[word] |= mask;
      if (field.access === 'wo') this.writeOnly[word] |= mask;
      if (field.access === 'w1c') this.clearable[word] |= mask;
      if ((reset >> BigInt(bit - low)) & 1n) this.resetWords[word] |= mask;
    }
  }
}
