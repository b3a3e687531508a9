import { describe, expect, it } from 'vitest';
import { DeviceCreationConfigType, DomainType, PasidConfigType } from '../../../src/iommu/dma-iommu/types.ts';
import { EventLog } from './event-log.ts';
import { X64Tables, x64Config } from './guest-tables.ts';
import { DISK, expectStatus, GPU, NIC, Rig, UART } from './support.ts';

function setUp() {
  const trace = new EventLog('attach');
  return { trace, rig: new Rig({ trace }) };
}

describe('attach and detach', () => {
  it('of version 1 are told with the requester id and the domain', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    rig.attach(domain);
    rig.detach(domain);
    expect(trace.take()).toEqual([
      { kind: 'attach', source: 'iommu', fields: { requesterId: NIC, domain, kind: 'translated', pasid: -1 } },
      { kind: 'detach', source: 'iommu', fields: { requesterId: NIC, domain, pasid: -1 } },
    ]);
  });

  it('of versions 2 and 3 as well', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain(DomainType.PassThrough);
    const dmaDevice = rig.device(DISK);
    rig.unit.attachDeviceEx({ domain, dmaDevice });
    rig.unit.detachDeviceEx({ dmaDevice });
    expect(trace.fields()).toEqual([
      { requesterId: DISK, domain, kind: 'passThrough', pasid: -1 },
      { requesterId: DISK, domain, pasid: -1 },
    ]);
  });

  it('of a group of ids are told one by one', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    rig.attach(domain, UART, 9, 3);
    expect(trace.fields('attach').map(({ requesterId }) => requesterId)).toEqual([9, 10, 11]);
    rig.detach(domain, UART, 9);
    expect(trace.fields('detach').map(({ requesterId }) => requesterId)).toEqual([9, 10, 11]);
  });

  it('of a PASID device carry its PASID', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain(DomainType.TranslateS1);
    const dmaDevice = rig.device(GPU, [
      {
        configType: DeviceCreationConfigType.Pasid,
        pasidConfigType: PasidConfigType.PasidTaggedDma,
        suppressPasidFaults: false,
      },
    ]);
    const { pasidDevice, asid } = rig.unit.createPasidDevice({ dmaDevice });
    rig.unit.attachPasidDevice({ domain, pasidDevice: pasidDevice! });
    rig.unit.detachPasidDevice({ pasidDevice: pasidDevice! });
    expect(trace.fields()).toEqual([
      { requesterId: GPU, domain, kind: 'translated', pasid: asid },
      { requesterId: GPU, domain, pasid: asid },
    ]);
  });

  it('say what ConfigureDomain makes of an unmanaged domain', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain(DomainType.Unmanaged);
    rig.attach(domain);
    const { root } = new X64Tables(rig.memory);
    rig.unit.configureDomain({ domain, configuration: x64Config({ root }) });
    rig.unit.configureDomain({ domain, configuration: x64Config({ root, translationEnabled: false }) });
    expect(trace.fields('attach').map(({ kind }) => kind)).toEqual(['blocked', 'translated', 'passThrough']);
  });

  it('that are refused are not told', () => {
    const { rig, trace } = setUp();
    const domain = rig.domain();
    expectStatus(rig.attach(domain, 0x900), 'NOT_FOUND');
    rig.attach(domain);
    trace.take();
    expectStatus(rig.attach(domain), 'INVALID_PARAMETER');
    expectStatus(rig.detach(rig.domain()), 'INVALID_PARAMETER_1');
    expect(trace.take()).toEqual([]);
  });

  it('are not told where nobody wants them', () => {
    const trace = new EventLog('dma');
    const rig = new Rig({ trace });
    const domain = rig.domain();
    rig.attach(domain);
    rig.map(domain, 0x1000n, [5]);
    rig.dma(NIC, 0x1000n);
    rig.dma(NIC, 0x9000n);
    rig.unmap(domain, 0x1000n, 1);
    rig.detach(domain);
    rig.unit.reset();
    expect(trace.take()).toEqual([]);
  });
});

it('a reset of the unit is told', () => {
  const trace = new EventLog('connection');
  const rig = new Rig({ trace });
  rig.unit.reset();
  expect(trace.take()).toEqual([{ kind: 'reset', source: 'iommu', fields: { what: 'iommu' } }]);
});
