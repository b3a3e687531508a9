/** Random sequences of operations and DMA, given to a unit and to the model; the first difference ends the run. */
import { inspect } from 'node:util';
import { NtStatus, ntStatusName } from '../../../src/iommu/dma-iommu/ntstatus.ts';
import type { Answer } from '../../../src/iommu/dma-iommu/operations.ts';
import {
  type Compat,
  type DeviceHandle,
  type DomainHandle,
  FaultType,
  LogicalAllocatorType,
  type PasidDeviceHandle,
  type PhysicalAddressToMap,
  type SegmentHandle,
  type TokenHandle,
} from '../../../src/iommu/dma-iommu/types.ts';
import { arm64Config, x64Config } from './guest-tables.ts';
import {
  type Kind,
  Model,
  type ModelDevice,
  type ModelDomain,
  ModelPasid,
  type ModelSegment,
  type ModelToken,
  type Outcome,
  PASS_THROUGH,
  REGION_PAGES,
  type Status,
  TRANSLATE,
  TRANSLATE_S1,
  UNMANAGED,
} from './model.ts';
import { setGuard } from './model-devices.ts';
import { DeviceSteps } from './model-run-devices.ts';
import { DISK, GPU, mdl, NIC, pfns, Rig, range, UART } from './support.ts';

