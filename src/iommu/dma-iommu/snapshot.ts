/** What there is now, as plain data: for tests and for the inspector. */
import type { Core } from './core.ts';
import { DmaDevice, type PasidDevice } from './dma-devices.ts';
import { Domain } from './domain.ts';
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
}

const addressOf = (page: number) => BigInt(page) << 12n;

export function snapshot({ handles }: Core, streams: Streams, tablePages: number): Snapshot {
  return {
    domains: [...handles.all(Domain)].map(domainSnapshot),
    attachments: streams.all().map(attachmentSnapshot),
    devices: [...handles.all(DmaDevice)].map(({ handle, settings, attachment, watcher, pasidDevices }) => ({
      handle,
      physicalDeviceObject: settings.pdo,
      domain: attachment?.domain.handle ?? 0,
      pasidTagged: settings.pasidTagged,
      watched: watcher !== undefined,
      pasidDevices: [...pasidDevices].map(pasidSnapshot),
    })),
    tokens: [...handles.all(Token)].map(({ handle, domain, start, pages, segments }) => ({
      handle,
      domain: domain.handle,
      logicalAddress: addressOf(start),
      numberOfPages: pages,
      segments: segments.size,
    })),
    guarded: [...streams.guarded],
    tablePages,
  };
}

function domainSnapshot(domain: Domain): DomainSnapshot {
  const { handle, type, allocator, configuration, attached, tokens, tables } = domain;
  const ranges: DomainSnapshot['ranges'][number][] = [];
  for (const { start, pages, kind, permissions } of tables?.ranges ?? []) {
    if (ranges.length === SNAPSHOT_RANGES_MAX) break;
    ranges.push({ logicalAddress: addressOf(start), numberOfPages: pages, kind, permissions });
  }
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
