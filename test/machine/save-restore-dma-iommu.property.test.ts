import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import type { Values } from '../iommu/dma-iommu/function/support.ts';
import {
  COMMAND_ENTRIES,
  DATA_PAGES,
  DmaIommuRig,
  Handle,
  listed,
  Place,
  packr,
  pages,
  Reg,
} from './dma-iommu-migration-rig.ts';
import { BAR0, bytes32, bytes64, CONFIG, Edu, FUNCTIONS, type FunctionName, PAGE } from './migration-rig.ts';

interface Ask {
  readonly name: OperationName;
  readonly values: Values;
}

type Step =
  | Ask
  /** The unmanaged domain is configured. */
  | { readonly configure: boolean }
  /** At most one in a batch, so that none finds the other one busy. */
  | { readonly probe: { readonly who: 0 | 1; readonly page: number } };

interface Transfer {
  readonly toMemory: boolean;
  readonly at: number;
  readonly page: number;
  readonly offset: number;
  readonly count: number;
  readonly pasid: number;
}

interface Batch {
  /** Not both at a time: whether a command or a transfer comes first is not kept when a machine is stopped. */
  readonly work:
    | { readonly steps: readonly Step[] }
    | { readonly who: 0 | 1; readonly transfers: readonly Transfer[] }
    | { readonly remap: { readonly page: number; readonly to: number } };
  readonly stopAfter: number | undefined;
  readonly order: readonly FunctionName[];
  readonly piece: number;
}

const permissions = fc.integer({ min: 1, max: 3 });
const page = fc.nat(DATA_PAGES - 5);
const count = fc.integer({ min: 1, max: 4 });
const handle = fc.integer({ min: 1, max: 24 });
const device = fc.constantFrom(...Handle.device);
const address = (frame: number) => BigInt(frame) << 12n;
const ask = (name: OperationName, values: fc.Arbitrary<Values>) => values.map((one): Step => ({ name, values: one }));
const pieces = fc.record({ page, count, to: page, list: fc.boolean(), permissions });
const firstMemory = (to: number, number: number, list: boolean) =>
  list ? listed(to, number) : pages(Place.data[0] + to, number);