/** Mulberry32: small, and the same everywhere. */
function randomNumbers(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

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
/** So few that nothing of them is ever evicted from the caches: what is forgotten would look like a missing entry. */
const UNMANAGED_MAX = 3;
/** Logical pages are taken from here: near the start, and around the end of a table's reach. */
const PAGES = [0, 1, 2, 3, 4, 5, 6, 7, 508, 509, 510, 511, 512, 513, 514, 515];
const BUDDY_ORDERS = [0, 1, 2, 3, 4, 5];
/** Where callers' tables are: a page for each table, for each of the tables that an unmanaged domain may get. */
const TABLES_FIRST = 64;
const TABLES_PER_DOMAIN = 8;
const MEMORY_BYTES = 1 << 20;
const SOURCES: readonly (readonly [id: number, pasid: boolean])[] = [
  [NIC, false],
  [DISK, false],
  [GPU, false],
  [GPU, true],
  [8, false],
  [9, false],
  [10, false],
  [12, false],
];
const FAULTS: Record<Exclude<Outcome, number>, FaultType> = {
  blocked: FaultType.UnsupportedUpstreamTransaction,
  translation: FaultType.TranslationFault,
  permission: FaultType.PermissionFault,
};

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
  private waiting = false;
  private random: () => number = () => 0;
  live: Live = this.nothing();
  private log: string[] = [];
  private seed = 0;
  private domainsMax = 1;
  /** The type that most domains of a sequence have. */
  private usual: number | undefined;
  private readonly slots = new Map<ModelDomain, number>();
  private readonly arch = new Map<ModelDomain, 'arm64' | 'x64'>();
  private readonly devices = new DeviceSteps(this);

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
    this.sweep();
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
  private deliver(): void {
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

  private frames(): number[] {
    const count = 1 + this.below(this.maybe() ? 2 : 6);
    const first = 100 + this.below(60);
    return Array.from({ length: count }, (_, i) => (this.maybe() ? first + i : 20 + this.below(200)));
  }

  /** The same frames in one of the ways to say so. */
  private physical(frames: readonly number[]): PhysicalAddressToMap {
    const follow = frames.every((frame, i) => i === 0 || frame === frames[i - 1]! + 1);
    if (follow && this.maybe()) return range(BigInt(frames[0]!) << 12n, BigInt(frames.length) << 12n);
    return this.maybe() ? mdl(...frames) : pfns(...frames);
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
        for (let i = 0; i < 4; i++) this.pasids();
      },
      () => this.unmap(),
      () => this.identity(),
      () => this.tokens(),
      () => this.configure(),
      () => this.tables(),
      () => this.flush(),
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
    const always = [() => this.create(), () => this.attach(), () => this.map(), () => this.dma(), () => this.dma()];
    return [...always, ...chosen, ...chosen];
  }

  private create(): void {
    const { live, model, rig } = this;
    if (live.domains.size >= this.domainsMax) return;
    let type = this.pick([TRANSLATE, TRANSLATE, PASS_THROUGH, UNMANAGED, UNMANAGED, TRANSLATE_S1]);
    if (this.usual !== undefined && this.below(5) !== 0) type = this.usual;
    if (type === UNMANAGED && this.slots.size >= UNMANAGED_MAX) type = TRANSLATE;
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
    if (domain.type === UNMANAGED) this.giveTables(domain);
    if (domain.type !== UNMANAGED || this.maybe()) return;
    this.attach();
    this.configure();
    for (let i = 0; i < 8; i++) this.tables();
  }

  private giveTables(domain: ModelDomain): void {
    const used = new Set(this.slots.values());
    const slot = [0, 1, 2].find(one => !used.has(one))!;
    this.slots.set(domain, slot);
    const words = this.rig.memory.windows[0]!.words;
    const first = TABLES_FIRST + slot * TABLES_PER_DOMAIN;
    words.fill(0, first << 10, (first + TABLES_PER_DOMAIN) << 10);
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
    this.slots.delete(domain);
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

  private pasids(): void {
    const { live, model, rig } = this;
    const picked = this.pickLive(live.pasids);
    const domain = this.pickLive(live.domains);
    const choice = this.below(4);
    if (picked === undefined || choice === 0) {
      const device = this.pickLive(live.devices);
      if (device === undefined) return;
      const answer = rig.unit.createPasidDevice({ dmaDevice: device[1] });
      const expected = device[0].tagged ? 'SUCCESS' : 'INVALID_PARAMETER_1';
      if (!this.compare('createPasidDevice', `${device[1]}`, answer, expected)) return;
      const pasid = new ModelPasid(device[0], answer.asid!);
      device[0].pasids.add(pasid);
      live.pasids.set(pasid, answer.pasidDevice!);
      return;
    }
    const [pasid, pasidDevice] = picked;
    if (choice === 1) {
      const gone = this.compare(
        'deletePasidDevice',
        `${pasidDevice}`,
        rig.unit.deletePasidDevice({ pasidDevice }),
        model.deletePasid(pasid),
      );
      if (gone) live.pasids.delete(pasid);
    } else if (choice === 2) {
      this.compare(
        'detachPasidDevice',
        `${pasidDevice}`,
        rig.unit.detachPasidDevice({ pasidDevice }),
        model.detachPasid(pasid),
      );
      this.access(pasid.device.pdo, pasid.pasid, this.pick(PAGES), 1);
    } else if (domain !== undefined) {
      const expected = model.attachPasid(domain[0], pasid);
      const answer = rig.unit.attachPasidDevice({ domain: domain[1], pasidDevice });
      this.compare('attachPasidDevice', `${domain[1]} ${pasidDevice}`, answer, expected);
    }
  }

  private map(): void {
    const { live, model, rig } = this;
    const picked = this.pickLive(live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    const frames = this.frames();
    const permissions = 1 + this.below(3);
    const wantsExplicit = domain.buddyPages === undefined ? this.below(8) !== 0 : this.below(8) === 0;
    const start = wantsExplicit ? this.pick(PAGES) : undefined;
    if (start !== undefined && this.maybe()) {
      const answer = {
        status: rig.unit.mapLogicalRange({
          domain: handle,
          permissions,
          mdl: mdl(...frames),
          logicalAddress: BigInt(start) << 12n,
        }).status,
      };
      this.compare(
        'mapLogicalRange',
        `${handle} ${start} [${frames}] ${permissions}`,
        answer,
        model.map(domain, frames, permissions, start).status,
      );
      return;
    }
    // Often too small or just large enough.
    const first = this.below(8);
    const end = this.maybe() ? this.below(24) : first + frames.length + this.below(3) - 1;
    const window = this.maybe() ? { first, end } : undefined;
    const expected = model.map(domain, frames, permissions, start, window);
    const answer = rig.unit.mapLogicalRangeEx({
      domain: handle,
      permissions,
      physicalAddressToMap: this.physical(frames),
      explicitLogicalAddress: start === undefined ? undefined : BigInt(start) << 12n,
      // Anything in the page before the first one means the first one.
      minLogicalAddress: window && BigInt(Math.max(0, window.first * 4096 - this.below(4096))),
      maxLogicalAddress: window && BigInt(Math.max(0, window.end * 4096 - 1)),
    });
    const mapped = this.compare(
      'mapLogicalRangeEx',
      `${handle} ${start} ${JSON.stringify(window)} [${frames}] ${permissions}`,
      answer,
      expected.status,
    );
    if (mapped && answer.logicalAddress !== BigInt(expected.start) << 12n) {
      throw this.difference(`mapped at ${answer.logicalAddress}, not at page ${expected.start}`);
    }
  }

  private unmap(): void {
    const picked = this.pickLive(this.live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    let start = this.pick(PAGES);
    let pages = 1 + this.below(4);
    // Often exactly what one operation mapped.
    const some = this.pickLive(domain.pages);
    if (some !== undefined && this.maybe()) {
      const whole = [...domain.pages].filter(([, page]) => page.mapping === some[1].mapping).map(([page]) => page);
      start = Math.min(...whole);
      pages = whole.length;
    }
    const touched = Array.from({ length: pages }, (_, i) => start + i);
    this.touch(domain, touched);
    const expected = this.model.unmap(domain, start, pages);
    const answer = { status: this.rig.unmap(handle, BigInt(start) << 12n, pages) };
    this.compare('unmapLogicalRange', `${handle} ${start}+${pages}`, answer, expected);
    this.touch(domain, touched);
  }

  private identity(): void {
    const { live, model, rig } = this;
    const picked = this.pickLive(live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    const kind: Kind = 'identity';
    const known = [...domain.pages].filter(([, page]) => page.kind === kind).map(([page]) => page);
    const permissions = 1 + this.below(3);
    if (known.length > 0 && this.maybe()) {
      const frames = known.filter(() => this.maybe());
      if (frames.length === 0) return;
      if (this.below(6) === 0) frames.push(19);
      this.touch(domain, frames);
      const mappedPhysicalAddress = this.physical(frames);
      const answer = this.maybe()
        ? rig.unit.unmapIdentityRangeEx({ domain: handle, mappedPhysicalAddress })
        : rig.unit.unmapIdentityRange({ domain: handle, mdl: mdl(...frames) });
      this.compare('unmapIdentityRange', `${handle} [${frames}]`, answer, model.unmapIdentity(domain, frames));
      this.touch(domain, frames);
      return;
    }
    const frames = this.maybe() ? this.frames() : [this.pick(PAGES), this.pick(PAGES)];
    const answer = this.maybe()
      ? rig.unit.mapIdentityRangeEx({ domain: handle, permissions, physicalAddressToMap: this.physical(frames) })
      : rig.unit.mapIdentityRange({ domain: handle, permissions, mdl: mdl(...frames) });
    this.compare(
      'mapIdentityRange',
      `${handle} [${frames}] ${permissions}`,
      answer,
      model.mapIdentity(domain, frames, permissions),
    );
  }

  private tokens(): void {
    const { live, model, rig } = this;
    const token = this.pickLive(live.tokens);
    const segment = this.pickLive(live.segments);
    const choice = this.below(5);
    if (token === undefined || choice === 0) {
      const picked = this.pickLive(live.domains);
      if (picked === undefined) return;
      const pages = 1 + this.below(5);
      const start = picked[0].buddyPages === undefined ? this.pick(PAGES) : undefined;
      const expected = model.reserve(picked[0], pages, start);
      const answer = rig.unit.reserveLogicalAddressRange({
        domain: picked[1],
        size: BigInt(pages) << 12n,
        explicitLogicalAddress: start === undefined ? undefined : BigInt(start) << 12n,
      });
      this.compare('reserveLogicalAddressRange', `${picked[1]} ${start}+${pages}`, answer, expected.status);
      if (expected.token === undefined) return;
      live.tokens.set(expected.token, answer.token!);
      if (answer.logicalAddressBase !== BigInt(expected.token.start) << 12n) {
        throw this.difference(`reserved at ${answer.logicalAddressBase}, not at page ${expected.token.start}`);
      }
    } else if (choice === 1) {
      const answer = rig.unit.freeReservedLogicalAddressRange({ token: token[1] });
      if (this.compare('freeReservedLogicalAddressRange', `${token[1]}`, answer, model.freeToken(token[0]))) {
        live.tokens.delete(token[0]);
      }
    } else if (choice === 2 && segment !== undefined) {
      const { start, pages } = segment[0];
      const { domain } = segment[0].token;
      const touched = Array.from({ length: pages }, (_, i) => start + i);
      this.touch(domain, touched);
      const answer = rig.unit.unmapReservedLogicalRange({ mappedSegment: segment[1] });
      this.compare('unmapReservedLogicalRange', `${segment[1]}`, answer, model.unmapSegment(segment[0]));
      live.segments.delete(segment[0]);
      this.touch(domain, touched);
      const again = rig.unit.unmapReservedLogicalRange({ mappedSegment: segment[1] });
      this.compare('unmapReservedLogicalRange (again)', `${segment[1]}`, again, 'INVALID_PARAMETER');
    } else {
      const frames = this.frames();
      const offset = this.below(5);
      const permissions = 1 + this.below(3);
      const expected = model.mapSegment(token[0], offset, frames, permissions);
      const answer = rig.unit.mapReservedLogicalRange({
        token: token[1],
        offset: BigInt(offset) << 12n,
        permissions,
        physicalAddressToMap: this.physical(frames),
      });
      this.compare(
        'mapReservedLogicalRange',
        `${token[1]} ${offset} [${frames}] ${permissions}`,
        answer,
        expected.status,
      );
      if (expected.segment !== undefined) live.segments.set(expected.segment, answer.mappedSegment!);
    }
  }

  private configure(): void {
    const picked = this.pickLive(this.live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    const slot = this.slots.get(domain) ?? 0;
    const root = BigInt(TABLES_FIRST + slot * TABLES_PER_DOMAIN) << 12n;
    const bypass = this.below(6) === 0;
    const arch = this.arch.get(domain) ?? this.pick(['arm64', 'x64'] as const);
    const configuration =
      arch === 'arm64'
        ? arm64Config({ ttbr0: root, translationEnabled: !bypass })
        : x64Config({ root, translationEnabled: !bypass });
    const touched = [this.pick(PAGES), this.pick(PAGES)];
    this.touch(domain, touched);
    const answer = this.rig.unit.configureDomain({ domain: handle, configuration });
    const expected = this.model.configure(domain, arch, bypass);
    if (this.compare('configureDomain', `${handle} ${arch} bypass ${bypass}`, answer, expected)) {
      this.arch.set(domain, arch);
    }
    this.touch(domain, touched);
  }

  /** The caller changes its tables, and tells nobody. */
  private tables(): void {
    const all = [...this.live.domains].filter(([domain]) => this.slots.has(domain) && this.arch.has(domain));
    if (all.length === 0) return;
    const [domain, handle] = this.pick(all);
    const { tables } = domain;
    const page = this.pick(PAGES);
    const region = Math.floor(page / REGION_PAGES);
    this.touch(domain, [page]);
    const arm64 = this.arch.get(domain) === 'arm64';
    const first = TABLES_FIRST + this.slots.get(domain)! * TABLES_PER_DOMAIN;
    // Root, level 3, level 2, then two tables of level 1 for each region.
    const pointer = (frame: number) => (BigInt(frame) << 12n) | (arm64 ? 3n : 0x67n);
    const { memory } = this.rig;
    memory.write64(first, 0, pointer(first + 1));
    memory.write64(first + 1, 0, pointer(first + 2));
    const leafFrame = (table: number) => first + 3 + region * 2 + table;
    if (this.below(4) === 0 || tables.leafTable[region] === undefined) {
      const table = this.below(4) === 0 ? undefined : this.below(2);
      tables.leafTable[region] = table;
      memory.write64(first + 2, region * 8, table === undefined ? 0n : pointer(leafFrame(table)));
      this.log.push(`${handle}: region ${region} has table ${table}`);
      this.touch(domain, [page]);
      if (this.maybe()) this.flushPages(domain, handle, [page]);
      return;
    }
    const table = this.below(2);
    const key = `${region}/${table}/${page % REGION_PAGES}`;
    const offset = (page % REGION_PAGES) * 8;
    if (this.below(3) === 0) {
      tables.entries.delete(key);
      memory.write64(leafFrame(table), offset, 0n);
      this.log.push(`${handle}: page ${page} in table ${table} has nothing`);
      this.touch(domain, [page]);
      return;
    }
    const frame = 20 + this.below(200);
    const permissions = this.maybe() ? 3 : 1;
    tables.entries.set(key, { frame, permissions });
    const flags = arm64 ? (permissions === 3 ? 0x403n : 0x483n) : permissions === 3 ? 0x67n : 0x65n;
    memory.write64(leafFrame(table), offset, (BigInt(frame) << 12n) | flags);
    this.log.push(`${handle}: page ${page} in table ${table} has ${frame}, ${permissions}`);
    this.touch(domain, [page]);
  }

  private flush(): void {
    const picked = this.pickLive(this.live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    if (this.below(3) !== 0) {
      this.flushPages(
        domain,
        handle,
        Array.from({ length: this.below(4) }, () => this.pick(PAGES)),
      );
      return;
    }
    const expected = this.model.flush(domain);
    this.compare('flushDomain', `${handle}`, this.rig.unit.flushDomain({ domain: handle }), expected);
  }

  private flushPages(domain: ModelDomain, handle: DomainHandle, pages: readonly number[]): void {
    const { model, rig } = this;
    const lastLevel = this.maybe();
    const vaList = pages.map(page => (BigInt(page) << 12n) | BigInt(this.below(4096)));
    const answer = rig.unit.flushDomainByVaList({ domain: handle, lastLevel, vaList });
    this.compare(
      'flushDomainByVaList',
      `${handle} ${lastLevel} [${pages}]`,
      answer,
      model.flushPages(domain, pages, lastLevel),
    );
    this.touch(domain, pages);
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
    this.slots.clear();
    this.arch.clear();
    this.log.push('reset');
  }

  private dma(): void {
    const reached = SOURCES.filter(([id, tagged]) => !tagged && this.model.domainOf(id, -1) !== undefined);
    const [id, tagged] = reached.length > 0 && this.below(4) !== 0 ? this.pick(reached) : this.pick(SOURCES);
    const pasid = tagged ? (this.pickLive(this.live.pasids)?.[0].pasid ?? 1) : -1;
    const known = [...(this.model.domainOf(id, pasid)?.pages.keys() ?? [])];
    const page = known.length > 0 && this.maybe() ? this.pick(known) : this.pick(PAGES);
    this.access(id, pasid, page, this.pick([1, 2, 3]));
  }

  /** What was just changed is looked at by all who can reach it, now and then. */
  private touch(domain: ModelDomain, pages: readonly number[]): void {
    if (this.below(3) === 0) return;
    for (const [id, tagged] of SOURCES) {
      const pasids = tagged ? [...this.live.pasids.keys()].map(one => one.pasid) : [-1];
      for (const pasid of pasids) {
        if (this.model.domainOf(id, pasid) !== domain) continue;
        for (const page of pages) this.access(id, pasid, page, this.pick([1, 2, 3]));
      }
    }
  }

  /** Everything that could be reached, by everybody. */
  private sweep(): void {
    for (const [id, tagged] of SOURCES) {
      const pasids = tagged ? [...this.live.pasids.keys()].map(one => one.pasid) : [-1];
      for (const pasid of pasids) {
        const domain = this.model.domainOf(id, pasid);
        for (const page of new Set([...PAGES, ...(domain?.pages.keys() ?? [])])) {
          this.access(id, pasid, page, 1);
          this.access(id, pasid, page, 2);
        }
      }
    }
  }

  private access(id: number, pasid: number, page: number, access: number): void {
    const { rig, model } = this;
    const { out } = rig;
    this.translations++;
    const high = 0;
    const low = (page << 12) | this.below(4096);
    const probed = rig.unit.probe(id, pasid, high, low, access);
    const done = rig.unit.translate(id, high, low, access, out, pasid);
    const expected = model.translate(id, pasid, page, access);
    const what = `DMA of ${id}, PASID ${pasid}, page ${page}, access ${access}`;
    this.log.push(`${what} -> ${done ? out.frame : 'refused'}`);
    if (done !== (typeof expected === 'number') || (done && out.frame !== expected)) {
      throw this.difference(`${what}: ${done ? out.frame : 'refused'}, not ${expected}`);
    }
    if (probed.translated !== done || (done && probed.frame !== out.frame)) {
      throw this.difference(`${what}: the probe said ${probed.translated} ${probed.frame}`);
    }
    if (typeof expected === 'number') return;
    model.faults.add({ id, pasid, address: BigInt(low), access, why: expected });
    if (probed.fault !== FAULTS[expected]) throw this.difference(`${what}: the probe said ${probed.fault}`);
    if (this.below(4) !== 0 && !this.waiting) this.deliver();
  }
}
