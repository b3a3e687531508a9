import { type DmaPort, DmaStatus } from '../../pci/ports.ts';
import { type FieldHandle, type RegisterAccess, RegisterFile, type RegisterHandler } from '../../pci/registers.ts';
import {
  type Saveable,
  StateError,
  type StateValue,
  stateBytes,
  stateFields,
  stateNames,
  stateWords,
} from '../../pci/state.ts';
import type { Endpoint, EndpointPorts } from '../endpoint.ts';
import { BUFFER_BYTES, BUFFER_START, eduRegisters, InterruptCause, WIDE_REGISTERS_START } from './registers.ts';

const ALL_ONES = -1;
/** 34! has 32 factors of two: from here on every factorial is zero in 32 bits, and need not be multiplied out. */
const FIRST_ZERO_FACTORIAL = 34;

const Offset = {
  liveness: offsetOf('liveness'),
  factorial: offsetOf('factorial'),
  interruptRaise: offsetOf('interruptRaise'),
  interruptAcknowledge: offsetOf('interruptAcknowledge'),
  dmaSource: offsetOf('dmaSource'),
  dmaDestination: offsetOf('dmaDestination'),
  dmaCount: offsetOf('dmaCount'),
  dmaCommand: offsetOf('dmaCommand'),
  dmaPasid: offsetOf('dmaPasid'),
} as const;

/** What the device may be at, each at most once. */
const WORK = ['factorial', 'dma'] as const;
type Work = (typeof WORK)[number];

const statusNames = new Map<DmaStatus, string>(
  Object.entries(DmaStatus).map(([name, status]): [DmaStatus, string] => [status, name]),
);

/**
 * QEMU's `edu` teaching device: a factorial, an interrupt register, and a DMA engine with a 4 KiB buffer.
 *
 * Where the documentation is silent this follows QEMU's device: unknown registers, write-only ones and accesses of a wrong size
 * read as all ones; DMA registers and the factorial are locked while the engine they belong to is busy; a command without the
 * start bit is ignored; an acknowledge lowers the line only when no cause is left.
 *
 * A transfer that leaves the buffer does nothing and completes as if done (interrupt included). When DMA fails, it completes too,
 * as an engine without error reporting does; the bytes of a failed read are all ones, as of an aborted read on the bus, and
 * the buffer stays as it was where nothing went out at all (no bus mastering).
 *
 * One register is ours: `dmaPasid`. While its enable bit is set, DMA carries the PASID beside it.
 */
export class Edu implements Endpoint, RegisterHandler, Saveable {
  readonly bars: ReadonlyMap<number, RegisterHandler> = new Map([[0, this]]);
  /** The 4 KiB at 0x40000 of the device's address space. */
  readonly buffer = new Uint8Array(BUFFER_BYTES);
  private readonly staging = new Uint8Array(BUFFER_BYTES);
  readonly registers: RegisterFile;
  readonly state: Saveable = this;
  private readonly liveness: FieldHandle;
  private readonly factorial: FieldHandle;
  private readonly computing: FieldHandle;
  private readonly interruptAfterFactorial: FieldHandle;
  private readonly interruptStatus: FieldHandle;
  private readonly start: FieldHandle;
  private readonly toMemory: FieldHandle;
  private readonly interruptWhenDone: FieldHandle;
  private readonly pasid: FieldHandle;
  private readonly pasidEnable: FieldHandle;
  private readonly maskHigh: number;
  private readonly maskLow: number;
  /** For the PASID that was used last. */
  private taggedDma: DmaPort | undefined;
  private taggedPasid = -1;
  /** Grows with every reset, so that a job knows whether it still belongs to this life. */
  private life = 0;
  /** Queued and not begun, in this order. */
  private work: Work[] = [];

  /** `addressBits`: how many address bits the DMA engine drives, 1 to 64. */
  constructor(
    private readonly ports: EndpointPorts,
    addressBits: number,
  ) {
    const registers = new RegisterFile(eduRegisters, ports.trace, ports.name);
    this.registers = registers;
    this.liveness = registers.field('liveness', 'value');
    this.factorial = registers.field('factorial', 'value');
    this.computing = registers.field('status', 'computing');
    this.interruptAfterFactorial = registers.field('status', 'interruptAfterFactorial');
    this.interruptStatus = registers.field('interruptStatus', 'value');
    this.start = registers.field('dmaCommand', 'start');
    this.toMemory = registers.field('dmaCommand', 'toMemory');
    this.interruptWhenDone = registers.field('dmaCommand', 'interruptWhenDone');
    this.pasid = registers.field('dmaPasid', 'pasid');
    this.pasidEnable = registers.field('dmaPasid', 'enable');
    this.maskLow = lowBits(addressBits);
    this.maskHigh = lowBits(addressBits - 32);
  }

