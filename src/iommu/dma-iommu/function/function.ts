/** The PCI function through which a guest calls the operations of DMA_IOMMU_INTERFACE: registers and behaviour put together. */
import type { GuestMemory } from '../../../memory/guest-memory.ts';
import type { InterruptLine, JobQueue } from '../../../pci/ports.ts';
import { type FieldHandle, type RegisterAccess, RegisterFile, type RegisterHandler } from '../../../pci/registers.ts';
import type { Saveable } from '../../../pci/state.ts';
import type { Trace } from '../../../trace/trace.ts';
import type { DmaIommuOperations } from '../operations.ts';
import type { PendingWork } from '../pending-work.ts';
import type { Compat, DeviceDirectory } from '../types.ts';
import type { DmaIommu } from '../unit.ts';
import { CommandRing } from './command-ring.ts';
import { Completions } from './completions.ts';
import { FunctionCore } from './core.ts';
import { DescriptorCheck } from './descriptor-check.ts';
import { DirectoryRegisters } from './directory.ts';
import { FaultRing } from './fault-ring.ts';
import { REGISTER_BAR } from './identity.ts';
import { Interrupts } from './interrupts.ts';
import { commandLayout, completionLayout, faultLayout } from './layout.ts';
import { GuestLists } from './lists.ts';
import type { DmaIommuControl } from './ports.ts';
import { ProbeRegisters } from './probe.ts';
import { dmaIommuRegisters, Source } from './registers.ts';
import { Ring } from './ring.ts';
import { DmaIommuState } from './state.ts';
import { StateChanges } from './state-changes.ts';
import type { TranslationSwitch } from './translation-switch.ts';

export interface DmaIommuFunctionOptions {
  /** Its name in events. */
  readonly name: string;
  readonly operations: DmaIommuOperations & DmaIommuControl;
  readonly memory: GuestMemory;
  readonly line: InterruptLine;
  readonly jobs: JobQueue;
  readonly trace: Trace;
  readonly directory: DeviceDirectory;
  /** What the endpoints' DMA goes through: the guest turns it on and off. */
  readonly translation: TranslationSwitch;
  /** The one that the operations have; only told to the guest. Default: `extended`. */
  readonly compat?: Compat;
  /** Read every command a second time before it is carried out, to find those that software changes meanwhile. Default false. */
  readonly checks?: boolean | undefined;
  /** Where it says what it has queued: share it with the unit. Default: a new one. */
  readonly work?: PendingWork | undefined;
}

const ENABLE = 1 << 0;
const TRANSLATE = 1 << 1;
const RESET = 1 << 2;

export class DmaIommuFunction implements RegisterHandler {
  readonly bars: ReadonlyMap<number, RegisterHandler> = new Map([[REGISTER_BAR, this]]);
  readonly registers: RegisterFile;
  private readonly core: FunctionCore;
  private readonly operations: DmaIommuControl;
  private readonly translation: TranslationSwitch;
  private readonly interrupts: Interrupts;
  private readonly commandRing: Ring;
  private readonly completionRing: Ring;
  private readonly faultRing: Ring;
  private readonly commands: CommandRing;
  private readonly completions: Completions;
  private readonly faults: FaultRing;
  private readonly stateChanges: StateChanges;
  private readonly probe: ProbeRegisters;
  private readonly directory: DirectoryRegisters;
  private readonly ready: FieldHandle;
  private readonly translating: FieldHandle;
  private readonly control: number;
  /** What a write of the 32-bit word at a byte offset causes, given the word before it; others are only stored. */
  private readonly effects: ReadonlyMap<number, (before: number) => void>;
  /** Byte offsets of words that are fixed while the rings are enabled, and of those that mean nothing while they are not. */
  private readonly placement: ReadonlySet<number>;
  private readonly indices: ReadonlySet<number>;

  constructor({
    name,
    operations,
    memory,
    line,
    jobs,
    trace,
    directory,
    translation,
    compat,
    checks = false,
    work,
  }: DmaIommuFunctionOptions) {
    this.registers = new RegisterFile(dmaIommuRegisters(compat), trace, name);
    const { registers } = this;
    this.operations = operations;
    this.translation = translation;
    this.core = new FunctionCore({ name, memory, line, jobs, trace, registers, work });
    const { core } = this;
    this.interrupts = new Interrupts(core);
    const failed = () => {
      this.showReady();
      this.interrupts.raise(Source.error);
    };
    this.commandRing = new Ring(core, { name: 'COMMAND', entryBytes: commandLayout.bytes, failed });
    this.completionRing = new Ring(core, { name: 'COMPLETION', entryBytes: completionLayout.bytes, failed });
    this.faultRing = new Ring(core, { name: 'FAULT', entryBytes: faultLayout.bytes, optional: true, failed });
    this.completions = new Completions(core, this.completionRing, this.interrupts);
    this.faults = new FaultRing(core, this.faultRing, this.interrupts);
    this.stateChanges = new StateChanges(operations, this.completions, () => this.commands.wake());
    const parts = {
      core,
      operations,
      lists: new GuestLists(core),
      stateChanges: this.stateChanges,
      comparisons: () => operations.comparisons ?? 0,
      faultHandler: () => this.faults.handler(),
    };
    const check = checks ? new DescriptorCheck(core, commandLayout.bytes) : undefined;
    this.commands = new CommandRing(core, this.commandRing, this.completions, parts, check);
    this.probe = new ProbeRegisters(core, translation, job => jobs.push(job));
    this.directory = new DirectoryRegisters(core, directory);
    this.ready = registers.field('STATUS', 'READY');
    this.translating = registers.field('STATUS', 'TRANSLATING');
    this.control = registers.offset('CONTROL') >>> 2;
    this.effects = this.wire();
    this.placement = new Set(
      this.rings().flatMap(({ name: ring }) => [0, 4, 8].map(at => registers.offset(`${ring}_BASE`) + at)),
    );
    this.indices = new Set(
      ['COMMAND_TAIL', 'COMPLETION_HEAD', 'FAULT_HEAD'].map(register => registers.offset(register)),
    );
  }

