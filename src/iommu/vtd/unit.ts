/** An Intel VT-d remapping unit in legacy mode: registers and behaviour put together. */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import { vtdSecondStage } from '../../page-tables/vtd-second-stage.ts';
import type { InterruptMessages, JobQueue } from '../../pci/ports.ts';
import { type FieldHandle, type RegisterAccess, RegisterFile, type RegisterHandler } from '../../pci/registers.ts';
import type { Saveable } from '../../pci/state.ts';
import { EventClass, Kind, ResetWhat } from '../../trace/event-kinds.ts';
import type { Events } from '../../trace/events.ts';
import type { Trace } from '../../trace/trace.ts';
import { address64 } from '../address64.ts';
import { TranslationEngine } from '../translation-engine.ts';
import type { FaultInjectable, RunTranslator, Translation } from '../translator.ts';
import { isAbsent } from './absent-registers.ts';
import { AnswerWatch } from './answer-watch.ts';
import { type VtdCapabilities, type VtdOptions, vtdCapabilities } from './capabilities.ts';
import { ContextCache } from './context-cache.ts';
import { frameOf, VtdCore } from './core.ts';
import { FaultLog } from './faults.ts';
import { VtdInspection } from './inspect.ts';
import { CacheInvalidator } from './invalidation.ts';
import { InvalidationQueue } from './invalidation-queue.ts';
import { RegisterInvalidation } from './register-invalidation.ts';
import { vtdRegisters } from './registers.ts';
import { VtdState } from './state.ts';
import { newStatistics, type VtdStatistics } from './statistics.ts';
import { DmaRemapper } from './translate.ts';
import { VtdWatch } from './watch.ts';

export interface VtdUnitOptions {
  /** Its name in events. */
  readonly name: string;
  readonly memory: GuestMemory;
  /** For the fault event and the invalidation completion event. */
  readonly messages: InterruptMessages;
  readonly jobs: JobQueue;
  readonly trace: Trace;
  readonly options?: Partial<VtdOptions>;
  /**
   * Whether every answer is compared with the tables (`stale` events), and what is attached and mapped is followed (`attach`,
   * `detach`, `mapping.*`, `descriptor.changed`). Default false.
   */
  readonly checks?: boolean;
  /** Asked at each wait descriptor; true: nothing says that it is complete. For tests of drivers that wait for it. */
  readonly dropCompletion?: (() => boolean) | undefined;
}

const TRANSLATION_ENABLE = 1 << 31;
const SET_ROOT_TABLE_POINTER = 1 << 30;
const QUEUE_ENABLE = 1 << 26;
const PAGE_MASK = ~0xfff;
const TABLE_MODE_SHIFT = 10;

export class VtdUnit implements RunTranslator, FaultInjectable, RegisterHandler {
  readonly registers: RegisterFile;
  readonly statistics: VtdStatistics;
  readonly capabilities: VtdCapabilities;
  readonly inspection: VtdInspection;
  /** Without the caches: hardware may empty them at any time (6.2). */
  readonly state: Saveable;
  private readonly core: VtdCore;
  private readonly engine: TranslationEngine;
  private readonly contexts = new ContextCache();
  private readonly faults: FaultLog;
  private readonly remapper: DmaRemapper;
  private readonly watch: VtdWatch | undefined;
  private readonly answers: AnswerWatch;
  private readonly events: Events;
  /** Every answer is compared with the tables. */
  private readonly compares: boolean;
  private readonly queue: InvalidationQueue;
  private readonly registerInvalidation: RegisterInvalidation;
  private readonly translationEnabled: FieldHandle;
  private readonly rootPointerSet: FieldHandle;
  private readonly queueEnabled: FieldHandle;
  private readonly rootTable: number;
  private readonly queueBase: number;
  /** What a write of the 32-bit word at a byte offset causes; words without an entry are only stored. */
  private readonly effects: ReadonlyMap<number, () => void>;

