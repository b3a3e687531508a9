/** The address space of a domain whose page tables we own: what is mapped where, the tables that say so, and a TLB kept true. */
import type { TableBuilder } from '../../page-tables/table-builder.ts';
import { WalkStatus } from '../../page-tables/walker.ts';
import type { Translation } from '../translator.ts';
import { type AddressSpace, type SpaceProbe, type SpaceTables, TRANSLATED } from './address-space.ts';
import type { Budget } from './budget.ts';
import { faultTypeOf, NOT_MAPPED } from './choices.ts';
import { LOGICAL_PAGES } from './limits.ts';
import type { ManagedEvents } from './managed-events.ts';
import { NtStatus } from './ntstatus.ts';
import { highOf, lowOf } from './page-number.ts';
import { type PhysicalPages, runs } from './physical-pages.ts';
import { type PageRange, type RangeKind, RangeSet } from './range-set.ts';
import type { FrameRun } from './saved-values.ts';
import type { TableEngine } from './table-engine.ts';

export class ManagedTables implements AddressSpace {
  readonly ranges: RangeSet;

  constructor(
    private readonly builder: TableBuilder,
    private readonly tables: TableEngine,
    private readonly tag: number,
    private readonly root: number,
    private readonly rangeBudget: Budget,
    private readonly events: ManagedEvents,
  ) {
    this.ranges = new RangeSet(rangeBudget);
  }

  translate(high: number, low: number, access: number, out: Translation): number {
    const { builder, tag, root } = this;
    const status = this.tables.translate(tag, root, builder.levels, high, low, access, out);
    return status === WalkStatus.ok ? TRANSLATED : faultTypeOf(status);
  }

  probe(high: number, low: number, access: number, out: Translation): SpaceProbe {
    const { builder, tag, root } = this;
    const probed = this.tables.probe(tag, root, builder.levels, high, low, access, out);
    const result = probed.status === WalkStatus.ok ? TRANSLATED : faultTypeOf(probed.status);
    return { result, source: probed.source, level: probed.level, stale: probed.stale };
  }

  tablesFor(high: number, low: number): SpaceTables {
    const { tables, tag, root, builder } = this;
    return { tables, tag, rootFrame: root, levels: builder.levels, high, low };
  }

  private get domain(): number {
    return this.tag >> 1;
  }

  /** Says that `map` has mapped these: when the operation it is part of has succeeded. */
  tellMapped(start: number, physical: PhysicalPages, permissions: number): void {
    this.events.mapped(this.domain, start, physical, permissions);
  }

  /** Maps the pages from `start` on. The caller has checked that the address space has such pages. */
  map(start: number, physical: PhysicalPages, permissions: number, kind: RangeKind): NtStatus {
    if (this.ranges.overlaps(start, physical.pages)) return NtStatus.IN_USE;
    if (!this.ranges.hasRoom || !this.write(start, physical, permissions)) return NtStatus.INSUFFICIENT_RESOURCES;
    this.ranges.insert({ start, pages: physical.pages, kind, permissions });
    return NtStatus.SUCCESS;
  }

  /** Maps every page to itself: all or none. A page that is named twice overlaps itself. */
  mapIdentity(physical: PhysicalPages, permissions: number): NtStatus {
    const done: { first: number; pages: number }[] = [];
    for (const run of runs(physical)) {
      const status = this.map(run.first, { pages: run.pages, first: run.first }, permissions, 'identity');
      if (status !== NtStatus.SUCCESS) {
        for (const { first, pages } of done) this.unmap(first, pages, false);
        return status;
      }
      done.push(run);
    }
    this.events.mappedIdentity(this.domain, done, permissions);
    return NtStatus.SUCCESS;
  }

  /** The first of the ranges here, each mapped by one call, unless these pages are exactly that; undefined if there is none at all. */
  cutBy(start: number, pages: number): PageRange | undefined {
    const range = this.ranges.from(start);
    return range === undefined || (range.start === start && range.pages === pages) ? undefined : range;
  }

  /** Unmaps pages that were all mapped as that kind, else none. */
  unmapKind(start: number, pages: number, kind: RangeKind): NtStatus {
    if (!this.ranges.covers(start, pages, kind)) return NOT_MAPPED;
    this.events.beginUnmapped(this.domain);
    const status = this.unmap(start, pages) ? NtStatus.SUCCESS : NtStatus.INSUFFICIENT_RESOURCES;
    this.events.end();
    return status;
  }

  unmapIdentity(physical: PhysicalPages): NtStatus {
    const all = [...runs(physical)];
    let splits = 0;
    for (const { first, pages } of all) {
      if (!this.ranges.covers(first, pages, 'identity')) return NOT_MAPPED;
      if (this.ranges.splits(first, pages)) splits++;
    }
    // Never more than these become two, whatever the order.
    if (splits > this.rangeBudget.left) return NtStatus.INSUFFICIENT_RESOURCES;
    this.events.beginUnmapped(this.domain);
    for (const { first, pages } of all) this.unmap(first, pages);
    this.events.end();
    return NtStatus.SUCCESS;
  }

