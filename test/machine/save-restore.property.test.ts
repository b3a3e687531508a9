import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BAR0,
  bytes32,
  bytes64,
  Edu,
  Frame,
  FUNCTIONS,
  type FunctionName,
  MAPPED_PAGES,
  MigrationRig,
  PAGE,
  QUEUE_ENTRIES,
  Vtd,
} from './migration-rig.ts';

/** One thing that a driver asks for; those of a batch are all asked for before any work of it begins. */
type Action =
  | {
      what: 'dma';
      who: 0 | 1;
      toMemory: boolean;
      at: number;
      page: number;
      offset: number;
      count: number;
      tell: boolean;
    }
  | { what: 'factorial'; who: 0 | 1; value: number; tell: boolean }
  | { what: 'raise' | 'acknowledge'; who: 0 | 1; bits: number }
  | { what: 'queue'; waits: readonly { value: number; interrupt: boolean }[]; fill: number }
  | { what: 'faultsRead' }
  | { what: 'completionRead' }
  | { what: 'mask'; masked: boolean }
  | { what: 'remap'; who: 0 | 1; page: number; to: number };

interface Batch {
  readonly actions: readonly Action[];
  /** Undefined: goes on. Else after so many rounds of the loop the machine is stopped, saved and taken over by another one. */
  readonly stopAfter: number | undefined;
  readonly stopOrder: readonly FunctionName[];
  readonly startOrder: readonly FunctionName[];
  readonly piece: number;
}

const who = fc.constantFrom<0 | 1>(0, 1);
const dma = fc.record({
  what: fc.constant('dma' as const),
  who,
  toMemory: fc.boolean(),
  at: fc.nat(2000),
  // Beyond the mapped pages a transfer faults.
  page: fc.nat(MAPPED_PAGES - 1),
  offset: fc.nat(PAGE - 1),
  count: fc.integer({ min: 1, max: 2000 }),
  tell: fc.boolean(),
});
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 5, arbitrary: dma },
  // Only one endpoint faults: which of two comes first is not kept when a machine is stopped.
  { weight: 2, arbitrary: dma.map(one => ({ ...one, who: 0 as const, page: one.page + MAPPED_PAGES })) },
  {
    weight: 2,
    arbitrary: fc.record({ what: fc.constant('factorial' as const), who, value: fc.nat(40), tell: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ what: fc.constantFrom('raise' as const, 'acknowledge' as const), who, bits: fc.nat(0xfff) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      what: fc.constant('queue' as const),
      waits: fc.array(fc.record({ value: fc.nat(0x7fffffff), interrupt: fc.boolean() }), { maxLength: 4 }),
      // Many take the unit more than one job.
      fill: fc.oneof(fc.nat(8), fc.integer({ min: 250, max: 600 })),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ what: 'faultsRead' as const }) },
  { weight: 1, arbitrary: fc.constant({ what: 'completionRead' as const }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('mask' as const), masked: fc.boolean() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      what: fc.constant('remap' as const),
      who,
      page: fc.nat(MAPPED_PAGES - 1),
      to: fc.nat(MAPPED_PAGES - 1),
    }),
  },
);
const order = fc.shuffledSubarray([...FUNCTIONS], { minLength: FUNCTIONS.length, maxLength: FUNCTIONS.length });
const batch: fc.Arbitrary<Batch> = fc.record({
  actions: fc.array(action, { minLength: 1, maxLength: 8 }),
  stopAfter: fc.option(fc.nat(3), { nil: undefined }),
  stopOrder: order,
  startOrder: order,
  piece: fc.constantFrom(97, 1000, 4096, 65_536),
});

const INVALIDATE_IOTLB = [0x2n | (1n << 4n), 0n] as const;

/** Drives a rig, and knows what a driver knows: where its queue's tail is. */
class Driver {
  private tail = 0;
  private statusSlot = 0;

  constructor(private readonly rig: MigrationRig) {}

