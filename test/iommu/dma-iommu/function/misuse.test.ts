import { describe, expect, it } from 'vitest';
import {
  LIST_ADDRESSES_MAX,
  LIST_CONFIGURATIONS_MAX,
  LIST_ELEMENTS_PER_JOB,
  LIST_PAGES_MAX,
  LIST_REGIONS_MAX,
} from '../../../../src/iommu/dma-iommu/function/limits.ts';
import { NtStatus } from '../../../../src/iommu/dma-iommu/ntstatus.ts';
import { operationByOpcode } from '../../../../src/iommu/dma-iommu/opcodes.ts';
import type { OperationName } from '../../../../src/iommu/dma-iommu/operations.ts';
import { Bench, encodeCommand, FRAMES, Frame, type Values } from './support.ts';

const LIST = BigInt(Frame.data) << 12n;
const NOWHERE = BigInt(FRAMES) << 12n;

describe('a command that is none', () => {
  it('every opcode without an operation gets STATUS_INVALID_DEVICE_REQUEST', () => {
    const bench = new Bench().enable();
    const opcodes = [0, 0x0e, 0x20, 0x22, 0x2d, 0x37, 0x46, 0xff, 0x100, 0x101, 0xffff];
    expect(opcodes.filter(opcode => operationByOpcode(opcode))).toEqual([]);
    for (const opcode of opcodes) {
      const completion = bench.command('flushDomain', { domain: 1 }, { opcode, cookie: 9n });
      expect(completion).toMatchObject({ status: NtStatus.INVALID_DEVICE_REQUEST, opcode, cookie: 9n });
    }
    expect(bench.operations.calls).toEqual([]);
    expect(bench.trace.kinds().filter(kind => kind === 'dmaIommu.unknownOpcode')).toHaveLength(opcodes.length);
    expect(bench.read('STATUS')).toBe(1);
  });

  it('an unknown flag gets STATUS_INVALID_PARAMETER', () => {
    const bench = new Bench().enable();
    expect(bench.command('flushDomain', {}, { flags: 0x8000 }).status).toBe(NtStatus.INVALID_PARAMETER);
    expect(bench.operations.calls).toEqual([]);
    expect(bench.trace.kinds()).toContain('dmaIommu.reserved');
  });

  it.each([
    ['flushDomain', 4],
    ['flushDomain', 111],
    ['mapLogicalRangeEx', 36],
    ['unmapLogicalRange', 4],
    ['configureDomain', 40],
  ] as const)('a byte that no field of %s names, at %i, gets STATUS_INVALID_PARAMETER', (name, offset) => {
    const bench = new Bench().enable();
    expect(bench.command(name, {}, { patch: [offset, [1]] }).status).toBe(NtStatus.INVALID_PARAMETER);
    expect(bench.operations.calls).toEqual([]);
  });

  it('the reserved word of the entry is one of them', () => {
    const bench = new Bench().enable();
    const entry = encodeCommand('flushDomain', {});
    entry[4] = 1;
    bench.put(entry).doorbell();
    bench.jobs.run();
    expect(bench.take()[0]?.status).toBe(NtStatus.INVALID_PARAMETER);
  });
});

const mdlAt = (address: bigint, size: number | bigint = 4096): Values => ({ type: 0, address, size });
const pfnsAt = (address: bigint, size: number | bigint = 1): Values => ({ type: 2, address, size });

/** Operations with a list, the status of a bad one, and how a command has one at an address. */
const lists: readonly [OperationName, number, (address: bigint) => Values][] = [
  ['mapLogicalRange', NtStatus.INVALID_PARAMETER_3, address => ({ mdl: mdlAt(address) })],
  ['mapLogicalRangeEx', NtStatus.INVALID_PARAMETER_3, address => ({ memory: pfnsAt(address) })],
  ['mapIdentityRange', NtStatus.INVALID_PARAMETER_3, address => ({ mdl: mdlAt(address) })],
  ['mapIdentityRangeEx', NtStatus.INVALID_PARAMETER_3, address => ({ memory: mdlAt(address) })],
  ['unmapIdentityRange', NtStatus.INVALID_PARAMETER_2, address => ({ mdl: mdlAt(address) })],
  ['unmapIdentityRangeEx', NtStatus.INVALID_PARAMETER_2, address => ({ memory: pfnsAt(address) })],
  ['mapReservedLogicalRange', NtStatus.INVALID_PARAMETER_4, address => ({ memory: pfnsAt(address) })],
  ['flushDomainByVaList', NtStatus.INVALID_PARAMETER_4, address => ({ vaList: address, number: 1 })],
  ['createDomainEx', NtStatus.INVALID_PARAMETER_4, address => ({ reservedRegions: address, reservedRegionCount: 1 })],
  ['createDevice', NtStatus.INVALID_PARAMETER_2, address => ({ configurations: address, configurationCount: 1 })],
];

