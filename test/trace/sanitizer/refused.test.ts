import { describe, expect, it } from 'vitest';
import { AttachKind, FaultCause, ResetWhat } from '../../../src/trace/event-kinds.ts';
import { DOMAIN, EDU0, EDU1, MS, READ, Scenario, STRANGER, Status, WRITE } from './scenario.ts';

const refusedBy = (scenario: Scenario, cause: number, more = {}) =>
  scenario.fault(0x5000, { cause, ...more }).failed(0x5000, 64);

describe('wrong-direction', () => {
  it('says what the mapping allows', () => {
    const scenario = new Scenario().map(0x5000, 1, { permissions: READ }).after(MS);
    const { only } = refusedBy(scenario, FaultCause.denied);
    expect(only.detector).toBe('wrong-direction');
    expect(only.summary).toBe('edu0 (01:00.0) tried to write 64 bytes at 0x5000, which is mapped for reading only');
    expect(only.evidence[0]!.text).toContain('first seen by a page walk, 1 ms before');
  });

  it('works the other way round', () => {
    const scenario = new Scenario().map(0x5000, 1, { permissions: WRITE });
    scenario.fault(0x5000, { cause: FaultCause.denied, access: READ }).failed(0x5000, 8, { write: 0 });
    expect(scenario.only.summary).toContain('mapped for writing only');
  });

  it('does not need to have seen the mapping', () => {
    const { only } = refusedBy(new Scenario(), FaultCause.denied);
    expect(only.summary).toContain('mapped for reading only');
    expect(only.explanation).toContain('was not seen');
  });

  it('says that the tables allowed more before', () => {
    expect(refusedBy(new Scenario().map(0x5000), FaultCause.denied).only.summary).toContain(
      'not mapped for writing any more',
    );
  });
});

describe('malformed-table', () => {
  const entry = { level: 1, entry: 0x8000_0000_1234_5003n, entryAddress: 0x1ff008 };

  it('shows the entry, its level and its address', () => {
    const { only } = refusedBy(new Scenario(), FaultCause.malformedEntry, entry);
    expect(only.detector).toBe('malformed-table');
    expect(only.summary).toContain('the level-1 entry at 0x1ff008 is 0x8000000012345003');
    expect(only.explanation).toContain('reserved bits');
  });

  it('sees an entry that leads to its own table', () => {
    const { only } = refusedBy(new Scenario(), FaultCause.malformedEntry, {
      level: 2,
      entry: 0x1ff003n,
      entryAddress: 0x1ff008,
    });
    expect(only.explanation).toContain('the very table that it is in');
  });

  it('sees an entry that leads to no memory', () => {
    const scenario = new Scenario().memory(0, 0x20000000);
    const { only } = refusedBy(scenario, FaultCause.malformedEntry, {
      level: 2,
      entry: 0xfe000003n,
      entryAddress: 0x1ff008,
    });
    expect(only.explanation).toContain('registers of a device');
  });

  it('says which table cannot be read', () => {
    const scenario = new Scenario().memory(0, 0x20000000);
    const { only } = refusedBy(scenario, FaultCause.tableUnreachable, { level: 2, entryAddress: 0xfe602010n });
    expect(only.summary).toContain('the level-2 table at 0xfe602000-0xfe602fff cannot be read');
    expect(only.explanation).toContain('no guest memory');
  });

  it('claims nothing of memory that nobody announced', () => {
    const { only } = refusedBy(new Scenario(), FaultCause.tableUnreachable, { level: 2, entryAddress: 0xfe602010n });
    expect(only.explanation).toBe('A page table on the way is not in guest memory.');
  });

  it('tells of root and context entries', () => {
    const { only } = refusedBy(new Scenario(), FaultCause.malformedContext, { entry: 0xffn, entryAddress: 0x2000 });
    expect(only.detector).toBe('malformed-table');
    expect(only.summary).toContain('root or context entry cannot be used: the entry at 0x2000 is 0xff');
  });
});

