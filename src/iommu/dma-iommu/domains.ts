/** Domains: made, configured, flushed, deleted. */
import { MappingSource } from '../../trace/event-kinds.ts';
import { tellAttached } from './attach-events.ts';
import { BuddyAllocator } from './buddy-allocator.ts';
import { configure } from './caller-tables.ts';
import {
  BAD_ALLOCATOR,
  BAD_DOMAIN_FLAGS,
  BAD_DOMAIN_TYPE,
  BAD_HANDLE,
  BAD_RESERVED_REGION,
  BAD_VA_LIST,
  CONFIGURE_FLUSHES,
  DOMAIN_IN_USE,
  ownsPageTables,
  RESERVED_REGION_PERMISSIONS,
  VA_LIST_MAX,
  WRONG_DOMAIN_TYPE,
} from './choices.ts';
import type { Core } from './core.ts';
import { Domain } from './domain.ts';
import type { Engines } from './engines.ts';
import { tellFlushed } from './flush-events.ts';
import {
  DOMAINS_MAX,
  LOGICAL_ADDRESS_BITS,
  OPERATION_PAGES_MAX,
  PHYSICAL_FRAMES,
  RESERVED_REGIONS_MAX,
} from './limits.ts';
import { fits, ManagedTables } from './managed-tables.ts';
import { NtStatus } from './ntstatus.ts';
import type { Answer, DmaIommuOperations } from './operations.ts';
import { isPageAligned } from './physical-pages.ts';
import {
  type DomainConfiguration,
  type DomainHandle,
  DomainType,
  type LogicalAllocatorConfig,
  LogicalAllocatorType,
  type ReservedRegion,
} from './types.ts';

type Args<Name extends keyof DmaIommuOperations> = Parameters<DmaIommuOperations[Name]>[0];

const PAGE_SHIFT = 12;
const PAGE_SHIFT_BIG = 12n;
/** Of a 64-bit system. */
const ALLOCATOR_WIDTH_MAX = 63;
const ANY_64_BITS = 1n << 64n;

export class Domains {
  #count = 0;

  constructor(
    private readonly core: Core,
    private readonly engines: Engines,
  ) {}

  find(handle: DomainHandle): Domain | undefined {
    return this.core.handles.find(handle, Domain);
  }