describe('a list', () => {
  const places: readonly [string, bigint][] = [
    ['outside memory', NOWHERE],
    ['not aligned', LIST + 4n],
    ['at 8 TiB', 1n << 43n],
    ['at the end of the address space', 0xfffffffffffffff8n],
  ];
  for (const [name, status, values] of lists) {
    it.each(places)(`of ${name}, %s: the parameter is bad`, (_about, address) => {
      const bench = new Bench().enable();
      expect(bench.command(name, values(address)).status).toBe(status);
      expect(bench.operations.calls).toEqual([]);
      expect(bench.trace.kinds()).toContain('dmaIommu.badList');
    });
  }

  it('that leaves memory in the middle is bad', () => {
    const bench = new Bench().enable();
    const status = bench.command('mapLogicalRangeEx', { memory: pfnsAt(NOWHERE - 4096n, 513) }).status;
    expect(status).toBe(NtStatus.INVALID_PARAMETER_3);
  });

  const tooLong: readonly [OperationName, Values][] = [
    ['mapLogicalRange', { mdl: mdlAt(LIST, LIST_PAGES_MAX * 4096 + 1) }],
    ['mapLogicalRange', { mdl: mdlAt(LIST, 0xffffffffffffffffn) }],
    ['mapLogicalRangeEx', { memory: pfnsAt(LIST, LIST_PAGES_MAX + 1) }],
    ['mapLogicalRangeEx', { memory: pfnsAt(LIST, 0xffffffffffffffffn) }],
    ['flushDomainByVaList', { vaList: LIST, number: LIST_ADDRESSES_MAX + 1 }],
    ['flushDomainByVaList', { vaList: LIST, number: 0xffffffff }],
    ['createDomainEx', { reservedRegions: LIST, reservedRegionCount: LIST_REGIONS_MAX + 1 }],
    ['createDevice', { configurations: LIST, configurationCount: LIST_CONFIGURATIONS_MAX + 1 }],
  ];
  it.each(tooLong)('of %s that is too long is not read', (name, values) => {
    const bench = new Bench().enable();
    expect(bench.command(name, values).status).toBe(NtStatus.INSUFFICIENT_RESOURCES);
    expect(bench.operations.calls).toEqual([]);
    expect(bench.trace.kinds()).toContain('dmaIommu.listTooLong');
  });

  it('of the largest length is read whole', () => {
    const bench = new Bench().enable();
    bench.data(Array.from({ length: LIST_REGIONS_MAX * 3 }, (_, i) => BigInt(i)));
    bench.command('createDomainEx', { reservedRegions: LIST, reservedRegionCount: LIST_REGIONS_MAX });
    const { reservedRegions } = bench.operations.calls[0]?.args ?? {};
    expect(reservedRegions).toHaveLength(LIST_REGIONS_MAX);
    expect(reservedRegions.at(-1)).toEqual({ base: 3069n, numberOfPages: 3070, shouldMap: true });
  });

  it('of page frames across many pieces is read whole', () => {
    const bench = new Bench().enable();
    const count = 20_000;
    bench.data(Array.from({ length: count }, (_, i) => BigInt(i * 3)));
    bench.command('mapLogicalRangeEx', { memory: pfnsAt(LIST, count) });
    const { pages } = bench.operations.calls[0]?.args.physicalAddressToMap ?? {};
    expect(pages).toEqual(Int32Array.from({ length: count }, (_, i) => i * 3));
  });

  it('counts towards what a job may do', () => {
    const bench = new Bench().enable();
    const perCommand = 30_000;
    const commands = 5;
    for (let i = 0; i < commands; i++)
      bench.put(encodeCommand('mapLogicalRangeEx', { memory: pfnsAt(0n, perCommand) }));
    bench.doorbell();
    bench.jobs.step();
    while (bench.operations.calls.length === 0) bench.jobs.step();
    expect(bench.operations.calls).toHaveLength(Math.ceil(LIST_ELEMENTS_PER_JOB / perCommand));
    bench.jobs.run();
    expect(bench.operations.calls).toHaveLength(commands);
  });
});

