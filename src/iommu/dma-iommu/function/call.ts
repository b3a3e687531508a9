/** One command on its way to an operation: its arguments, by field, and where its outputs go. */
import type { DmaIommuOperations } from '../operations.ts';
import {
  type DeviceFaultConfiguration,
  type DeviceFaultHandler,
  MapPhysicalAddressType,
  type Mdl,
  type PhysicalAddressToMap,
} from '../types.ts';
import { LIST_TOO_LONG } from './choices.ts';
import type { FunctionCore } from './core.ts';
import { commandLayout, completionLayout, memoryLayout } from './layout.ts';
import { LIST_PAGES_MAX } from './limits.ts';
import type { GuestLists } from './lists.ts';
import type { StateChanges } from './state-changes.ts';
import type { Entry, FieldLayout } from './struct.ts';

const PAGE_BYTES = 4096n;
const ARGUMENTS = commandLayout.fields.args.offset;
const RESULT = completionLayout.fields.result.offset;
const MEMORY = memoryLayout.fields;

export interface CallParts {
  readonly core: FunctionCore;
  readonly operations: DmaIommuOperations;
  readonly lists: GuestLists;
  readonly stateChanges: StateChanges;
  /** Grows with each mapping that the operations compare with its tables. */
  readonly comparisons: () => number;
  /** The handler of faults that the guest asks for. */
  readonly faultHandler: () => DeviceFaultHandler;
}

export class Call {
  readonly operations: DmaIommuOperations;
  readonly lists: GuestLists;
  readonly stateChanges: StateChanges;

  /** `command` is a copy of the ring's entry; `completion` takes the outputs. */
  constructor(
    private readonly parts: CallParts,
    private readonly command: Entry,
    private readonly completion: Entry,
  ) {
    this.operations = parts.operations;
    this.lists = parts.lists;
    this.stateChanges = parts.stateChanges;
  }

  number(field: FieldLayout): number {
    return this.command.get(field, ARGUMENTS);
  }

  /** Handles are numbers of one kind or another; the unit finds out whether they are of the kind that it needs. */
  handle<Handle extends number>(field: FieldLayout): Handle {
    return this.number(field) as Handle;
  }

  /** A BOOLEAN: everything but 0 is true. */
  flag(field: FieldLayout): boolean {
    return this.number(field) !== 0;
  }

  wide(field: FieldLayout): bigint {
    return this.command.get64(field, ARGUMENTS);
  }

  /** The address where its bit in `present` is set. */
  optional(field: FieldLayout, present: number, bit: number): bigint | undefined {
    return present & bit ? this.wide(field) : undefined;
  }

  /** A field of a structure that starts at `outer`. */
  within(outer: FieldLayout, inner: FieldLayout): number {
    return this.command.get(inner, ARGUMENTS + outer.offset);
  }

  wideWithin(outer: FieldLayout, inner: FieldLayout): bigint {
    return this.command.get64(inner, ARGUMENTS + outer.offset);
  }

  put(field: FieldLayout, value: number | undefined): void {
    if (value !== undefined) this.completion.set(field, value, RESULT);
  }

  putWide(field: FieldLayout, value: bigint | undefined): void {
    if (value !== undefined) this.completion.set64(field, value, RESULT);
  }

  /** Physical memory of any type; a number is the status to answer instead. */
  memory(field: FieldLayout, badList: number): PhysicalAddressToMap | number {
    const type = this.within(field, MEMORY.type);
    const address = this.wideWithin(field, MEMORY.address);
    const size = this.wideWithin(field, MEMORY.size);
    switch (type) {
      case MapPhysicalAddressType.Mdl:
        return this.mdl(field, badList);
      case MapPhysicalAddressType.ContiguousRange:
        this.countBytes(size);
        return { type: 'contiguousRange', base: address, size };
      case MapPhysicalAddressType.Pfn: {
        const pages = this.frames(address, size, badList);
        return typeof pages === 'number' ? pages : { type: 'pfnArray', pages };
      }
      default:
        return badList;
    }
  }

  /** Of version 1, where nothing but an MDL is taken. */
  mdl(field: FieldLayout, badList: number): Mdl | number {
    if (this.within(field, MEMORY.type) !== MapPhysicalAddressType.Mdl) return badList;
    const byteOffset = this.within(field, MEMORY.byteOffset);
    const byteCount = this.wideWithin(field, MEMORY.size);
    if (BigInt(byteOffset) >= PAGE_BYTES) return badList;
    const touched = byteCount === 0n ? 0n : (BigInt(byteOffset) + byteCount + PAGE_BYTES - 1n) / PAGE_BYTES;
    const pages = this.frames(this.wideWithin(field, MEMORY.address), touched, badList);
    return typeof pages === 'number' ? pages : { type: 'mdl', pages, byteOffset, byteCount: Number(byteCount) };
  }

  /** undefined where the guest gave none. */
  faultConfiguration(hasConfig: FieldLayout, context: FieldLayout): DeviceFaultConfiguration | undefined {
    if (!this.flag(hasConfig)) return undefined;
    return { faultHandler: this.parts.faultHandler(), faultContext: this.wide(context) };
  }

  /** Pages that no list names take their time, too. */
  countPages(pages: number): void {
    this.lists.elements += pages;
  }

  countBytes(bytes: bigint): void {
    this.countPages(Number(bytes / PAGE_BYTES));
  }

  /** For what is wrong in a way that no status tells. */
  note(kind: string, detail: Readonly<Record<string, number | bigint | string>>): void {
    this.parts.core.note(kind, detail);
  }

  private frames(address: bigint, count: bigint, badList: number): Int32Array | number {
    if (count > BigInt(LIST_PAGES_MAX)) {
      this.note('dmaIommu.listTooLong', { count, limit: LIST_PAGES_MAX });
      return LIST_TOO_LONG;
    }
    return this.lists.frames(address, Number(count)) ?? this.unreadable(address, badList);
  }

  unreadable(address: bigint, badList: number): number {
    this.note('dmaIommu.badList', { address });
    return badList;
  }
}