describe('dma-while-detached', () => {
  it('says when the device was detached', () => {
    const scenario = new Scenario()
      .attach()
      .after(MS)
      .detach()
      .after(2 * MS);
    const { only } = refusedBy(scenario, FaultCause.notAttached, { domain: -1 });
    expect(only.detector).toBe('dma-while-detached');
    expect(only.summary).toContain('but was detached from domain 5 2 ms before');
    expect(only.evidence.map(one => one.kind)).toEqual(['attach', 'detach', 'fault']);
  });

  it('is told of a device that never was attached', () => {
    const { only } = refusedBy(new Scenario(), FaultCause.notAttached, { domain: -1 });
    expect(only.detector).toBe('dma-while-detached');
    expect(only.summary).toContain('but is attached to no domain');
  });

  it('is told of domains that let nothing through', () => {
    const { only } = refusedBy(new Scenario().attach(EDU0, DOMAIN, AttachKind.blocked), FaultCause.blocked);
    expect(only.detector).toBe('dma-while-detached');
    expect(only.summary).toContain('while domain 5 lets nothing through');
  });
});

describe('wrong-requester-id', () => {
  const present = (scenario: Scenario, requesterId: number, of = EDU0) =>
    scenario.event('context.present', { requesterId, for: of, domain: 9 });

  it('names the requester that has an entry and is no device', () => {
    const scenario = present(present(new Scenario(), EDU1), STRANGER);
    const { only } = refusedBy(scenario, FaultCause.notAttached, { domain: -1 });
    expect(only.detector).toBe('wrong-requester-id');
    expect(only.summary).toContain('03:00.0 has one, but no device');
    expect(only.evidence[0]!.text).toBe('03:00.0 has a present context entry, domain 9');
  });

  it('is not told where only devices have entries', () => {
    const scenario = present(new Scenario(), EDU1);
    expect(refusedBy(scenario, FaultCause.notAttached, { domain: -1 }).names).toEqual(['dma-while-detached']);
  });

  it('is not told of an entry that was there when the device was detached', () => {
    const scenario = present(present(new Scenario().attach(), STRANGER).detach(), STRANGER);
    expect(refusedBy(scenario, FaultCause.notAttached, { domain: -1 }).names).toEqual(['dma-while-detached']);
  });

  it('is told of an entry that came after the device was detached', () => {
    const later = present(present(new Scenario().attach().after(MS), EDU1).detach().after(MS), STRANGER);
    const found = refusedBy(later, FaultCause.notAttached, { domain: -1 }).only;
    expect(found.detector).toBe('wrong-requester-id');
    expect(found.explanation).toContain('since it was detached 1 ms before');
    expect(found.evidence.map(one => one.kind)).toEqual(['attach', 'detach', 'context.present', 'fault']);
  });

  it('is not told where there were so many entries that not all were told', () => {
    const scenario = new Scenario().attach();
    for (let id = 0x400; id < 0x408; id++) present(scenario, id);
    present(scenario.detach(), STRANGER);
    expect(refusedBy(scenario, FaultCause.notAttached, { domain: -1 }).names).toEqual(['dma-while-detached']);
  });

  it('goes by entries told beside the same fault only', () => {
    const other = present(new Scenario(), STRANGER, EDU1);
    expect(refusedBy(other, FaultCause.notAttached, { domain: -1 }).names).toEqual(['dma-while-detached']);
    const earlier = present(new Scenario(), STRANGER).flushDomain();
    expect(refusedBy(earlier, FaultCause.notAttached, { domain: -1 }).names).toEqual(['dma-while-detached']);
  });
});

describe('other refusals', () => {
  it('address-too-wide tells both widths', () => {
    const scenario = new Scenario();
    const address = 0x80_0000_0000n;
    scenario.fault(address, { cause: FaultCause.addressTooWide, addressWidth: 39 }).failed(address, 4);
    expect(scenario.only.detector).toBe('address-too-wide');
    expect(scenario.only.summary).toContain('takes 40 bits; 39 bits are translated');
  });

  it('reserved-range tells an address from a mapping', () => {
    const itself = new Scenario().fault(0xfee00000n, { cause: FaultCause.interruptRange }).failed(0xfee00000n, 4);
    expect(itself.only).toMatchObject({ detector: 'reserved-range' });
    expect(itself.only.summary).toContain('in the range of interrupt messages');
    const mapped = new Scenario().map(0x5000, 1, { frame: 0xfee00 });
    expect(refusedBy(mapped, FaultCause.interruptRange).only.summary).toContain(
      'leads to the range of interrupt messages',
    );
  });

  it('pasid-misuse says when the PASID was detached', () => {
    const scenario = new Scenario().attach(EDU0, DOMAIN, 0, 7).detach(EDU0, DOMAIN, 7).after(MS);
    const { only } = refusedBy(scenario, FaultCause.noPasid, { pasid: 7, domain: -1 });
    expect(only.detector).toBe('pasid-misuse');
    expect(only.summary).toContain('with PASID 7, which is not attached for this device; it was detached 1 ms before');
  });
});

