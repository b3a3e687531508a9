import { describe, expect, it } from 'vitest';
import { operationNames } from '../../../../src/iommu/dma-iommu/opcodes.ts';
import type { OperationName } from '../../../../src/iommu/dma-iommu/operations.ts';
import { Bench, Frame, type Values } from './support.ts';

const FRAMES_LIST = [5n, 9n, 0x7fffffffn];
const LIST = BigInt(Frame.data) << 12n;
const UNSUCCESSFUL = 0xc0000001;

interface Case {
  readonly name: OperationName;
  readonly about?: string;
  readonly values: Values;
  /** 64-bit words at LIST. */
  readonly list?: readonly bigint[];
  readonly args: object;
  readonly answer?: object;
  readonly result?: object;
}

const mdl = { type: 'mdl', pages: Int32Array.of(5, 9, 0x7fffffff), byteOffset: 16, byteCount: 8193 };
const mdlValues = { type: 0, byteOffset: 16, address: LIST, size: 8193 };
const pfns = { type: 'pfnArray', pages: Int32Array.of(5, 9, 0x7fffffff) };
const pfnValues = { type: 2, address: LIST, size: 3 };
const range = { type: 'contiguousRange', base: 0x123456789000n, size: 0x4000n };
const rangeValues = { type: 1, address: 0x123456789000n, size: 0x4000 };
const WIDE = 0xfedcba9876543000n;