  read(access: RegisterAccess): void {
    access.high = 0;
    if (!this.allowed(access, 'read')) {
      access.low = 0;
      return;
    }
    access.low = this.readWord(access.offset);
    if (access.width === 8) access.high = this.readWord(access.offset + 4);
  }

  write(access: RegisterAccess): void {
    if (!this.allowed(access, 'write')) return;
    const { offset, width, low, high } = access;
    this.writeWord(offset, low);
    if (width === 8) this.writeWord(offset + 4, high);
  }

  /** For the inspector: computes those registers that are computed when software reads them. */
  refreshRegisters(): void {
    this.directory.refresh(this.registers.offset('DIRECTORY_COUNT') >>> 2);
  }

  /** As after power-on, the unit included: whatever the guest made there is gone. */
  reset(): void {
    this.clear();
    this.core.line.lower();
  }

  /** What is saved of it and of the unit, which must be the one that its operations are. Both must have the same `work`. */
  stateWith(unit: DmaIommu): Saveable {
    const { core, translation, commands, completions, faults, stateChanges, probe } = this;
    const clear = () => this.clear();
    const rings = this.rings();
    return new DmaIommuState({
      core,
      unit,
      translation,
      rings,
      commands,
      completions,
      faults,
      stateChanges,
      probe,
      clear,
    });
  }

  private clear(): void {
    this.core.cycle++;
    for (const ring of this.rings()) ring.stop();
    this.commands.stop();
    this.completions.reset();
    this.faults.reset();
    this.stateChanges.reset();
    this.probe.reset();
    this.registers.reset();
    this.translation.reset();
    this.operations.reset();
  }

  private wire(): Map<number, (before: number) => void> {
    const { registers } = this;
    const at = (name: string) => registers.offset(name);
    return new Map<number, (before: number) => void>([
      [at('CONTROL'), before => this.controlWritten(before)],
      [at('STATUS'), () => this.statusWritten()],
      [at('COMMAND_TAIL'), before => this.commandRing.tailWritten(before)],
      [at('COMPLETION_HEAD'), before => this.completionRing.headWritten(before)],
      [at('FAULT_HEAD'), before => this.faultRing.headWritten(before)],
      [at('INTERRUPT_ENABLE'), before => this.interrupts.enableWritten(before)],
      [at('INTERRUPT_PENDING'), () => this.interrupts.pendingWritten()],
      [at('PROBE_COMMAND'), before => this.probe.commandWritten(before)],
    ]);
  }

  private rings(): readonly Ring[] {
    return [this.commandRing, this.completionRing, this.faultRing];
  }

  private get enabled(): boolean {
    return (this.registers.words[this.control]! & ENABLE) !== 0;
  }

  private allowed({ offset, width }: RegisterAccess, direction: string): boolean {
    if ((width === 4 || width === 8) && offset % width === 0) return true;
    this.core.note('register.access', { offset, width, access: direction });
    return false;
  }

  private readWord(offset: number): number {
    this.directory.refresh(offset >>> 2);
    return this.registers.softwareRead(offset);
  }

  private writeWord(offset: number, value: number): void {
    if (this.placement.has(offset) && this.enabled) {
      this.core.note('dmaIommu.ringInUse', { offset, value: value >>> 0 });
      return;
    }
    if (this.indices.has(offset) && !this.enabled) {
      this.core.note('dmaIommu.ringNotEnabled', { offset, value: value >>> 0 });
      return;
    }
    const before = this.registers.words[offset >>> 2]!;
    this.registers.softwareWrite(offset, value);
    this.effects.get(offset)?.(before);
    if (this.indices.has(offset)) this.settle();
  }

  private controlWritten(before: number): void {
    const { registers } = this;
    if (registers.written[this.control]! & RESET) {
      this.core.note('dmaIommu.reset', {});
      this.reset();
      return;
    }
    const now = registers.words[this.control]!;
    const changed = before ^ now;
    if (changed & TRANSLATE) {
      const enabled = (now & TRANSLATE) !== 0;
      registers.set(this.translating, Number(enabled));
      this.core.note('dmaIommu.translate', { enabled });
      this.translation.enabled = enabled;
    }
    if (changed & ENABLE) this.switchRings((now & ENABLE) !== 0);
  }

  private switchRings(enable: boolean): void {
    this.core.cycle++;
    this.commands.stop();
    this.completions.stop();
    if (enable) {
      this.faults.start();
      for (const ring of this.rings()) ring.start();
    } else {
      this.faults.stop();
      for (const ring of this.rings()) ring.stop();
    }
    this.core.note('dmaIommu.rings', { enabled: enable });
    this.settle();
  }

  private statusWritten(): void {
    for (const ring of this.rings()) ring.statusWritten(this.enabled);
    this.settle();
  }

  /** After anything that may have started or stopped a ring, or made room in one. */
  private settle(): void {
    this.showReady();
    if (!this.enabled) return;
    this.commands.wake();
    this.faults.wake();
  }

  private showReady(): void {
    this.registers.set(this.ready, Number(this.commandRing.running && this.completionRing.running));
  }
}
