/** The DMA of a run: each access is probed, done, and compared with the model's. */
import { FaultType } from '../../../src/iommu/dma-iommu/types.ts';
import type { ModelDomain, Outcome } from './model.ts';
import { type ModelRun, PAGES } from './model-run.ts';
import { DISK, GPU, NIC } from './support.ts';

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

export class DmaSteps {
  constructor(private readonly run: ModelRun) {}

  dma(): void {
    const reached = SOURCES.filter(([id, tagged]) => !tagged && this.run.model.domainOf(id, -1) !== undefined);
    const [id, tagged] =
      reached.length > 0 && this.run.below(4) !== 0 ? this.run.pick(reached) : this.run.pick(SOURCES);
    const pasid = tagged ? (this.run.pickLive(this.run.live.pasids)?.[0].pasid ?? 1) : -1;
    const known = [...(this.run.model.domainOf(id, pasid)?.pages.keys() ?? [])];
    const page = known.length > 0 && this.run.maybe() ? this.run.pick(known) : this.run.pick(PAGES);
    this.access(id, pasid, page, this.run.pick([1, 2, 3]));
  }

  /** What was just changed is looked at by all who can reach it, now and then. */
  touch(domain: ModelDomain, pages: readonly number[]): void {
    if (this.run.below(3) === 0) return;
    for (const [id, tagged] of SOURCES) {
      const pasids = tagged ? [...this.run.live.pasids.keys()].map(one => one.pasid) : [-1];
      for (const pasid of pasids) {
        if (this.run.model.domainOf(id, pasid) !== domain) continue;
        for (const page of pages) this.access(id, pasid, page, this.run.pick([1, 2, 3]));
      }
    }
  }

  /** Everything that could be reached, by everybody. */
  sweep(): void {
    for (const [id, tagged] of SOURCES) {
      const pasids = tagged ? [...this.run.live.pasids.keys()].map(one => one.pasid) : [-1];
      for (const pasid of pasids) {
        const domain = this.run.model.domainOf(id, pasid);
        for (const page of new Set([...PAGES, ...(domain?.pages.keys() ?? [])])) {
          this.access(id, pasid, page, 1);
          this.access(id, pasid, page, 2);
        }
      }
    }
  }

  access(id: number, pasid: number, page: number, access: number): void {
    const { rig, model } = this.run;
    const { out } = rig;
    this.run.translations++;
    const high = 0;
    const low = (page << 12) | this.run.below(4096);
    const probed = rig.unit.probe(id, pasid, high, low, access);
    const done = rig.unit.translate(id, high, low, access, out, pasid);
    const expected = model.translate(id, pasid, page, access);
    const what = `DMA of ${id}, PASID ${pasid}, page ${page}, access ${access}`;
    this.run.log.push(`${what} -> ${done ? out.frame : 'refused'}`);
    if (done !== (typeof expected === 'number') || (done && out.frame !== expected)) {
      throw this.run.difference(`${what}: ${done ? out.frame : 'refused'}, not ${expected}`);
    }
    if (probed.translated !== done || (done && probed.frame !== out.frame)) {
      throw this.run.difference(`${what}: the probe said ${probed.translated} ${probed.frame}`);
    }
    if (typeof expected === 'number') return;
    model.faults.add({ id, pasid, address: BigInt(low), access, why: expected });
    if (probed.fault !== FAULTS[expected]) throw this.run.difference(`${what}: the probe said ${probed.fault}`);
    if (this.run.below(4) !== 0 && !this.run.waiting) this.run.deliver();
  }
}
