import { expect, it } from 'vitest';
import { DomainType } from '../../../src/iommu/dma-iommu/types.ts';
import { EventLog } from './event-log.ts';
import { X64Tables, x64Config } from './guest-tables.ts';
import { DISK, GPU, NIC, R, Rig, RW, W } from './support.ts';

function setUp() {
  const trace = new EventLog('translation');
  return { trace, rig: new Rig({ trace }) };
}

it('translations are told with where they came from', () => {
  const { rig, trace } = setUp();
  const domain = rig.domain();
  rig.attach(domain);
  rig.map(domain, 0x1000n, [5], R);
  rig.dma(NIC, 0x1234n);
  rig.dma(NIC, 0x1238n);
  const fields = { requesterId: NIC, access: R, permissions: R, shift: 12, frame: 5, domain };
  expect(trace.take()).toEqual([
    { kind: 'translation', source: 'iommu', fields: { ...fields, source: 'walk', iova: 0x1234n } },
    { kind: 'translation', source: 'iommu', fields: { ...fields, source: 'iotlb', iova: 0x1238n } },
  ]);
});

it('those of PassThrough domains, and where stage 1 is bypassed, pass through', () => {
  const { rig, trace } = setUp();
  rig.attach(rig.domain(DomainType.PassThrough));
  const unmanaged = rig.domain(DomainType.Unmanaged);
  rig.attach(unmanaged, DISK);
  rig.unit.configureDomain({ domain: unmanaged, configuration: x64Config({ root: 0n, translationEnabled: false }) });
  rig.dma(NIC, 0x5008n, W);
  rig.dma(DISK, 0x6000n, W);
  expect(trace.fields()).toMatchObject([
    { requesterId: NIC, source: 'passThrough', frame: 5, permissions: RW, access: W },
    { requesterId: DISK, source: 'passThrough', frame: 6, domain: unmanaged },
  ]);
});

it('those by the tables of a caller say the whole address and the size of the page', () => {
  const { rig, trace } = setUp();
  const tables = new X64Tables(rig.memory);
  tables.set(0xffff_ffff_4000_0000n, 2, 0x4020_00e7n);
  const domain = rig.domain(DomainType.Unmanaged);
  rig.attach(domain, GPU);
  rig.unit.configureDomain({ domain, configuration: x64Config({ root: tables.root }) });
  rig.dma(GPU, 0xffff_ffff_4000_3000n);
  expect(trace.fields()).toMatchObject([{ iova: 0xffff_ffff_4000_3000n, shift: 21, frame: 0x40203, source: 'walk' }]);
});

it('what is refused is no translation', () => {
  const { rig, trace } = setUp();
  rig.attach(rig.domain());
  rig.dma(NIC, 0x1000n);
  rig.dma(DISK, 0x1000n);
  expect(trace.take()).toEqual([]);
});
