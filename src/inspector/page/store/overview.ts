/** Devices, domains, and who is attached to what, as one picture shows them. */
import { AttachKind } from '../../../trace/event-kinds.ts';
import { formatRequesterId } from '../format.ts';
import { type Answer, toNumber, toRecord } from '../wire.ts';
import type { DeviceRates } from './device-rates.ts';
import type { InspectorStore } from './inspector-store.ts';
import type { Rates } from './rates.ts';

const ATTACH_NAMES = Object.keys(AttachKind);
const ATTACH_WORDS: Readonly<Record<string, string>> = {
  passThrough: 'passed through',
  blocked: 'blocked',
  faulty: 'unusable entry',
};

export interface OverviewDevice {
  readonly name: string;
  readonly requesterId: number;
  readonly connected: boolean;
  readonly busMaster: boolean;
  /** Undefined: attached to none. */
  readonly domain: number | undefined;
  /** What is special about how it is attached; empty: translated as usual. */
  readonly how: string;
  readonly rates: DeviceRates | undefined;
}

export interface OverviewDomain {
  readonly domain: number;
  readonly mappings: number;
  readonly bytes: number;
}

export interface Overview {
  readonly iommu: string;
  readonly iommuConnected: boolean;
  /** Of a recorded file it is not known who is connected now, because nobody is. */
  readonly isRecording: boolean;
  readonly devices: readonly OverviewDevice[];
  readonly domains: readonly OverviewDomain[];
  readonly rates: Rates;
  /** As the function that knows most of it sees it; zeros where nothing is told. */
  readonly memory: { readonly regions: number; readonly bytes: number };
}

export function overviewOf(store: InspectorStore): Overview {
  void store.ratesVersion.value;
  const { mappings, attachments } = store.mappings.value;
  const functions = store.inspection.value?.functions ?? [];
  const rates = store.deviceRates.value;
  const known = functions.filter(one => one.requesterId !== undefined);
  const strangers = attachments
    .filter(one => !known.some(({ requesterId }) => requesterId === one.requesterId))
    .map(({ requesterId }) => ({
      name: formatRequesterId(requesterId),
      requesterId,
      connected: false,
      busMaster: false,
    }));
  const devices = [...known, ...strangers].map(({ name, requesterId = 0, connected, busMaster }) => {
    const attachment = attachments.find(one => one.requesterId === requesterId && one.pasid === -1);
    return {
      name,
      requesterId,
      connected,
      busMaster,
      domain: attachment?.domain,
      how: ATTACH_WORDS[ATTACH_NAMES[attachment?.kind ?? 0] ?? ''] ?? '',
      rates: rates[name],
    };
  });
  const domains = new Map<number, { domain: number; mappings: number; bytes: number }>();
  const domainOf = (domain: number) => {
    const found = domains.get(domain) ?? { domain, mappings: 0, bytes: 0 };
    domains.set(domain, found);
    return found;
  };
  for (const { domain } of attachments) domainOf(domain);
  for (const { domain, pages } of mappings) {
    const found = domainOf(domain);
    found.mappings++;
    found.bytes += pages * 4096;
  }
  const iommu = functions.find(one => one.requesterId === undefined);
  return {
    iommu: iommu?.kind ?? '',
    iommuConnected: iommu?.connected ?? false,
    isRecording: store.isRecording,
    devices,
    domains: [...domains.values()].sort((one, other) => one.domain - other.domain),
    rates: store.rates.latest,
    memory: memoryOf(store.statistics.value),
  };
}

function memoryOf(statistics: Answer): Overview['memory'] {
  let regions = 0;
  let bytes = 0;
  for (const one of Object.values(toRecord(statistics.functions))) {
    const memory = toRecord(toRecord(one).memory);
    regions = Math.max(regions, toNumber(memory.regions));
    bytes = Math.max(bytes, toNumber(memory.mappedBytes));
  }
  return { regions, bytes };
}
