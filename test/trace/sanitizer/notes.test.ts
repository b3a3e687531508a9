import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MappingSource } from '../../../src/trace/event-kinds.ts';
import { NOTE_RULES } from '../../../src/trace/sanitizer/note-rules.ts';
import { DOMAIN, EDU0, MS, Scenario, Status } from './scenario.ts';

const operation = { how: MappingSource.operation };
const IN_USE = 'STATUS_RESOURCE_IN_USE';

const refusedOperation = (scenario: Scenario, name: string, statusName: string, more = {}) =>
  scenario.note('dma-iommu.refused', { operation: name, status: statusName, statusName, domain: DOMAIN, ...more });

const range = (iova: bigint, pages: number) => ({ iova, bytes: BigInt(pages) * 4096n });

describe('refused operations', () => {
  it('a map over a mapping is overlapping-map', () => {
    const scenario = new Scenario().map(0x5000, 4, operation).after(2 * MS);
    refusedOperation(scenario, 'mapLogicalRangeEx', IN_USE, range(0x6000n, 1));
    expect(scenario.only).toMatchObject({
      detector: 'overlapping-map',
      device: 'iommu',
      iova: 0x6000n,
      length: 4096,
      domain: DOMAIN,
    });
    expect(scenario.only.explanation).toContain('The mapping 0x5000-0x8fff has been there for 2 ms');
  });

  it('a second unmap is double-unmap', () => {
    const scenario = new Scenario()
      .map(0x5000, 1, operation)
      .after(MS)
      .unmap(0x5000, 1, operation)
      .after(3 * MS);
    refusedOperation(scenario, 'unmapLogicalRange', 'STATUS_NOT_FOUND', range(0x5000n, 1));
    expect(scenario.only.detector).toBe('double-unmap');
    expect(scenario.only.summary).toBe(
      'unmapLogicalRange of 0x5000-0x5fff in domain 5 was refused: it was unmapped 3 ms before already',
    );
    expect(scenario.only.evidence.map(one => one.kind)).toEqual([
      'mapping.added',
      'mapping.removed',
      'dma-iommu.refused',
    ]);
  });

  it('an unmap of what never was is double-unmap', () => {
    const scenario = refusedOperation(new Scenario(), 'unmapIdentityRange', 'STATUS_NOT_FOUND', range(0x5000n, 1));
    expect(scenario.only.summary).toContain('nothing was ever mapped there');
  });

  it('an unmap of another length is mismatched-unmap', () => {
    const scenario = new Scenario().map(0x5000, 4, operation);
    refusedOperation(scenario, 'unmapLogicalRange', 'STATUS_NOT_FOUND', range(0x5000n, 2));
    expect(scenario.only.detector).toBe('mismatched-unmap');
    expect(scenario.only.summary).toContain('4 pages are mapped from there on (0x5000-0x8fff), not 2');
  });

  it('an unmap of another start is mismatched-unmap', () => {
    const scenario = new Scenario().map(0x5000, 4, operation);
    refusedOperation(scenario, 'unmapLogicalRange', 'STATUS_NOT_FOUND', range(0x4000n, 4));
    expect(scenario.only.summary).toContain('what is mapped there is 0x5000-0x8fff');
  });

  it('an unmap in another domain is mismatched-unmap', () => {
    const scenario = new Scenario().map(0x5000, 4, { ...operation, domain: 9 });
    refusedOperation(scenario, 'unmapLogicalRange', 'STATUS_NOT_FOUND', range(0x5000n, 4));
    expect(scenario.only.detector).toBe('mismatched-unmap');
    expect(scenario.only.summary).toContain('it is mapped in domain 9');
  });

  it('an unmap that cut a mapping is a note', () => {
    const scenario = new Scenario().note('dma-iommu.unmapMismatch', {
      domain: DOMAIN,
      ...range(0x6000n, 1),
      mappedIova: 0x5000n,
      mappedBytes: 0x3000n,
    });
    expect(scenario.only).toMatchObject({ detector: 'mismatched-unmap', severity: 'note', iova: 0x6000n });
  });

  it.each([
    ['deleteDomain', IN_USE, 'operation-order'],
    ['deleteDevice', IN_USE, 'operation-order'],
    ['deletePasidDevice', IN_USE, 'operation-order'],
    ['freeReservedLogicalAddressRange', IN_USE, 'mapping-leak'],
    ['unmapReservedLogicalRange', 'STATUS_INVALID_PARAMETER', 'double-unmap'],
    ['attachPasidDevice', 'STATUS_UNSUCCESSFUL', 'operation-order'],
    ['attachPasidDevice', 'STATUS_INVALID_PARAMETER_1', 'pasid-misuse'],
    ['createPasidDevice', 'STATUS_INVALID_PARAMETER_1', 'pasid-misuse'],
    ['detachPasidDevice', 'STATUS_INVALID_PARAMETER_1', 'operation-order'],
    ['mapIdentityRange', IN_USE, 'overlapping-map'],
  ])('%s with %s is %s', (name, status, detector) => {
    expect(refusedOperation(new Scenario(), name, status).names).toEqual([detector]);
  });

  it.each([
    ['mapLogicalRangeEx', 'STATUS_INSUFFICIENT_RESOURCES'],
    ['mapLogicalRangeEx', 'STATUS_INVALID_PARAMETER_4'],
    ['unmapLogicalRange', 'STATUS_INVALID_HANDLE'],
    ['queryInputMappings', 'STATUS_BUFFER_TOO_SMALL'],
    ['attachDevice', 'STATUS_INVALID_PARAMETER'],
    ['constructor', IN_USE],
    ['mapLogicalRange', 'constructor'],
  ])('%s with %s is no finding', (name, status) => {
    expect(refusedOperation(new Scenario(), name, status, range(0x5000n, 1)).names).toEqual([]);
  });

  it('take any detail', () => {
    const scenario = new Scenario().note('dma-iommu.refused', {});
    refusedOperation(scenario, 'unmapLogicalRange', 'STATUS_NOT_FOUND', { iova: 'x', bytes: 1 });
    refusedOperation(scenario, 'unmapLogicalRange', 'STATUS_NOT_FOUND', { domain: 'x', ...range(0n, 1) });
    scenario.note('dma-iommu.unmapMismatch', {}).note('dma-iommu.mappingsLeft', {});
    expect(scenario.names).toEqual([]);
  });
});