const cases: readonly Case[] = [
  {
    name: 'createDomain',
    values: { osManagedPageTable: 1 },
    args: { osManagedPageTable: true },
    answer: { status: 0, domain: 41 },
    result: { domain: 41 },
  },
  {
    name: 'createDomain',
    about: 'caller-managed',
    values: {},
    args: { osManagedPageTable: false },
    answer: { status: 0, domain: 42 },
    result: { domain: 42 },
  },
  {
    name: 'createDomainEx',
    values: {
      domainType: 3,
      hasAllocator: 1,
      allocatorType: 1,
      addressWidth: 39,
      flags: WIDE,
      reservedRegions: LIST,
      reservedRegionCount: 2,
    },
    list: [0x1000n, 7n, 1n, 0xfee00000n, 256n, 0n],
    args: {
      domainType: 3,
      flags: WIDE,
      logicalAllocatorConfig: { logicalAllocatorType: 1, addressWidth: 39 },
      reservedRegions: [
        { base: 0x1000n, numberOfPages: 7, shouldMap: true },
        { base: 0xfee00000n, numberOfPages: 256, shouldMap: false },
      ],
    },
    answer: { status: 0, domain: 43 },
    result: { domain: 43 },
  },
  {
    name: 'createDomainEx',
    about: 'without options',
    values: { domainType: 2 },
    args: { domainType: 2, flags: 0n, logicalAllocatorConfig: undefined, reservedRegions: undefined },
    answer: { status: 0, domain: 44 },
    result: { domain: 44 },
  },
  { name: 'deleteDomain', values: { domain: 7 }, args: { domain: 7 } },
  {
    name: 'attachDevice',
    values: { domain: 1, pdo: 0x0102, inputMappingIdBase: 3, mappingCount: 4 },
    args: { domain: 1, physicalDeviceObject: 0x0102, inputMappingIdBase: 3, mappingCount: 4 },
  },
  { name: 'attachDeviceEx', values: { domain: 1, device: 2 }, args: { domain: 1, dmaDevice: 2 } },
  {
    name: 'detachDevice',
    values: { domain: 1, pdo: 0x0102, inputMappingId: 3 },
    args: { domain: 1, physicalDeviceObject: 0x0102, inputMappingId: 3 },
  },
  { name: 'detachDeviceEx', values: { device: 2 }, args: { dmaDevice: 2 } },
  { name: 'flushDomain', values: { domain: 0xffffffff }, args: { domain: 0xffffffff } },
  {
    name: 'flushDomainByVaList',
    values: { domain: 1, lastLevel: 1, vaList: LIST, number: 2 },
    list: [WIDE, 0x1234n],
    args: { domain: 1, lastLevel: true, vaList: [WIDE, 0x1234n] },
  },
  {
    name: 'flushDomainByVaList',
    about: 'nothing',
    values: { domain: 1 },
    args: { domain: 1, lastLevel: false, vaList: [] },
  },
  {
    name: 'queryInputMappings',
    values: { pdo: 0x0100, bufferLength: 12, buffer: LIST },
    args: { physicalDeviceObject: 0x0100, bufferLength: 12 },
    answer: { status: 0, inputMappingIds: [8, 9, 10], returnLength: 12 },
    result: { returnLength: 12 },
  },
  {
    name: 'mapLogicalRange',
    values: { domain: 1, permissions: 3, mdl: mdlValues, logicalAddress: WIDE },
    list: FRAMES_LIST,
    args: { domain: 1, permissions: 3, mdl, logicalAddress: WIDE },
  },
  {
    name: 'mapLogicalRangeEx',
    values: {
      domain: 1,
      permissions: 2,
      memory: pfnValues,
      present: 7,
      explicitLogicalAddress: 0x1000,
      minLogicalAddress: 0x2000,
      maxLogicalAddress: WIDE,
    },
    list: FRAMES_LIST,
    args: {
      domain: 1,
      permissions: 2,
      physicalAddressToMap: pfns,
      explicitLogicalAddress: 0x1000n,
      minLogicalAddress: 0x2000n,
      maxLogicalAddress: WIDE,
    },
    answer: { status: 0, logicalAddress: WIDE },
    result: { logicalAddress: WIDE },
  },
  {
    name: 'mapLogicalRangeEx',
    about: 'without optional addresses',
    values: {
      domain: 1,
      permissions: 2,
      memory: rangeValues,
      explicitLogicalAddress: 1,
      minLogicalAddress: 1,
      maxLogicalAddress: 1,
    },
    args: {
      domain: 1,
      permissions: 2,
      physicalAddressToMap: range,
      explicitLogicalAddress: undefined,
      minLogicalAddress: undefined,
      maxLogicalAddress: undefined,
    },
    answer: { status: 0, logicalAddress: 0x7000n },
    result: { logicalAddress: 0x7000n },
  },
  {
    name: 'unmapLogicalRange',
    values: { domain: 1, logicalAddress: WIDE, numberOfPages: 0x100000000n },
    args: { domain: 1, logicalAddress: WIDE, numberOfPages: 0x100000000 },
  },
  {
    name: 'mapIdentityRange',
    values: { domain: 1, permissions: 1, mdl: mdlValues },
    list: FRAMES_LIST,
    args: { domain: 1, permissions: 1, mdl },
  },
  {
    name: 'mapIdentityRangeEx',
    values: { domain: 1, permissions: 1, memory: mdlValues },
    list: FRAMES_LIST,
    args: { domain: 1, permissions: 1, physicalAddressToMap: mdl },
  },
  {
    name: 'unmapIdentityRange',
    values: { domain: 1, mdl: mdlValues },
    list: FRAMES_LIST,
    args: { domain: 1, mdl },
  },
  {
    name: 'unmapIdentityRangeEx',
    values: { domain: 1, memory: rangeValues },
    args: { domain: 1, mappedPhysicalAddress: range },
  },
  {
    name: 'setDeviceFaultReporting',
    about: 'off',
    values: { pdo: 0x0100, inputMappingIdBase: 2, context: 5 },
    args: { physicalDeviceObject: 0x0100, inputMappingIdBase: 2, enable: false, faultConfig: undefined },
  },
  {
    name: 'setDeviceFaultReporting',
    values: { pdo: 0x0100, enable: 1, hasConfig: 1, context: WIDE },
    args: {
      physicalDeviceObject: 0x0100,
      inputMappingIdBase: 0,
      enable: true,
      faultConfig: { faultHandler: expect.any(Function), faultContext: WIDE },
    },
  },
  {
    name: 'setDeviceFaultReportingEx',
    values: { device: 3, inputMappingIdBase: 1, enable: 1, hasConfig: 1, context: WIDE },
    args: {
      dmaDevice: 3,
      inputMappingIdBase: 1,
      enable: true,
      faultConfig: { faultHandler: expect.any(Function), faultContext: WIDE },
    },
  },
  {
    name: 'queryAvailableDomainTypes',
    values: { device: 3 },
    args: { dmaDevice: 3 },
    answer: { status: UNSUCCESSFUL, availableDomains: 13 },
    result: { availableDomains: 13 },
  },
  {
    name: 'registerInterfaceStateChangeCallback',
    values: { device: 3, stateFields: 1, callback: WIDE, context: 6 },
    args: { stateChangeCallback: expect.any(Function), context: 6n, dmaDevice: 3, stateFields: 1 },
  },
  {
    name: 'unregisterInterfaceStateChangeCallback',
    values: { device: 3, callback: WIDE },
    args: { stateChangeCallback: expect.any(Function), dmaDevice: 3 },
  },
  {
    name: 'reserveLogicalAddressRange',
    values: {
      domain: 1,
      present: 6,
      size: WIDE,
      explicitLogicalAddress: 1,
      minLogicalAddress: 2,
      maxLogicalAddress: 3,
    },
    args: { domain: 1, size: WIDE, explicitLogicalAddress: undefined, minLogicalAddress: 2n, maxLogicalAddress: 3n },
    answer: { status: 0, token: 9, logicalAddressBase: 0x5000n, size: 0x3000n },
    result: { token: 9, logicalAddressBase: 0x5000n, size: 0x3000n },
  },
  { name: 'freeReservedLogicalAddressRange', values: { token: 9 }, args: { token: 9 } },
  {
    name: 'mapReservedLogicalRange',
    values: { token: 9, permissions: 3, offset: WIDE, memory: pfnValues },
    list: FRAMES_LIST,
    args: { token: 9, permissions: 3, offset: WIDE, physicalAddressToMap: pfns },
    answer: { status: 0, mappedSegment: 10, offset: 0x1000n, size: 0x2000n },
    result: { segment: 10, offset: 0x1000n, size: 0x2000n },
  },
  { name: 'unmapReservedLogicalRange', values: { segment: 10 }, args: { mappedSegment: 10 } },
  {
    name: 'createDevice',
    values: { pdo: 0x0100, configurationCount: 4, configurations: LIST },
    list: [1n, (4n << 32n) | 8n, 2n, 0x1234n, 3n, (1n << 32n) | 1n, 9n, 0x55n],
    args: {
      physicalDeviceObject: 0x0100,
      deviceConfig: [
        { configType: 1, inputMappingBase: 8, mappingsCount: 4 },
        { configType: 2, deviceId: 0x1234 },
        { configType: 3, pasidConfigType: 1, suppressPasidFaults: true },
        { configType: 9, deviceId: 0x55 },
      ],
    },
    answer: { status: 0, dmaDevice: 11 },
    result: { device: 11 },
  },
  {
    name: 'createDevice',
    about: 'without configuration',
    values: { pdo: 0x0100, configurations: 0x1234 },
    args: { physicalDeviceObject: 0x0100, deviceConfig: undefined },
    answer: { status: 0, dmaDevice: 12 },
    result: { device: 12 },
  },
  { name: 'deleteDevice', values: { device: 11 }, args: { dmaDevice: 11 } },
  {
    name: 'createPasidDevice',
    values: { device: 11 },
    args: { dmaDevice: 11 },
    answer: { status: 0, pasidDevice: 12, asid: 0xfffff },
    result: { pasidDevice: 12, asid: 0xfffff },
  },
  { name: 'deletePasidDevice', values: { pasidDevice: 12 }, args: { pasidDevice: 12 } },
  { name: 'attachPasidDevice', values: { domain: 1, pasidDevice: 12 }, args: { domain: 1, pasidDevice: 12 } },
  { name: 'detachPasidDevice', values: { pasidDevice: 12 }, args: { pasidDevice: 12 } },
  {
    name: 'queryDeviceInfo',
    values: { device: 11, size: 3 },
    args: { dmaDevice: 11, size: 3 },
    answer: {
      status: 0,
      bytesWritten: 3,
      information: { defaultPasidEnabled: true, pasidTaggedDmaEnabled: false, pasidFaultsSuppressed: true },
    },
    result: { bytesWritten: 3, defaultPasidEnabled: 1, pasidTaggedDmaEnabled: 0, pasidFaultsSuppressed: 1 },
  },
  {
    name: 'configureDomain',
    about: 'an unknown architecture is left to the operation',
    values: { domain: 1, arch: 2 },
    args: { domain: 1, configuration: expect.objectContaining({ type: 2 }) },
  },
];

