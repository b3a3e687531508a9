import type { Trace } from '../trace/trace.ts';
import { Msix } from './config-layout.ts';
import type { MsixDefinition } from './definition.ts';
import { pendingBytes } from './definition-check.ts';
import type { RegisterAccess, RegisterHandler } from './registers.ts';
import {
  type Saveable,
  StateError,
  type StateValue,
  savedWords,
  stateBytes,
  stateFields,
  stateWords,
} from './state.ts';

const ENTRY_WORDS = Msix.entryBytes / 4;
/** PCI 6.8.2.6 to 6.8.2.9: the words of an entry. */
const VECTOR_CONTROL_WORD = 3;
const VECTOR_MASK = 1;
/** The two low bits of a message address are zero; only the mask bit of vector control is there. */
const WRITABLE_WORDS = [~0b11, -1, -1, VECTOR_MASK] as const;

/**
 * The MSI-X table and the pending bits (PCI 6.8.2). QEMU keeps both itself and never shows the table to its server: an entry that
 * software has not written through the BAR masks nothing here, because its eventfd being set already says that it is wanted.
 */
export class MsixTable implements Saveable {
  readonly vectors: number;
  /** One bit a vector; whole 64-bit words, as two int32 each. */
  readonly pending: Int32Array;
  /** Told when software clears the mask bit of a vector. */
  onUnmask: (vector: number) => void = () => {};
  private readonly words: Int32Array;
  private readonly written: Uint8Array;

  constructor(definition: MsixDefinition) {
    this.vectors = definition.vectors;
    this.words = new Int32Array(definition.vectors * ENTRY_WORDS);
    this.written = new Uint8Array(definition.vectors);
    this.pending = new Int32Array(pendingBytes(definition.vectors) / 4);
    this.reset();
  }

  reset(): void {
    this.words.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) {
      this.words[vector * ENTRY_WORDS + VECTOR_CONTROL_WORD] = VECTOR_MASK;
    }
    this.written.fill(0);
    this.pending.fill(0);
  }

  save(): StateValue {
    const { words, written, pending } = this;
    return { words: savedWords(words), written: written.slice(), pending: savedWords(pending) };
  }

  restore(state: unknown): () => void {
    const fields = stateFields(state, 'the MSI-X table', ['words', 'written', 'pending']);
    const words = stateWords(fields.words, 'the MSI-X entries', this.words.length);
    const written = stateBytes(fields.written, 'the MSI-X entries in use', this.vectors).slice();
    const pending = stateWords(fields.pending, 'the MSI-X pending bits', this.pending.length);
    if (written.some(one => one > 1)) throw new StateError('MSI-X: an entry is in use more than once');
    if (words.some((word, index) => (word & ~WRITABLE_WORDS[index % ENTRY_WORDS]!) !== 0)) {
      throw new StateError('MSI-X: reserved bits of an entry are set');
    }
    for (let vector = this.vectors; vector < pending.length * 32; vector++) {
      if ((pending[vector >>> 5]! & (1 << (vector & 31))) !== 0)
        throw new StateError('MSI-X: no such vector is pending');
    }
    return () => {
      this.words.set(words);
      this.written.set(written);
      this.pending.set(pending);
    };
  }

  isMasked(vector: number): boolean {
    return this.written[vector] === 1 && this.controlOf(vector) !== 0;
  }

  isPending(vector: number): boolean {
    return (this.pending[vector >>> 5]! & (1 << (vector & 31))) !== 0;
  }

  setPending(vector: number, pending: boolean): void {
    const bit = 1 << (vector & 31);
    const index = vector >>> 5;
    this.pending[index] = pending ? this.pending[index]! | bit : this.pending[index]! & ~bit;
  }

  /** A 32-bit word of the table, by its index. */
  word(index: number): number {
    return this.words[index] ?? 0;
  }

  setWord(index: number, value: number): void {
    if (index >= this.words.length) return;
    const vector = Math.floor(index / ENTRY_WORDS);
    const part = index % ENTRY_WORDS;
    const wasMasked = this.isMasked(vector);
    // The mask bit that reset left there was nobody's choice; once software uses the entry it counts.
    this.written[vector] = 1;
    this.words[index] = value & WRITABLE_WORDS[part]!;
    if (part === VECTOR_CONTROL_WORD && wasMasked && this.controlOf(vector) === 0) this.onUnmask(vector);
  }

  private controlOf(vector: number): number {
    return this.words[vector * ENTRY_WORDS + VECTOR_CONTROL_WORD]!;
  }
}

/** Stands before the registers of a BAR that holds the MSI-X table, the pending bits, or both. */
export class MsixBar implements RegisterHandler {
  /** The device's own registers in the same BAR. */
  inner: RegisterHandler | undefined;
  private readonly tableStart: number;
  private readonly tableEnd: number;
  private readonly pendingStart: number;
  private readonly pendingEnd: number;

  constructor(
    bar: number,
    definition: MsixDefinition,
    private readonly table: MsixTable,
    private readonly trace: Trace,
    private readonly source: string,
  ) {
    const { vectors } = definition;
    const hasTable = definition.table.bar === bar;
    const hasPending = definition.pending.bar === bar;
    this.tableStart = definition.table.offset;
    this.tableEnd = hasTable ? this.tableStart + vectors * Msix.entryBytes : this.tableStart;
    this.pendingStart = definition.pending.offset;
    this.pendingEnd = hasPending ? this.pendingStart + pendingBytes(vectors) : this.pendingStart;
  }

  read(access: RegisterAccess): void {
    const { offset } = access;
    if (offset >= this.tableStart && offset < this.tableEnd) {
      if (!this.checkWidth(access, 'read')) return;
      const index = (offset - this.tableStart) >>> 2;
      access.low = this.table.word(index);
      access.high = access.width === 8 ? this.table.word(index + 1) : 0;
    } else if (offset >= this.pendingStart && offset < this.pendingEnd) {
      if (!this.checkWidth(access, 'read')) return;
      const index = (offset - this.pendingStart) >>> 2;
      access.low = this.table.pending[index]!;
      access.high = access.width === 8 ? this.table.pending[index + 1]! : 0;
    } else if (this.inner) {
      this.inner.read(access);
    } else {
      this.trace.note('register.unknown', this.source, { offset, access: 'read' });
    }
  }

  write(access: RegisterAccess): void {
    const { offset } = access;
    if (offset >= this.tableStart && offset < this.tableEnd) {
      if (!this.checkWidth(access, 'write')) return;
      const index = (offset - this.tableStart) >>> 2;
      this.table.setWord(index, access.low);
      if (access.width === 8) this.table.setWord(index + 1, access.high);
    } else if (offset >= this.pendingStart && offset < this.pendingEnd) {
      // PCI 6.8.2.10: software should never write pending bits; what happens is undefined, so nothing does.
      this.trace.note('msix.pendingWrite', this.source, { offset });
    } else if (this.inner) {
      this.inner.write(access);
    } else {
      this.trace.note('register.unknown', this.source, { offset, access: 'write', value: access.low >>> 0 });
    }
  }

  /** PCI 6.8.2: whole 32-bit or 64-bit words only; anything else is undefined: reads as zero, writes nothing. */
  private checkWidth(access: RegisterAccess, what: string): boolean {
    if (access.width === 4 || access.width === 8) return true;
    access.low = 0;
    access.high = 0;
    this.trace.note('msix.accessWidth', this.source, { offset: access.offset, width: access.width, access: what });
    return false;
  }
}
