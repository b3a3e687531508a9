/** The function on a bench: memory that can be slow, jobs that run when told, operations that are recorded, and a guest's driver. */
import { DmaIommuFunction } from '../../../../src/iommu/dma-iommu/function/function.ts';
import {
  argumentLayouts,
  commandLayout,
  completionLayout,
  faultLayout,
  resultLayouts,
} from '../../../../src/iommu/dma-iommu/function/layout.ts';
import type { DmaIommuControl, SwitchedTranslator } from '../../../../src/iommu/dma-iommu/function/ports.ts';
import { dmaIommuRegisters } from '../../../../src/iommu/dma-iommu/function/registers.ts';
import { Entry, type StructLayout } from '../../../../src/iommu/dma-iommu/function/struct.ts';
import { TranslationSwitch } from '../../../../src/iommu/dma-iommu/function/translation-switch.ts';
import { operations as operationInfo, operationNames } from '../../../../src/iommu/dma-iommu/opcodes.ts';
import type { DmaIommuOperations, OperationName } from '../../../../src/iommu/dma-iommu/operations.ts';
import type { DeviceDirectory, DirectoryDevice } from '../../../../src/iommu/dma-iommu/types.ts';
import type { ProbeAnswer } from '../../../../src/iommu/dma-iommu/unit.ts';
import type { Translation } from '../../../../src/iommu/translator.ts';
import type { MemoryStatus } from '../../../../src/memory/guest-memory.ts';
import { LocalMemory } from '../../../../src/memory/local-memory.ts';
import type { InterruptLine } from '../../../../src/pci/ports.ts';
import type { RegisterAccess } from '../../../../src/pci/registers.ts';
import { TraceLog } from '../../../../src/trace/trace.ts';

/** Where the bench puts things, as page frames. */
export const Frame = { commands: 16, completions: 64, faults: 96, data: 128 } as const;
export const FRAMES = 1024;
export const COMMAND_BYTES = commandLayout.bytes;
export const COMPLETION_BYTES = completionLayout.bytes;
export const FAULT_BYTES = faultLayout.bytes;

const registers = dmaIommuRegisters().registers;

/** The byte offset of a register. */
export function at(name: string): number {
  const register = registers.find(one => one.name === name);
  if (register === undefined) throw new Error(`no register ${name}`);
  return register.offset;
}

export class SlowMemory extends LocalMemory {
  /** Runs in the middle of every access, as what a client does while it is waited for. */
  during: (writing: boolean) => void = () => {};
  /** Of all reads and writes. */
  accesses = 0;

  override read(frame: number, offset: number, target: Uint8Array, at_: number, length: number): MemoryStatus {
    this.accesses++;
    this.during(false);
    return super.read(frame, offset, target, at_, length);
  }

  override write(frame: number, offset: number, source: Uint8Array, at_: number, length: number): MemoryStatus {
    this.accesses++;
    this.during(true);
    return super.write(frame, offset, source, at_, length);
  }

  /** The CPU's side. */
  peek(address: number, length: number): Uint8Array {
    return this.windows[0]!.bytes.slice(address, address + length);
  }

  poke(address: number, bytes: Uint8Array): void {
    this.windows[0]!.bytes.set(bytes, address);
  }
}

export class JobList {
  private readonly waiting: (() => void)[] = [];

  push(job: () => void): void {
    this.waiting.push(job);
  }

  get length(): number {
    return this.waiting.length;
  }

  step(): boolean {
    const job = this.waiting.shift();
    job?.();
    return job !== undefined;
  }

  /** All jobs, those that they cause included; throws where they do not come to an end. */
  run(limit = 10_000): number {
    let count = 0;
    while (this.step()) if (++count > limit) throw new Error(`more than ${limit} jobs`);
    return count;
  }
}

export class Line implements InterruptLine {
  readonly raised: number[] = [];
  asserted = false;

  raise(vector = 0): void {
    this.raised.push(vector);
    this.asserted = true;
  }

  lower(): void {
    this.asserted = false;
  }
}

export interface Recorded {
  readonly name: OperationName;
  // biome-ignore lint/suspicious/noExplicitAny: arguments of any operation, compared by tests.
  readonly args: any;
}

const blocked: ProbeAnswer = {
  translated: false,
  fault: 0,
  domain: 0,
  frame: 0,
  shift: 12,
  permissions: 0,
  level: 0,
  source: 'none',
  stale: false,
};