/** A detail as the room notes it, the detector, and words of the summary. */
const NOTES: Readonly<Record<string, readonly [Readonly<Record<string, unknown>>, string, string]>> = {
  'register.unknown': [{ offset: 0x99c, access: 'read' }, 'unknown-register', 'a read at offset 0x99c'],
  'register.reserved': [
    { register: 'GCMD', offset: 24, bits: 0x10 },
    'unknown-register',
    'reserved bits 0x10 were set in GCMD',
  ],
  'register.access': [{ offset: 5, width: 2, access: 'write' }, 'unknown-register', 'a write of 2 bytes at offset 0x5'],
  'edu.accessSize': [{ offset: 0, width: 1, access: 'read' }, 'unknown-register', 'a read of 1 bytes'],
  'msix.accessWidth': [{ offset: 0, width: 2, access: 'read' }, 'unknown-register', 'in the MSI-X table'],
  'msix.pendingWrite': [{ offset: 0x800 }, 'unknown-register', 'pending bits'],
  'vtd.commandsTogether': [{ value: 0xc0000000 }, 'unknown-register', '0xc0000000'],
  'vtd.noProtectedMemory': [{ value: 1 }, 'unknown-register', 'protected memory'],
  'vtd.queueError': [
    { error: 1, why: 'reserved type', head: 0x40 },
    'invalidation-queue-misuse',
    'stopped at 0x40: reserved type',
  ],
  'vtd.queueCutShort': [{ head: 0 }, 'invalidation-queue-misuse', 'not empty'],
  'vtd.queueMoved': [{ bytes: 4096 }, 'invalidation-queue-misuse', 'changed'],
  'vtd.invalidationMissed': [
    { requesterId: EDU0, functionMask: 0, domain: 3, kept: 1 },
    'invalidation-queue-misuse',
    'edu0 (01:00.0): an invalidation of a context entry for domain 3',
  ],
  'vtd.invalidationRefused': [
    { register: 'IOTLB', why: 'reserved granularity' },
    'invalidation-queue-misuse',
    'by IOTLB was ignored: reserved granularity',
  ],
  'vtd.statusWriteLost': [{ address: 0xdead000n, status: 1 }, 'invalidation-queue-misuse', '0xdead000'],
  'dmaIommu.ringError': [
    { ring: 'command', error: 'index', index: 9 },
    'invalidation-queue-misuse',
    'the command ring stopped: index',
  ],
  'dmaIommu.ringInUse': [{ offset: 0x40, value: 1 }, 'invalidation-queue-misuse', 'moved while the rings are enabled'],
  'dmaIommu.ringNotEnabled': [{ offset: 0x40, value: 1 }, 'invalidation-queue-misuse', 'while the rings are disabled'],
  'dmaIommu.unknownOpcode': [{ opcode: 0x7f, index: 1 }, 'invalidation-queue-misuse', 'unknown opcode 0x7f'],
  'dmaIommu.reserved': [
    { operation: 'deleteDomain', index: 1 },
    'invalidation-queue-misuse',
    'deleteDomain with reserved bits',
  ],
  'dmaIommu.badList': [{ address: 0x1234n }, 'invalidation-queue-misuse', '0x1234'],
  'dmaIommu.listTooLong': [
    { count: 70000n, limit: 65536 },
    'invalidation-queue-misuse',
    '70000 elements, more than 65536',
  ],
  'dmaIommu.completionLost': [{ cookie: 7n }, 'invalidation-queue-misuse', 'command 0x7'],
  'vtd.noRootTable': [{}, 'malformed-table', 'without a root table'],
  'vtd.reservedDomain': [{ requesterId: EDU0 }, 'malformed-table', 'domain id 0'],
  'vtd.unaddressable': [{ requesterId: EDU0, address: 1n << 60n }, 'address-too-wide', '0x1000000000000000'],
  'edu.mask': [{ address: 0x1_0000_0000n, clamped: 0n }, 'address-too-wide', 'was given 0x100000000'],
  'interrupt.vector': [{ vector: 9, vectors: 4 }, 'interrupt-misuse', 'vector 9 was raised, but there are only 4'],
  'interrupt.lost': [{ why: 'no way' }, 'interrupt-misuse', 'no way'],
  'interrupt.notBusMaster': [{ vector: 0 }, 'bus-master-off', 'while it may not master the bus'],
  'vtd.interruptLost': [{ event: 'FE', address: 0n, data: 0 }, 'interrupt-misuse', '(FE)'],
  'dmaIommu.badVector': [{ source: 'fault', vector: 7 }, 'interrupt-misuse', 'vector 7'],
  'dma.noPasidSupport': [{ pasid: 3, address: 0x5000n, access: 'write' }, 'pasid-misuse', 'with PASID 3'],
};

