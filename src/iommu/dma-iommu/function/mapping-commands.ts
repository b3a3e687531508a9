/** Commands that map and unmap: by logical address, identity, and within reserved ranges. */
import type { Call } from './call.ts';
import { BAD_LIST } from './choices.ts';
import { argumentLayouts, Present, resultLayouts } from './layout.ts';

export function mapLogicalRange(call: Call): number {
  const { domain, permissions, mdl: field, logicalAddress } = argumentLayouts.mapLogicalRange.fields;
  const mdl = call.mdl(field, BAD_LIST.mapLogicalRange);
  if (typeof mdl === 'number') return mdl;
  return call.operations.mapLogicalRange({
    domain: call.handle(domain),
    permissions: call.number(permissions),
    mdl,
    logicalAddress: call.wide(logicalAddress),
  }).status;
}

export function mapLogicalRangeEx(call: Call): number {
  const fields = argumentLayouts.mapLogicalRangeEx.fields;
  const physicalAddressToMap = call.memory(fields.memory, BAD_LIST.mapLogicalRangeEx);
  if (typeof physicalAddressToMap === 'number') return physicalAddressToMap;
  const present = call.number(fields.present);
  const { status, logicalAddress } = call.operations.mapLogicalRangeEx({
    domain: call.handle(fields.domain),
    permissions: call.number(fields.permissions),
    physicalAddressToMap,
    explicitLogicalAddress: call.optional(fields.explicitLogicalAddress, present, Present.explicit),
    minLogicalAddress: call.optional(fields.minLogicalAddress, present, Present.minimum),
    maxLogicalAddress: call.optional(fields.maxLogicalAddress, present, Present.maximum),
  });
  call.putWide(resultLayouts.mapLogicalRangeEx.fields.logicalAddress, logicalAddress);
  return status;
}

export function unmapLogicalRange(call: Call): number {
  const { domain, logicalAddress, numberOfPages } = argumentLayouts.unmapLogicalRange.fields;
  // Where this rounds it is more pages than there are.
  const pages = Number(call.wide(numberOfPages));
  call.countPages(pages);
  return call.operations.unmapLogicalRange({
    domain: call.handle(domain),
    logicalAddress: call.wide(logicalAddress),
    numberOfPages: pages,
  }).status;
}

export function mapIdentityRange(call: Call): number {
  const { domain, permissions, mdl: field } = argumentLayouts.mapIdentityRange.fields;
  const mdl = call.mdl(field, BAD_LIST.mapIdentityRange);
  if (typeof mdl === 'number') return mdl;
  return call.operations.mapIdentityRange({
    domain: call.handle(domain),
    permissions: call.number(permissions),
    mdl,
  }).status;
}

export function mapIdentityRangeEx(call: Call): number {
  const { domain, permissions, memory } = argumentLayouts.mapIdentityRangeEx.fields;
  const physicalAddressToMap = call.memory(memory, BAD_LIST.mapIdentityRangeEx);
  if (typeof physicalAddressToMap === 'number') return physicalAddressToMap;
  return call.operations.mapIdentityRangeEx({
    domain: call.handle(domain),
    permissions: call.number(permissions),
    physicalAddressToMap,
  }).status;
}

export function unmapIdentityRange(call: Call): number {
  const { domain, mdl: field } = argumentLayouts.unmapIdentityRange.fields;
  const mdl = call.mdl(field, BAD_LIST.unmapIdentityRange);
  if (typeof mdl === 'number') return mdl;
  return call.operations.unmapIdentityRange({ domain: call.handle(domain), mdl }).status;
}

export function unmapIdentityRangeEx(call: Call): number {
  const { domain, memory } = argumentLayouts.unmapIdentityRangeEx.fields;
  const mappedPhysicalAddress = call.memory(memory, BAD_LIST.unmapIdentityRangeEx);
  if (typeof mappedPhysicalAddress === 'number') return mappedPhysicalAddress;
  return call.operations.unmapIdentityRangeEx({ domain: call.handle(domain), mappedPhysicalAddress }).status;
}

export function reserveLogicalAddressRange(call: Call): number {
  const fields = argumentLayouts.reserveLogicalAddressRange.fields;
  const outputs = resultLayouts.reserveLogicalAddressRange.fields;
  const present = call.number(fields.present);
  const bytes = call.wide(fields.size);
  call.countBytes(bytes);
  const { status, token, logicalAddressBase, size } = call.operations.reserveLogicalAddressRange({
    domain: call.handle(fields.domain),
    size: bytes,
    explicitLogicalAddress: call.optional(fields.explicitLogicalAddress, present, Present.explicit),
    minLogicalAddress: call.optional(fields.minLogicalAddress, present, Present.minimum),
    maxLogicalAddress: call.optional(fields.maxLogicalAddress, present, Present.maximum),
  });
  call.put(outputs.token, token);
  call.putWide(outputs.logicalAddressBase, logicalAddressBase);
  call.putWide(outputs.size, size);
  return status;
}

export function freeReservedLogicalAddressRange(call: Call): number {
  const { token } = argumentLayouts.freeReservedLogicalAddressRange.fields;
  return call.operations.freeReservedLogicalAddressRange({ token: call.handle(token) }).status;
}

export function mapReservedLogicalRange(call: Call): number {
  const fields = argumentLayouts.mapReservedLogicalRange.fields;
  const outputs = resultLayouts.mapReservedLogicalRange.fields;
  const physicalAddressToMap = call.memory(fields.memory, BAD_LIST.mapReservedLogicalRange);
  if (typeof physicalAddressToMap === 'number') return physicalAddressToMap;
  const { status, mappedSegment, offset, size } = call.operations.mapReservedLogicalRange({
    token: call.handle(fields.token),
    offset: call.wide(fields.offset),
    permissions: call.number(fields.permissions),
    physicalAddressToMap,
  });
  call.put(outputs.segment, mappedSegment);
  call.putWide(outputs.offset, offset);
  call.putWide(outputs.size, size);
  return status;
}

export function unmapReservedLogicalRange(call: Call): number {
  const { segment } = argumentLayouts.unmapReservedLogicalRange.fields;
  return call.operations.unmapReservedLogicalRange({ mappedSegment: call.handle(segment) }).status;
}
