import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ContextEntry } from '../../../src/iommu/vtd/context.ts';
import { ContextCache, Slot, SlotKind } from '../../../src/iommu/vtd/context-cache.ts';

function entry(domain: number, rest: Partial<ContextEntry> = {}): ContextEntry {
  return Object.assign(new ContextEntry(), { domain, rootFrame: 5, levels: 4, limitShift: 16, ...rest });
}

describe('context cache', () => {
  it('finds nothing at first', () => {
    expect(new ContextCache().find(0)).toBe(-1);
    expect(new ContextCache().find(0xffff)).toBe(-1);
  });

  it('keeps all that an entry says', () => {
    const cache = new ContextCache();
    const at = cache.fill(0xffff, entry(9, { faultProcessingDisabled: true, passThrough: true }));
    expect(cache.find(0xffff)).toBe(at);
    expect([...cache.words.subarray(at + 1, at + 7)]).toEqual([9, 5, 4, 16, SlotKind.passThrough, 1]);
  });

  it('keeps a faulting entry under domain 0', () => {
    const cache = new ContextCache();
    const at = cache.fillFault(1, entry(9), 3);
    expect(cache.words[at + Slot.kind]).toBe(SlotKind.fault);
    expect(cache.words[at + Slot.reason]).toBe(3);
    cache.invalidateDomain(0);
    expect(cache.find(1)).toBe(-1);
  });

  it('loses everything by a global invalidation', () => {
    const cache = new ContextCache();
    cache.fill(1, entry(9));
    cache.fill(2, entry(8));
    cache.invalidateAll();
    expect([cache.find(1), cache.find(2)]).toEqual([-1, -1]);
  });

  it('loses a domain, and keeps the others', () => {
    const cache = new ContextCache();
    cache.fill(1, entry(9));
    cache.fill(2, entry(8));
    cache.fill(3, entry(9));
    cache.invalidateDomain(9);
    expect([1, 2, 3].map(id => cache.find(id) >= 0)).toEqual([false, true, false]);
  });

  it('loses a domain again after it was filled again', () => {
    const cache = new ContextCache();
    cache.fill(1, entry(9));
    cache.invalidateDomain(9);
    cache.fill(1, entry(9));
    cache.invalidateDomain(9);
    expect(cache.find(1)).toBe(-1);
  });

  it('finds the entries of a domain after any number of global invalidations', () => {
    const cache = new ContextCache();
    for (let round = 0; round < 70_000; round++) {
      cache.fill(2, entry(9));
      cache.invalidateAll();
    }
    cache.fill(1, entry(9));
    cache.invalidateDomain(9);
    expect(cache.find(1)).toBe(-1);
  });

  it('loses a device only under its own domain, and says what stayed', () => {
    const cache = new ContextCache();
    cache.fill(0x100, entry(9));
    expect(cache.invalidateDevice(0x100, 0, 8)).toBe(1);
    expect(cache.find(0x100)).toBeGreaterThanOrEqual(0);
    expect(cache.invalidateDevice(0x100, 0, 9)).toBe(0);
    expect(cache.find(0x100)).toBe(-1);
  });

  it.each([
    [0, 0x105, [0x105]],
    [1, 0x105, [0x101, 0x105]],
    [2, 0x105, [0x101, 0x103, 0x105, 0x107]],
    [3, 0x105, [0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107]],
  ])('with function mask %i takes the neighbours of %i with it', (mask, source, gone) => {
    const cache = new ContextCache();
    for (let id = 0xf8; id < 0x110; id++) cache.fill(id, entry(9));
    expect(cache.invalidateDevice(source, mask, 9)).toBe(0);
    for (let id = 0xf8; id < 0x110; id++) expect(cache.find(id) < 0, `${id}`).toBe(gone.includes(id));
  });

  it('behaves as a map from requester to domain, under any operations', () => {
    const id = fc.integer({ min: 0, max: 40 });
    const domain = fc.integer({ min: 0, max: 4 });
    const operation = fc.oneof(
      fc.tuple(fc.constant('fill' as const), id, domain),
      fc.tuple(fc.constant('device' as const), id, domain),
      fc.tuple(fc.constant('domain' as const), id, domain),
      fc.tuple(fc.constant('all' as const), id, domain),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), operations => {
        const cache = new ContextCache();
        const model = new Map<number, number>();
        for (const [kind, who, which] of operations) {
          if (kind === 'fill') {
            cache.fill(who, entry(which));
            model.set(who, which);
          } else if (kind === 'device') {
            cache.invalidateDevice(who, 0, which);
            if (model.get(who) === which) model.delete(who);
          } else if (kind === 'domain') {
            cache.invalidateDomain(which);
            for (const [key, value] of model) if (value === which) model.delete(key);
          } else {
            cache.invalidateAll();
            model.clear();
          }
          for (let one = 0; one <= 40; one++) {
            const at = cache.find(one);
            expect(at < 0 ? undefined : cache.words[at + Slot.domain]).toBe(model.get(one));
          }
        }
      }),
      { numRuns: 100 },
    );
  });
});
