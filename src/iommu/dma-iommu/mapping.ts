/** Maps and unmaps, at logical addresses and to themselves. */
import { type BuddyAllocator, OUT_OF_NODES, type Window } from './buddy-allocator.ts';
import {
  ALLOCATOR_EXHAUSTED,
  BAD_HANDLE,
  BAD_LOGICAL_ADDRESS,
  BAD_MDL,
  BAD_PERMISSIONS,
  BAD_UNMAP_ADDRESS,
  BAD_UNMAP_PAGES,
  NOT_MAPPED,
  PASS_THROUGH_IDENTITY,
  WRONG_DOMAIN_TYPE,
} from './choices.ts';
import type { Core } from './core.ts';
import type { Domain } from './domain.ts';
import type { Domains } from './domains.ts';
import { LOGICAL_PAGES, OPERATION_PAGES_MAX } from './limits.ts';
import { fits } from './managed-tables.ts';
import { NtStatus } from './ntstatus.ts';
import type { Answer, DmaIommuOperations } from './operations.ts';
import { isPageAligned, type PhysicalPages, physicalPages, runs } from './physical-pages.ts';
import type { PageRange } from './range-set.ts';
import { type DomainHandle, DomainType, Permission, type PhysicalAddressToMap } from './types.ts';

type Args<Name extends keyof DmaIommuOperations> = Parameters<DmaIommuOperations[Name]>[0];

const PAGE_SHIFT = 12n;
const PAGE_BYTES = 4096n;
const ANY_64_BITS = 1n << 64n;

export function badPermissions(permissions: number): boolean {
  return permissions !== Permission.read && permissions !== Permission.write && permissions !== 3;
}

/** Where to put pages: what `place` found, or why it found nothing. */
export type Placed = { readonly status: NtStatus; readonly page: number };

export interface Wish {
  readonly explicitLogicalAddress?: bigint | undefined;
  readonly minLogicalAddress?: bigint | undefined;
  readonly maxLogicalAddress?: bigint | undefined;
}

/**
 * Chooses logical addresses as MapLogicalRangeEx and ReserveLogicalAddressRange do: explicit without an allocator, by the
 * allocator with one. What the allocator gave must be freed where it is not used.
 */
export function place(domain: Domain, pages: number, wish: Wish, badExplicit: NtStatus): Placed {
  const { allocator } = domain;
  const explicit = wish.explicitLogicalAddress;
  if ((explicit === undefined) === (allocator === undefined)) return { status: NtStatus.NOT_SUPPORTED, page: -1 };
  if (allocator !== undefined) return allocate(allocator, pages, wish);
  if (!isPageAligned(explicit)) return { status: badExplicit, page: -1 };
  const page = Number(explicit >> PAGE_SHIFT);
  return fits(page, pages) ? { status: NtStatus.SUCCESS, page } : { status: badExplicit, page: -1 };
}

function allocate(allocator: BuddyAllocator, pages: number, wish: Wish): Placed {
  const windowed = wish.minLogicalAddress !== undefined || wish.maxLogicalAddress !== undefined;
  const min = wish.minLogicalAddress ?? 0n;
  const max = wish.maxLogicalAddress ?? ANY_64_BITS - 1n;
  if (typeof min !== 'bigint' || typeof max !== 'bigint' || min < 0n || min > max) {
    return { status: NtStatus.INVALID_PARAMETER_MIX, page: -1 };
  }
  const window: Window = {
    first: Number((min + PAGE_BYTES - 1n) >> PAGE_SHIFT),
    end: Math.min(Number((max + 1n) >> PAGE_SHIFT), allocator.pages),
  };
  const page = allocator.allocate(pages, window);
  if (page >= 0) return { status: NtStatus.SUCCESS, page };
  if (page === OUT_OF_NODES) return { status: NtStatus.INSUFFICIENT_RESOURCES, page };
  return { status: windowed ? NtStatus.INVALID_PARAMETER_MIX : ALLOCATOR_EXHAUSTED, page };
}

export class Mapping {
  constructor(
    private readonly core: Core,
    private readonly domains: Domains,
  ) {}

  /** MapLogicalRange; the address is the caller's choice. */
  mapLogical(args: Args<'mapLogicalRange'>): Answer {
    const { domain, permissions, mdl } = args;
    // Something has to be explicit, or its absence would mean something else.
    const explicitLogicalAddress = args.logicalAddress ?? -1n;
    const mapped = { domain, permissions, physicalAddressToMap: mdl, explicitLogicalAddress };
    return { status: this.mapLogicalEx(mapped, BAD_MDL).status };
  }

