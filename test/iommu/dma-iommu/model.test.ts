/** Unit and model do the same; VIOMMU_SEQUENCES says how many sequences are tried, VIOMMU_SEED with which one they begin. */
import { expect, it } from 'vitest';
import { ModelRun } from './model-run.ts';

const { VIOMMU_SEQUENCES = 3000, VIOMMU_SEED = 1 } = process.env;
const sequences = Number(VIOMMU_SEQUENCES);
const firstSeed = Number(VIOMMU_SEED);
/** A new unit now and then; in between, a reset must do. */
const SEQUENCES_PER_UNIT = 500;
const MILLISECONDS_PER_SEQUENCE = 20;

it(
  `gives the model's answers and translations over ${sequences} sequences`,
  () => {
    const succeeded = new Map<string, number>();
    let run = new ModelRun();
    for (let i = 0; i < sequences; i++) {
      if (i % SEQUENCES_PER_UNIT === 0) run = new ModelRun();
      run.sequence(firstSeed + i);
      if (i % SEQUENCES_PER_UNIT === SEQUENCES_PER_UNIT - 1 || i === sequences - 1) {
        for (const [name, count] of run.succeeded) succeeded.set(name, (succeeded.get(name) ?? 0) + count);
      }
    }
    // A sequence in which nothing succeeds compares nothing.
    const operations = [
      ...['createDomain', 'createDomainEx', 'deleteDomain', 'attachDevice', 'attachDeviceEx', 'detachDevice'],
      ...['detachDeviceEx', 'flushDomain', 'flushDomainByVaList', 'mapLogicalRange', 'mapLogicalRangeEx'],
      ...['unmapLogicalRange', 'mapIdentityRange', 'unmapIdentityRange', 'configureDomain', 'createDevice'],
      ...['reserveLogicalAddressRange', 'freeReservedLogicalAddressRange', 'mapReservedLogicalRange'],
      ...['unmapReservedLogicalRange', 'deleteDevice', 'createPasidDevice', 'deletePasidDevice', 'attachPasidDevice'],
      'detachPasidDevice',
    ];
    for (const name of operations) expect(succeeded.get(name) ?? 0, name).toBeGreaterThan(0);
  },
  Math.max(60_000, sequences * MILLISECONDS_PER_SEQUENCE),
);
