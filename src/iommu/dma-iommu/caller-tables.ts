/** The address space of a domain whose page tables belong to the caller: tables in guest memory, in the format it was told. */
import { arm64Levels } from '../../page-tables/arm64-stage1.ts';
import { WalkStatus } from '../../page-tables/walker.ts';
import type { Translation } from '../translator.ts';
import { type AddressSpace, identitySpace, type SpaceProbe, type SpaceTables, TRANSLATED } from './address-space.ts';
import { BAD_CONFIGURATION, faultTypeOf } from './choices.ts';
import type { TableView } from './known-mappings.ts';
import { NtStatus } from './ntstatus.ts';
import type { TableEngine } from './table-engine.ts';
import {
  type Compat,
  type DomainConfiguration,
  DomainConfigurationArch,
  type DomainConfigurationArm64,
  type DomainConfigurationX64,
  FaultType,
} from './types.ts';

/** Makes the engine of a format when it is first needed; all domains of a unit share it. */
export interface CallerEngines {
  x64(): TableEngine;
  arm64(granule: Granule): TableEngine;
  /** The address was translated with tables of the domain with this tag, and this came of it. */
  seen(tag: number, high: number, low: number, out: Translation, view: TableView): void;
}

export type Granule = 4 | 16 | 64;

const PAGE_SHIFT = 12;
const PAGE_MASK = 0xfffn;
/** Tables that a page frame can name lie below 8 TiB. */
const TABLES_END = 1n << 43n;
const X64_LEVELS_DEFAULT = 4;
const ARM64_GRANULE_DEFAULT = 4;
/** T0SZ and T1SZ of 16 to 39 (Arm ARM, D8.2, without the extensions for larger and smaller tables). */
const INPUT_SIZE_MIN = 25;
const INPUT_SIZE_MAX = 48;

/** One root of tables: which addresses, after their upper bits are checked, go there under which tag. */
interface Root {
  readonly tables: TableEngine;
  readonly tag: number;
  readonly frame: number;
  readonly levels: number;
  /** Bits of the address that are translated. */
  readonly width: number;
}

function walk(root: Root, high: number, low: number, access: number, out: Translation): number {
  const status = root.tables.translate(root.tag, root.frame, root.levels, high, low, access, out);
  return status === WalkStatus.ok ? TRANSLATED : faultTypeOf(status);
}

function probe(root: Root, high: number, low: number, access: number, out: Translation): SpaceProbe {
  const probed = root.tables.probe(root.tag, root.frame, root.levels, high, low, access, out);
  const result = probed.status === WalkStatus.ok ? TRANSLATED : faultTypeOf(probed.status);
  return { result, source: probed.source, level: probed.level, stale: probed.stale };
}

function invalidate({ tables, tag }: Root, high: number, low: number, leafOnly: boolean): void {
  tables.engine.invalidatePages(tag, high, low, tables.format.granuleShift - PAGE_SHIFT, leafOnly);
}

function fresh({ tables, frame, levels }: Root, high: number, low: number, out: Translation): boolean {
  return tables.readFresh(frame, levels, high, low, out);
}

function spaceTables({ tables, tag, frame, levels }: Root, high: number, low: number): SpaceTables {
  return { tables, tag, rootFrame: frame, levels, high, low };
}

const outside = (result: number): SpaceProbe => ({ result, source: 'none', level: 0, stale: false });

/** x86-64 first-level tables: both halves of the canonical address space in one tree (VT-d 4.1, 3.6). */
class X64Space implements AddressSpace, TableView {
  readonly #root: Root;
  readonly #signShift: number;
  readonly #mask: number;

  constructor(
    root: Root,
    private readonly engines: CallerEngines,
  ) {
    this.#root = root;
    this.#signShift = root.width - 33;
    this.#mask = (1 << (root.width - 32)) - 1;
  }