  /** Throws an Error where the options contradict the specification or each other. */
  constructor({ name, memory, messages, jobs, trace, options, checks = false, dropCompletion }: VtdUnitOptions) {
    const capabilities = vtdCapabilities(options);
    const { hostAddressWidth, largePages, snoopControl } = capabilities;
    const format = vtdSecondStage({ hostAddressWidth, largePages, snoop: snoopControl });
    this.capabilities = capabilities;
    this.registers = new RegisterFile(vtdRegisters(capabilities), trace, name);
    this.engine = new TranslationEngine(format, memory, { cacheNotPresent: capabilities.cachingMode });
    this.statistics = newStatistics(this.engine.counters);
    const { registers, statistics } = this;
    this.core = new VtdCore({ name, memory, messages, jobs, trace, registers, capabilities, statistics });
    this.faults = new FaultLog(this.core);
    this.remapper = new DmaRemapper(this.core, this.contexts, this.engine, this.faults);
    this.watch = checks ? new VtdWatch(this.core, this.contexts, this.engine, format, this.remapper) : undefined;
    this.remapper.refusals.watch = this.watch;
    this.answers = new AnswerWatch(this.core, this.remapper, this.contexts, this.watch?.stale);
    this.contexts.onChange = () => this.answers.contextsChanged();
    this.events = this.core.events;
    this.compares = checks;
    const mode = () => this.remapper.mode;
    const invalidator = new CacheInvalidator(this.core, this.contexts, this.engine, this.watch);
    const comparisons = () => this.watch?.mappings.work ?? 0;
    const queueOptions = { mode, checks, dropCompletion, comparisons };
    this.queue = new InvalidationQueue(this.core, invalidator, this.faults, queueOptions);
    this.registerInvalidation = new RegisterInvalidation(this.core, invalidator, mode);
    this.translationEnabled = registers.field('GSTS', 'TES');
    this.rootPointerSet = registers.field('GSTS', 'RTPS');
    this.queueEnabled = registers.field('GSTS', 'QIES');
    this.rootTable = registers.offset('RTADDR') >>> 2;
    this.queueBase = registers.offset('IQA') >>> 2;
    this.effects = this.wire();
    this.state = new VtdState({
      core: this.core,
      faults: this.faults,
      root: this.remapper,
      clear: () => {
        this.clear();
        this.watch?.reset();
      },
      resume: {
        queue: () => this.queue.doorbell(),
        context: () => this.registerInvalidation.contextWritten(),
        iotlb: () => this.registerInvalidation.iotlbWritten(),
        faultEvent: () => this.faults.event.controlWritten(),
        completionEvent: () => this.queue.completion.controlWritten(),
      },
    });
    this.inspection = new VtdInspection(this.core, this.contexts, this.engine, this.remapper);
  }

  translate(requesterId: number, high: number, low: number, access: number, out: Translation): boolean {
    return this.translateRun(requesterId, high, low, access, 1, out);
  }

  translateRun(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    if (!this.remapper.translateRun(requesterId, high, low, access, length, out)) return false;
    // 2 is `EventClass.translation`.
    if (this.compares || (this.events.mask & 2) !== 0) this.answers.answered(requesterId, high, low, access, out);
    return true;
  }

  /** Translations are told in events of their own: what follows one has its time. */
  get emitsTranslations(): boolean {
    return true;
  }

  /** Records and reports a fault as if nothing were mapped at the address; the caches stay as they are. */
  refuse(requesterId: number, high: number, low: number, access: number): void {
    this.remapper.refusals.onPurpose(requesterId, high, low, access);
  }