describe('transfers that fail without a fault', () => {
  it('bus-master-off', () => {
    const { only } = new Scenario().failed(0x5000, 64, { status: Status.notBusMaster });
    expect(only).toMatchObject({ detector: 'bus-master-off', device: 'edu0', iova: 0x5000n, length: 64 });
  });

  it('dma-after-reset says what reset it', () => {
    const scenario = new Scenario()
      .reset(ResetWhat.functionLevel, 'edu0')
      .failed(0x5000, 64, { status: Status.aborted });
    expect(scenario.only.detector).toBe('dma-after-reset');
    expect(scenario.only.explanation).toContain('a function-level reset');
  });

  it('a client that goes while DMA is under way is no finding', () => {
    const scenario = new Scenario()
      .reset(ResetWhat.disconnected, 'edu0')
      .failed(0x5000, 64, { status: Status.aborted });
    expect(scenario.names).toEqual([]);
  });

  it('dma-to-no-memory says which page leads where', () => {
    const scenario = new Scenario().attach().memory(0, 0x20000000).map(0x5000, 1, { frame: 0x100 });
    scenario.map(0x6000, 1, { frame: 0x50000 }).failed(0x5800, 0x1000, { status: Status.noMemory });
    expect(scenario.only.detector).toBe('dma-to-no-memory');
    expect(scenario.only.summary).toContain('0x6000 leads to 0x50000000, where no memory is');
  });

  it('dma-to-no-memory knows memory that cannot be written', () => {
    const scenario = new Scenario().attach().memory(0xf0000, 0x10000, 'edu0', 0).map(0x5000, 1, { frame: 0xf0 });
    scenario.failed(0x5000, 4, { status: Status.noMemory });
    expect(scenario.only.summary).toContain('where no memory is that can be written');
  });

  it('a page that is mapped to interrupt messages is reserved-range', () => {
    const scenario = new Scenario().attach().memory(0, 0x20000000).map(0x5000, 1, { frame: 0xfee01 });
    expect(scenario.failed(0x5000, 8, { status: Status.noMemory }).names).toEqual(['reserved-range']);
  });

  it('untranslated DMA to interrupt messages is reserved-range', () => {
    const scenario = new Scenario().attach(EDU0, DOMAIN, AttachKind.passThrough);
    expect(scenario.failed(0xfee00000n, 8, { status: Status.noMemory }).names).toEqual(['reserved-range']);
  });

  it('a fault that nothing explains is none', () => {
    expect(new Scenario().failed(0x5000, 64).names).toEqual([]);
  });
});

describe('a page table that contains itself', () => {
  const loop = { requesterId: EDU0, level: 3, ancestorLevel: 4, iova: 0x5028n, domain: DOMAIN, table: 0x1f_f000n };

  it('is a malformed table, told once for each table and device', () => {
    const scenario = new Scenario().event('table.loop', loop).event('table.loop', { ...loop, iova: 0x9000n });
    expect(scenario.only).toMatchObject({
      detector: 'malformed-table',
      device: 'edu0',
      iova: 0x5028n,
      domain: DOMAIN,
      count: 2,
    });
    expect(scenario.only.summary).toContain('the level-4 table at 0x1ff000 came again as the level-3 table');
    scenario.event('table.loop', { ...loop, table: 0x2f_f000n }).event('table.loop', { ...loop, requesterId: EDU1 });
    expect(scenario.names).toHaveLength(3);
  });
});
