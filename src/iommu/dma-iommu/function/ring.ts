/**
 * A ring of entries in guest memory. Indices go from 0 to the number of entries, less one, and wrap to 0; equal indices mean empty, so
 * one entry is always free. One side is software's: an index that it cannot mean is refused, and the old one stays.
 */
import { FRAME_BYTES, FRAME_SHIFT } from '../../../memory/guest-memory.ts';
import type { FieldHandle } from '../../../pci/registers.ts';
import { StateError, type StateValue, stateFields, stateFlag, stateNumber } from '../../../pci/state.ts';
import { address64 } from '../../address64.ts';
import type { FunctionCore } from './core.ts';
import { ADDRESS_BITS, RING_ALIGNMENT, RING_SIZE_MAX, RING_SIZE_MIN } from './limits.ts';
import { RingError } from './registers.ts';

export interface RingOptions {
  readonly name: 'COMMAND' | 'COMPLETION' | 'FAULT';
  readonly entryBytes: number;
  /** A size of 0 means that there is no ring. Default false. */
  readonly optional?: boolean;
  /** Told of every error, when the registers show it. */
  readonly failed: () => void;
}

const OFFSET_MASK = FRAME_BYTES - 1;
const ERROR_NAMES = Object.keys(RingError);

export class Ring {
  readonly name: string;
  /** Base and size are taken over and make sense. */
  placed = false;
  /** 1 on the first lap of the device through the ring, then 0, and so on. */
  phase = 1;
  private readonly entryBytes: number;
  private readonly base: number;
  private readonly size: number;
  private readonly headWord: number;
  private readonly tailWord: number;
  private readonly failed: FieldHandle;
  private readonly code: FieldHandle;
  private firstFrame = 0;
  private mask = 0;

  constructor(
    private readonly core: FunctionCore,
    private readonly options: RingOptions,
  ) {
    const { registers } = core;
    const { name } = options;
    this.name = name;
    this.entryBytes = options.entryBytes;
    this.base = registers.offset(`${name}_BASE`) >>> 2;
    this.size = registers.offset(`${name}_SIZE`) >>> 2;
    this.headWord = registers.offset(`${name}_HEAD`) >>> 2;
    this.tailWord = registers.offset(`${name}_TAIL`) >>> 2;
    this.failed = registers.field('STATUS', `${name}_ERROR`);
    this.code = registers.field('ERROR', name);
  }

  get head(): number {
    return this.core.registers.words[this.headWord]!;
  }

  get tail(): number {
    return this.core.registers.words[this.tailWord]!;
  }

  get empty(): boolean {
    return this.head === this.tail;
  }

  get full(): boolean {
    return this.used === this.mask;
  }

  /** Takes part: placed, and no error that software has yet to clear. */
  get running(): boolean {
    return this.placed && this.core.registers.get(this.failed) === 0;
  }

  /** The rings are enabled. */
  start(): void {
    const { words } = this.core.registers;
    words[this.headWord] = 0;
    words[this.tailWord] = 0;
    this.phase = 1;
    this.place();
  }

  stop(): void {
    this.placed = false;
  }

  frameOf(index: number): number {
    return this.firstFrame + ((index * this.entryBytes) >>> FRAME_SHIFT);
  }

  offsetOf(index: number): number {
    return (index * this.entryBytes) & OFFSET_MASK;
  }

  /** The device took the entry at the head. */
  advanceHead(): void {
    this.core.registers.words[this.headWord] = (this.head + 1) & this.mask;
  }

  /** The device filled the entry at the tail. */
  advanceTail(): void {
    const next = (this.tail + 1) & this.mask;
    if (next === 0) this.phase ^= 1;
    this.core.registers.words[this.tailWord] = next;
  }

  /** Software wrote the head: it may take no more entries than there are. */
  headWritten(before: number): void {
    const { words } = this.core.registers;
    const wanted = words[this.headWord]!;
    if (this.holds(wanted) && this.distance(before, wanted) <= this.distance(before, this.tail)) return;
    words[this.headWord] = before;
    this.fail(RingError.index, { index: wanted >>> 0 });
  }