  /** How often a mapping was not followed because there were too many; 0 without checks. */
  get forgottenMappings(): number {
    return this.watch?.mappings.forgotten ?? 0;
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

  /** A quadword is two doublewords, the lower one first (11.2). */
  write(access: RegisterAccess): void {
    if (!this.allowed(access, 'write')) return;
    const { offset, low, high } = access;
    this.writeWord(offset, low);
    if (access.width === 8) this.writeWord(offset + 4, high);
  }

  /** Power-on state: reset values, empty caches, nothing pending. The statistics stay. */
  reset(): void {
    this.clear();
    if ((this.events.mask & EventClass.connection) !== 0) {
      this.events.emit(Kind.reset, this.core.source, ResetWhat.iommu, 0, 0, 0, 0);
    }
    this.watch?.reset();
  }

  private clear(): void {
    this.core.cancel();
    this.registers.reset();
    this.contexts.invalidateAll();
    this.engine.invalidateAll();
    this.faults.rewind();
    this.queue.reset();
    this.remapper.enabled = false;
    this.remapper.rootFrame = 0;
    this.remapper.mode = 0;
  }

  private wire(): Map<number, () => void> {
    const { registers, faults, queue, registerInvalidation } = this;
    const at = (name: string) => registers.offset(name);
    const effects = new Map<number, () => void>([
      [at('GCMD'), () => this.command(registers.written[at('GCMD') >>> 2])],
      [at('CCMD') + 4, () => registerInvalidation.contextWritten()],
      [at('IOTLB') + 4, () => registerInvalidation.iotlbWritten()],
      [at('FSTS'), () => this.faultStatusWritten()],
      [at('FECTL'), () => faults.event.controlWritten()],
      [at('IECTL'), () => queue.completion.controlWritten()],
      [at('ICS'), () => queue.completionWritten()],
      [at('IQT'), () => queue.doorbell()],
      [at('IQA'), () => this.queueMoved()],
      [at('PMEN'), () => this.protectedMemoryWritten()],
    ]);
    for (let index = 0; index < this.capabilities.faultRecords; index++) {
      effects.set(at(`FRCD${index}`) + 12, () => faults.recordWritten());
    }
    return effects;
  }

  private allowed({ offset, width }: RegisterAccess, direction: string): boolean {
    if ((width === 4 || width === 8) && offset % width === 0) return true;
    this.core.note('register.access', { offset, width, access: direction });
    return false;
  }

  /** Drivers may look at all registers that there can be, as those that show them to people do. */
  private readWord(offset: number): number {
    const { registers } = this;
    if (registers.registerAt(offset) === undefined && isAbsent(offset)) return 0;
    return registers.softwareRead(offset);
  }

  private writeWord(offset: number, value: number): void {
    this.registers.softwareWrite(offset, value);
    this.effects.get(offset)?.();
  }

  /** Global command register (11.4.4.1): one-shot SRTP, and switches that are compared with their status. */
  private command(value: number): void {
    const { registers } = this;
    const setRoot = (value & SET_ROOT_TABLE_POINTER) !== 0;
    const queue = (value & QUEUE_ENABLE) !== 0 ? 1 : 0;
    const translation = (value & TRANSLATION_ENABLE) !== 0 ? 1 : 0;
    const queueChanges = queue !== registers.get(this.queueEnabled);
    const translationChanges = translation !== registers.get(this.translationEnabled);
    if (Number(setRoot) + Number(queueChanges) + Number(translationChanges) > 1) {
      this.core.note('vtd.commandsTogether', { value: value >>> 0 });
    }
    if (setRoot) this.setRootTable();
    if (queueChanges) this.switchQueue(queue);
    if (translationChanges) this.switchTranslation(translation);
  }

  /** Caches keep what they have (CAP.ESRTPS = 0): software has to invalidate them. */
  private setRootTable(): void {
    const { registers, remapper } = this;
    const low = registers.words[this.rootTable];
    const high = registers.words[this.rootTable + 1];
    remapper.rootFrame = frameOf(high, low);
    remapper.mode = (low >>> TABLE_MODE_SHIFT) & 3;
    this.watch?.switched();
    registers.set(this.rootPointerSet, 1);
    this.core.note('vtd.rootTable', { address: address64(high, low & PAGE_MASK), mode: remapper.mode });
  }

  private switchTranslation(enable: number): void {
    this.registers.set(this.translationEnabled, enable);
    this.remapper.enabled = enable === 1;
    this.watch?.switched();
    if (enable === 1 && this.registers.get(this.rootPointerSet) === 0) this.core.note('vtd.noRootTable', {});
    if (enable === 0) this.faults.rewind();
    this.core.note('vtd.enabled', { enabled: enable === 1 });
  }

  private switchQueue(enable: number): void {
    const { registers, queue } = this;
    if (enable === 0 && !queue.empty) this.core.note('vtd.queueCutShort', { head: registers.words[this.headWord] });
    registers.set(this.queueEnabled, enable);
    const address = address64(registers.words[this.queueBase + 1], registers.words[this.queueBase] & PAGE_MASK);
    this.core.note('vtd.queue', { enabled: enable === 1, address, bytes: queue.bytes });
    if (enable === 1) queue.doorbell();
    else queue.rewind();
  }

  private faultStatusWritten(): void {
    this.faults.statusWritten();
    // Where the queue had stopped at an error that is cleared now, it goes on.
    if (this.registers.get(this.queueEnabled) === 1) this.queue.doorbell();
  }

  private queueMoved(): void {
    if (this.registers.get(this.queueEnabled) === 0 || this.queue.empty) return;
    this.core.note('vtd.queueMoved', { bytes: this.queue.bytes });
  }

  private protectedMemoryWritten(): void {
    const value = this.registers.written[this.registers.offset('PMEN') >>> 2];
    if (value !== 0) this.core.note('vtd.noProtectedMemory', { value: value >>> 0 });
  }

  private get headWord(): number {
    return this.registers.offset('IQH') >>> 2;
  }
}