  translate(high: number, low: number, access: number, out: Translation): number {
    const root = this.#root;
    if (!this.#canonical(high)) {
      root.tables.outside(root.width);
      return FaultType.AddressSizeFault;
    }
    const result = walk(root, high & this.#mask, low, access, out);
    if (result === TRANSLATED) this.engines.seen(root.tag, high, low, out, this);
    return result;
  }

  probe(high: number, low: number, access: number, out: Translation): SpaceProbe {
    if (!this.#canonical(high)) return outside(FaultType.AddressSizeFault);
    return probe(this.#root, high & this.#mask, low, access, out);
  }

  invalidate(high: number, low: number, leafOnly: boolean): void {
    if (this.#canonical(high)) invalidate(this.#root, high & this.#mask, low, leafOnly);
  }

  get view(): TableView {
    return this;
  }

  fresh(high: number, low: number, out: Translation): boolean {
    return this.#canonical(high) && fresh(this.#root, high & this.#mask, low, out);
  }

  get byMessages(): boolean {
    return this.#root.tables.fresh.byMessages;
  }

  tablesFor(high: number, low: number): SpaceTables | undefined {
    return this.#canonical(high) ? spaceTables(this.#root, high & this.#mask, low) : undefined;
  }

  /** Canonical: the highest bit that is translated goes on to bit 63. */
  requestAddress(_tag: number, translated: bigint): bigint {
    return BigInt.asUintN(64, BigInt.asIntN(this.#root.width, translated));
  }

  #canonical(high: number): boolean {
    const sign = high >> this.#signShift;
    return sign === 0 || sign === -1;
  }
}

/** VMSAv8-64 stage 1: the lower end by TTBR0, the upper end by TTBR1, nothing in between (Arm ARM, D8.2). */
class Arm64Space implements AddressSpace, TableView {
  readonly granulePages: number;
  readonly #lower: Root | undefined;
  readonly #upper: Root | undefined;

  constructor(
    lower: Root | undefined,
    upper: Root | undefined,
    granule: Granule,
    private readonly engines: CallerEngines,
  ) {
    this.#lower = lower;
    this.#upper = upper;
    this.granulePages = granule / 4;
  }

  translate(high: number, low: number, access: number, out: Translation): number {
    const root = high < 0 ? this.#upper : this.#lower;
    if (root === undefined) return FaultType.TranslationFault;
    if (!reaches(root.width, high, low)) {
      root.tables.outside(root.width);
      return FaultType.TranslationFault;
    }
    const result = walk(root, highBits(root.width, high), lowBits(root.width, low), access, out);
    if (result === TRANSLATED) this.engines.seen(root.tag, high, low, out, this);
    return result;
  }

  probe(high: number, low: number, access: number, out: Translation): SpaceProbe {
    const root = high < 0 ? this.#upper : this.#lower;
    if (root === undefined || !reaches(root.width, high, low)) return outside(FaultType.TranslationFault);
    return probe(root, highBits(root.width, high), lowBits(root.width, low), access, out);
  }

  invalidate(high: number, low: number, leafOnly: boolean): void {
    const root = high < 0 ? this.#upper : this.#lower;
    if (root === undefined || !reaches(root.width, high, low)) return;
    invalidate(root, highBits(root.width, high), lowBits(root.width, low), leafOnly);
  }

  get view(): TableView {
    return this;
  }

  fresh(high: number, low: number, out: Translation): boolean {
    const root = high < 0 ? this.#upper : this.#lower;
    if (root === undefined || !reaches(root.width, high, low)) return false;
    return fresh(root, highBits(root.width, high), lowBits(root.width, low), out);
  }

  get byMessages(): boolean {
    // Both roots have tables of one format, and so one engine.
    return (this.#lower ?? this.#upper)?.tables.fresh.byMessages === true;
  }

  tablesFor(high: number, low: number): SpaceTables | undefined {
    const root = high < 0 ? this.#upper : this.#lower;
    if (root === undefined || !reaches(root.width, high, low)) return undefined;
    return spaceTables(root, highBits(root.width, high), lowBits(root.width, low));
  }

  requestAddress(tag: number, translated: bigint): bigint {
    const root = this.#upper;
    return root?.tag === tag ? BigInt.asUintN(64, translated | (-1n << BigInt(root.width))) : translated;
  }
}

/** Whether all bits above the width are equal to bit 63. */
function reaches(width: number, high: number, low: number): boolean {
  const sign = high >> 31;
  if (width < 32) return high === sign && low >> width === sign;
  return high >> (width - 32) === sign;
}

function highBits(width: number, high: number): number {
  return width <= 32 ? 0 : high & ((1 << (width - 32)) - 1);
}

function lowBits(width: number, low: number): number {
  return width >= 32 ? low : low & ((1 << width) - 1);
}

export interface Configured {
  readonly status: NtStatus;
  readonly space?: AddressSpace;
}

const REFUSED: Configured = { status: BAD_CONFIGURATION };

/** Reads a configuration. `tag` is the domain's in the caches; the next one is its as well. */
export function configure(
  configuration: DomainConfiguration,
  tag: number,
  engines: CallerEngines,
  compat: Compat,
): Configured {
  switch (configuration?.type) {
    case DomainConfigurationArch.X64:
      // Reserved for the system.
      if (compat === 'windows') return { status: NtStatus.NOT_SUPPORTED };
      return configureX64(configuration, tag, engines);
    case DomainConfigurationArch.Arm64:
      return configureArm64(configuration, tag, engines, compat);
    default:
      return REFUSED;
  }
}

function configureX64(configuration: DomainConfigurationX64, tag: number, engines: CallerEngines): Configured {
  if (configuration.translationEnabled === false) return { status: NtStatus.SUCCESS, space: identitySpace };
  const levels = configuration.levels ?? X64_LEVELS_DEFAULT;
  const frame = tableFrame(configuration.firstLevelPageTableRoot);
  if (frame < 0 || (levels !== 4 && levels !== 5)) return REFUSED;
  const space = new X64Space({ tables: engines.x64(), tag, frame, levels, width: 12 + 9 * levels }, engines);
  return { status: NtStatus.SUCCESS, space };
}

function configureArm64(
  configuration: DomainConfigurationArm64,
  tag: number,
  engines: CallerEngines,
  compat: Compat,
): Configured {
  const { ttbr0, ttbr1, inputSize0, inputSize1 } = configuration;
  const granule = configuration.granule ?? ARM64_GRANULE_DEFAULT;
  if (!isGranule(granule) || (compat === 'windows' && granule !== ARM64_GRANULE_DEFAULT)) return REFUSED;
  if (configuration.translationEnabled === false) return { status: NtStatus.SUCCESS, space: identitySpace };
  if (inputSize0 === 0 && inputSize1 === 0) return REFUSED;

  const roots: (Root | undefined)[] = [];
  for (const [index, base, width] of [
    [0, ttbr0, inputSize0],
    [1, ttbr1, inputSize1],
  ] as const) {
    if (width === 0) {
      roots.push(undefined);
      continue;
    }
    const frame = tableFrame(base);
    if (frame < 0 || !Number.isInteger(width) || width < INPUT_SIZE_MIN || width > INPUT_SIZE_MAX) return REFUSED;
    roots.push({ tables: engines.arm64(granule), tag: tag + index, frame, levels: arm64Levels(granule, width), width });
  }
  return { status: NtStatus.SUCCESS, space: new Arm64Space(roots[0], roots[1], granule, engines) };
}

function isGranule(value: number): value is Granule {
  return value === 4 || value === 16 || value === 64;
}

/** The page frame of a table, or -1 if there is none at such an address. */
function tableFrame(address: bigint): number {
  if (typeof address !== 'bigint' || address < 0n || address >= TABLES_END || (address & PAGE_MASK) !== 0n) return -1;
  return Number(address >> 12n);
}