  mapLogicalEx(
    args: Args<'mapLogicalRangeEx'>,
    badPhysical: NtStatus = NtStatus.INVALID_PARAMETER_3,
  ): Answer & { logicalAddress?: bigint } {
    const domain = this.domains.find(args.domain);
    if (domain === undefined) return { status: BAD_HANDLE };
    const { tables } = domain;
    if (tables === undefined) return { status: WRONG_DOMAIN_TYPE };
    if (badPermissions(args.permissions)) return { status: BAD_PERMISSIONS };
    const physical = physicalPages(args.physicalAddressToMap);
    if (physical === undefined) return { status: badPhysical };
    if (physical.pages > OPERATION_PAGES_MAX) return { status: NtStatus.INSUFFICIENT_RESOURCES };
    const { status: placed, page } = place(domain, physical.pages, args, BAD_LOGICAL_ADDRESS);
    if (placed !== NtStatus.SUCCESS) return { status: placed };

    const status = tables.map(page, physical, args.permissions, 'logical');
    if (status !== NtStatus.SUCCESS) {
      domain.allocator?.free(page, physical.pages);
      return { status };
    }
    tables.tellMapped(page, physical, args.permissions);
    return { status, logicalAddress: BigInt(page) << PAGE_SHIFT };
  }

  unmapLogical({ domain: handle, logicalAddress, numberOfPages: pages }: Args<'unmapLogicalRange'>): Answer {
    const domain = this.domains.find(handle);
    if (domain === undefined) return { status: BAD_HANDLE };
    const { tables, allocator } = domain;
    if (tables === undefined) return { status: WRONG_DOMAIN_TYPE };
    if (!isPageAligned(logicalAddress) || logicalAddress >= ANY_64_BITS) return { status: BAD_UNMAP_ADDRESS };
    if (!Number.isInteger(pages) || pages < 1) return { status: BAD_UNMAP_PAGES };
    const page = Number(logicalAddress >> PAGE_SHIFT);
    if (page >= LOGICAL_PAGES) return { status: BAD_UNMAP_ADDRESS };
    if (!fits(page, pages)) return { status: BAD_UNMAP_PAGES };
    if (allocator !== undefined) {
      const range = tables.ranges.from(page);
      if (range?.start !== page || range.pages !== pages) return { status: NOT_MAPPED };
    }
    const cut = tables.cutBy(page, pages);
    const status = tables.unmapKind(page, pages, 'logical');
    if (status === NtStatus.SUCCESS) {
      allocator?.free(page, pages);
      this.#noteMismatch(domain, page, pages, cut);
    }
    return { status };
  }

  mapIdentity(
    handle: DomainHandle,
    permissions: number,
    map: PhysicalAddressToMap,
    badPhysical: NtStatus = NtStatus.INVALID_PARAMETER_3,
  ): Answer {
    const { status, domain, physical } = this.#identity(handle, map, badPhysical, permissions);
    if (physical === undefined) return { status };
    if (domain?.tables === undefined) return { status: PASS_THROUGH_IDENTITY };
    return { status: domain.tables.mapIdentity(physical, permissions) };
  }

  unmapIdentity(
    handle: DomainHandle,
    map: PhysicalAddressToMap,
    badPhysical: NtStatus = NtStatus.INVALID_PARAMETER_2,
  ): Answer {
    const { status, domain, physical } = this.#identity(handle, map, badPhysical);
    if (physical === undefined) return { status };
    if (domain?.tables === undefined) return { status: PASS_THROUGH_IDENTITY };
    const { tables } = domain;
    const piece = [...runs(physical)].find(({ first, pages }) => tables.cutBy(first, pages) !== undefined);
    const cut = piece && tables.cutBy(piece.first, piece.pages);
    const result = tables.unmapIdentity(physical);
    if (result === NtStatus.SUCCESS && piece !== undefined) this.#noteMismatch(domain, piece.first, piece.pages, cut);
    return { status: result };
  }

  /** Allowed, but what was unmapped is not what one call had mapped. */
  #noteMismatch({ handle }: Domain, page: number, pages: number, cut: PageRange | undefined): void {
    if (cut === undefined) return;
    this.core.note('dma-iommu.unmapMismatch', {
      domain: handle,
      iova: BigInt(page) << PAGE_SHIFT,
      bytes: BigInt(pages) << PAGE_SHIFT,
      mappedIova: BigInt(cut.start) << PAGE_SHIFT,
      mappedBytes: BigInt(cut.pages) << PAGE_SHIFT,
    });
  }

  #identity(
    handle: DomainHandle,
    map: PhysicalAddressToMap,
    badPhysical: NtStatus,
    permissions: number = Permission.read,
  ): { status: NtStatus; domain?: Domain; physical?: PhysicalPages } {
    const domain = this.domains.find(handle);
    if (domain === undefined) return { status: BAD_HANDLE };
    if (domain.type === DomainType.Unmanaged) return { status: WRONG_DOMAIN_TYPE };
    if (domain.allocator !== undefined) return { status: NtStatus.NOT_SUPPORTED };
    if (badPermissions(permissions)) return { status: BAD_PERMISSIONS };
    const physical = physicalPages(map);
    if (physical === undefined) return { status: badPhysical };
    if (physical.pages > OPERATION_PAGES_MAX) return { status: NtStatus.INSUFFICIENT_RESOURCES };
    return { status: NtStatus.SUCCESS, domain, physical };
  }
}
