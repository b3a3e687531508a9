/** Commands about domains: create, delete, configure, flush, and the devices attached to them. */
import {
  type DomainConfiguration,
  DomainConfigurationArch,
  type LogicalAllocatorConfig,
  type ReservedRegion,
} from '../types.ts';
import type { Call } from './call.ts';
import { BAD_LIST, LIST_TOO_LONG } from './choices.ts';
import {
  argumentLayouts,
  arm64ConfigurationLayout,
  reservedRegionLayout,
  resultLayouts,
  x64ConfigurationLayout,
} from './layout.ts';
import { LIST_ADDRESSES_MAX, LIST_REGIONS_MAX } from './limits.ts';

export function createDomain(call: Call): number {
  const { osManagedPageTable } = argumentLayouts.createDomain.fields;
  const { status, domain } = call.operations.createDomain({ osManagedPageTable: call.flag(osManagedPageTable) });
  call.put(resultLayouts.createDomain.fields.domain, domain);
  return status;
}

export function createDomainEx(call: Call): number {
  const fields = argumentLayouts.createDomainEx.fields;
  const reservedRegions = regions(call);
  if (typeof reservedRegions === 'number') return reservedRegions;
  for (const { numberOfPages, shouldMap } of reservedRegions ?? []) if (shouldMap) call.countPages(numberOfPages);
  const logicalAllocatorConfig: LogicalAllocatorConfig | undefined = call.flag(fields.hasAllocator)
    ? { logicalAllocatorType: call.number(fields.allocatorType), addressWidth: call.number(fields.addressWidth) }
    : undefined;
  const { status, domain } = call.operations.createDomainEx({
    domainType: call.number(fields.domainType),
    flags: call.wide(fields.flags),
    logicalAllocatorConfig,
    reservedRegions,
  });
  call.put(resultLayouts.createDomainEx.fields.domain, domain);
  return status;
}

export function deleteDomain(call: Call): number {
  return call.operations.deleteDomain({ domain: call.handle(argumentLayouts.deleteDomain.fields.domain) }).status;
}

export function attachDevice(call: Call): number {
  const { domain, pdo, inputMappingIdBase, mappingCount } = argumentLayouts.attachDevice.fields;
  return call.operations.attachDevice({
    domain: call.handle(domain),
    physicalDeviceObject: call.number(pdo),
    inputMappingIdBase: call.number(inputMappingIdBase),
    mappingCount: call.number(mappingCount),
  }).status;
}

export function attachDeviceEx(call: Call): number {
  const { domain, device } = argumentLayouts.attachDeviceEx.fields;
  return call.operations.attachDeviceEx({ domain: call.handle(domain), dmaDevice: call.handle(device) }).status;
}

export function detachDevice(call: Call): number {
  const { domain, pdo, inputMappingId } = argumentLayouts.detachDevice.fields;
  return call.operations.detachDevice({
    domain: call.handle(domain),
    physicalDeviceObject: call.number(pdo),
    inputMappingId: call.number(inputMappingId),
  }).status;
}

export function detachDeviceEx(call: Call): number {
  return call.operations.detachDeviceEx({ dmaDevice: call.handle(argumentLayouts.detachDeviceEx.fields.device) })
    .status;
}

export function flushDomain(call: Call): number {
  return call.operations.flushDomain({ domain: call.handle(argumentLayouts.flushDomain.fields.domain) }).status;
}

export function flushDomainByVaList(call: Call): number {
  const { domain, lastLevel, vaList: address, number } = argumentLayouts.flushDomainByVaList.fields;
  const count = call.number(number);
  if (count > LIST_ADDRESSES_MAX) return tooLong(call, count, LIST_ADDRESSES_MAX);
  const vaList = call.lists.addresses(call.wide(address), count);
  if (vaList === undefined) return call.unreadable(call.wide(address), BAD_LIST.flushDomainByVaList);
  return call.operations.flushDomainByVaList({
    domain: call.handle(domain),
    lastLevel: call.flag(lastLevel),
    vaList,
  }).status;
}

export function configureDomain(call: Call): number {
  const { domain } = argumentLayouts.configureDomain.fields;
  return call.operations.configureDomain({ domain: call.handle(domain), configuration: configuration(call) }).status;
}

function configuration(call: Call): DomainConfiguration {
  const { arch, u } = argumentLayouts.configureDomain.fields;
  const type = call.number(arch);
  if (type === DomainConfigurationArch.X64) {
    const { firstLevelPageTableRoot, translationEnabled, levels } = x64ConfigurationLayout.fields;
    return {
      type,
      firstLevelPageTableRoot: call.wideWithin(u, firstLevelPageTableRoot),
      translationEnabled: call.within(u, translationEnabled) !== 0,
      levels: orDefault(call.within(u, levels)),
    };
  }
  const fields = arm64ConfigurationLayout.fields;
  return {
    // What is no architecture at all, the operation refuses.
    type: type as typeof DomainConfigurationArch.Arm64,
    ttbr0: call.wideWithin(u, fields.ttbr0),
    ttbr1: call.wideWithin(u, fields.ttbr1),
    mair0: call.within(u, fields.mair0),
    mair1: call.within(u, fields.mair1),
    inputSize0: call.within(u, fields.inputSize0),
    inputSize1: call.within(u, fields.inputSize1),
    coherentTableWalks: call.within(u, fields.coherentTableWalks) !== 0,
    translationEnabled: call.within(u, fields.translationEnabled) !== 0,
    granule: orDefault(call.within(u, fields.granule)),
  };
}

function orDefault(value: number): number | undefined {
  return value === 0 ? undefined : value;
}

function regions(call: Call): readonly ReservedRegion[] | undefined | number {
  const { reservedRegions: address, reservedRegionCount } = argumentLayouts.createDomainEx.fields;
  const count = call.number(reservedRegionCount);
  if (count === 0) return undefined;
  if (count > LIST_REGIONS_MAX) return tooLong(call, count, LIST_REGIONS_MAX);
  const { bytes, fields } = reservedRegionLayout;
  const list = call.lists.structures(call.wide(address), count, bytes);
  if (list === undefined) return call.unreadable(call.wide(address), BAD_LIST.createDomainEx);
  return Array.from({ length: count }, (_, index) => ({
    base: list.get64(fields.base, index * bytes),
    numberOfPages: Number(list.get64(fields.numberOfPages, index * bytes)),
    shouldMap: list.get(fields.shouldMap, index * bytes) !== 0,
  }));
}

function tooLong(call: Call, count: number, limit: number): number {
  call.note('dmaIommu.listTooLong', { count, limit });
  return LIST_TOO_LONG;
}
