/** Unit and model do the same; VIOMMU_SEQUENCES says how many sequences are tried, VIOMMU_SEED with which one they begin. */
import { expect, it } from 'vitest';
import { ModelRun } from './model-run.ts';

const { VIOMMU_SEQUENCES = 3000, VIOMMU_SEED = 1 } = process.env;
const sequences = Number(VIOMMU_SEQUENCES);
const firstSeed = Number(VIOMMU_SEED);
/** A new unit now and then; in between, a reset must do. */
const SEQUENCES_PER_UNIT = 500;
/** Every so many sequences, one of a unit that refuses what Windows refuses. */
const WINDOWS_EVERY = 8;
const MILLISECONDS_PER_SEQUENCE = 60;

it(
  `gives the model's answers and translations over ${sequences} sequences`,
  () => {
    const succeeded = new Map<string, number>();
    const fresh = () => [new ModelRun('extended'), new ModelRun('windows')] as const;
    let runs = fresh();
    for (let i = 0; i < sequences; i++) {
      if (i % SEQUENCES_PER_UNIT === 0) runs = fresh();
      const seed = firstSeed + i;
      runs[seed % WINDOWS_EVERY === 0 ? 1 : 0].sequence(seed);
      if (i % SEQUENCES_PER_UNIT === SEQUENCES_PER_UNIT - 1 || i === sequences - 1) {
        for (const [name, count] of runs.flatMap(run => [...run.succeeded]))
          succeeded.set(name, (succeeded.get(name) ?? 0) + count);
      }
    }
    // A sequence in which nothing succeeds compares nothing.
    const operations = [
      ...['createDomain', 'createDomainEx', 'deleteDomain', 'attachDevice', 'attachDeviceEx', 'detachDevice'],
      ...['detachDeviceEx', 'flushDomain', 'flushDomainByVaList', 'mapLogicalRange', 'mapLogicalRangeEx'],
      ...['unmapLogicalRange', 'mapIdentityRange', 'unmapIdentityRange', 'configureDomain', 'createDevice'],
      ...['reserveLogicalAddressRange', 'freeReservedLogicalAddressRange', 'mapReservedLogicalRange'],
      ...['unmapReservedLogicalRange', 'deleteDevice', 'createPasidDevice', 'deletePasidDevice', 'attachPasidDevice'],
      ...['detachPasidDevice', 'setDeviceFaultReporting', 'setDeviceFaultReportingEx', 'queryInputMappings'],
      ...['queryAvailableDomainTypes', 'queryDeviceInfo', 'registerInterfaceStateChangeCallback'],
      ...['unregisterInterfaceStateChangeCallback', 'told: fault', 'told: handler', 'told: change', 'dropped'],
    ];
    for (const name of operations) expect(succeeded.get(name) ?? 0, name).toBeGreaterThan(0);
  },
  Math.max(60_000, sequences * MILLISECONDS_PER_SEQUENCE),
);
