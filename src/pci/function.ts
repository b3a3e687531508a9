import { EventClass, Kind, ResetWhat } from '../trace/event-kinds.ts';
import { type Events, noEvents } from '../trace/events.ts';
import type { Trace } from '../trace/trace.ts';
import {
  type ClientPort,
  type DeviceMigration,
  type DeviceModel,
  type DmaRegions,
  Errno,
  type InterruptDescription,
  type RegionDescription,
} from '../vfio-user/device-model.ts';
import { ACCESS_CLASSES, AccessEvents } from './access-events.ts';
import { BAR_COUNT, CapabilityId, CommandBit, Express, PowerManagement } from './config-layout.ts';
import { ConfigSpace } from './config-space.ts';
import type { FunctionDefinition } from './definition.ts';
import { describeInterrupts, FunctionInterrupts } from './interrupts.ts';
import { MsixBar, MsixTable } from './msix.ts';
import type { Clock, InterruptLine } from './ports.ts';
import { RegionAccess } from './region-access.ts';
import type { RegisterHandler } from './registers.ts';
import { type Saveable, type StateValue, stateFields, stateFlag } from './state.ts';

/** linux/vfio.h, VFIO_PCI_*_REGION_INDEX; 0 to 5 are the BARs. */
export const RegionIndex = { rom: 6, config: 7, vga: 8 } as const;

const ALL_ONES = 0xff;
const ABSENT: RegionDescription = { size: 0, readable: false, writable: false };

export interface PciFunctionOptions {
  readonly name: string;
  readonly definition: FunctionDefinition;
  readonly dma: DmaRegions;
  readonly trace: Trace;
  /** For how long a guest polls; the process's own by default. */
  readonly clock?: Clock;
}

const monotonic: Clock = { now: () => performance.now() * 1e6 };

/**
 * One PCI function as its vfio-user client sees it: configuration space, BARs whose accesses go to register handlers, and
 * interrupts. Accesses to a BAR are served whatever COMMAND says, because QEMU sends them only while memory space is enabled.
 */
export class PciFunction implements DeviceModel, Saveable {
  readonly name: string;
  readonly definition: FunctionDefinition;
  readonly config: ConfigSpace;
  readonly regions: readonly RegionDescription[];
  readonly interrupts: readonly InterruptDescription[];
  readonly dma: DmaRegions;
  /** What the device behind the function raises its interrupts with. */
  readonly line: InterruptLine;
  client: ClientPort | undefined;
  /** Saves and restores the function with what is behind it; missing where that cannot be done. */
  migration: DeviceMigration | undefined;
  /** May the function do DMA: COMMAND bit 2, and power state D0 (PM 5.4.1). */
  busMaster = false;
  /** Changes at every reset, connection and disconnection: DMA that spans a change is void. */
  generation = 0;
  /** Configuration reads answer all ones, and writes are ignored; ends with a reset or a new connection. */
  hidden = false;

  /** COMMAND changed, hard-wired bits included. */
  onCommand: ((command: number) => void) | undefined;
  /** The function was reset, by its client or by function-level reset: so must be the device behind it. */
  onReset: (() => void) | undefined;
  /** `client` is set, and the configuration is that of power-on. */
  onConnected: (() => void) | undefined;
  /** `client` is gone, and the configuration is that of power-on; the device behind it must be reset too. */
  onDisconnected: (() => void) | undefined;
  /**
   * Software placed a BAR: memory space was enabled while it holds an address, or the address changed under enabled memory
   * space. A 64-bit BAR is written in two halves, and so may be announced twice: the last word counts.
   */
  onBarPlaced: ((bar: number, address: bigint) => void) | undefined;

  private readonly trace: Trace;
  private readonly events: Events;
  private readonly source: number;
  private readonly accesses: AccessEvents;
  private readonly messages: FunctionInterrupts;
  private readonly msixBars: (MsixBar | undefined)[];
  private readonly handlers = new Array<RegisterHandler | undefined>(BAR_COUNT).fill(undefined);
  private readonly access: RegionAccess;
  private readonly deviceControl: number;
  /** What the last write left behind, to see what the next one changes. */
  private lastCommand = 0;
  private lastPowerState: number = PowerManagement.d0;
  private readonly lastBarLow = new Int32Array(BAR_COUNT);
  private readonly lastBarHigh = new Int32Array(BAR_COUNT);

