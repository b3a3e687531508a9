import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TranslatedDmaPort } from '../../../src/iommu/dma-port.ts';
import { Access, Translation, type Translator } from '../../../src/iommu/translator.ts';
import { Untranslated } from '../../../src/iommu/untranslated.ts';
import { LocalMemory } from '../../../src/memory/local-memory.ts';
import { DmaStatus } from '../../../src/pci/ports.ts';
import { applications, FakeIommu, injectionRig } from './support.ts';

const RID = 0x100;

function rig() {
  const parts = injectionRig();
  const iommu = new FakeIommu();
  const translator = parts.injection.translator('edu0', iommu);
  const out = new Translation();
  return { ...parts, iommu, translator, out };
}

describe('refuse', () => {
  it('passes everything on while there is no rule', () => {
    const { translator, iommu, out } = rig();
    expect(translator.translate(RID, 1, 0x2000, Access.read, out)).toBe(true);
    expect(translator.translateRun(RID, 1, 0x2000, Access.write, 0x5000, out)).toBe(true);
    expect(iommu.log).toEqual(['page 256 0x100002000 1', 'run 256 0x100002000 2 20480']);
  });

  it('says of events of translations what the IOMMU says', () => {
    const { injection, translator, iommu } = rig();
    expect(translator.emitsTranslations).toBe(false);
    const telling = injection.translator('edu0', Object.assign(iommu, { emitsTranslations: true }));
    expect(telling.emitsTranslations).toBe(true);
  });

  it('has the IOMMU itself refuse the next access, once', () => {
    const { injection, translator, iommu, out, trace, rule } = rig();
    const id = injection.add({ kind: 'refuse', device: 'edu0' });
    expect(translator.translateRun(RID, 1, 0x2345, Access.write, 16, out)).toBe(false);
    expect(translator.translateRun(RID, 1, 0x2345, Access.write, 16, out)).toBe(true);
    expect(iommu.log).toEqual(['refused 256 0x100002345 2', 'run 256 0x100002345 2 16']);
    expect(trace.events).toEqual([
      {
        kind: 'injection.applied',
        source: 'edu0',
        detail: { injection: id, rule: 'refuse', applied: 1, iova: 0x100002345n, access: 'write' },
      },
    ]);
    expect(rule(id)).toMatchObject({ applied: 1, over: true });
  });

  it('refuses single pages too', () => {
    const { injection, translator, iommu, out } = rig();
    injection.add({ kind: 'refuse', device: 'edu0', times: 2 });
    const answers = [1, 2, 3].map(() => translator.translate(RID, 0, 0, Access.read, out));
    expect(answers).toEqual([false, false, true]);
    expect(iommu.log).toEqual(['refused 256 0x0 1', 'refused 256 0x0 1', 'page 256 0x0 1']);
  });

  it('notes it before the IOMMU reports it', () => {
    const { injection, translator, iommu, out, trace } = rig();
    injection.add({ kind: 'refuse', device: 'edu0' });
    let notes = 0;
    iommu.refuse = () => {
      notes = trace.events.length;
    };
    translator.translate(RID, 0, 0, Access.read, out);
    expect(notes).toBe(1);
  });

  it('refuses even where the IOMMU cannot report it', () => {
    const { injection, out } = rig();
    const translator = injection.translator('edu0', new Untranslated());
    injection.add({ kind: 'refuse', device: 'edu0' });
    expect(translator.translateRun(RID, 0, 0, Access.read, 4, out)).toBe(false);
    expect(translator.translateRun(RID, 0, 0, Access.read, 4, out)).toBe(true);
  });

  it('goes page by page where the IOMMU knows no runs', () => {
    const { injection, out } = rig();
    const pages: Translator = {
      translate(_requesterId, _high, _low, _access, answer) {
        answer.shift = 12;
        return true;
      },
    };
    expect(injection.translator('edu0', pages).translateRun(RID, 0, 0xf00, Access.read, 0x800, out)).toBe(true);
    expect(out.bytes).toBe(0x100);
  });

  it.each([
    ['read', Access.read, false],
    ['read', Access.write, true],
    ['write', Access.write, false],
    ['write', Access.read, true],
    ['read', Access.read | Access.write, false],
  ] as const)('of %s only: access %i is allowed: %s', (access, wanted, allowed) => {
    const { injection, translator, out } = rig();
    injection.add({ kind: 'refuse', device: 'edu0', access });
    expect(translator.translate(RID, 0, 0x1000, wanted, out)).toBe(allowed);
  });

  it.each([
    [0, 0x4fff, true],
    [0, 0x5000, false],
    [0, 0x6fff, false],
    [0, 0x7000, true],
    [1, 0x5000, true],
  ])('of a range: page of %i:%i is allowed: %s', (high, low, allowed) => {
    const { injection, translator, out } = rig();
    injection.add({ kind: 'refuse', device: 'edu0', iova: 0x5800n, bytes: 0x1000n });
    expect(translator.translate(RID, high, low, Access.read, out)).toBe(allowed);
  });

  it('of an address without a length is of its page', () => {
    const { injection, translator, out } = rig();
    injection.add({ kind: 'refuse', device: 'edu0', iova: 0xffff_ffff_ffff_ffffn, times: 9 });
    expect(translator.translate(RID, -1, -0x2000, Access.read, out)).toBe(true);
    expect(translator.translate(RID, -1, -0x1000, Access.read, out)).toBe(false);
  });

  it('leaves the other devices alone', () => {
    const { injection, iommu, translator, out } = rig();
    const other = injection.translator('edu1', iommu);
    injection.add({ kind: 'refuse', device: 'edu0' });
    expect(other.translate(RID + 1, 0, 0, Access.read, out)).toBe(true);
    expect(translator.translate(RID, 0, 0, Access.read, out)).toBe(false);
  });

  it('counts the DMA of a device with and without a PASID together', () => {
    const { injection, iommu, translator, out } = rig();
    const tagged = injection.translator('edu0', iommu);
    injection.add({ kind: 'refuse', device: 'edu0' });
    expect(tagged.translate(RID, 0, 0, Access.read, out)).toBe(false);
    expect(translator.translate(RID, 0, 0, Access.read, out)).toBe(true);
  });

  it('lets the pages before the range through, as hardware would', () => {
    const { injection, trace } = rig();
    const memory = new LocalMemory(0x10000);
    const gate = { busMaster: true, generation: 0 };
    const iommu = new FakeIommu();
    const translator = injection.translator('edu0', iommu);
    const port = new TranslatedDmaPort({ translator, memory, requesterId: RID, gate });
    injection.add({ kind: 'refuse', device: 'edu0', iova: 0x3000n, bytes: 1n });
    const data = new Uint8Array(0x3000).fill(0xaa);
    expect(port.write(0, 0x1800, data, 0, data.length)).toBe(DmaStatus.fault);
    const found = new Uint8Array(0x10000);
    memory.read(0, 0, found, 0, found.length);
    expect(found.indexOf(0xaa)).toBe(0x1800);
    expect(found.lastIndexOf(0xaa)).toBe(0x2fff);
    expect(iommu.log.at(-1)).toBe('refused 256 0x3000 2');
    expect(applications(trace)).toHaveLength(1);
    expect(port.write(0, 0x1800, data, 0, data.length)).toBe(DmaStatus.ok);
  });

  it('refuses, page by page, what a plain list of ranges says', () => {
    const page = fc.nat(15);
    const range = fc.record({ first: page, pages: fc.integer({ min: 1, max: 4 }), access: fc.constantFrom(1, 2, 3) });
    const run = fc.record({ first: page, pages: fc.integer({ min: 1, max: 16 }), access: fc.constantFrom(1, 2) });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 4 }), run, (ranges, asked) => {
        const { injection, translator, out } = rig();
        for (const { first, pages, access } of ranges) {
          injection.add({
            kind: 'refuse',
            device: 'edu0',
            iova: BigInt(first) << 12n,
            bytes: BigInt(pages) << 12n,
            ...(access === 3 ? {} : { access: access === 1 ? 'read' : 'write' }),
          });
        }
        const refused = (number: number) =>
          ranges.some(
            one => number >= one.first && number < one.first + one.pages && (one.access & asked.access) !== 0,
          );
        const pages = Array.from({ length: asked.pages }, (_, index) => asked.first + index);
        const allowed = pages.findIndex(refused);
        const answer = translator.translateRun(RID, 0, asked.first << 12, asked.access, asked.pages << 12, out);
        expect(answer).toBe(allowed !== 0);
        if (answer) expect(out.bytes).toBe((allowed < 0 ? asked.pages : allowed) << 12);
      }),
    );
  });
});