/** Answers what the test put there, and remembers what it was asked. */
export class RecordingOperations implements DmaIommuControl, SwitchedTranslator {
  readonly calls: Recorded[] = [];
  readonly answers = new Map<OperationName, object>();
  /** Called before the answer. */
  // biome-ignore lint/suspicious/noExplicitAny: arguments of any operation.
  onCall: (name: OperationName, args: any) => void = () => {};
  readonly probes: unknown[][] = [];
  probeAnswer: ProbeAnswer = blocked;
  onProbe: () => void = () => {};
  resets = 0;
  attached = false;

  reset(): void {
    this.resets++;
  }

  probe(...args: Parameters<DmaIommuControl['probe']>): ProbeAnswer {
    this.probes.push(args);
    this.onProbe();
    return this.probeAnswer;
  }

  isAttached(): boolean {
    return this.attached;
  }

  translate(_requesterId: number, _high: number, _low: number, _access: number, out: Translation): boolean {
    out.frame = 77;
    return true;
  }

  /** Itself, with a method for every operation. */
  build(): DmaIommuOperations & DmaIommuControl & SwitchedTranslator {
    const methods: Record<string, (args: unknown) => object> = {};
    for (const name of operationNames) {
      methods[name] = args => {
        this.calls.push({ name, args });
        this.onCall(name, args);
        return this.answers.get(name) ?? { status: 0 };
      };
    }
    return Object.assign(this, methods) as unknown as DmaIommuOperations & DmaIommuControl & SwitchedTranslator;
  }
}

/** Values by field name; nested structures as objects of the same kind. */
export interface Values {
  readonly [field: string]: number | bigint | Values;
}

/** Writes values into a structure as a compiler does; fields that are not given are zero. */
export function encode(
  layout: StructLayout,
  values: Values,
  entry = new Entry(roundUp4(layout.bytes)),
  base = 0,
): Entry {
  for (const [name, value] of Object.entries(values)) {
    const field = layout.fields[name];
    if (field === undefined) throw new Error(`no field ${name}`);
    if (typeof value === 'object') encode(field.kind as StructLayout, value, entry, base + field.offset);
    else if (field.bytes === 8) entry.set64(field, BigInt.asUintN(64, BigInt(value)), base);
    else entry.set(field, Number(value), base);
  }
  return entry;
}

/** A structure's fields by name: numbers up to 32 bits, bigint for 64. */
export function decode<Name extends string>(
  layout: StructLayout<Name>,
  bytes: Uint8Array,
  base = 0,
): Record<Name, number | bigint> {
  const entry = new Entry(roundUp4(bytes.length));
  entry.bytes.set(bytes);
  const values = {} as Record<Name, number | bigint>;
  for (const name of Object.keys(layout.fields) as Name[]) {
    const field = layout.fields[name];
    if (field.bytes > 8) continue;
    values[name] = field.bytes === 8 ? entry.get64(field, base) : entry.get(field, base);
  }
  return values;
}

