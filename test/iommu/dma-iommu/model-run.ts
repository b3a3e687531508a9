/** Random sequences of operations and DMA, given to a unit and to the model; the first difference ends the run. */
import { inspect } from 'node:util';
import { NtStatus, ntStatusName } from '../../../src/iommu/dma-iommu/ntstatus.ts';
import type { Answer } from '../../../src/iommu/dma-iommu/operations.ts';
import {
  type Compat,
  type DeviceHandle,
  type DomainHandle,
  LogicalAllocatorType,
  type PasidDeviceHandle,
  type SegmentHandle,
  type TokenHandle,
} from '../../../src/iommu/dma-iommu/types.ts';
import {
  Model,
  type ModelDevice,
  type ModelDomain,
  type ModelPasid,
  type ModelSegment,
  type ModelToken,
  PASS_THROUGH,
  type Status,
  TRANSLATE,
  TRANSLATE_S1,
  UNMANAGED,
} from './model.ts';
import { setGuard } from './model-devices.ts';
import { DeviceSteps } from './model-run-devices.ts';
import { DmaSteps } from './model-run-dma.ts';
import { MappingSteps } from './model-run-mappings.ts';
import { TableSteps } from './model-run-tables.ts';
import { randomNumbers } from './random-numbers.ts';
import { DISK, GPU, NIC, Rig, UART } from './support.ts';

/** As node:util's isDeepStrictEqual, for plain data, of which there is a lot here: it is several times as fast. */
function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  for (const key of keys) {
    if (!Object.hasOwn(b, key) || !same((a as Plain)[key], (b as Plain)[key])) return false;
  }
  return true;
}

type Plain = Readonly<Record<string, unknown>>;

const STEPS_MAX = 60;
const DOMAINS_MAX = 5;
/** Logical pages are taken from here: near the start, and around the end of a table's reach. */
export const PAGES = [0, 1, 2, 3, 4, 5, 6, 7, 508, 509, 510, 511, 512, 513, 514, 515];
const BUDDY_ORDERS = [0, 1, 2, 3, 4, 5];
const MEMORY_BYTES = 1 << 20;
interface Live {
  domains: Map<ModelDomain, DomainHandle>;
  devices: Map<ModelDevice, DeviceHandle>;
  pasids: Map<ModelPasid, PasidDeviceHandle>;
  tokens: Map<ModelToken, TokenHandle>;
  segments: Map<ModelSegment, SegmentHandle>;
}

const SUCCESS = 'STATUS_SUCCESS';

export class ModelRun {
  readonly rig: Rig;
  readonly model: Model;
  /** What handlers and callbacks were told since it was last looked at. */
  heard: unknown[] = [];
  /** Comparisons of answers and of translations made so far. */
  answers = 0;
  translations = 0;
  /** How often each step was taken with success; what never succeeds is not tested. */
  readonly succeeded = new Map<string, number>();
  private droppedBefore = 0;
  /** Faults are told late in this sequence: only when a step says so. */
  waiting = false;
  private random: () => number = () => 0;
  live: Live = this.nothing();
  log: string[] = [];
  private seed = 0;
  private domainsMax = 1;
  /** The type that most domains of a sequence have. */
  private usual: number | undefined;
  readonly accesses = new DmaSteps(this);
  private readonly devices = new DeviceSteps(this);
  private readonly mappings = new MappingSteps(this);
  private readonly tables = new TableSteps(this);

  constructor(compat: Compat = 'extended') {
    this.rig = new Rig({ memoryBytes: MEMORY_BYTES, compat });
    this.model = new Model(compat);
    this.rig.unit.onFault = fault => this.heard.push({ what: 'fault', fault });
  }

  /** Throws an Error that tells the steps of the sequence where unit and model differ. */
  sequence(seed: number): void {
    this.seed = seed;
    this.random = randomNumbers(seed);
    this.log = [];
    this.devices.gone = [];
    this.rig.trace.events.length = 0;
    this.reset();
    for (const pdo of [...this.model.guarded]) this.guard(pdo, false);
    this.domainsMax = 1 + this.below(DOMAINS_MAX);
    this.usual = this.pick([undefined, TRANSLATE, TRANSLATE_S1, UNMANAGED]);
    this.waiting = this.below(4) === 0;
    const kinds = this.choose();
    const steps = 5 + this.below(STEPS_MAX - 5);
    for (let i = 0; i < steps; i++) this.pick(kinds)();
    this.deliver();
    this.accesses.sweep();
    this.deliver();
    this.compareStatistics();
    this.reset();
    const left = this.rig.unit.snapshot();
    if (left.tablePages !== 0) throw this.difference(`${left.tablePages} pages of tables are left`);
  }