  reset(): void {
    this.life++;
    this.work = [];
    this.registers.reset();
    this.buffer.fill(0);
    this.ports.line.lower();
  }

  save(): StateValue {
    return { registers: this.registers.save(), buffer: this.buffer.slice(), work: [...this.work] };
  }

  restore(state: unknown): () => void {
    const fields = stateFields(state, 'edu', ['registers', 'buffer', 'work']);
    const restoreRegisters = this.registers.restore(fields.registers);
    const words = stateWords(fields.registers, "edu's registers", this.registers.words.length);
    const buffer = stateBytes(fields.buffer, "edu's buffer", BUFFER_BYTES).slice();
    const work = stateNames(fields.work, "edu's work", WORK);
    const isSet = (field: FieldHandle) => ((words[field.word]! >>> field.shift) & field.mask) !== 0;
    if (words[0] !== this.registers.words[0]) throw new StateError('edu: another identification');
    if (isSet(this.computing) !== work.includes('factorial') || isSet(this.start) !== work.includes('dma')) {
      throw new StateError('edu: its busy bits and its work do not agree');
    }
    return () => {
      this.life++;
      this.work = [];
      restoreRegisters();
      this.buffer.set(buffer);
      for (const one of work) this.begin(one);
    };
  }

  read(access: RegisterAccess): void {
    if (!this.checkAccess(access, 'read') || this.isWriteOnly(access.offset)) {
      access.low = ALL_ONES;
      access.high = ALL_ONES;
      return;
    }
    access.low = this.registers.softwareRead(access.offset);
    access.high = access.width === 8 ? this.registers.softwareRead(access.offset + 4) : 0;
  }

  write(access: RegisterAccess): void {
    if (!this.checkAccess(access, 'write')) return;
    const { offset, low } = access;
    switch (offset) {
      case Offset.liveness:
        this.registers.softwareWrite(offset, low);
        this.registers.set(this.liveness, ~low);
        return;
      case Offset.factorial:
        if (this.isBusy(this.computing, offset)) return;
        this.registers.softwareWrite(offset, low);
        this.startFactorial();
        return;
      case Offset.interruptRaise:
        this.registers.softwareWrite(offset, low);
        this.raise(low);
        return;
      case Offset.interruptAcknowledge:
        this.registers.softwareWrite(offset, low);
        this.acknowledge(low);
        return;
      case Offset.dmaSource:
      case Offset.dmaDestination:
      case Offset.dmaCount:
      case Offset.dmaPasid:
        if (!this.isBusy(this.start, offset)) this.writeWide(access);
        return;
      case Offset.dmaCommand:
        if ((low & (this.start.mask << this.start.shift)) === 0 || this.isBusy(this.start, offset)) return;
        this.writeWide(access);
        this.begin('dma');
        return;
      default:
        this.registers.softwareWrite(offset, low);
    }
  }

  /** A 4-byte write of an 8-byte register clears its upper half. */
  private writeWide(access: RegisterAccess): void {
    this.registers.softwareWrite(access.offset, access.low);
    this.registers.softwareWrite(access.offset + 4, access.width === 8 ? access.high : 0);
  }

  private checkAccess(access: RegisterAccess, what: string): boolean {
    const { offset, width } = access;
    if (width !== 4 && (width !== 8 || offset < WIDE_REGISTERS_START)) {
      this.ports.trace.note('edu.accessSize', this.ports.name, { offset, width, access: what });
      return false;
    }
    if (this.registers.registerAt(offset)?.offset === offset) return true;
    this.ports.trace.note('register.unknown', this.ports.name, { offset, access: what });
    return false;
  }

  private isWriteOnly(offset: number): boolean {
    return offset === Offset.interruptRaise || offset === Offset.interruptAcknowledge;
  }

  private isBusy(busy: FieldHandle, offset: number): boolean {
    if (this.registers.get(busy) === 0) return false;
    this.ports.trace.note('edu.busy', this.ports.name, { offset });
    return true;
  }

  private raise(causes: number): void {
    const pending = this.registers.get(this.interruptStatus) | causes;
    this.registers.set(this.interruptStatus, pending);
    if (pending !== 0) this.ports.line.raise(0);
  }

