/** The translation engines of a unit: one for our own tables, and one for each format that a caller's tables are in. */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import { arm64Stage1 } from '../../page-tables/arm64-stage1.ts';
import { TableBuilder } from '../../page-tables/table-builder.ts';
import { TableMemory } from '../../page-tables/table-memory.ts';
import { vtdSecondStage } from '../../page-tables/vtd-second-stage.ts';
import { x64FirstLevel } from '../../page-tables/x64-first-level.ts';
import { TranslationSource } from '../../trace/event-kinds.ts';
import type { Translation } from '../translator.ts';
import type { CallerEngines, Granule } from './caller-tables.ts';
import type { Core } from './core.ts';
import type { TableView } from './known-mappings.ts';
import { ManagedEvents } from './managed-events.ts';
import { TableEngine } from './table-engine.ts';

/** The tables that we build: VT-d second-stage, four levels, whose permission bits are those of the operations. */
const MANAGED_LEVELS = 4;
/** Beyond what a page frame can say, so that an address there is a pointer to nowhere and not a reserved bit. */
const HOST_ADDRESS_WIDTH = 52;
const LARGE_PAGES = { '2M': true, '1G': true };
const ARM64_OUTPUT_BITS = 48;

export interface EnginesOptions {
  readonly tableMemory?: TableMemory | undefined;
  readonly checkStale: boolean;
}

export class Engines implements CallerEngines {
  readonly managed: TableEngine;
  readonly builder: TableBuilder;
  readonly managedEvents: ManagedEvents;
  readonly #all = new Map<string, TableEngine>();

  constructor(
    private readonly core: Core,
    private readonly memory: GuestMemory,
    private readonly options: EnginesOptions,
  ) {
    const format = vtdSecondStage({ hostAddressWidth: HOST_ADDRESS_WIDTH, largePages: LARGE_PAGES });
    const tableMemory = options.tableMemory ?? new TableMemory();
    this.builder = new TableBuilder(format, tableMemory, MANAGED_LEVELS);
    // Our own tables and their cached translations never part, so there is nothing to look for.
    this.managedEvents = new ManagedEvents(core.events.mappings, this.builder);
    this.managed = new TableEngine(format, tableMemory, core, false);
    this.#all.set('managed', this.managed);
  }

  all(): Iterable<TableEngine> {
    return this.#all.values();
  }

  x64(): TableEngine {
    return this.#named('x64', () => x64FirstLevel({ hostAddressWidth: HOST_ADDRESS_WIDTH, largePages: LARGE_PAGES }));
  }

  arm64(granule: Granule): TableEngine {
    return this.#named(`arm64-${granule}`, () => arm64Stage1({ granule, outputAddressBits: ARM64_OUTPUT_BITS }));
  }

  seen(tag: number, high: number, low: number, out: Translation, view: TableView): void {
    const { answer, events, known } = this.core;
    if (answer.source !== TranslationSource.walk || !events.mappings.wanted) return;
    known.seen(tag >> 1, high, low, out, view);
  }

  /** Drops what is cached of a domain, in every format: it may have been configured with several. */
  invalidateDomain(tag: number): void {
    for (const { engine } of this.#all.values()) {
      engine.invalidateDomain(tag);
      engine.invalidateDomain(tag + 1);
    }
  }

  invalidateAll(): void {
    for (const { engine } of this.#all.values()) engine.invalidateAll();
  }

  #named(name: string, format: () => ConstructorParameters<typeof TableEngine>[0]): TableEngine {
    let engine = this.#all.get(name);
    if (engine === undefined) {
      engine = new TableEngine(format(), this.memory, this.core, this.options.checkStale);
      this.#all.set(name, engine);
    }
    return engine;
  }
}
