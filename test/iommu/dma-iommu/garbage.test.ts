/** Whatever the operations are given, they answer with a status. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { operationNames } from '../../../src/iommu/dma-iommu/opcodes.ts';
import type { Answer } from '../../../src/iommu/dma-iommu/operations.ts';
import { GPU, NIC, Rig, UART } from './support.ts';

const number = fc.oneof(
  fc.integer({ min: -2, max: 20 }),
  fc.constantFrom(NIC, GPU, UART, Number.NaN, Number.POSITIVE_INFINITY, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, -1),
);
const word = fc.oneof(
  fc.bigInt({ min: -5n, max: 20n }).map(page => page << 12n),
  fc.constantFrom(-1n, 1n, 1n << 42n, (1n << 48n) - 4096n, (1n << 64n) - 4096n, 1n << 64n, 1n << 200n),
);
const anything = fc.oneof(
  number,
  word,
  fc.constantFrom(undefined, null, true, false, 'text', {}, [], [null], () => {}),
);
const frames = fc.array(fc.integer({ min: -1, max: 40 }), { maxLength: 4 }).map(list => Int32Array.from(list));
const memory = fc.oneof(
  anything,
  fc.record({ type: fc.constant('mdl'), pages: fc.oneof(frames, anything), byteOffset: number, byteCount: number }),
  frames.map(pages => ({ type: 'mdl', pages, byteOffset: 0, byteCount: pages.length * 4096 })),
  fc.record({ type: fc.constant('pfnArray'), pages: fc.oneof(frames, anything) }),
  fc.record({ type: fc.constant('contiguousRange'), base: fc.oneof(word, anything), size: fc.oneof(word, anything) }),
);
const some = (...values: unknown[]) => fc.oneof(fc.constantFrom(...values), anything);
const configuration = fc.record({
  type: some(0, 1),
  ttbr0: word,
  ttbr1: some(0n, undefined),
  inputSize0: some(0, 39, 48),
  inputSize1: some(0, 39, 48),
  granule: some(undefined, 4, 16, 64),
  firstLevelPageTableRoot: word,
  levels: some(undefined, 4, 5),
  translationEnabled: fc.boolean(),
});
const deviceConfig = fc.record({
  configType: some(1, 2, 3),
  inputMappingBase: number,
  mappingsCount: number,
  pasidConfigType: number,
  suppressPasidFaults: anything,
});
const region = fc.record({ base: word, numberOfPages: number, shouldMap: fc.boolean() });
const handle = fc.oneof(fc.integer({ min: 1, max: 12 }), anything);

const args = fc.record(
  {
    osManagedPageTable: anything,
    domainType: some(0, 1, 2, 3),
    flags: some(0, 0n, undefined),
    logicalAllocatorConfig: fc.oneof(anything, fc.record({ logicalAllocatorType: some(0, 1), addressWidth: number })),
    reservedRegions: fc.oneof(anything, fc.array(fc.oneof(region, anything), { maxLength: 2 })),
    domain: handle,
    dmaDevice: handle,
    pasidDevice: handle,
    token: handle,
    mappedSegment: handle,
    physicalDeviceObject: some(NIC, GPU, UART),
    inputMappingIdBase: number,
    inputMappingId: number,
    mappingCount: number,
    lastLevel: anything,
    vaList: fc.oneof(anything, fc.array(fc.oneof(word, anything), { maxLength: 3 })),
    bufferLength: anything,
    size: fc.oneof(word, anything),
    permissions: number,
    mdl: memory,
    physicalAddressToMap: memory,
    mappedPhysicalAddress: memory,
    logicalAddress: fc.oneof(word, anything),
    explicitLogicalAddress: fc.oneof(word, anything),
    minLogicalAddress: fc.oneof(word, anything),
    maxLogicalAddress: fc.oneof(word, anything),
    offset: fc.oneof(word, anything),
    numberOfPages: number,
    enable: anything,
    faultConfig: anything,
    configuration: fc.oneof(anything, configuration),
    stateChangeCallback: some(() => {}),
    stateFields: some(1),
    deviceConfig: fc.oneof(anything, fc.array(fc.oneof(deviceConfig, anything), { maxLength: 2 })),
  },
  { requiredKeys: [] },
);

it('nothing that an operation is given makes it throw, and a reset leaves nothing of it', () => {
  const step = fc.tuple(fc.constantFrom(...operationNames), args);
  fc.assert(
    fc.property(
      fc.constantFrom('extended', 'windows'),
      fc.array(step, { maxLength: 30, size: 'max' }),
      (compat, steps) => {
        const rig = new Rig({ compat: compat as 'extended' });
        rig.domain();
        rig.buddy(20);
        rig.domain(2);
        for (const [name, given] of steps) {
          const answer = (rig.unit[name] as (given: object) => Answer).call(rig.unit, given);
          expect(Number.isInteger(answer.status)).toBe(true);
          rig.dma(NIC, 0x1000n);
        }
        rig.jobs.run();
        rig.unit.reset();
        expect(rig.unit.snapshot().tablePages).toBe(0);
      },
    ),
    { numRuns: 300 },
  );
}, 30_000);
