/** The steps of a run that map and unmap, and that set logical addresses apart. */
import type { PhysicalAddressToMap } from '../../../src/iommu/dma-iommu/types.ts';
import type { Kind } from './model.ts';
import { type ModelRun, PAGES } from './model-run.ts';
import { mdl, pfns, range } from './support.ts';

export class MappingSteps {
  constructor(private readonly run: ModelRun) {}

  private frames(): number[] {
    const count = 1 + this.run.below(this.run.maybe() ? 2 : 6);
    const first = 100 + this.run.below(60);
    return Array.from({ length: count }, (_, i) => (this.run.maybe() ? first + i : 20 + this.run.below(200)));
  }

  /** The same frames in one of the ways to say so. */
  private physical(frames: readonly number[]): PhysicalAddressToMap {
    const follow = frames.every((frame, i) => i === 0 || frame === frames[i - 1]! + 1);
    if (follow && this.run.maybe()) return range(BigInt(frames[0]!) << 12n, BigInt(frames.length) << 12n);
    return this.run.maybe() ? mdl(...frames) : pfns(...frames);
  }

  map(): void {
    const { live, model, rig } = this.run;
    const picked = this.run.pickLive(live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    const frames = this.frames();
    const permissions = 1 + this.run.below(3);
    const wantsExplicit = domain.buddyPages === undefined ? this.run.below(8) !== 0 : this.run.below(8) === 0;
    const start = wantsExplicit ? this.run.pick(PAGES) : undefined;
    if (start !== undefined && this.run.maybe()) {
      const answer = {
        status: rig.unit.mapLogicalRange({
          domain: handle,
          permissions,
          mdl: mdl(...frames),
          logicalAddress: BigInt(start) << 12n,
        }).status,
      };
      this.run.compare(
        'mapLogicalRange',
        `${handle} ${start} [${frames}] ${permissions}`,
        answer,
        model.map(domain, frames, permissions, start).status,
      );
      return;
    }
    // Often too small or just large enough.
    const first = this.run.below(8);
    const end = this.run.maybe() ? this.run.below(24) : first + frames.length + this.run.below(3) - 1;
    const window = this.run.maybe() ? { first, end } : undefined;
    const expected = model.map(domain, frames, permissions, start, window);
    const answer = rig.unit.mapLogicalRangeEx({
      domain: handle,
      permissions,
      physicalAddressToMap: this.physical(frames),
      explicitLogicalAddress: start === undefined ? undefined : BigInt(start) << 12n,
      // Anything in the page before the first one means the first one.
      minLogicalAddress: window && BigInt(Math.max(0, window.first * 4096 - this.run.below(4096))),
      maxLogicalAddress: window && BigInt(Math.max(0, window.end * 4096 - 1)),
    });
    const mapped = this.run.compare(
      'mapLogicalRangeEx',
      `${handle} ${start} ${JSON.stringify(window)} [${frames}] ${permissions}`,
      answer,
      expected.status,
    );
    if (mapped && answer.logicalAddress !== BigInt(expected.start) << 12n) {
      throw this.run.difference(`mapped at ${answer.logicalAddress}, not at page ${expected.start}`);
    }
  }

  unmap(): void {
    const picked = this.run.pickLive(this.run.live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    let start = this.run.pick(PAGES);
    let pages = 1 + this.run.below(4);
    // Often exactly what one operation mapped.
    const some = this.run.pickLive(domain.pages);
    if (some !== undefined && this.run.maybe()) {
      const whole = [...domain.pages].filter(([, page]) => page.mapping === some[1].mapping).map(([page]) => page);
      start = Math.min(...whole);
      pages = whole.length;
    }
    const touched = Array.from({ length: pages }, (_, i) => start + i);
    this.run.accesses.touch(domain, touched);
    const expected = this.run.model.unmap(domain, start, pages);
    const answer = { status: this.run.rig.unmap(handle, BigInt(start) << 12n, pages) };
    this.run.compare('unmapLogicalRange', `${handle} ${start}+${pages}`, answer, expected);
    this.run.accesses.touch(domain, touched);
  }

  identity(): void {
    const { live, model, rig } = this.run;
    const picked = this.run.pickLive(live.domains);
    if (picked === undefined) return;
    const [domain, handle] = picked;
    const kind: Kind = 'identity';
    const known = [...domain.pages].filter(([, page]) => page.kind === kind).map(([page]) => page);
    const permissions = 1 + this.run.below(3);
    if (known.length > 0 && this.run.maybe()) {
      const frames = known.filter(() => this.run.maybe());
      if (frames.length === 0) return;
      if (this.run.below(6) === 0) frames.push(19);
      this.run.accesses.touch(domain, frames);
      const mappedPhysicalAddress = this.physical(frames);
      const answer = this.run.maybe()
        ? rig.unit.unmapIdentityRangeEx({ domain: handle, mappedPhysicalAddress })
        : rig.unit.unmapIdentityRange({ domain: handle, mdl: mdl(...frames) });
      this.run.compare('unmapIdentityRange', `${handle} [${frames}]`, answer, model.unmapIdentity(domain, frames));
      this.run.accesses.touch(domain, frames);
      return;
    }
    const frames = this.run.maybe() ? this.frames() : [this.run.pick(PAGES), this.run.pick(PAGES)];
    const answer = this.run.maybe()
      ? rig.unit.mapIdentityRangeEx({ domain: handle, permissions, physicalAddressToMap: this.physical(frames) })
      : rig.unit.mapIdentityRange({ domain: handle, permissions, mdl: mdl(...frames) });
    this.run.compare(
      'mapIdentityRange',
      `${handle} [${frames}] ${permissions}`,
      answer,
      model.mapIdentity(domain, frames, permissions),
    );
  }

  tokens(): void {
    const { live, model, rig } = this.run;
    const token = this.run.pickLive(live.tokens);
    const segment = this.run.pickLive(live.segments);
    const choice = this.run.below(5);
    if (token === undefined || choice === 0) {
      const picked = this.run.pickLive(live.domains);
      if (picked === undefined) return;
      const pages = 1 + this.run.below(5);
      const start = picked[0].buddyPages === undefined ? this.run.pick(PAGES) : undefined;
      const expected = model.reserve(picked[0], pages, start);
      const answer = rig.unit.reserveLogicalAddressRange({
        domain: picked[1],
        size: BigInt(pages) << 12n,
        explicitLogicalAddress: start === undefined ? undefined : BigInt(start) << 12n,
      });
      this.run.compare('reserveLogicalAddressRange', `${picked[1]} ${start}+${pages}`, answer, expected.status);
      if (expected.token === undefined) return;
      live.tokens.set(expected.token, answer.token!);
      if (answer.logicalAddressBase !== BigInt(expected.token.start) << 12n) {
        throw this.run.difference(`reserved at ${answer.logicalAddressBase}, not at page ${expected.token.start}`);
      }
    } else if (choice === 1) {
      const answer = rig.unit.freeReservedLogicalAddressRange({ token: token[1] });
      if (this.run.compare('freeReservedLogicalAddressRange', `${token[1]}`, answer, model.freeToken(token[0]))) {
        live.tokens.delete(token[0]);
      }
    } else if (choice === 2 && segment !== undefined) {
      const { start, pages } = segment[0];
      const { domain } = segment[0].token;
      const touched = Array.from({ length: pages }, (_, i) => start + i);
      this.run.accesses.touch(domain, touched);
      const answer = rig.unit.unmapReservedLogicalRange({ mappedSegment: segment[1] });
      this.run.compare('unmapReservedLogicalRange', `${segment[1]}`, answer, model.unmapSegment(segment[0]));
      live.segments.delete(segment[0]);
      this.run.accesses.touch(domain, touched);
      const again = rig.unit.unmapReservedLogicalRange({ mappedSegment: segment[1] });
      this.run.compare('unmapReservedLogicalRange (again)', `${segment[1]}`, again, 'INVALID_PARAMETER');
    } else {
      const frames = this.frames();
      const offset = this.run.below(5);
      const permissions = 1 + this.run.below(3);
      const expected = model.mapSegment(token[0], offset, frames, permissions);
      const answer = rig.unit.mapReservedLogicalRange({
        token: token[1],
        offset: BigInt(offset) << 12n,
        permissions,
        physicalAddressToMap: this.physical(frames),
      });
      this.run.compare(
        'mapReservedLogicalRange',
        `${token[1]} ${offset} [${frames}] ${permissions}`,
        answer,
        expected.status,
      );
      if (expected.segment !== undefined) live.segments.set(expected.segment, answer.mappedSegment!);
    }
  }
}