const attachment = fc.oneof(
  fc.constantFrom(1, 1, 3, 4).map(domain => ({ domain, device: Handle.device[0] })),
  fc.constantFrom(2, 2, 3).map(domain => ({ domain, device: Handle.device[1] })),
);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: ask(
      'mapLogicalRangeEx',
      pieces.map(one => ({
        domain: Handle.translate,
        permissions: one.permissions,
        memory: firstMemory(one.to, one.count, one.list),
        present: 1,
        explicitLogicalAddress: address(Place.data[0] + one.page),
      })),
    ),
  },
  {
    weight: 5,
    arbitrary: ask(
      'unmapLogicalRange',
      pieces.map(one => ({
        domain: Handle.translate,
        logicalAddress: address(Place.data[0] + one.page),
        numberOfPages: one.count,
      })),
    ),
  },
  {
    weight: 5,
    arbitrary: ask(
      'mapLogicalRangeEx',
      pieces.map(one => ({
        domain: Handle.buddy,
        permissions: one.permissions,
        memory: pages(Place.data[1] + one.to, one.count),
        present: 6,
        minLogicalAddress: address(Place.data[1]),
        maxLogicalAddress: address(Place.data[1] + DATA_PAGES) - 1n,
      })),
    ),
  },
  {
    weight: 4,
    arbitrary: ask(
      'unmapLogicalRange',
      fc.record({ page, count: fc.constantFrom(1, 2, 3, 4, DATA_PAGES) }).map(one => ({
        domain: Handle.buddy,
        logicalAddress: address(Place.data[1] + (one.count === DATA_PAGES ? 0 : one.page)),
        numberOfPages: one.count,
      })),
    ),
  },
  {
    weight: 2,
    arbitrary: ask(
      'mapIdentityRangeEx',
      pieces.map(one => ({
        domain: Handle.translate,
        permissions: one.permissions,
        memory: firstMemory(one.to, one.count, one.list),
      })),
    ),
  },
  {
    weight: 2,
    arbitrary: ask(
      'unmapIdentityRangeEx',
      pieces.map(one => ({
        domain: Handle.translate,
        memory: firstMemory(one.to, one.count, one.list),
      })),
    ),
  },
  {
    weight: 2,
    arbitrary: ask(
      'reserveLogicalAddressRange',
      fc.record({ page, count }).map(one => ({
        domain: Handle.translate,
        present: 1,
        size: BigInt(one.count * PAGE),
        explicitLogicalAddress: address(Place.data[0] + one.page),
      })),
    ),
  },
  {
    weight: 2,
    arbitrary: ask(
      'reserveLogicalAddressRange',
      count.map(one => ({
        domain: Handle.buddy,
        present: 2,
        size: BigInt(one * PAGE),
        minLogicalAddress: address(Place.data[1]),
      })),
    ),
  },
  // Only to be read, and both may: no token is bound to an endpoint.
  {
    weight: 4,
    arbitrary: ask(
      'mapReservedLogicalRange',
      fc.record({ token: handle, offset: fc.nat(3), count, to: page }).map(one => ({
        token: one.token,
        permissions: 1,
        offset: BigInt(one.offset * PAGE),
        memory: pages(Place.shared + (one.to % 24), one.count),
      })),
    ),
  },
  {
    weight: 2,
    arbitrary: ask(
      'mapReservedLogicalRange',
      fc.record({ offset: fc.nat(3), count, to: page }).map(one => ({
        token: Handle.token,
        permissions: 1,
        offset: BigInt(one.offset * PAGE),
        memory: pages(Place.shared + (one.to % 24), one.count),
      })),
    ),
  },
  {
    weight: 3,
    arbitrary: ask(
      'unmapReservedLogicalRange',
      handle.map(segment => ({ segment })),
    ),
  },
  {
    weight: 2,
    arbitrary: ask(
      'freeReservedLogicalAddressRange',
      handle.map(token => ({ token })),
    ),
  },
  {
    weight: 2,
    arbitrary: ask(
      'createDomainEx',
      fc.nat(4).map(domainType => ({ domainType })),
    ),
  },
  {
    weight: 1,
    arbitrary: ask(
      'deleteDomain',
      fc.integer({ min: 8, max: 24 }).map(domain => ({ domain })),
    ),
  },
  { weight: 4, arbitrary: ask('attachDeviceEx', attachment) },
  {
    weight: 2,
    arbitrary: ask(
      'detachDeviceEx',
      device.map(one => ({ device: one })),
    ),
  },
  {
    weight: 1,
    arbitrary: ask(
      'setDeviceFaultReportingEx',
      fc
        .record({ device, enable: fc.nat(1), context: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) })
        .map(one => ({ ...one, hasConfig: 1 })),
    ),
  },
  {
    weight: 2,
    arbitrary: ask(
      'registerInterfaceStateChangeCallback',
      fc
        .record({ device, callback: fc.constantFrom(77n, 78n), context: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) })
        .map(one => ({ ...one, stateFields: 1 })),
    ),
  },
  {
    weight: 1,
    arbitrary: ask(
      'unregisterInterfaceStateChangeCallback',
      fc.record({ device, callback: fc.constantFrom(77n, 78n) }),
    ),
  },
  { weight: 2, arbitrary: ask('createPasidDevice', fc.constant({ device: Handle.device[0] })) },
  {
    weight: 2,
    arbitrary: ask('attachPasidDevice', fc.record({ domain: fc.constantFrom(3, 4, 8, 9), pasidDevice: handle })),
  },
  {
    weight: 1,
    arbitrary: ask(
      'detachPasidDevice',
      handle.map(pasidDevice => ({ pasidDevice })),
    ),
  },
  {
    weight: 1,
    arbitrary: ask(
      'deletePasidDevice',
      handle.map(pasidDevice => ({ pasidDevice })),
    ),
  },
  { weight: 1, arbitrary: ask('flushDomain', fc.constant({ domain: Handle.unmanaged })) },
  {
    weight: 1,
    arbitrary: ask(
      'queryDeviceInfo',
      device.map(one => ({ device: one, size: 3 })),
    ),
  },
  { weight: 1, arbitrary: fc.boolean().map(configure => ({ configure })) },
);
const probe: fc.Arbitrary<Step> = fc
  .record({ who: fc.constantFrom<0 | 1>(0, 1), page: fc.nat(DATA_PAGES + 2) })
  .map(one => ({ probe: one }));
const transfer = fc.record({
  toMemory: fc.boolean(),
  at: fc.nat(2000),
  page: fc.nat(DATA_PAGES + 1),
  offset: fc.nat(PAGE - 1),
  count: fc.integer({ min: 1, max: 2000 }),
  pasid: fc.constantFrom(0, 0, 1, 2),
});
const steps = fc
  .record({
    asked: fc.array(step, { minLength: 1, maxLength: 90 }),
    probe,
    where: fc.nat(90),
    probes: fc.constantFrom(true, true, false),
  })
  .map(one => {
    const all = [...one.asked];
    if (one.probes) all.splice(one.where % (all.length + 1), 0, one.probe);
    return { steps: all };
  });