  /** Software wrote the tail: it may add no more entries than there is room for. */
  tailWritten(before: number): void {
    const { words } = this.core.registers;
    const wanted = words[this.tailWord]!;
    if (this.holds(wanted) && this.distance(before, wanted) <= this.mask - this.distance(this.head, before)) return;
    words[this.tailWord] = before;
    this.fail(RingError.index, { index: wanted >>> 0 });
  }

  /** Stops the ring until software clears its error in STATUS. The first error is the one that is told. */
  fail(error: RingError, detail: Readonly<Record<string, number | bigint>>): void {
    const { registers } = this.core;
    if (registers.get(this.failed) === 0) registers.set(this.code, error);
    registers.set(this.failed, 1);
    this.core.note('dmaIommu.ringError', { ring: this.name, error: ERROR_NAMES[error] ?? error, ...detail });
    this.options.failed();
  }

  /** Software wrote STATUS; where it cleared the error of a ring that could not be placed, that is tried again. */
  statusWritten(enabled: boolean): void {
    const { registers } = this.core;
    if (registers.get(this.failed) === 1 || registers.get(this.code) === RingError.none) return;
    registers.set(this.code, RingError.none);
    if (enabled && !this.placed) this.place();
  }

  save(): StateValue {
    return { placed: this.placed, phase: this.phase };
  }

  /** As `Saveable.restore`; `words` are the registers that are restored with it. */
  restore(
    state: unknown,
    words: Int32Array,
    enabled: boolean,
  ): { readonly running: boolean; readonly apply: () => void } {
    const what = `the ${this.name.toLowerCase()} ring`;
    const fields = stateFields(state, what, ['placed', 'phase']);
    const placed = stateFlag(fields.placed, what);
    const phase = stateNumber(fields.phase, what, 0, 1);
    const size = words[this.size]!;
    const address = address64(words[this.base + 1]!, words[this.base]!);
    const absent = this.options.optional === true && size === 0;
    if (placed && (!enabled || absent || this.misplaced(address, size) !== RingError.none))
      throw new StateError(`${what} is said to be where it cannot be`);
    const mask = placed ? (1 << size) - 1 : 0;
    const most = enabled ? mask : (1 << RING_SIZE_MAX) - 1;
    stateNumber(words[this.headWord], `the head of ${what}`, 0, most);
    stateNumber(words[this.tailWord], `the tail of ${what}`, 0, most);
    const bits = ({ word, shift, mask: field }: FieldHandle) => (words[word]! >>> shift) & field;
    const failed = bits(this.failed) === 1;
    const code = stateNumber(bits(this.code), `the error of ${what}`, 0, RingError.memory);
    if (failed !== (code !== RingError.none))
      throw new StateError(`${what} has an error without a code, or a code without`);
    const apply = () => {
      this.placed = placed;
      this.phase = phase;
      this.mask = mask;
      if (placed) this.firstFrame = Number(address >> BigInt(FRAME_SHIFT));
    };
    return { running: placed && !failed, apply };
  }

  private get used(): number {
    return this.distance(this.head, this.tail);
  }

  private holds(index: number): boolean {
    return this.placed && index >= 0 && index <= this.mask;
  }

  private distance(from: number, to: number): number {
    return (to - from) & this.mask;
  }

  private place(): void {
    this.placed = false;
    const { words } = this.core.registers;
    const size = words[this.size]!;
    if (this.options.optional && size === 0) return;
    const address = address64(words[this.base + 1]!, words[this.base]!);
    const error = this.misplaced(address, size);
    if (error !== RingError.none) {
      this.fail(error, { address, size: size >>> 0 });
      return;
    }
    this.firstFrame = Number(address >> BigInt(FRAME_SHIFT));
    this.mask = (1 << size) - 1;
    this.placed = true;
  }

  private misplaced(address: bigint, size: number): RingError {
    if (address % BigInt(RING_ALIGNMENT) !== 0n) return RingError.alignment;
    if (size < RING_SIZE_MIN || size > RING_SIZE_MAX) return RingError.size;
    if (address + BigInt(this.entryBytes << size) > 1n << BigInt(ADDRESS_BITS)) return RingError.address;
    return RingError.none;
  }
}