  create(
    type: number,
    flags: bigint | number,
    allocatorConfig: LogicalAllocatorConfig | undefined,
    reservedRegions: readonly ReservedRegion[],
  ): Answer & { domain?: DomainHandle } {
    if (!isDomainType(type)) return { status: BAD_DOMAIN_TYPE };
    if (flags !== 0 && flags !== 0n) return { status: BAD_DOMAIN_FLAGS };
    const managed = ownsPageTables(type);
    const allocator = this.#allocatorFor(allocatorConfig, managed);
    if (allocator === 'bad') return { status: BAD_ALLOCATOR };
    if (!regionsMakeSense(reservedRegions)) return { status: BAD_RESERVED_REGION };
    if (this.#count >= DOMAINS_MAX) return { status: NtStatus.INSUFFICIENT_RESOURCES };

    const domain = new Domain(type);
    domain.handle = this.core.handles.add(domain) as DomainHandle;
    if (domain.handle === 0) return { status: NtStatus.INSUFFICIENT_RESOURCES };
    this.#count++;
    if (managed) {
      const status = this.#build(domain, allocator, reservedRegions);
      if (status !== NtStatus.SUCCESS) {
        this.#remove(domain);
        return { status };
      }
    }
    this.core.note('dma-iommu.domainCreated', { domain: domain.handle, type });
    if (managed) tellReserved(domain, reservedRegions);
    return { status: NtStatus.SUCCESS, domain: domain.handle };
  }

  delete({ domain: handle }: Args<'deleteDomain'>): Answer {
    const domain = this.find(handle);
    if (domain === undefined) return { status: BAD_HANDLE };
    if (domain.attached.size > 0 || domain.tokens.size > 0) return { status: DOMAIN_IN_USE };
    this.#noteLeft(domain);
    domain.tables?.tellDestroyed();
    this.core.known.drop(handle, MappingSource.operation);
    this.#remove(domain);
    this.core.note('dma-iommu.domainDeleted', { domain: handle });
    return { status: NtStatus.SUCCESS };
  }

  configure({ domain: handle, configuration }: Args<'configureDomain'>): Answer {
    const domain = this.find(handle);
    if (domain === undefined) return { status: BAD_HANDLE };
    if (domain.type !== DomainType.Unmanaged) return { status: WRONG_DOMAIN_TYPE };
    const { status, space } = configure(configuration, domain.tag, this.engines, this.core.compat);
    if (space === undefined) return { status };
    domain.configuration = { ...configuration };
    domain.space = space;
    if (CONFIGURE_FLUSHES) this.engines.invalidateDomain(domain.tag);
    this.core.note('dma-iommu.domainConfigured', {
      domain: handle,
      arch: configuration.type,
      translationEnabled: configuration.translationEnabled !== false,
    });
    this.#tellConfigured(domain);
    return { status };
  }

  flush({ domain: handle }: Args<'flushDomain'>): Answer {
    const domain = this.find(handle);
    if (domain === undefined) return { status: BAD_HANDLE };
    if (domain.type !== DomainType.Unmanaged) return { status: WRONG_DOMAIN_TYPE };
    this.engines.invalidateDomain(domain.tag);
    this.core.events.invalidatedDomain(domain.handle);
    const { view } = domain.space;
    if (view === undefined) this.core.known.drop(domain.handle, MappingSource.invalidation);
    else this.core.known.compareDomain(domain.handle, view, MappingSource.invalidation);
    return { status: NtStatus.SUCCESS };
  }

  flushByVaList({ domain: handle, lastLevel, vaList }: Args<'flushDomainByVaList'>): Answer {
    const domain = this.find(handle);
    if (domain === undefined) return { status: BAD_HANDLE };
    if (domain.type !== DomainType.Unmanaged) return { status: WRONG_DOMAIN_TYPE };
    if (!Array.isArray(vaList) || vaList.length > VA_LIST_MAX || !vaList.every(isAddress))
      return { status: BAD_VA_LIST };
    for (const address of vaList) {
      const high = Number(BigInt.asIntN(32, address >> 32n));
      domain.space.invalidate?.(high, Number(BigInt.asIntN(32, address)), lastLevel === true);
    }
    tellFlushed(this.core, domain, vaList, lastLevel === true);
    return { status: NtStatus.SUCCESS };
  }

  /** A new domain of a saved state, with a root and an allocator of 2^`order` pages (-1: none); undefined: no room. */
  restore(type: DomainType, handle: DomainHandle, order: number): Domain | undefined {
    const domain = new Domain(type);
    domain.handle = handle;
    this.#count++;
    if (this.#count > DOMAINS_MAX) return undefined;
    if (!ownsPageTables(type)) return domain;
    const allocator = order < 0 ? undefined : new BuddyAllocator(order, this.core.buddyNodes);
    return this.#build(domain, allocator, []) === NtStatus.SUCCESS ? domain : undefined;
  }

  /** The configuration of a domain of a saved state; false: it can have none such. */
  restoreConfiguration(domain: Domain, configuration: DomainConfiguration): boolean {
    if (domain.type !== DomainType.Unmanaged) return false;
    const { space } = configure(configuration, domain.tag, this.engines, this.core.compat);
    if (space === undefined) return false;
    domain.configuration = configuration;
    domain.space = space;
    return true;
  }

  reset(): void {
    this.#count = 0;
    for (const domain of this.core.handles.all(Domain)) domain.tables?.destroy();
    this.core.ranges.reset();
    this.core.buddyNodes.reset();
    this.core.known.clear();
  }

  /** A domain may go while pages are mapped in it, and these go with it; whoever mapped them has forgotten to unmap them. */
  #noteLeft({ handle, tables }: Domain): void {
    let mappings = 0;
    let pages = 0;
    for (const range of tables?.ranges ?? []) {
      if (range.kind !== 'logical' && range.kind !== 'identity') continue;
      mappings++;
      pages += range.pages;
    }
    if (mappings > 0) this.core.note('dma-iommu.mappingsLeft', { domain: handle, mappings, pages });
  }

  #compareAll({ handle, space }: Domain, how: number): void {
    const { known } = this.core;
    if (space.view === undefined) known.drop(handle, how);
    else known.compareAll(handle, space.view, how);
  }

