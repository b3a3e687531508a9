/** Logical addresses that are set apart first and mapped, piece by piece, later. */

import type { Budget } from './budget.ts';
import {
  BAD_HANDLE,
  BAD_RESERVED_PERMISSIONS,
  BAD_SEGMENT_OFFSET,
  SEGMENT_NOT_MAPPED,
  WRONG_DOMAIN_TYPE,
} from './choices.ts';
import type { Core } from './core.ts';
import type { Domain } from './domain.ts';
import type { Domains } from './domains.ts';
import { OPERATION_PAGES_MAX } from './limits.ts';
import { badPermissions, place } from './mapping.ts';
import { NtStatus } from './ntstatus.ts';
import type { Answer, DmaIommuOperations } from './operations.ts';
import { isPageAligned, physicalPages } from './physical-pages.ts';
import { RangeSet } from './range-set.ts';
import type { SegmentHandle, TokenHandle } from './types.ts';

type Args<Name extends keyof DmaIommuOperations> = Parameters<DmaIommuOperations[Name]>[0];
type Result<Name extends keyof DmaIommuOperations> = ReturnType<DmaIommuOperations[Name]>;

const PAGE_SHIFT = 12n;

export class Token {
  handle = 0 as TokenHandle;
  /** What is mapped of it. */
  readonly segments: RangeSet;

  constructor(
    readonly domain: Domain,
    /** Address >> 12. */
    readonly start: number,
    readonly pages: number,
    ranges: Budget,
  ) {
    this.segments = new RangeSet(ranges);
  }
}

export class Segment {
  handle = 0 as SegmentHandle;

  constructor(
    readonly token: Token,
    /** Address >> 12. */
    readonly start: number,
    readonly pages: number,
  ) {}
}

export class Tokens {
  constructor(
    private readonly core: Core,
    private readonly domains: Domains,
  ) {}

  reserve(args: Args<'reserveLogicalAddressRange'>): Result<'reserveLogicalAddressRange'> {
    const domain = this.domains.find(args.domain);
    if (domain === undefined) return { status: BAD_HANDLE };
    const { tables, allocator } = domain;
    if (tables === undefined) return { status: WRONG_DOMAIN_TYPE };
    if (!isPageAligned(args.size) || args.size === 0n) return { status: NtStatus.INVALID_PARAMETER_2 };
    const pages = Number(args.size >> PAGE_SHIFT);
    if (pages > OPERATION_PAGES_MAX) return { status: NtStatus.INSUFFICIENT_RESOURCES };
    const { status: placed, page } = place(domain, pages, args, NtStatus.INVALID_PARAMETER_3);
    if (placed !== NtStatus.SUCCESS) return { status: placed };

    const token = new Token(domain, page, pages, this.core.ranges);
    token.handle = this.core.handles.add(token) as TokenHandle;
    const status = token.handle === 0 ? NtStatus.INSUFFICIENT_RESOURCES : tables.reserve(page, pages);
    if (status !== NtStatus.SUCCESS) {
      this.core.handles.remove(token.handle);
      allocator?.free(page, pages);
      return { status };
    }
    domain.tokens.add(token);
    return { status, token: token.handle, logicalAddressBase: BigInt(page) << PAGE_SHIFT, size: args.size };
  }

  free({ token: handle }: Args<'freeReservedLogicalAddressRange'>): Answer {
    const token = this.core.handles.find(handle, Token);
    if (token === undefined) return { status: BAD_HANDLE };
    if (token.segments.size > 0) return { status: NtStatus.RESOURCE_IN_USE };
    const { domain, start, pages } = token;
    domain.tables?.release(start, pages);
    domain.allocator?.free(start, pages);
    domain.tokens.delete(token);
    this.core.handles.remove(handle);
    return { status: NtStatus.SUCCESS };
  }

  map(args: Args<'mapReservedLogicalRange'>): Result<'mapReservedLogicalRange'> {
    const token = this.core.handles.find(args.token, Token);
    if (token === undefined) return { status: BAD_HANDLE };
    if (!isPageAligned(args.offset)) return { status: NtStatus.INVALID_PARAMETER_2 };
    if (badPermissions(args.permissions)) return { status: BAD_RESERVED_PERMISSIONS };
    const physical = physicalPages(args.physicalAddressToMap);
    if (physical === undefined) return { status: NtStatus.INVALID_PARAMETER_4 };
    const offset = Number(args.offset >> PAGE_SHIFT);
    const { pages } = physical;
    if (offset + pages > token.pages) return { status: BAD_SEGMENT_OFFSET };
    const start = token.start + offset;
    if (token.segments.overlaps(start, pages)) return { status: NtStatus.RESOURCE_IN_USE };
    if (!token.segments.hasRoom) return { status: NtStatus.INSUFFICIENT_RESOURCES };

    const segment = new Segment(token, start, pages);
    segment.handle = this.core.handles.add(segment) as SegmentHandle;
    if (segment.handle === 0) return { status: NtStatus.INSUFFICIENT_RESOURCES };
    if (token.domain.tables?.mapReserved(start, physical, args.permissions) !== true) {
      this.core.handles.remove(segment.handle);
      return { status: NtStatus.INSUFFICIENT_RESOURCES };
    }
    token.segments.insert({ start, pages, kind: 'token', permissions: args.permissions });
    return {
      status: NtStatus.SUCCESS,
      mappedSegment: segment.handle,
      offset: args.offset,
      size: BigInt(pages) << PAGE_SHIFT,
    };
  }

  unmap({ mappedSegment: handle }: Args<'unmapReservedLogicalRange'>): Answer {
    const segment = this.core.handles.find(handle, Segment);
    if (segment === undefined) return { status: SEGMENT_NOT_MAPPED };
    const { token, start, pages } = segment;
    token.domain.tables?.unmapReserved(start, pages);
    token.segments.remove(start, pages);
    this.core.handles.remove(handle);
    return { status: NtStatus.SUCCESS };
  }
}