const batch: fc.Arbitrary<Batch> = fc.record({
  work: fc.oneof(
    { weight: 4, arbitrary: steps },
    {
      weight: 4,
      arbitrary: fc.record({
        who: fc.constantFrom<0 | 1>(0, 1),
        transfers: fc.array(transfer, { minLength: 1, maxLength: 3 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ remap: fc.record({ page, to: page }) }) },
  ),
  stopAfter: fc.constantFrom(undefined, 0, 0, 0, 1, 2),
  // What is stopped first has most to do.
  order: fc.oneof(
    fc.constant([...FUNCTIONS]),
    fc.shuffledSubarray([...FUNCTIONS], { minLength: FUNCTIONS.length, maxLength: FUNCTIONS.length }),
  ),
  piece: fc.constantFrom(97, 1000, 65_536),
});

/** PROBE_RESULT.SOURCE. */
const PROBE_SOURCE = 3 << 4;

function begin(rig: DmaIommuRig, { work }: Batch): void {
  if ('steps' in work) {
    for (const one of work.steps) {
      if ('configure' in one) rig.configure(one.configure);
      else if ('name' in one) rig.ask(one.name, one.values);
      else {
        // What was asked for before is known before.
        rig.ring();
        rig.post('iommu', Reg.probeDevice, bytes32(one.probe.who === 0 ? 0x0100 : 0x0200));
        rig.post('iommu', Reg.probeIova, bytes64(address(Place.data[one.probe.who] + one.probe.page)));
        rig.post('iommu', Reg.probeCommand, bytes32((1 << 31) | 1));
      }
    }
    rig.ring();
  } else if ('remap' in work) {
    rig.mapTable(work.remap.page, work.remap.to);
    rig.ask('flushDomain', { domain: Handle.unmanaged });
    rig.ring();
  } else {
    const name = `edu${work.who}` as const;
    for (const { toMemory, at, page: to, offset, count: length, pasid } of work.transfers) {
      const inside = Edu.buffer + BigInt(at);
      const outside = address(Place.data[work.who] + to) + BigInt(offset);
      rig.post(name, Edu.pasid, bytes32(pasid === 0 ? 0 : (1 << 31) | pasid));
      rig.post(name, Edu.source, bytes64(toMemory ? inside : outside));
      rig.post(name, Edu.destination, bytes64(toMemory ? outside : inside));
      rig.post(name, Edu.count, bytes64(BigInt(length)));
      rig.post(name, Edu.command, bytes64(1n | (toMemory ? 2n : 0n) | 4n));
    }
  }
}

/** What was seen of the things that a saved state has to carry. */
interface Seen {
  stops: number;
  work: number;
  faults: number;
  probes: number;
  segments: number;
  pasids: number;
  registrations: number;
}

function run(program: readonly Batch[], completionOrder: number, seen?: Seen) {
  const rig = new DmaIommuRig();
  try {
    rig.setUp(completionOrder);
    for (const one of program) {
      begin(rig, one);
      if (seen !== undefined && one.stopAfter !== undefined) {
        for (let n = 0; n < one.stopAfter; n++) rig.loop.runOnce(0);
        const states = rig.save(one.order, one.piece);
        look(states.iommu, seen);
        rig.end();
        rig.start();
        rig.restore(states, one.order, one.piece);
      }
      rig.settle();
    }
    const config = FUNCTIONS.map(name => Buffer.from(rig.clients[name].regionRead(CONFIG, 0, 64)));
    const registers = Buffer.from(rig.clients.iommu.regionRead(BAR0, 0, Reg.bytes));
    const states = rig.save();
    const unpacked = packr.unpack(states.iommu.subarray(8)).state;
    // Whether a probe finds the TLB filled is not kept: it starts empty.
    for (const bytes of [registers, unpacked.device.registers]) bytes[Reg.probeResult] &= ~PROBE_SOURCE;
    const edus = [states.edu0, states.edu1];
    return {
      memory: rig.memory(),
      config,
      registers,
      unpacked,
      edus,
      signals: { ...rig.signals },
      errors: rig.errors,
    };
  } finally {
    rig.close();
  }
}

function look(state: Uint8Array, seen: Seen): void {
  const { work, faults, probe: asked, registrations, unit } = packr.unpack(state.subarray(8)).state.device;
  const objects = (what: string) => unit.objects.filter((one: { what: string }) => one.what === what).length;
  seen.stops++;
  if (work.length > 0) seen.work++;
  if (faults.pending.length + unit.faults.length > 0) seen.faults++;
  if (asked !== false) seen.probes++;
  if (objects('segment') > 0) seen.segments++;
  if (objects('pasidDevice') > 0) seen.pasids++;
  if (registrations.length > 0) seen.registrations++;
}

describe('a machine with a dma-iommu that is stopped in the middle of its work and restored elsewhere', () => {
  it('ends as one that was never stopped: memory, answers, faults, registers, and all that it would save', () => {
    const seen = { stops: 0, work: 0, faults: 0, probes: 0, segments: 0, pasids: 0, registrations: 0 };
    const fits = ({ work }: Batch) => !('steps' in work) || work.steps.length < COMMAND_ENTRIES - 1;
    fc.assert(
      fc.property(
        fc.array(batch.filter(fits), { minLength: 1, maxLength: 8 }),
        fc.constantFrom(3, 5, 7),
        (program, completionOrder) => {
          const moved = run(program, completionOrder, seen);
          const stayed = run(program, completionOrder);
          expect(moved.errors).toEqual([]);
          expect(moved.unpacked).toEqual(stayed.unpacked);
          expect(moved.registers).toEqual(stayed.registers);
          expect(moved.config).toEqual(stayed.config);
          expect(moved.signals).toEqual(stayed.signals);
          expect(Buffer.compare(moved.memory, stayed.memory)).toBe(0);
          expect(moved.edus).toEqual(stayed.edus);
        },
      ),
      { numRuns: 60, endOnFailure: true },
    );
    // Otherwise nothing was shown.
    for (const times of Object.values(seen)) expect(times).toBeGreaterThan(5);
  });
});