  /** Sets pages apart, with their tables, without mapping them. */
  reserve(start: number, pages: number): NtStatus {
    if (this.ranges.overlaps(start, pages)) return NtStatus.IN_USE;
    if (!this.ranges.hasRoom || !this.builder.reserve(this.root, highOf(start), lowOf(start), pages))
      return NtStatus.INSUFFICIENT_RESOURCES;
    this.ranges.insert({ start, pages, kind: 'token', permissions: 0 });
    return NtStatus.SUCCESS;
  }

  /** First frame and length of each run of frames that these pages are mapped to, all of them; undefined: more than so many runs. */
  runs(start: number, pages: number, most: number): number[] | undefined {
    const runs: number[] = [];
    let expected = -1;
    let count = 0;
    this.events.forEachMapped(this.root, start, pages, (_page, frame) => {
      if (frame === expected) runs[runs.length - 1] = runs.at(-1)! + 1;
      else if (count++ < most) runs.push(frame, 1);
      expected = frame + 1;
    });
    return count > most ? undefined : runs;
  }

  /** Maps a range of a saved state. False as of `map`; part of it may be mapped then. */
  restore(range: PageRange, runs: readonly FrameRun[]): boolean {
    const { start, pages, permissions } = range;
    if (this.ranges.overlaps(start, pages) || !this.ranges.hasRoom) return false;
    if (!this.restoreRuns(start, runs, permissions)) return false;
    return this.ranges.insert(range);
  }

  /** The same of pages that are reserved already. */
  restoreRuns(start: number, runs: readonly FrameRun[], permissions: number): boolean {
    let at = start;
    for (const run of runs) {
      if (!this.write(at, run, permissions)) return false;
      this.tellMapped(at, run, permissions);
      at += run.pages;
    }
    return true;
  }

  /** Undoes `reserve`, when nothing is mapped there any more. */
  release(start: number, pages: number): void {
    this.builder.release(this.root, highOf(start), lowOf(start), pages);
    this.ranges.remove(start, pages);
    this.tables.invalidate(this.tag, start, pages, false);
  }

  /** Maps pages that `reserve` set apart; cannot run out of tables. */
  mapReserved(start: number, physical: PhysicalPages, permissions: number): boolean {
    if (!this.write(start, physical, permissions)) return false;
    this.tellMapped(start, physical, permissions);
    return true;
  }

  unmapReserved(start: number, pages: number): void {
    this.events.beginUnmapped(this.domain);
    this.events.unmapped(this.root, start, pages);
    this.events.end();
    this.builder.unmap(this.root, highOf(start), lowOf(start), pages, true);
    this.tables.invalidate(this.tag, start, pages, true);
  }

  /** Keeps pages from being mapped. */
  withhold(start: number, pages: number): NtStatus {
    if (this.ranges.overlaps(start, pages)) return NtStatus.IN_USE;
    const inserted = this.ranges.insert({ start, pages, kind: 'hole', permissions: 0 });
    return inserted ? NtStatus.SUCCESS : NtStatus.INSUFFICIENT_RESOURCES;
  }

  /** Says of all that is mapped that it goes. */
  tellDestroyed(): void {
    this.events.beginUnmapped(this.domain);
    for (const { start, pages, kind } of this.ranges)
      if (kind !== 'hole') this.events.unmapped(this.root, start, pages);
    this.events.end();
  }

  destroy(): void {
    this.builder.destroy(this.root);
    this.ranges.clear();
    this.tables.engine.invalidateDomain(this.tag);
  }

  /** Tables that are freed must be gone from the caches before their frames are used again: now. False as of `RangeSet.remove`. */
  private unmap(start: number, pages: number, told = true): boolean {
    if (!this.ranges.remove(start, pages)) return false;
    if (told) this.events.unmapped(this.root, start, pages);
    this.builder.unmap(this.root, highOf(start), lowOf(start), pages, false);
    this.tables.invalidate(this.tag, start, pages, false);
    return true;
  }

  private write(start: number, physical: PhysicalPages, permissions: number): boolean {
    const { builder, root } = this;
    const high = highOf(start);
    const low = lowOf(start);
    if (physical.frames === undefined) return builder.map(root, high, low, physical.first, physical.pages, permissions);
    return builder.mapFrames(root, high, low, physical.frames, 0, physical.pages, permissions);
  }
}

/** Whether the four levels of tables have these pages. */
export function fits(start: number, pages: number): boolean {
  return start >= 0 && start + pages <= LOGICAL_PAGES;
}
