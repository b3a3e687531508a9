/** The function over a real unit: what a driver does, from the ring to the DMA. */
import { describe, expect, it } from 'vitest';
import { DmaIommuFunction } from '../../../../src/iommu/dma-iommu/function/function.ts';
import { TranslationSwitch } from '../../../../src/iommu/dma-iommu/function/translation-switch.ts';
import { NtStatus } from '../../../../src/iommu/dma-iommu/ntstatus.ts';
import { operationNames } from '../../../../src/iommu/dma-iommu/opcodes.ts';
import { DmaIommu } from '../../../../src/iommu/dma-iommu/unit.ts';
import { Translation } from '../../../../src/iommu/translator.ts';
import { Bench, Frame } from './support.ts';

const NIC = 0x0100;
const GPU = 0x0200;
const LIST = BigInt(Frame.data) << 12n;
const devices = [
  { requesterId: NIC, inputMappingIds: [NIC], acpi: false, pasidCapable: false },
  { requesterId: GPU, inputMappingIds: [GPU], acpi: false, pasidCapable: true },
];

/** A bench whose operations are those of a real unit. */
class UnitBench extends Bench {
  readonly real: DmaIommu;
  override readonly translation: TranslationSwitch;
  override readonly unit: DmaIommuFunction;

  constructor(compat: 'extended' | 'windows' = 'extended') {
    super({ devices, compat });
    const directory = { find: (id: number) => devices.find(one => one.requesterId === id), all: () => devices };
    const { memory, jobs, trace, line } = this;
    this.real = new DmaIommu({ name: 'iommu', memory, devices: directory, jobs, trace, compat });
    this.translation = new TranslationSwitch(this.real);
    const { real: operations, translation } = this;
    this.unit = new DmaIommuFunction({
      name: 'iommu',
      operations,
      memory,
      line,
      jobs,
      trace,
      directory,
      translation,
      compat,
    });
    this.enable({ command: 4, completion: 4, fault: 4 });
  }

  ok(...command: Parameters<Bench['command']>): Record<string, number | bigint> {
    const { status, result } = this.command(...command);
    expect([command[0], status]).toEqual([command[0], 0]);
    return result as Record<string, number | bigint>;
  }
}

const out = new Translation();

describe('version 1 through the ring', () => {
  it('maps, translates, unmaps and faults', () => {
    const bench = new UnitBench();
    const { domain } = bench.ok('createDomain', { osManagedPageTable: 1 });
    bench.data([300n, 302n]);
    const mdl = { type: 0, address: LIST, size: 8192 };
    bench.ok('mapLogicalRange', { domain: domain!, permissions: 3, mdl, logicalAddress: 0x400000 });
    bench.ok('attachDevice', { domain: domain!, pdo: NIC, mappingCount: 1 });
    bench.ok('setDeviceFaultReporting', { pdo: NIC, enable: 1, hasConfig: 1, context: 0x1234 });
    expect(bench.translation.translate(NIC, 0, 0x401abc, 2, out)).toBe(true);
    expect(out.frame).toBe(302);
    bench.ok('unmapLogicalRange', { domain: domain!, logicalAddress: 0x400000, numberOfPages: 2 });
    expect(bench.translation.translate(NIC, 0, 0x401abc, 2, out)).toBe(false);
    bench.jobs.run();
    expect(bench.fault(0)).toMatchObject({
      phase: 1,
      requesterId: NIC,
      context: 0x1234n,
      faultAddress: 0x401abcn,
      access: 2,
      domain,
      type: 6,
    });
    expect(bench.command('deleteDomain', { domain: domain! }).status).toBe(NtStatus.RESOURCE_IN_USE);
    bench.ok('detachDevice', { domain: domain!, pdo: NIC });
    bench.ok('deleteDomain', { domain: domain! });
  });

  it('gives the ids of a device', () => {
    const bench = new UnitBench();
    expect(bench.command('queryInputMappings', { pdo: NIC, buffer: LIST })).toMatchObject({
      status: NtStatus.BUFFER_TOO_SMALL,
      result: { returnLength: 4 },
    });
    bench.ok('queryInputMappings', { pdo: NIC, buffer: LIST, bufferLength: 4 });
    expect([...bench.memory.peek(Number(LIST), 4)]).toEqual([0, 1, 0, 0]);
  });
});

describe('the probe of a real unit', () => {
  const probe = (bench: Bench, iova: bigint, access: number) => {
    bench.write('PROBE_DEVICE', NIC);
    bench.write64('PROBE_IOVA', iova);
    bench.write('PROBE_COMMAND', 0x80000000 + access);
    bench.jobs.run();
    const result = bench.read('PROBE_RESULT');
    return {
      translated: result & 1,
      source: (result >>> 4) & 3,
      level: (result >>> 8) & 7,
      permissions: (result >>> 12) & 3,
      shift: (result >>> 16) & 63,
      fault: (result >>> 24) & 7,
      address: bench.read64('PROBE_ADDRESS'),
      domain: bench.read('PROBE_DOMAIN'),
    };
  };

  it('tells a walk from the TLB, and why an access would fail', () => {
    const bench = new UnitBench();
    const { domain } = bench.ok('createDomain', { osManagedPageTable: 1 });
    bench.data([300n]);
    const mdl = { type: 0, address: LIST, size: 4096 };
    bench.ok('mapLogicalRange', { domain: domain!, permissions: 1, mdl, logicalAddress: 0x400000 });
    expect(probe(bench, 0x400123n, 1)).toMatchObject({ translated: 1, source: 1, address: 0x400123n, domain: 0 });
    bench.ok('attachDevice', { domain: domain!, pdo: NIC, mappingCount: 1 });
    const walk = { translated: 1, level: 1, permissions: 1, shift: 12, address: 0x12c123n, domain };
    expect(probe(bench, 0x400123n, 1)).toMatchObject({ ...walk, source: 3 });
    bench.translation.translate(NIC, 0, 0x400123, 1, out);
    expect(probe(bench, 0x400123n, 1)).toMatchObject({ translated: 1, source: 2, address: 0x12c123n });
    expect(probe(bench, 0x400123n, 2)).toMatchObject({ translated: 0, fault: 4, address: 0n, domain });
    expect(probe(bench, 0x500000n, 1)).toMatchObject({ translated: 0, fault: 6 });
  });
});