  do(one: Action): void {
    const { rig } = this;
    switch (one.what) {
      case 'dma': {
        const name = `edu${one.who}` as const;
        const inside = Edu.buffer + BigInt(one.at);
        const outside = BigInt(one.page * PAGE + one.offset);
        rig.post(name, Edu.source, bytes64(one.toMemory ? inside : outside));
        rig.post(name, Edu.destination, bytes64(one.toMemory ? outside : inside));
        rig.post(name, Edu.count, bytes64(BigInt(one.count)));
        rig.post(name, Edu.command, bytes64(1n | (one.toMemory ? 2n : 0n) | (one.tell ? 4n : 0n)));
        break;
      }
      case 'factorial':
        rig.post(`edu${one.who}`, Edu.status, bytes32(one.tell ? 0x80 : 0));
        rig.post(`edu${one.who}`, Edu.factorial, bytes32(one.value));
        break;
      case 'raise':
        rig.post(`edu${one.who}`, Edu.raise, bytes32(one.bits));
        break;
      case 'acknowledge':
        rig.post(`edu${one.who}`, Edu.acknowledge, bytes32(one.bits));
        break;
      case 'queue':
        for (let n = 0; n < one.fill; n++) this.enqueue(...INVALIDATE_IOTLB);
        for (const { value, interrupt } of one.waits) {
          const address = BigInt(Frame.status * PAGE + 4 * (this.statusSlot++ % 1024));
          this.enqueue(0x5n | (interrupt ? 1n << 4n : 0n) | (1n << 5n) | (BigInt(value) << 32n), address);
        }
        this.ring();
        break;
      case 'faultsRead':
        for (let index = 0; index < Vtd.recordCount; index++) {
          rig.post('iommu', Vtd.records + 16 * index + 12, bytes32(1 << 31));
        }
        rig.post('iommu', Vtd.fsts, bytes32(1));
        break;
      case 'completionRead':
        rig.post('iommu', Vtd.ics, bytes32(1));
        break;
      case 'mask':
        rig.post('iommu', Vtd.fectl, bytes32(one.masked ? 1 << 31 : 0));
        break;
      case 'remap':
        // In a batch of its own: drivers do not change what a device is using.
        rig.settle();
        rig.map(one.who, one.page, Frame.data[one.who] + one.to);
        this.enqueue(...INVALIDATE_IOTLB);
        this.ring();
        rig.settle();
        break;
    }
  }

  private enqueue(low: bigint, high: bigint): void {
    this.rig.write64(Frame.queue, this.tail * 16, low);
    this.rig.write64(Frame.queue, this.tail * 16 + 8, high);
    this.tail = (this.tail + 1) % QUEUE_ENTRIES;
  }

  private ring(): void {
    this.rig.post('iommu', Vtd.iqt, bytes32(this.tail * 16));
  }
}

/** A program may fill the queue no further than it is long. */
function fits({ actions }: Batch): boolean {
  return (
    actions.reduce((sum, one) => sum + (one.what === 'queue' ? one.fill + one.waits.length : 1), 0) < QUEUE_ENTRIES
  );
}

function run(program: readonly Batch[], mayStop: boolean) {
  const rig = new MigrationRig();
  let pendingAtStop = 0;
  try {
    rig.setUp();
    const driver = new Driver(rig);
    for (const { actions, stopAfter, stopOrder, startOrder, piece } of program) {
      for (const one of actions) driver.do(one);
      if (mayStop && stopAfter !== undefined) {
        for (let n = 0; n < stopAfter; n++) rig.loop.runOnce(0);
        const states = rig.save(stopOrder, piece);
        if (Buffer.from(states.edu0).includes('dma') || Buffer.from(states.iommu).includes('queue')) pendingAtStop++;
        rig.end();
        rig.start();
        rig.restore(states, startOrder, piece);
      }
      rig.settle();
    }
    const registers = Object.fromEntries(
      FUNCTIONS.map(name => [
        name,
        Buffer.from(rig.clients[name].regionRead(BAR0, 0, name === 'iommu' ? 0x2a0 : 0xa8)),
      ]),
    );
    const { messages, signals } = rig;
    const interrupts = { messages: [...messages].sort(), signals: { ...signals } };
    const states = rig.save();
    return { memory: rig.memory(), registers, interrupts, states, pendingAtStop, errors: rig.errors };
  } finally {
    rig.close();
  }
}

describe('a machine that is stopped in the middle of its work and restored elsewhere', () => {
  it('ends as one that was never stopped: memory, registers, interrupts', () => {
    let stoppedWithWork = 0;
    fc.assert(
      fc.property(fc.array(batch.filter(fits), { minLength: 1, maxLength: 5 }), program => {
        const moved = run(program, true);
        const stayed = run(program, false);
        stoppedWithWork += moved.pendingAtStop;
        expect(moved.errors).toEqual([]);
        expect(moved.registers).toEqual(stayed.registers);
        expect(moved.interrupts).toEqual(stayed.interrupts);
        expect(Buffer.compare(moved.memory, stayed.memory)).toBe(0);
        expect(moved.states).toEqual(stayed.states);
      }),
      { numRuns: 60, endOnFailure: true },
    );
    // Otherwise nothing was shown.
    expect(stoppedWithWork).toBeGreaterThan(10);
  });
});