  difference(what: string): Error {
    return new Error(`${what}\nafter these steps of sequence ${this.seed}:\n${this.log.join('\n')}`);
  }

  differs(what: string, seen: unknown, expected: unknown): Error {
    return this.difference(`${what}: ${inspect(seen, { depth: 6 })}, not ${inspect(expected, { depth: 6 })}`);
  }

  private count(name: string): void {
    this.succeeded.set(name, (this.succeeded.get(name) ?? 0) + 1);
  }

  /** What handlers and callbacks call must succeed. */
  within(name: string, answer: Answer): void {
    this.log.push(`${name} from within a call -> ${ntStatusName(answer.status)}`);
    if (answer.status !== NtStatus.SUCCESS) this.heard.push({ what: name, status: ntStatusName(answer.status) });
  }

  /** Whether exactly these were told, in this order. */
  expectHeard(expected: readonly { readonly what: string }[]): void {
    if (!same(this.heard, expected)) throw this.differs('told', this.heard, expected);
    for (const { what } of expected) {
      this.log.push(`told: ${what}`);
      this.count(`told: ${what}`);
    }
    this.heard = [];
  }

  /** The jobs run: faults that wait are told. */
  deliver(): void {
    this.rig.jobs.run();
    this.expectHeard(this.model.faults.deliver());
  }

  private compareStatistics(): void {
    const { faults, faultsReported, faultsDropped } = this.rig.unit.statistics;
    const { counts, reported, dropped } = this.model.faults;
    if (dropped > this.droppedBefore) this.count('dropped');
    this.droppedBefore = dropped;
    const seen = { faults, faultsReported, faultsDropped };
    const expected = { faults: counts, faultsReported: reported, faultsDropped: dropped };
    if (!same(seen, expected)) throw this.differs('statistics', seen, expected);
  }