describe('versions 2 and 3 through the ring', () => {
  it('allocate, reserve, map and tell changes', () => {
    const bench = new UnitBench();
    const { domain } = bench.ok('createDomainEx', {
      domainType: 0,
      hasAllocator: 1,
      allocatorType: 1,
      addressWidth: 32,
    });
    const memory = { type: 1, address: 0x200000, size: 0x4000 };
    const { logicalAddress } = bench.ok('mapLogicalRangeEx', { domain: domain!, permissions: 3, memory });
    const { device } = bench.ok('createDevice', { pdo: NIC });
    bench.ok('attachDeviceEx', { domain: domain!, device: device! });
    expect(bench.translation.translate(NIC, 0, Number(logicalAddress) + 0x1000, 1, out)).toBe(true);
    expect(out.frame).toBe(0x201);
    const { token } = bench.ok('reserveLogicalAddressRange', { domain: domain!, size: 0x10000 });
    const values = { token: token!, offset: 0x2000, permissions: 1, memory };
    const { segment } = bench.ok('mapReservedLogicalRange', values);
    expect(bench.command('freeReservedLogicalAddressRange', { token: token! }).status).toBe(NtStatus.RESOURCE_IN_USE);
    bench.ok('unmapReservedLogicalRange', { segment: segment! });
    bench.ok('freeReservedLogicalAddressRange', { token: token! });
    expect(bench.ok('queryAvailableDomainTypes', { device: device! }).availableDomains).toBe(15);
  });

  it('call back once at registration, and when DMA Guard changes', () => {
    const bench = new UnitBench();
    const { device } = bench.ok('createDevice', { pdo: NIC });
    bench.write('INTERRUPT_ENABLE', 4);
    bench.take();
    const values = { device: device!, stateFields: 1, callback: 7n, context: 8n };
    expect(() => bench.ok('registerInterfaceStateChangeCallback', values)).toThrow('2 completions');
    bench.real.setDmaGuard(NIC, true);
    bench.jobs.run();
    expect(bench.take().map(one => [one.kind, one.cookie])).toEqual([[1, 8n]]);
    const { callback } = values;
    const other = { device: device!, callback: 9n };
    expect(bench.command('unregisterInterfaceStateChangeCallback', other).status).toBe(NtStatus.UNSUCCESSFUL);
    bench.ok('unregisterInterfaceStateChangeCallback', { device: device!, callback });
    expect(bench.command('unregisterInterfaceStateChangeCallback', { device: device!, callback }).status).toBe(
      NtStatus.UNSUCCESSFUL,
    );
  });

  it('know PASIDs', () => {
    const bench = new UnitBench();
    bench.data([3n, 1n]);
    const { device } = bench.ok('createDevice', { pdo: GPU, configurationCount: 1, configurations: LIST });
    const { pasidDevice, asid } = bench.ok('createPasidDevice', { device: device! });
    const { domain } = bench.ok('createDomainEx', { domainType: 1 });
    bench.ok('attachPasidDevice', { domain: domain!, pasidDevice: pasidDevice! });
    expect(bench.translation.withPasid(Number(asid)).translate(GPU, 0, 0x5000, 1, out)).toBe(true);
    expect(out.frame).toBe(5);
    expect(bench.ok('queryDeviceInfo', { device: device!, size: 3 })).toMatchObject({
      bytesWritten: 3,
      pasidTaggedDmaEnabled: 1,
    });
    expect(bench.command('deletePasidDevice', { pasidDevice: pasidDevice! }).status).toBe(NtStatus.RESOURCE_IN_USE);
    bench.ok('detachPasidDevice', { pasidDevice: pasidDevice! });
    bench.ok('deletePasidDevice', { pasidDevice: pasidDevice! });
  });
});

describe('a real unit', () => {
  it.each(operationNames)('refuses %s of nothing but zeros, or does it, and lives on', name => {
    const bench = new UnitBench();
    const { status } = bench.command(name, {});
    const refused = !['createDomain', 'createDomainEx'].includes(name);
    expect(Number(status) >= 0xc0000000).toBe(refused);
    bench.ok('createDomain', {});
  });

  it('forgets everything at a reset', () => {
    const bench = new UnitBench();
    const { domain } = bench.ok('createDomain', { osManagedPageTable: 1 });
    bench.ok('attachDevice', { domain: domain!, pdo: NIC, mappingCount: 1 });
    bench.write('CONTROL', 4);
    bench.memory.poke(Frame.completions * 4096, new Uint8Array(4096));
    bench.enable();
    expect(bench.command('flushDomain', { domain: domain! }).status).toBe(NtStatus.INVALID_HANDLE);
    expect(bench.translation.translate(NIC, 0, 0x5000, 1, out)).toBe(true);
  });

  it.each([
    ['extended', NtStatus.INVALID_HANDLE],
    ['windows', NtStatus.NOT_IMPLEMENTED],
  ] as const)('in %s mode answers setDeviceFaultReportingEx with its status', (compat, status) => {
    const bench = new UnitBench(compat);
    expect(bench.command('setDeviceFaultReportingEx', { enable: 1, hasConfig: 1 }).status).toBe(status);
  });
});