  /** Throws an Error on a definition that cannot be laid out. */
  constructor({ name, definition, dma, trace, clock = monotonic }: PciFunctionOptions) {
    this.name = name;
    this.definition = definition;
    this.dma = dma;
    this.trace = trace;
    this.events = trace.records ?? noEvents;
    this.source = this.events.sourceId(name);
    this.accesses = new AccessEvents(this.events, this.source, clock);
    this.config = new ConfigSpace(definition);
    this.regions = describeRegions(definition, this.config.bytes.length);
    this.interrupts = describeInterrupts(definition);
    const { msix } = definition;
    const table = msix ? new MsixTable(msix) : undefined;
    this.messages = new FunctionInterrupts(name, this.config, table, trace);
    this.line = this.messages;
    this.msixBars = Array.from({ length: BAR_COUNT }, (_, bar) =>
      msix && table && (msix.table.bar === bar || msix.pending.bar === bar)
        ? new MsixBar(bar, msix, table, trace, name)
        : undefined,
    );
    for (let bar = 0; bar < BAR_COUNT; bar++) this.handlers[bar] = this.msixBars[bar];
    this.access = new RegionAccess(trace, name);
    const express = this.config.capability(CapabilityId.express);
    this.deviceControl = express === 0 ? 0 : express + Express.deviceControl;
    this.remember();
  }

  /** Who answers accesses to a BAR. Throws an Error on a BAR that the definition does not have. */
  setHandler(bar: number, handler: RegisterHandler): void {
    if (!this.definition.bars.some(one => one.index === bar)) throw new Error(`${this.name} has no BAR${bar}`);
    const msix = this.msixBars[bar];
    if (msix) msix.inner = handler;
    else this.handlers[bar] = handler;
  }

  /** The guest-physical address in a BAR; 0 where it is not programmed. */
  barAddress(bar: number): bigint {
    return this.config.barAddress(bar);
  }

  read(region: number, offset: number, target: Uint8Array, at: number, length: number): number {
    if (region === RegionIndex.config) {
      if (this.hidden) target.fill(ALL_ONES, at, at + length);
      else this.config.read(offset, target, at, length);
      if ((this.events.mask & ACCESS_CLASSES) !== 0) this.accesses.readOther(region, offset, target, at, length);
      return Errno.ok;
    }
    if (!this.hasBar(region)) return Errno.EINVAL;
    this.access.read(this.handlers[region], offset, target, at, length);
    if ((this.events.mask & ACCESS_CLASSES) !== 0) this.accesses.readBar(region, offset, target, at, length);
    return Errno.ok;
  }

  write(region: number, offset: number, source: Uint8Array, at: number, length: number): number {
    const isConfig = region === RegionIndex.config;
    if (!isConfig && !this.hasBar(region)) return Errno.EINVAL;
    if ((this.events.mask & ACCESS_CLASSES) !== 0) this.accesses.write(region, offset, source, at, length);
    if (isConfig) {
      if (!this.hidden) this.writeConfig(offset, source, at, length);
      return Errno.ok;
    }
    this.access.write(this.handlers[region], offset, source, at, length);
    return Errno.ok;
  }

  unmasked(index: number, _vector: number): void {
    this.messages.unmasked(index);
  }

  armed(index: number): void {
    this.messages.armed(index);
  }

  reset(): void {
    this.tellReset(ResetWhat.client);
    this.powerOn();
    this.onReset?.();
  }

  connected(client: ClientPort): void {
    this.client = client;
    this.powerOn();
    this.messages.attach(client);
    this.onConnected?.();
  }