  private nothing(): Live {
    return { domains: new Map(), devices: new Map(), pasids: new Map(), tokens: new Map(), segments: new Map() };
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  pickLive<K, V>(map: ReadonlyMap<K, V>): [K, V] | undefined {
    return map.size === 0 ? undefined : this.pick([...map]);
  }

  maybe(): boolean {
    return this.random() < 0.5;
  }

  compare(name: string, args: string, answer: Answer, expected: Status): boolean {
    const seen = ntStatusName(answer.status);
    this.log.push(`${name} ${args} -> ${seen}`);
    this.answers++;
    // IN_USE and RESOURCE_IN_USE have one number.
    if (answer.status !== NtStatus[expected]) throw this.difference(`${name}: ${seen}, not ${expected}`);
    if (seen === SUCCESS) this.count(name);
    return seen === SUCCESS;
  }

  /** Every sequence leaves some steps out, and so takes others more often: rare meetings become likely in some of them. */
  private choose(): (() => void)[] {
    const optional: readonly (() => void)[] = [
      () => this.delete(),
      () => this.detach(),
      () => this.devices.create(),
      () => this.attachEx(),
      () => {
        // One alone does little.
        this.devices.create();
        for (let i = 0; i < 4; i++) this.devices.pasids();
      },
      () => this.mappings.unmap(),
      () => this.mappings.identity(),
      () => this.mappings.tokens(),
      () => this.tables.configure(),
      () => this.tables.change(),
      () => this.tables.flush(),
      () => this.guard(this.pick([NIC, GPU, UART]), this.maybe()),
      () => {
        if (this.below(20) === 0) this.reset();
      },
    ];
    // Half of them leave these to the others.
    const more: readonly (() => void)[] = [
      () => this.devices.query(),
      () => this.devices.watch(),
      () => this.devices.report(),
      () => this.deliver(),
      () => {
        this.devices.create();
        this.devices.watch();
        this.guard(this.pick([NIC, GPU, GPU, UART]), this.maybe());
      },
      () => {
        this.attach();
        this.devices.report();
      },
    ];
    const chosen = [...optional, ...(this.maybe() ? more : [])].filter(() => this.maybe());
    const always = [
      () => this.create(),
      () => this.attach(),
      () => this.mappings.map(),
      () => this.accesses.dma(),
      () => this.accesses.dma(),
    ];
    return [...always, ...chosen, ...chosen];
  }

  private create(): void {
    const { live, model, rig } = this;
    if (live.domains.size >= this.domainsMax) return;
    let type = this.pick([TRANSLATE, TRANSLATE, PASS_THROUGH, UNMANAGED, UNMANAGED, TRANSLATE_S1]);
    if (this.usual !== undefined && this.below(5) !== 0) type = this.usual;
    if (type === UNMANAGED && !this.tables.hasRoom) type = TRANSLATE;
    if ((type === TRANSLATE || type === UNMANAGED) && this.maybe()) {
      const answer = rig.unit.createDomain({ osManagedPageTable: type === TRANSLATE });
      this.compare('createDomain', `${type}`, answer, 'SUCCESS');
      this.created(model.create(type, undefined, []), answer.domain!);
      return;
    }
    const order = (type === TRANSLATE || type === TRANSLATE_S1) && this.maybe() ? this.pick(BUDDY_ORDERS) : undefined;
    const regions: { start: number; pages: number; shouldMap: boolean }[] = [];
    for (let at = this.below(6); regions.length < 2 && this.below(3) === 0; at += 1 + this.below(4)) {
      const pages = 1 + this.below(3);
      regions.push({ start: at, pages, shouldMap: this.maybe() });
      at += pages;
    }
    const answer = rig.unit.createDomainEx({
      domainType: type,
      logicalAllocatorConfig:
        order === undefined
          ? undefined
          : { logicalAllocatorType: LogicalAllocatorType.Buddy, addressWidth: 12 + order },
      reservedRegions: regions.map(({ start, pages, shouldMap }) => ({
        base: BigInt(start) << 12n,
        numberOfPages: pages,
        shouldMap,
      })),
    });
    this.compare('createDomainEx', `${type} buddy ${order} ${JSON.stringify(regions)}`, answer, 'SUCCESS');
    this.created(model.create(type, order === undefined ? undefined : 2 ** order, regions), answer.domain!);
  }

  private created(domain: ModelDomain, handle: DomainHandle): void {
    this.live.domains.set(domain, handle);
    domain.handle = handle;
    if (domain.type === UNMANAGED) this.tables.give(domain);
    if (domain.type !== UNMANAGED || this.maybe()) return;
    this.attach();
    this.tables.configure();
    for (let i = 0; i < 8; i++) this.tables.change();
  }

  private delete(): void {
    const picked = this.pickLive(this.live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    if (
      !this.compare(
        'deleteDomain',
        `${handle}`,
        this.rig.unit.deleteDomain({ domain: handle }),
        this.model.delete(domain),
      )
    )
      return;
    this.live.domains.delete(domain);
    this.tables.forget(domain);
    const again = this.rig.unit.flushDomain({ domain: handle });
    this.compare('flushDomain (deleted)', `${handle}`, again, 'INVALID_HANDLE');
  }

  private attach(): void {
    const picked = this.pickLive(this.live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    const [pdo, base, count] = this.pick([
      [NIC, 0, 1],
      [DISK, 0, 1],
      [GPU, 0, 1],
      [UART, 8, 2],
      [UART, 9, 3],
      [UART, 12, 1],
    ] as const);
    const ids = pdo === UART ? Array.from({ length: count }, (_, i) => base + i) : [pdo];
    const expected = this.model.attach(domain, pdo, base, ids);
    const answer = { status: this.rig.attach(handle, pdo, base, count) };
    this.compare('attachDevice', `${handle} ${pdo}/${base}+${count}`, answer, expected);
  }

  private detach(): void {
    const picked = this.pickLive(this.live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    const [pdo, base] = this.pick([
      [NIC, 0],
      [DISK, 0],
      [GPU, 0],
      [UART, 8],
      [UART, 9],
      [UART, 12],
    ] as const);
    const expected = this.model.detachV1(domain, pdo, base);
    this.compare('detachDevice', `${handle} ${pdo}/${base}`, { status: this.rig.detach(handle, pdo, base) }, expected);
  }

  private attachEx(): void {
    const { live, model, rig } = this;
    const device = this.pickLive(live.devices);
    const domain = this.pickLive(live.domains);
    if (device === undefined || domain === undefined) return;
    const args = { domain: domain[1], dmaDevice: device[1] };
    if (this.below(3) === 0) {
      this.compare('detachDeviceEx', `${args.dmaDevice}`, rig.unit.detachDeviceEx(args), model.detachEx(device[0]));
      return;
    }
    const expected = model.attach(domain[0], device[0].pdo, device[0].base, device[0].ids, device[0]);
    this.compare('attachDeviceEx', `${args.domain} ${args.dmaDevice}`, rig.unit.attachDeviceEx(args), expected);
  }

  private guard(pdo: number, blocked: boolean): void {
    this.log.push(`DMA Guard ${pdo} ${blocked}`);
    this.rig.unit.setDmaGuard(pdo, blocked);
    this.expectHeard(setGuard(this.model, pdo, blocked));
  }

  private reset(): void {
    this.rig.unit.reset();
    this.model.reset();
    // What waited is forgotten.
    this.deliver();
    this.devices.gone.push(...this.live.devices.values());
    this.live = this.nothing();
    this.tables.forgetAll();
    this.log.push('reset');
  }
}