  private acknowledge(causes: number): void {
    const pending = this.registers.get(this.interruptStatus) & ~causes;
    this.registers.set(this.interruptStatus, pending);
    if (pending === 0) this.ports.line.lower();
  }

  private startFactorial(): void {
    this.registers.set(this.computing, 1);
    this.begin('factorial');
  }

  private begin(what: Work): void {
    const { life } = this;
    this.work.push(what);
    this.ports.jobs.push(() => {
      if (life !== this.life) return;
      this.work.splice(this.work.indexOf(what), 1);
      if (what === 'dma') this.runDma();
      else this.compute();
    });
  }

  private compute(): void {
    this.registers.set(this.factorial, factorialOf(this.registers.get(this.factorial)));
    this.registers.set(this.computing, 0);
    if (this.registers.get(this.interruptAfterFactorial) !== 0) this.raise(InterruptCause.factorial);
  }

  private runDma(): void {
    const { life } = this;
    this.transfer();
    // The transfer may have waited, and a reset may have come meanwhile.
    if (life !== this.life) return;
    this.registers.set(this.start, 0);
    if (this.registers.get(this.interruptWhenDone) !== 0) this.raise(InterruptCause.dma);
  }

  private transfer(): void {
    const toMemory = this.registers.get(this.toMemory) !== 0;
    const inside = toMemory ? Offset.dmaSource : Offset.dmaDestination;
    const outside = toMemory ? Offset.dmaDestination : Offset.dmaSource;
    const words = this.registers.words;
    const at = (words[inside >>> 2]! >>> 0) - BUFFER_START;
    const length = words[Offset.dmaCount >>> 2]! >>> 0;
    const tooHigh = words[(inside >>> 2) + 1] !== 0 || words[(Offset.dmaCount >>> 2) + 1] !== 0;
    if (tooHigh || at < 0 || at + length > BUFFER_BYTES) {
      this.ports.trace.note('edu.dmaRange', this.ports.name, {
        start: this.wideValue(inside),
        count: this.wideValue(Offset.dmaCount),
        toMemory,
      });
      return;
    }
    if (length === 0) return;
    const low = words[outside >>> 2]! & this.maskLow;
    const high = words[(outside >>> 2) + 1]! & this.maskHigh;
    if (low !== words[outside >>> 2] || high !== words[(outside >>> 2) + 1]) {
      this.ports.trace.note('edu.mask', this.ports.name, {
        address: this.wideValue(outside),
        clamped: join(high, low),
      });
    }
    const dma = this.dmaPort();
    const status = toMemory ? dma.write(high, low, this.buffer, at, length) : this.fetch(dma, high, low, at, length);
    if (status !== DmaStatus.ok) {
      this.ports.trace.note('edu.dmaFailed', this.ports.name, {
        status: statusNames.get(status) ?? String(status),
        address: join(high, low),
        count: length,
        toMemory,
      });
    }
  }

  private dmaPort(): DmaPort {
    if (this.registers.get(this.pasidEnable) === 0) return this.ports.dma;
    const pasid = this.registers.get(this.pasid);
    if (this.taggedDma === undefined || this.taggedPasid !== pasid) {
      this.taggedDma = this.ports.dmaWithPasid(pasid);
      this.taggedPasid = pasid;
    }
    return this.taggedDma;
  }

  /** Guest memory into the buffer, through a staging area: a reset during the transfer must find the buffer empty. */
  private fetch(dma: DmaPort, high: number, low: number, at: number, length: number): DmaStatus {
    const { life } = this;
    this.staging.fill(0xff, 0, length);
    const status = dma.read(high, low, this.staging, 0, length);
    if (life === this.life && status !== DmaStatus.notBusMaster && status !== DmaStatus.aborted) {
      for (let i = 0; i < length; i++) this.buffer[at + i] = this.staging[i]!;
    }
    return status;
  }

  private wideValue(offset: number): bigint {
    return join(this.registers.words[(offset >>> 2) + 1]!, this.registers.words[offset >>> 2]!);
  }
}

function offsetOf(name: string): number {
  return eduRegisters.registers.find(register => register.name === name)!.offset;
}

/** An int32 with the lowest `count` bits set; none where it is negative, all from 32 on. */
function lowBits(count: number): number {
  if (count <= 0) return 0;
  return count >= 32 ? -1 : (1 << count) - 1;
}

function join(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

/** In 32 bits, wrapping. */
function factorialOf(value: number): number {
  if (value >= FIRST_ZERO_FACTORIAL) return 0;
  let product = 1;
  for (let factor = value; factor > 1; factor--) product = Math.imul(product, factor);
  return product;
}
