/** Sources of interrupts: pending bits that software clears, and a vector for each. */
import { bitOf, type FunctionCore } from './core.ts';
import { VECTORS } from './identity.ts';
import type { Source } from './registers.ts';

const SOURCES = 4;
const VECTOR_BITS = 8;
const VECTOR_MASK = 0xff;

export class Interrupts {
  private readonly enable: number;
  private readonly pending: number;
  private readonly vectors: number;

  constructor(private readonly core: FunctionCore) {
    const { registers } = core;
    this.enable = registers.offset('INTERRUPT_ENABLE') >>> 2;
    this.pending = registers.offset('INTERRUPT_PENDING') >>> 2;
    this.vectors = registers.offset('INTERRUPT_VECTOR') >>> 2;
  }

  /** One interrupt until software clears the pending bit: from then on whatever happens is a new one. */
  raise(source: Source): void {
    const { words } = this.core.registers;
    const bit = bitOf(source);
    if (words[this.pending]! & bit) return;
    words[this.pending]! |= bit;
    if (words[this.enable]! & bit) this.deliver(source);
  }

  /** Software wrote INTERRUPT_ENABLE: what waited for that goes out. */
  enableWritten(before: number): void {
    const { words } = this.core.registers;
    const due = words[this.enable]! & ~before & words[this.pending]!;
    for (let source = 0; source < SOURCES; source++) if (due & bitOf(source)) this.deliver(source);
    this.settle();
  }

  /** Software wrote INTERRUPT_PENDING. */
  pendingWritten(): void {
    this.settle();
  }

  private settle(): void {
    const { words } = this.core.registers;
    if ((words[this.pending]! & words[this.enable]!) === 0) this.core.line.lower();
  }

  private deliver(source: number): void {
    const vector = (this.core.registers.words[this.vectors]! >>> (source * VECTOR_BITS)) & VECTOR_MASK;
    if (vector < VECTORS) this.core.line.raise(vector);
    else this.core.note('dmaIommu.badVector', { source, vector });
  }
}
