/** A domain, and what is set apart and mapped in it, in a saved state. */
import { StateError, type StateValue, stateFields, stateFlag, stateList, stateNumber } from '../../pci/state.ts';
import type { Domain } from './domain.ts';
import type { Domains } from './domains.ts';
import { LOGICAL_ADDRESS_BITS, LOGICAL_PAGES, RANGES_MAX } from './limits.ts';
import type { ManagedTables } from './managed-tables.ts';
import type { PageRange, RangeKind } from './range-set.ts';
import { RunReader, savedWide, stateWide } from './saved-values.ts';
import { type DomainConfiguration, DomainConfigurationArch, type DomainHandle, DomainType } from './types.ts';

export const DOMAIN_FIELDS = ['what', 'handle', 'type', 'allocator', 'configuration', 'ranges', 'runs'] as const;

/** As numbers in a state. Tokens are objects of their own. */
const KINDS: readonly RangeKind[] = ['logical', 'identity', 'reserved', 'hole'];
const RANGE_NUMBERS = 4;
export const PERMISSIONS_MAX = 3;
/** Runs of page frames in one state, of two numbers each: more numbers than it may have in all. */
export const SAVED_RUNS_MAX = 1 << 19;
const NO_ALLOCATOR = -1;
const UINT8_MAX = 0xff;
const UINT32_MAX = 0xffff_ffff;
const X64 = ['type', 'firstLevelPageTableRoot', 'translationEnabled', 'levels'] as const;
const ARM64 = [
  'type',
  'ttbr0',
  'ttbr1',
  'mair0',
  'mair1',
  'inputSize0',
  'inputSize1',
  'coherentTableWalks',
  'translationEnabled',
  'granule',
] as const;

/** What is left of SAVED_RUNS_MAX. */
export interface RunRoom {
  runs: number;
}

export function savedDomain({ handle, type, allocator, configuration, tables }: Domain, room: RunRoom): StateValue {
  const ranges: number[] = [];
  const runs: number[] = [];
  for (const { start, pages, kind, permissions } of tables?.ranges ?? []) {
    if (kind === 'token') continue;
    ranges.push(start, pages, KINDS.indexOf(kind), permissions);
    if (kind !== 'hole') for (const one of savedRuns(tables!, start, pages, room)) runs.push(one);
  }
  return {
    what: 'domain',
    handle,
    type,
    allocator: allocator?.order ?? NO_ALLOCATOR,
    configuration: configuration === undefined ? false : savedConfiguration(configuration),
    ranges,
    runs,
  };
}

/** First frame and length of each run of frames that the pages are mapped to. Throws a StateError where there are too many. */
export function savedRuns(tables: ManagedTables, start: number, pages: number, room: RunRoom): number[] {
  const runs = tables.runs(start, pages, room.runs);
  if (runs === undefined) throw new StateError(`it maps more than ${SAVED_RUNS_MAX} runs of page frames`);
  room.runs -= runs.length / 2;
  return runs;
}

/** Makes the domain. Throws a StateError where there can be none such. */
export function restoreDomain(value: unknown, handle: DomainHandle, domains: Domains): Domain {
  const fields = stateFields(value, 'a domain', DOMAIN_FIELDS);
  const what = `domain ${handle}`;
  const type = stateNumber(fields.type, `the type of ${what}`, 0, DomainType.Max - 1) as DomainType;
  const order = stateNumber(fields.allocator, `the allocator of ${what}`, NO_ALLOCATOR, LOGICAL_ADDRESS_BITS - 12);
  const domain = domains.restore(type, handle, order);
  if (domain === undefined) throw new StateError(`there is no room for ${what}`);
  if (order !== NO_ALLOCATOR && domain.allocator === undefined)
    throw new StateError(`${what} has an allocator, and its type has none`);
  if (fields.configuration !== false) {
    if (!domains.restoreConfiguration(domain, stateConfiguration(fields.configuration, what)))
      throw new StateError(`${what} cannot be configured like that`);
  }
  restoreRanges(domain, fields.ranges, fields.runs, what);
  return domain;
}

