/** The steps of a run in which callers make, change and hand over tables of their own, and flush what is cached of them. */
import type { DomainHandle } from '../../../src/iommu/dma-iommu/types.ts';
import { arm64Config, x64Config } from './guest-tables.ts';
import { type ModelDomain, REGION_PAGES } from './model.ts';
import { type ModelRun, PAGES } from './model-run.ts';

/** Where callers' tables are: a page for each table, for each of the tables that an unmanaged domain may get. */
const TABLES_FIRST = 64;
const TABLES_PER_DOMAIN = 8;
/** So few that nothing of them is ever evicted from the caches: what is forgotten would look like a missing entry. */
const UNMANAGED_MAX = 3;

export class TableSteps {
  private readonly slots = new Map<ModelDomain, number>();
  private readonly arch = new Map<ModelDomain, 'arm64' | 'x64'>();

  constructor(private readonly run: ModelRun) {}

  /** Whether there is room for the tables of another domain. */
  get hasRoom(): boolean {
    return this.slots.size < UNMANAGED_MAX;
  }

  give(domain: ModelDomain): void {
    const used = new Set(this.slots.values());
    const slot = [0, 1, 2].find(one => !used.has(one))!;
    this.slots.set(domain, slot);
    const words = this.run.rig.memory.windows[0]!.words;
    const first = TABLES_FIRST + slot * TABLES_PER_DOMAIN;
    words.fill(0, first << 10, (first + TABLES_PER_DOMAIN) << 10);
  }

  configure(): void {
    const picked = this.run.pickLive(this.run.live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    const slot = this.slots.get(domain) ?? 0;
    const root = BigInt(TABLES_FIRST + slot * TABLES_PER_DOMAIN) << 12n;
    const bypass = this.run.below(6) === 0;
    const arch = this.arch.get(domain) ?? this.run.pick(['arm64', 'x64'] as const);
    const configuration =
      arch === 'arm64'
        ? arm64Config({ ttbr0: root, translationEnabled: !bypass })
        : x64Config({ root, translationEnabled: !bypass });
    const touched = [this.run.pick(PAGES), this.run.pick(PAGES)];
    this.run.accesses.touch(domain, touched);
    const answer = this.run.rig.unit.configureDomain({ domain: handle, configuration });
    const expected = this.run.model.configure(domain, arch, bypass);
    if (this.run.compare('configureDomain', `${handle} ${arch} bypass ${bypass}`, answer, expected)) {
      this.arch.set(domain, arch);
    }
    this.run.accesses.touch(domain, touched);
  }

  /** The caller changes its tables, and tells nobody. */
  change(): void {
    const all = [...this.run.live.domains].filter(([domain]) => this.slots.has(domain) && this.arch.has(domain));
    if (all.length === 0) return;
    const [domain, handle] = this.run.pick(all);
    const { tables } = domain;
    const page = this.run.pick(PAGES);
    const region = Math.floor(page / REGION_PAGES);
    this.run.accesses.touch(domain, [page]);
    const arm64 = this.arch.get(domain) === 'arm64';
    const first = TABLES_FIRST + this.slots.get(domain)! * TABLES_PER_DOMAIN;
    // Root, level 3, level 2, then two tables of level 1 for each region.
    const pointer = (frame: number) => (BigInt(frame) << 12n) | (arm64 ? 3n : 0x67n);
    const { memory } = this.run.rig;
    memory.write64(first, 0, pointer(first + 1));
    memory.write64(first + 1, 0, pointer(first + 2));
    const leafFrame = (table: number) => first + 3 + region * 2 + table;
    if (this.run.below(4) === 0 || tables.leafTable[region] === undefined) {
      const table = this.run.below(4) === 0 ? undefined : this.run.below(2);
      tables.leafTable[region] = table;
      memory.write64(first + 2, region * 8, table === undefined ? 0n : pointer(leafFrame(table)));
      this.run.log.push(`${handle}: region ${region} has table ${table}`);
      this.run.accesses.touch(domain, [page]);
      if (this.run.maybe()) this.flushPages(domain, handle, [page]);
      return;
    }
    const table = this.run.below(2);
    const key = `${region}/${table}/${page % REGION_PAGES}`;
    const offset = (page % REGION_PAGES) * 8;
    if (this.run.below(3) === 0) {
      tables.entries.delete(key);
      memory.write64(leafFrame(table), offset, 0n);
      this.run.log.push(`${handle}: page ${page} in table ${table} has nothing`);
      this.run.accesses.touch(domain, [page]);
      return;
    }
    const frame = 20 + this.run.below(200);
    const permissions = this.run.maybe() ? 3 : 1;
    tables.entries.set(key, { frame, permissions });
    const flags = arm64 ? (permissions === 3 ? 0x403n : 0x483n) : permissions === 3 ? 0x67n : 0x65n;
    memory.write64(leafFrame(table), offset, (BigInt(frame) << 12n) | flags);
    this.run.log.push(`${handle}: page ${page} in table ${table} has ${frame}, ${permissions}`);
    this.run.accesses.touch(domain, [page]);
  }

  flush(): void {
    const picked = this.run.pickLive(this.run.live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    if (this.run.below(3) !== 0) {
      this.flushPages(
        domain,
        handle,
        Array.from({ length: this.run.below(4) }, () => this.run.pick(PAGES)),
      );
      return;
    }
    const expected = this.run.model.flush(domain);
    this.run.compare('flushDomain', `${handle}`, this.run.rig.unit.flushDomain({ domain: handle }), expected);
  }

  private flushPages(domain: ModelDomain, handle: DomainHandle, pages: readonly number[]): void {
    const { model, rig } = this.run;
    const lastLevel = this.run.maybe();
    const vaList = pages.map(page => (BigInt(page) << 12n) | BigInt(this.run.below(4096)));
    const answer = rig.unit.flushDomainByVaList({ domain: handle, lastLevel, vaList });
    this.run.compare(
      'flushDomainByVaList',
      `${handle} ${lastLevel} [${pages}]`,
      answer,
      model.flushPages(domain, pages, lastLevel),
    );
    this.run.accesses.touch(domain, pages);
  }

  forget(domain: ModelDomain): void {
    this.slots.delete(domain);
  }

  forgetAll(): void {
    this.slots.clear();
    this.arch.clear();
  }
}
