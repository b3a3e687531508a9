/** What there is now, as plain data: for tests and for the inspector. */
import type { Core } from './core.ts';
import { DmaDevice, type PasidDevice } from './dma-devices.ts';
import { Domain } from './domain.ts';
import { SNAPSHOT_ENTRIES_MAX } from './limits.ts';
import type { RangeKind } from './range-set.ts';
import type { Attachment, Streams } from './streams.ts';
import { Token } from './tokens.ts';
import type { DomainConfiguration } from './types.ts';

/** Ranges of one domain that a snapshot lists; `rangeCount` says how many there are. */
export const SNAPSHOT_RANGES_MAX = 10_000;

export interface DomainSnapshot {
  readonly handle: number;
  readonly type: number;
  readonly allocator: { readonly pages: number; readonly freePages: number } | undefined;
  readonly configuration: DomainConfiguration | undefined;
  readonly attached: number;
  readonly tokens: number;
  readonly rangeCount: number;
  readonly ranges: readonly {
    readonly logicalAddress: bigint;
    readonly numberOfPages: number;
    readonly kind: RangeKind;
    readonly permissions: number;
  }[];
}

export interface Snapshot {
  readonly domains: readonly DomainSnapshot[];
  readonly attachments: readonly {
    readonly domain: number;
    readonly physicalDeviceObject: number;
    readonly inputMappingIdBase: number;
    readonly ids: readonly number[];
    readonly faultReporting: boolean;
    /** Handle of the DMA device; 0: attached by version 1. */
    readonly dmaDevice: number;
  }[];
  readonly devices: readonly {
    readonly handle: number;
    readonly physicalDeviceObject: number;
    /** 0: none. */
    readonly domain: number;
    readonly pasidTagged: boolean;
    readonly watched: boolean;
    readonly pasidDevices: readonly { readonly handle: number; readonly pasid: number; readonly domain: number }[];
  }[];
  readonly tokens: readonly {
    readonly handle: number;
    readonly domain: number;
    readonly logicalAddress: bigint;
    readonly numberOfPages: number;
    readonly segments: number;
  }[];
  readonly guarded: readonly number[];
  readonly tablePages: number;
  /** How many of each are not listed, because `SNAPSHOT_ENTRIES_MAX` was reached; of ranges, beyond `SNAPSHOT_RANGES_MAX` as well. */
  readonly omitted: {
    readonly domains: number;
    readonly attachments: number;
    readonly devices: number;
    readonly pasidDevices: number;
    readonly tokens: number;
    /** Of the domains that are listed. */
    readonly ranges: number;
  };
}

const addressOf = (page: number) => BigInt(page) << 12n;

/** Lists while there is room; what there is none for is counted only. */
class Listing {
  readonly omitted = { domains: 0, attachments: 0, devices: 0, pasidDevices: 0, tokens: 0, ranges: 0 };
  private left = SNAPSHOT_ENTRIES_MAX;

  list<From, To>(what: keyof Listing['omitted'], all: Iterable<From>, entry: (one: From) => To): To[] {
    const listed: To[] = [];
    for (const one of all) {
      if (this.left === 0) {
        this.omitted[what]++;
        continue;
      }
      this.left--;
      listed.push(entry(one));
    }
    return listed;
  }

  /** The same without a look at those that are not listed: there may be very many. */
  ranges(domain: Domain): DomainSnapshot['ranges'] {
    const all = domain.tables?.ranges;
    if (all === undefined) return [];
    const listed: DomainSnapshot['ranges'][number][] = [];
    const count = Math.min(all.size, this.left, SNAPSHOT_RANGES_MAX);
    for (const { start, pages, kind, permissions } of all) {
      if (listed.length === count) break;
      listed.push({ logicalAddress: addressOf(start), numberOfPages: pages, kind, permissions });
    }
    this.left -= count;
    this.omitted.ranges += all.size - count;
    return listed;
  }
}

export function snapshot({ handles }: Core, streams: Streams, tablePages: number): Snapshot {
  const listing = new Listing();
  // Ranges come last: no domain, device or token is left out because another domain has many of them.
  const domains = listing.list('domains', handles.all(Domain), domain => domain);
  const attachments = listing.list('attachments', streams.all(), attachmentSnapshot);
  const devices = listing.list(
    'devices',
    handles.all(DmaDevice),
    ({ handle, settings, attachment, watcher, pasidDevices }) => ({
      handle,
      physicalDeviceObject: settings.pdo,
      domain: attachment?.domain.handle ?? 0,
      pasidTagged: settings.pasidTagged,
      watched: watcher !== undefined,
      pasidDevices: listing.list('pasidDevices', pasidDevices, pasidSnapshot),
    }),
  );
  const tokens = listing.list('tokens', handles.all(Token), ({ handle, domain, start, pages, segments }) => ({
    handle,
    domain: domain.handle,
    logicalAddress: addressOf(start),
    numberOfPages: pages,
    segments: segments.size,
  }));
  return {
    domains: domains.map(domain => domainSnapshot(domain, listing.ranges(domain))),
    attachments,
    devices,
    tokens,
    guarded: [...streams.guarded],
    tablePages,
    omitted: listing.omitted,
  };
}

function domainSnapshot(domain: Domain, ranges: DomainSnapshot['ranges']): DomainSnapshot {
  const { handle, type, allocator, configuration, attached, tokens, tables } = domain;
  return {
    handle,
    type,
    allocator: allocator && { pages: allocator.pages, freePages: allocator.freePages },
    configuration,
    attached: attached.size,
    tokens: tokens.size,
    rangeCount: tables?.ranges.size ?? 0,
    ranges,
  };
}

function attachmentSnapshot({
  domain,
  pdo,
  base,
  ids,
  faultConfig,
  device,
}: Attachment): Snapshot['attachments'][number] {
  return {
    domain: domain.handle,
    physicalDeviceObject: pdo,
    inputMappingIdBase: base,
    ids,
    faultReporting: faultConfig !== undefined,
    dmaDevice: device instanceof DmaDevice ? device.handle : 0,
  };
}

function pasidSnapshot({ handle, pasid, domain }: PasidDevice) {
  return { handle, pasid, domain: domain?.handle ?? 0 };
}