describe('pages that no list names count towards what a job may do, too', () => {
  const pages = 30_000n;
  const bytes = pages << 12n;
  const commands: readonly [OperationName, Values][] = [
    ['mapLogicalRangeEx', { memory: { type: 1, address: 0n, size: bytes } }],
    ['mapIdentityRangeEx', { memory: { type: 1, address: 0n, size: bytes } }],
    ['unmapIdentityRangeEx', { memory: { type: 1, address: 0n, size: bytes } }],
    ['mapReservedLogicalRange', { memory: { type: 1, address: 0n, size: bytes } }],
    ['unmapLogicalRange', { numberOfPages: pages }],
    ['reserveLogicalAddressRange', { size: bytes }],
    ['createDomainEx', { reservedRegions: LIST, reservedRegionCount: 1 }],
  ];
  it.each(commands)('in %s', (name, values) => {
    const bench = new Bench().enable();
    bench.data([0n, pages, 1n]);
    for (let i = 0; i < 5; i++) bench.put(encodeCommand(name, values));
    bench.doorbell();
    bench.jobs.step();
    while (bench.operations.calls.length === 0) bench.jobs.step();
    expect(bench.operations.calls).toHaveLength(Math.ceil(LIST_ELEMENTS_PER_JOB / Number(pages)));
    bench.jobs.run();
    expect(bench.operations.calls).toHaveLength(5);
  });

  it('but not those of a region that is only kept free', () => {
    const bench = new Bench().enable();
    bench.data([0n, pages, 0n]);
    for (let i = 0; i < 5; i++) bench.put(encodeCommand('createDomainEx', commands[6]![1]));
    bench.doorbell();
    bench.jobs.step();
    while (bench.operations.calls.length === 0) bench.jobs.step();
    expect(bench.operations.calls).toHaveLength(5);
  });
});

describe('page frames', () => {
  it.each([0x80000000n, 0xffffffffn, 0x100000000n, 0xffffffffffffffffn])('%x is none, and is told as -1', frame => {
    const bench = new Bench().enable();
    bench.data([frame]);
    bench.command('mapLogicalRangeEx', { memory: pfnsAt(LIST) });
    expect(bench.operations.calls[0]?.args.physicalAddressToMap.pages).toEqual(Int32Array.of(-1));
  });
});

describe('an MDL', () => {
  it('that starts beyond its first page is bad', () => {
    const bench = new Bench().enable();
    const mdl = { ...mdlAt(LIST), byteOffset: 4096 };
    expect(bench.command('mapLogicalRange', { mdl }).status).toBe(NtStatus.INVALID_PARAMETER_3);
  });

  it('without bytes has no pages, and is left to the operation', () => {
    const bench = new Bench().enable();
    bench.command('mapLogicalRange', { mdl: mdlAt(NOWHERE - 8n, 0) });
    expect(bench.operations.calls[0]?.args.mdl).toEqual({
      type: 'mdl',
      pages: new Int32Array(0),
      byteOffset: 0,
      byteCount: 0,
    });
  });

  it('is all that version 1 takes', () => {
    const bench = new Bench().enable();
    for (const type of [1, 2, 3, 0xffffffff]) {
      const mdl = { ...mdlAt(LIST), type };
      expect(bench.command('mapIdentityRange', { mdl }).status).toBe(NtStatus.INVALID_PARAMETER_3);
    }
  });

  it('and its like are all that version 2 takes', () => {
    const bench = new Bench().enable();
    for (const type of [3, 0xffffffff]) {
      const memory = { ...mdlAt(LIST), type };
      expect(bench.command('mapLogicalRangeEx', { memory }).status).toBe(NtStatus.INVALID_PARAMETER_3);
    }
  });
});

describe('queryInputMappings', () => {
  it.each([
    ['not aligned', LIST + 2n],
    ['outside memory', NOWHERE],
    ['beyond 8 TiB', 0xfffffffffffffffcn],
  ])('with a buffer %s: the buffer is bad', (_about, buffer) => {
    const bench = new Bench().enable();
    bench.operations.answers.set('queryInputMappings', { status: 0, inputMappingIds: [1, 2], returnLength: 8 });
    const completion = bench.command('queryInputMappings', { buffer, bufferLength: 8 });
    expect(completion.status).toBe(NtStatus.INVALID_PARAMETER_2);
    expect(completion.result).toEqual({ returnLength: 0 });
  });

  it('with a buffer that cannot be written: the buffer is bad', () => {
    const bench = new Bench().enable();
    bench.memory.protect(Frame.data, 1, { readable: true, writable: false });
    bench.operations.answers.set('queryInputMappings', { status: 0, inputMappingIds: [1], returnLength: 4 });
    expect(bench.command('queryInputMappings', { buffer: LIST }).status).toBe(NtStatus.INVALID_PARAMETER_2);
  });
});