  /** Other tables: what was known of the old ones may be there no more, and devices go through the new ones at once. */
  #tellConfigured(domain: Domain): void {
    if (CONFIGURE_FLUSHES) this.core.events.invalidatedDomain(domain.handle);
    this.#compareAll(domain, MappingSource.operation);
    for (const attached of domain.attached) tellAttached(this.core, domain, attached);
  }

  #remove(domain: Domain): void {
    domain.tables?.destroy();
    domain.allocator?.dispose();
    this.engines.invalidateDomain(domain.tag);
    this.core.handles.remove(domain.handle);
    this.#count--;
  }

  #build(domain: Domain, allocator: BuddyAllocator | undefined, regions: readonly ReservedRegion[]): NtStatus {
    const { builder, managed, managedEvents } = this.engines;
    const root = builder.createRoot();
    if (root < 0) return NtStatus.INSUFFICIENT_RESOURCES;
    const tables = new ManagedTables(builder, managed, domain.tag, root, this.core.ranges, managedEvents);
    domain.tables = tables;
    domain.allocator = allocator;
    domain.space = tables;
    for (const { base, numberOfPages: pages, shouldMap } of regions) {
      const first = Number(base >> PAGE_SHIFT_BIG);
      const status = shouldMap
        ? tables.map(first, { pages, first }, RESERVED_REGION_PERMISSIONS, 'reserved')
        : tables.withhold(first, pages);
      if (status === NtStatus.IN_USE) return BAD_RESERVED_REGION;
      if (status !== NtStatus.SUCCESS) return status;
      if (allocator?.withhold(first, pages) === false) return NtStatus.INSUFFICIENT_RESOURCES;
    }
    return NtStatus.SUCCESS;
  }

  #allocatorFor(config: LogicalAllocatorConfig | undefined, managed: boolean): BuddyAllocator | undefined | 'bad' {
    if (!config || config.logicalAllocatorType === LogicalAllocatorType.None) return undefined;
    const width = config.addressWidth;
    if (config.logicalAllocatorType !== LogicalAllocatorType.Buddy || !managed) return 'bad';
    if (width === undefined || !Number.isInteger(width) || width < PAGE_SHIFT || width > ALLOCATOR_WIDTH_MAX)
      return 'bad';
    // What is wider than the tables could not be mapped.
    return new BuddyAllocator(Math.min(width, LOGICAL_ADDRESS_BITS) - PAGE_SHIFT, this.core.buddyNodes);
  }
}

function tellReserved({ tables }: Domain, regions: readonly ReservedRegion[]): void {
  for (const { base, numberOfPages: pages, shouldMap } of regions) {
    const first = Number(base >> PAGE_SHIFT_BIG);
    if (shouldMap) tables?.tellMapped(first, { pages, first }, RESERVED_REGION_PERMISSIONS);
  }
}

function isDomainType(type: number): type is DomainType {
  return Number.isInteger(type) && type >= 0 && type < DomainType.Max;
}

function isAddress(value: unknown): boolean {
  return typeof value === 'bigint' && value >= 0n && value < ANY_64_BITS;
}

function regionsMakeSense(regions: readonly ReservedRegion[]): boolean {
  if (!Array.isArray(regions) || regions.length > RESERVED_REGIONS_MAX) return false;
  return regions.every(region => {
    const { base, numberOfPages: pages, shouldMap } = region ?? {};
    if (!isPageAligned(base) || !Number.isInteger(pages) || pages < 1) return false;
    const first = Number(base >> PAGE_SHIFT_BIG);
    if (!fits(first, pages)) return false;
    return !shouldMap || (first + pages <= PHYSICAL_FRAMES && pages <= OPERATION_PAGES_MAX);
  });
}