function restoreRanges(domain: Domain, rangeList: unknown, runList: unknown, what: string): void {
  const numbers = stateList(rangeList, `the ranges of ${what}`, RANGES_MAX * RANGE_NUMBERS);
  const runs = new RunReader(stateList(runList, `the frames of ${what}`, 2 * LOGICAL_PAGES), what);
  if (numbers.length % RANGE_NUMBERS !== 0) throw new StateError(`the ranges of ${what} are not whole`);
  const { tables, allocator } = domain;
  if (tables === undefined && numbers.length > 0)
    throw new StateError(`${what} has ranges, and its type has no tables of ours`);
  const blocks: PageRange[] = [];
  for (let at = 0; at < numbers.length; at += RANGE_NUMBERS) {
    const range = stateRange(numbers, at, what);
    const { start, pages, kind } = range;
    if (kind === 'identity' && allocator !== undefined)
      throw new StateError(`${what} has an identity mapping beside its allocator`);
    const frames = kind === 'hole' ? [] : runs.take(pages);
    if ((kind === 'identity' || kind === 'reserved') && (frames[0]!.first !== start || frames[0]!.pages !== pages))
      throw new StateError(`${what} has an identity mapping that leads elsewhere`);
    if (!tables!.restore(range, frames)) throw new StateError(`${what} has ranges that overlap, or too many`);
    if (kind === 'logical') blocks.push(range);
    else if (allocator?.withhold(start, pages) === false) throw new StateError(`there is no room for ${what}`);
  }
  runs.end();
  // What was withheld was so before the first block was given out.
  for (const { start, pages } of blocks) takeBlock(domain, start, pages, what);
}

/** The block that the domain's allocator, if any, gave for these pages. Throws a StateError. */
export function takeBlock({ allocator }: Domain, start: number, pages: number, what: string): void {
  if (allocator === undefined) return;
  if (allocator.allocate(pages, { first: start, end: start + pages }) !== start)
    throw new StateError(`${what} has a block that its allocator cannot have given`);
}

function stateRange(numbers: readonly unknown[], at: number, what: string): PageRange {
  const start = stateNumber(numbers[at], `the start of a range of ${what}`, 0, LOGICAL_PAGES - 1);
  const pages = stateNumber(numbers[at + 1], `the pages of a range of ${what}`, 1, LOGICAL_PAGES - start);
  const kind = KINDS[stateNumber(numbers[at + 2], `the kind of a range of ${what}`, 0, KINDS.length - 1)]!;
  const least = kind === 'hole' ? 0 : 1;
  const most = kind === 'hole' ? 0 : PERMISSIONS_MAX;
  const permissions = stateNumber(numbers[at + 3], `the permissions of a range of ${what}`, least, most);
  return { start, pages, kind, permissions };
}

function savedConfiguration(configuration: DomainConfiguration): StateValue {
  const { type, translationEnabled } = configuration;
  const common = { type, translationEnabled: translationEnabled !== false };
  if (configuration.type === DomainConfigurationArch.X64) {
    const { firstLevelPageTableRoot, levels } = configuration;
    return {
      ...common,
      firstLevelPageTableRoot: savedWide(firstLevelPageTableRoot),
      levels: number(levels, UINT32_MAX),
    };
  }
  const { ttbr0, ttbr1, mair0, mair1, inputSize0, inputSize1, coherentTableWalks, granule } = configuration;
  return {
    ...common,
    ttbr0: savedWide(ttbr0),
    ttbr1: savedWide(ttbr1),
    mair0: number(mair0, UINT32_MAX),
    mair1: number(mair1, UINT32_MAX),
    inputSize0: number(inputSize0, UINT8_MAX),
    inputSize1: number(inputSize1, UINT8_MAX),
    coherentTableWalks: coherentTableWalks === true,
    granule: number(granule, UINT32_MAX),
  };
}

/** Of what nothing looks at, callers may give anything. */
function number(value: unknown, most: number): number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most ? value : 0;
}

function stateConfiguration(value: unknown, of: string): DomainConfiguration {
  const what = `the configuration of ${of}`;
  const x64 = typeof value === 'object' && value !== null && 'firstLevelPageTableRoot' in value;
  if (x64) {
    const fields = stateFields(value, what, X64);
    stateNumber(fields.type, what, DomainConfigurationArch.X64, DomainConfigurationArch.X64);
    return {
      type: DomainConfigurationArch.X64,
      firstLevelPageTableRoot: stateWide(fields.firstLevelPageTableRoot, what),
      translationEnabled: stateFlag(fields.translationEnabled, what),
      levels: stateNumber(fields.levels, what, 0, UINT32_MAX) || undefined,
    };
  }
  const fields = stateFields(value, what, ARM64);
  stateNumber(fields.type, what, DomainConfigurationArch.Arm64, DomainConfigurationArch.Arm64);
  return {
    type: DomainConfigurationArch.Arm64,
    ttbr0: stateWide(fields.ttbr0, what),
    ttbr1: stateWide(fields.ttbr1, what),
    mair0: stateNumber(fields.mair0, what, 0, UINT32_MAX),
    mair1: stateNumber(fields.mair1, what, 0, UINT32_MAX),
    inputSize0: stateNumber(fields.inputSize0, what, 0, UINT8_MAX),
    inputSize1: stateNumber(fields.inputSize1, what, 0, UINT8_MAX),
    coherentTableWalks: stateFlag(fields.coherentTableWalks, what),
    translationEnabled: stateFlag(fields.translationEnabled, what),
    granule: stateNumber(fields.granule, what, 0, UINT32_MAX) || undefined,
  };
}