describe('a command becomes the operation with its arguments', () => {
  it.each(cases.map(one => [one.about ? `${one.name} (${one.about})` : one.name, one] as const))(
    '%s',
    (_title, one) => {
      const bench = new Bench().enable();
      if (one.list) bench.data(one.list);
      if (one.answer) bench.operations.answers.set(one.name, one.answer);
      const completion = bench.command(one.name, one.values, { cookie: WIDE });
      expect(bench.operations.calls).toEqual([{ name: one.name, args: one.args }]);
      const { status } = { status: 0, ...one.answer };
      expect(completion).toMatchObject({ kind: 0, status, cookie: WIDE, phase: 1, result: one.result ?? {} });
      expect(completion.bytes.subarray(16 + 24).some(byte => byte !== 0)).toBe(false);
      expect(bench.trace.kinds().filter(kind => kind !== 'dmaIommu.rings')).toEqual([]);
    },
  );

  it('is there for every operation', () => {
    const covered = new Set([...cases.map(one => one.name), 'configureDomain']);
    expect(operationNames.filter(name => !covered.has(name))).toEqual([]);
  });

  it.each(operationNames)('%s: the status of the operation is the status of the completion', name => {
    const bench = new Bench().enable();
    bench.operations.answers.set(name, { status: 0xc00000f3, bytesWritten: 0, availableDomains: 0 });
    expect(bench.command(name, {}).status).toBe(0xc00000f3);
    expect(bench.operations.calls.map(call => call.name)).toEqual([name]);
  });
});

describe('queryInputMappings', () => {
  it('writes the ids to the buffer', () => {
    const bench = new Bench().enable();
    bench.operations.answers.set('queryInputMappings', { status: 0, inputMappingIds: [8, 0xffff], returnLength: 8 });
    bench.command('queryInputMappings', { buffer: LIST, bufferLength: 8 });
    expect([...bench.memory.peek(Number(LIST), 12)]).toEqual([8, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
  });

  it('writes nothing on a short buffer, but tells the length', () => {
    const bench = new Bench().enable();
    bench.data([0x1111111111111111n]);
    bench.operations.answers.set('queryInputMappings', { status: 0xc0000023, inputMappingIds: [8], returnLength: 4 });
    expect(bench.command('queryInputMappings', { buffer: LIST }).result).toEqual({ returnLength: 4 });
    expect(bench.memory.peek(Number(LIST), 1)[0]).toBe(0x11);
  });
});