describe('notes of the rooms', () => {
  it('are all covered here', () => {
    expect(Object.keys(NOTES).sort()).toEqual(Object.keys(NOTE_RULES).sort());
  });

  it.each(Object.entries(NOTES))('%s', (kind, [detail, detector, words]) => {
    const { only } = new Scenario().note(kind, detail);
    expect(only.detector).toBe(detector);
    expect(only.summary).toContain(words);
    expect(only.summary).not.toMatch(/undefined|NaN|\[object/);
    expect(only.evidence).toHaveLength(1);
  });

  it.each(Object.keys(NOTES))('%s with any detail, as from a file', kind => {
    const scenario = new Scenario()
      .note(kind, {})
      .note(kind, { requesterId: 'x', address: 'y', offset: 1n << 70n, why: null });
    expect(scenario.findings.length).toBeLessThanOrEqual(2);
  });

  it('name the endpoint', () => {
    const { only } = new Scenario().note('register.unknown', { offset: 4, access: 'write' }, 'edu0');
    expect(only).toMatchObject({ device: 'edu0' });
    expect(only.summary).toBe('edu0 (01:00.0): a write at offset 0x4, where no register is');
  });

  it('are told apart by what they are about', () => {
    const scenario = new Scenario().note('register.unknown', { offset: 4, access: 'read' });
    scenario
      .note('register.unknown', { offset: 4, access: 'read' })
      .note('register.unknown', { offset: 8, access: 'read' });
    expect(scenario.findings.map(finding => finding.count)).toEqual([2, 1]);
  });

  it('an interrupt that a client did not take is not the driver', () => {
    expect(new Scenario().note('interrupt.lost', { index: 1, vector: 0, code: 'EAGAIN' }).names).toEqual([]);
  });

  it.each([
    'client.connected',
    'client.closed',
    'iommu.reset',
    'iommu.placed',
    'vtd.queue',
    'vtd.rootTable',
    'vtd.enabled',
    'function.powerState',
    'function.levelReset',
    'fault.recorded',
    'edu.dmaFailed',
    'edu.busy',
    'memory.not-mapped',
    'dma-iommu.domainCreated',
    'dma-iommu.staleHit',
    'dmaIommu.rings',
    'endpoint.served',
    'toString',
    '__proto__',
  ])('%s is no finding', kind => {
    expect(new Scenario().note(kind, { why: 'x' }).names).toEqual([]);
  });
});

describe('events of drivers', () => {
  it('register-spin', () => {
    const { only } = new Scenario().event(
      'register.spin',
      { region: 0, width: 4, offset: 0x20, value: 0x80, reads: 21000, milliseconds: 2100 },
      'edu0',
    );
    expect(only).toMatchObject({ detector: 'register-spin', device: 'edu0' });
    expect(only.summary).toBe(
      'edu0 (01:00.0): the guest read offset 0x20 of BAR 0 21000 times in 2100 ms, and it was 0x80 each time',
    );
  });

  it('descriptor-race', () => {
    const { only } = new Scenario().event('descriptor.changed', {
      address: 0x19fe010n,
      offset: 8,
      bytes: 16,
      before: 1n,
      after: 0xffff_ffff_0000_0000n,
    });
    expect(only).toMatchObject({ detector: 'descriptor-race', device: 'iommu' });
    expect(only.summary).toContain('the descriptor of 16 bytes at 0x19fe010 changed');
    expect(only.summary).toContain('0x1 became 0xffffffff00000000 at offset 8');
  });
});

describe('an address wider than the device', () => {
  const masked = { address: 0x1_1234_5000n, clamped: 0x1234_5000n };

  it('is one finding, whatever becomes of the DMA', () => {
    const refused = new Scenario().note('edu.mask', masked, 'edu0').refused(0x12345000, 64);
    expect(refused.names).toEqual(['address-too-wide']);
    const alone = new Scenario().note('edu.mask', masked, 'edu0').fault(0x12345000).flushDomain();
    expect(alone.names).toEqual(['address-too-wide']);
    const nowhere = new Scenario().note('edu.mask', masked, 'edu0').failed(0x12345000, 64, { status: Status.noMemory });
    expect(nowhere.names).toEqual(['address-too-wide']);
  });

  it('explains no other DMA', () => {
    const scenario = new Scenario().note('edu.mask', masked, 'edu0').refused(0x9000000);
    expect(scenario.names).toEqual(['address-too-wide', 'never-mapped']);
    const later = new Scenario().note('edu.mask', masked, 'edu0').refused(0x12345000).refused(0x12345000);
    expect(later.names).toEqual(['address-too-wide', 'never-mapped']);
    const other = new Scenario().note('edu.mask', masked, 'edu1').refused(0x12345000);
    expect(other.names).toEqual(['address-too-wide', 'never-mapped']);
    const ended = new Scenario().note('edu.mask', masked, 'edu0');
    ended.note('edu.dmaFailed', { address: masked.clamped, status: 'notBusMaster' }, 'edu0').refused(0x12345000);
    expect(ended.names).toEqual(['address-too-wide', 'never-mapped']);
  });

  it('explains nothing where it is not told itself', () => {
    const scenario = new Scenario({ policy: '-address-too-wide' }).note('edu.mask', masked, 'edu0').refused(0x12345000);
    expect(scenario.names).toEqual(['never-mapped']);
  });
});

describe('descriptors that change', () => {
  const changed = { offset: 8, bytes: 16, before: 1n, after: 2n };

  it('are one finding for a queue, wherever in it they are', () => {
    const scenario = new Scenario();
    for (let i = 0; i < 5; i++) scenario.event('descriptor.changed', { ...changed, address: 0x1000n + BigInt(i * 16) });
    expect(scenario.only.count).toBe(5);
    scenario.event('descriptor.changed', { ...changed, address: 0x1000n }, 'other');
    expect(scenario.findings.map(one => one.device)).toEqual(['iommu', 'other']);
  });
});

describe('notes from a file, which may hold anything', () => {
  const kinds = [
    ...Object.keys(NOTE_RULES),
    'dma-iommu.refused',
    'dma-iommu.unmapMismatch',
    'dma-iommu.mappingsLeft',
    '__proto__',
    'toString',
  ];
  const fields = [
    ...[
      'offset',
      'bits',
      'width',
      'access',
      'register',
      'value',
      'head',
      'why',
      'error',
      'domain',
      'kept',
      'requesterId',
    ],
    ...[
      'address',
      'clamped',
      'ring',
      'opcode',
      'operation',
      'count',
      'limit',
      'cookie',
      'vector',
      'vectors',
      'allocated',
    ],
    ...['event', 'source', 'pasid', 'status', 'statusName', 'iova', 'bytes', 'mappedIova', 'mappedBytes', 'mappings'],
  ];
  const value = fc.oneof(
    fc.constantFrom(undefined, null, Number.NaN, Infinity, -1, 1e300, -(2n ** 70n), 2n ** 200n, [], {}, ''),
    fc.constantFrom(
      'STATUS_NOT_FOUND',
      'STATUS_RESOURCE_IN_USE',
      'unmapLogicalRange',
      'mapLogicalRangeEx',
      'x'.repeat(5000),
    ),
    fc.integer(),
    fc.bigInt(),
    fc.double(),
    fc.string(),
    fc.boolean(),
  );
  const detail = fc.dictionary(fc.constantFrom(...fields), value);

  it('do no harm, and say that what is missing is not known', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(...kinds), detail), { maxLength: 20 }), notes => {
        const scenario = new Scenario({ policy: 'all' }).map(0x5000, 4, operation).map(0x9000);
        for (const [kind, facts] of notes) scenario.note(kind, facts);
        for (const { summary, evidence } of scenario.finish().findings) {
          const text = [summary, ...evidence.map(one => one.text)].join(' ');
          expect(text).not.toMatch(/undefined|null|\[object|NaN|Infinity/);
          expect(text.length).toBeLessThan(3000);
        }
      }),
      { numRuns: 300, examples: [[[['edu.mask', {}]]], [[['dma-iommu.mappingsLeft', { domain: DOMAIN }]]]] },
    );
  });

  it.each(Object.keys(NOTE_RULES))('%s without any detail', kind => {
    const [finding] = new Scenario({ policy: 'all' }).note(kind, {}).findings;
    expect(finding?.summary ?? '').not.toMatch(/undefined|NaN|\[object/);
  });

  it('a mask without what it leaves', () => {
    const { only } = new Scenario().note('edu.mask', { address: 0x1_2345_6000n }, 'edu0');
    expect(only.summary).toBe('edu0 (01:00.0) was given 0x123456000 for DMA, but drives only (unknown) of it');
  });
});