function roundUp4(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

export interface CommandExtras {
  readonly cookie?: bigint;
  readonly flags?: number;
  readonly opcode?: number;
  /** Bytes of the arguments that are written over what the values made. */
  readonly patch?: readonly [offset: number, bytes: readonly number[]];
}

export function encodeCommand(name: OperationName, values: Values, extras: CommandExtras = {}): Uint8Array {
  const entry = new Entry(commandLayout.bytes);
  const { fields } = commandLayout;
  entry.set(fields.opcode, extras.opcode ?? operationInfo[name].opcode);
  entry.set(fields.flags, extras.flags ?? 0);
  entry.set64(fields.cookie, extras.cookie ?? 0n);
  encode(argumentLayouts[name], values, entry, fields.args.offset);
  if (extras.patch) entry.bytes.set(extras.patch[1], fields.args.offset + extras.patch[0]);
  return entry.bytes;
}

export interface BenchOptions {
  readonly devices?: readonly DirectoryDevice[];
  readonly compat?: 'extended' | 'windows';
  readonly trace?: TraceLog;
  readonly checks?: boolean;
}

export class Bench {
  readonly memory = new SlowMemory(FRAMES * 4096);
  readonly trace: TraceLog;
  readonly jobs = new JobList();
  readonly line = new Line();
  readonly operations = new RecordingOperations();
  readonly translation: TranslationSwitch;
  readonly unit: DmaIommuFunction;
  devices: readonly DirectoryDevice[];
  /** log2 of entries, by ring. */
  sizes = { command: 3, completion: 3, fault: 3 };
  private tail = 0;
  private head = 0;

  constructor({ devices = [], compat, trace = new TraceLog(), checks }: BenchOptions = {}) {
    this.trace = trace;
    this.devices = devices;
    const directory: DeviceDirectory = { find: () => undefined, all: () => this.devices };
    const operations = this.operations.build();
    this.translation = new TranslationSwitch(operations, { trace, name: 'iommu' });
    this.unit = new DmaIommuFunction({
      name: 'iommu',
      operations,
      memory: this.memory,
      line: this.line,
      jobs: this.jobs,
      trace: this.trace,
      directory,
      translation: this.translation,
      checks,
      ...(compat ? { compat } : {}),
    });
  }

  read(name: string | number, width = 4): number {
    const access: RegisterAccess = { offset: typeof name === 'string' ? at(name) : name, width, low: -1, high: -1 };
    this.unit.read(access);
    return access.low >>> 0;
  }

  read64(name: string): bigint {
    const access: RegisterAccess = { offset: at(name), width: 8, low: -1, high: -1 };
    this.unit.read(access);
    return (BigInt(access.high >>> 0) << 32n) | BigInt(access.low >>> 0);
  }

  write(name: string | number, value: number, width = 4): void {
    const offset = typeof name === 'string' ? at(name) : name;
    this.unit.write({ offset, width, low: value | 0, high: 0 });
  }

  write64(name: string, value: bigint): void {
    this.unit.write({
      offset: at(name),
      width: 8,
      low: Number(BigInt.asIntN(32, value)),
      high: Number(BigInt.asIntN(32, value >> 32n)),
    });
  }

  /** Places the rings and enables them. */
  enable(sizes: Partial<typeof this.sizes> = {}): this {
    this.sizes = { ...this.sizes, ...sizes };
    this.write64('COMMAND_BASE', BigInt(Frame.commands) << 12n);
    this.write('COMMAND_SIZE', this.sizes.command);
    this.write64('COMPLETION_BASE', BigInt(Frame.completions) << 12n);
    this.write('COMPLETION_SIZE', this.sizes.completion);
    this.write64('FAULT_BASE', BigInt(Frame.faults) << 12n);
    this.write('FAULT_SIZE', this.sizes.fault);
    this.write('CONTROL', 1);
    this.tail = 0;
    this.head = 0;
    return this;
  }

  /** Puts an entry at the tail, without moving the register. */
  put(entry: Uint8Array): this {
    this.memory.poke(Frame.commands * 4096 + this.tail * COMMAND_BYTES, entry);
    this.tail = (this.tail + 1) % 2 ** this.sizes.command;
    return this;
  }

  doorbell(): this {
    this.write('COMMAND_TAIL', this.tail);
    return this;
  }

  /** The entry at an index of the completion ring. */
  completion(index: number) {
    const bytes = this.memory.peek(Frame.completions * 4096 + index * COMPLETION_BYTES, COMPLETION_BYTES);
    return { ...decode(completionLayout, bytes), bytes };
  }

  fault(index: number) {
    return decode(faultLayout, this.memory.peek(Frame.faults * 4096 + index * FAULT_BYTES, FAULT_BYTES));
  }

  /** New completions since the last call, taken off the ring. */
  take() {
    const taken: ReturnType<Bench['completion']>[] = [];
    const tail = this.read('COMPLETION_TAIL');
    while (this.head !== tail) {
      taken.push(this.completion(this.head));
      this.head = (this.head + 1) % 2 ** this.sizes.completion;
    }
    this.write('COMPLETION_HEAD', this.head);
    return taken;
  }

  /** One command from the ring to its completion, and its outputs. */
  command(name: OperationName, values: Values, extras: CommandExtras = {}) {
    this.put(encodeCommand(name, values, extras)).doorbell();
    this.jobs.run();
    const taken = this.take();
    if (taken.length !== 1) throw new Error(`${taken.length} completions`);
    const completion = taken[0]!;
    const layout = (resultLayouts as { [Name in OperationName]?: StructLayout })[name];
    const result = layout ? decode(layout, completion.bytes, completionLayout.fields.result.offset) : {};
    return { ...completion, result };
  }

  /** Puts 64-bit words at the start of a data page; returns the address. */
  data(words: readonly bigint[], page = 0): bigint {
    const frame = Frame.data + page;
    for (let i = 0; i < words.length; i++) {
      this.memory.write64(frame + Math.floor((i * 8) / 4096), (i * 8) % 4096, BigInt.asUintN(64, words[i]!));
    }
    return BigInt(frame) << 12n;
  }
}