  disconnected(): void {
    this.tellReset(ResetWhat.disconnected);
    this.client = undefined;
    this.messages.attach(undefined);
    this.powerOn();
    this.onDisconnected?.();
  }

  /** Nothing is signalled until `start`. Accesses are answered. */
  stop(): void {
    this.messages.stop();
  }

  start(): void {
    this.messages.start();
  }

  save(): StateValue {
    return { config: this.config.save(), interrupts: this.messages.save(), hidden: this.hidden };
  }

  restore(state: unknown): () => void {
    const fields = stateFields(state, 'the function', ['config', 'interrupts', 'hidden']);
    const restoreConfig = this.config.restore(fields.config);
    const restoreInterrupts = this.messages.restore(fields.interrupts);
    const hidden = stateFlag(fields.hidden, 'whether the function is hidden');
    return () => {
      this.generation++;
      this.hidden = hidden;
      this.accesses.spin.reset();
      restoreConfig();
      restoreInterrupts();
      // Those that are placed are announced anew.
      this.lastCommand = 0;
      this.announceBars();
      this.remember();
    };
  }

  private powerOn(): void {
    this.generation++;
    this.hidden = false;
    this.accesses.spin.reset();
    this.messages.reset();
    this.config.reset();
    this.remember();
  }

  /** PCIe 6.6.2. The client's own state (eventfds, its copy of the BARs) is not the function's to reset. */
  private resetFunction(): void {
    this.trace.note('function.levelReset', this.name, {});
    this.tellReset(ResetWhat.functionLevel);
    this.generation++;
    this.accesses.spin.reset();
    this.messages.reset();
    this.config.resetFunction();
    this.remember();
    this.onReset?.();
  }

  /** Before anything changes, so that what the reset causes comes after it. */
  private tellReset(what: number): void {
    if ((this.events.mask & EventClass.connection) === 0) return;
    this.events.emit(Kind.reset, this.source, what, 0, 0, 0, 0);
  }

  private hasBar(region: number): boolean {
    return region >= 0 && region < BAR_COUNT && this.regions[region]!.size > 0;
  }

  private writeConfig(offset: number, source: Uint8Array, at: number, length: number): void {
    const { config } = this;
    config.write(offset, source, at, length);
    if (this.deviceControl !== 0 && config.takeStrobe(this.deviceControl, Express.initiateReset)) {
      this.resetFunction();
      return;
    }
    const commandBefore = this.lastCommand;
    this.announceBars();
    const power = config.powerState;
    if (power !== this.lastPowerState) this.trace.note('function.powerState', this.name, { state: `D${power}` });
    this.remember();
    this.messages.evaluate();
    if (config.command !== commandBefore) this.onCommand?.(config.command);
  }

  private announceBars(): void {
    const { config, lastCommand } = this;
    if ((config.command & CommandBit.memorySpace) === 0) return;
    const enabled = (lastCommand & CommandBit.memorySpace) === 0;
    for (const { index } of this.definition.bars) {
      const moved =
        config.barLow(index) !== this.lastBarLow[index] || config.barHigh(index) !== this.lastBarHigh[index];
      if ((enabled || moved) && config.isBarPlaced(index)) this.onBarPlaced?.(index, config.barAddress(index));
    }
  }

  private remember(): void {
    const { config } = this;
    this.lastCommand = config.command;
    this.lastPowerState = config.powerState;
    this.busMaster = (config.command & CommandBit.busMaster) !== 0 && config.powerState === PowerManagement.d0;
    for (let bar = 0; bar < BAR_COUNT; bar++) {
      this.lastBarLow[bar] = config.barLow(bar);
      this.lastBarHigh[bar] = config.barHigh(bar);
    }
  }
}

function describeRegions(definition: FunctionDefinition, configBytes: number): RegionDescription[] {
  const regions = new Array<RegionDescription>(RegionIndex.vga + 1).fill(ABSENT);
  for (const bar of definition.bars) regions[bar.index] = { size: bar.bytes, readable: true, writable: true };
  regions[RegionIndex.config] = { size: configBytes, readable: true, writable: true };
  return regions;
}
