/** What a port tells of transfers. */
import { describe, expect, it } from 'vitest';
import { TranslatedDmaPort } from '../../src/iommu/dma-port.ts';
import type { RunTranslator, Translation } from '../../src/iommu/translator.ts';
import { Untranslated } from '../../src/iommu/untranslated.ts';
import { LocalMemory } from '../../src/memory/local-memory.ts';
import { DmaStatus } from '../../src/pci/ports.ts';
import { EventClass } from '../../src/trace/event-kinds.ts';
import { EventLog } from './event-log.ts';

const RID = 0x0108;

function setup(translator: RunTranslator = new Untranslated(), more: { pasid?: number } = {}) {
  const events = new EventLog();
  const memory = new LocalMemory(16 * 4096);
  const gate = { busMaster: true, generation: 0 };
  const port = new TranslatedDmaPort({
    translator,
    memory,
    requesterId: RID,
    gate,
    trace: events,
    name: 'edu0',
    ...more,
  });
  const buffer = new Uint8Array(3 * 4096);
  return { events, memory, gate, port, buffer };
}

/** Refuses all. */
const refusing: RunTranslator = { translate: () => false, translateRun: () => false };

describe('transfers that went through', () => {
  it('are told with what they moved', () => {
    const { events, port, buffer } = setup();
    expect(port.read(0, 0x1800, buffer, 0, 2 * 4096)).toBe(DmaStatus.ok);
    expect(port.write(0, 0x2000, buffer, 0, 5)).toBe(DmaStatus.ok);
    const fields = { requesterId: RID, status: 'ok', pasid: -1 };
    expect(events.log).toEqual([
      { kind: 'dma.read', source: 'edu0', also: false, fields: { ...fields, iova: 0x1800n, length: 2 * 4096 } },
      { kind: 'dma.write', source: 'edu0', also: false, fields: { ...fields, iova: 0x2000n, length: 5 } },
    ]);
  });

  it('are not told where nobody wants them', () => {
    const { events, port, buffer } = setup();
    events.mask = ~EventClass.dma;
    port.read(0, 0, buffer, 0, 8);
    port.write(0, 0, buffer, 0, 8);
    expect(events.log).toEqual([]);
  });

  it('carry their PASID', () => {
    const { events, port, buffer } = setup(new Untranslated(), { pasid: 5 });
    port.read(0, 0, buffer, 0, 8);
    expect(events.of('dma.read')).toMatchObject([{ pasid: 5 }]);
  });

  it('have the time of the translation, if that was told', () => {
    const plain = new Untranslated();
    const telling: RunTranslator = {
      emitsTranslations: true,
      translate: (...question) => plain.translate(...question),
      translateRun: (...question: [number, number, number, number, number, Translation]) =>
        plain.translateRun(...question),
    };
    const { events, port, buffer } = setup(telling);
    port.read(0, 0, buffer, 0, 8);
    port.read(0, 0, buffer, 0, 0);
    events.mask = ~EventClass.translation;
    port.write(0, 0, buffer, 0, 8);
    expect(events.log.map(({ kind, also }) => [kind, also])).toEqual([
      ['dma.read', true],
      ['dma.read', false],
      ['dma.write', false],
    ]);
  });
});

describe('transfers that failed', () => {
  it.each([
    ['fault', refusing, {}],
    ['notBusMaster', new Untranslated(), { busMaster: false }],
  ])('are told with why: %s', (status, translator, state) => {
    const { events, gate, port, buffer } = setup(translator);
    Object.assign(gate, state);
    port.read(-1, 0x7000, buffer, 0, 64);
    port.write(0, 0x7000, buffer, 0, 64);
    const fields = { requesterId: RID, status, length: 64, pasid: -1 };
    expect(events.log.map(({ kind, fields: all }) => ({ kind, ...all }))).toEqual([
      { kind: 'dma.failed', ...fields, iova: 0xffff_ffff_0000_7000n, write: 0 },
      { kind: 'dma.failed', ...fields, iova: 0x7000n, write: 1 },
    ]);
  });

  it('are told of memory that is not there', () => {
    const { events, port, buffer } = setup();
    port.write(0, 15 * 4096, buffer, 0, 2 * 4096);
    expect(events.of('dma.failed')).toMatchObject([{ status: 'noMemory', iova: 15n * 4096n, length: 2 * 4096 }]);
  });

  it('are told of a reset under way', () => {
    const translator: RunTranslator = {
      translate: () => true,
      translateRun: () => {
        gate.generation++;
        return true;
      },
    };
    const { events, gate, port, buffer } = setup(translator);
    port.read(0, 0, buffer, 0, 8);
    expect(events.of('dma.failed')).toMatchObject([{ status: 'aborted' }]);
  });

  it('are not told where nobody wants faults', () => {
    const { events, port, buffer } = setup(refusing);
    events.mask = ~EventClass.fault;
    port.read(0, 0, buffer, 0, 8);
    expect(events.log).toEqual([]);
  });
});

describe('without a trace', () => {
  it('nothing is told', () => {
    const { memory, gate, buffer } = setup();
    const port = new TranslatedDmaPort({ translator: new Untranslated(), memory, requesterId: RID, gate });
    expect(port.read(0, 0, buffer, 0, 8)).toBe(DmaStatus.ok);
    gate.busMaster = false;
    expect(port.read(0, 0, buffer, 0, 8)).toBe(DmaStatus.notBusMaster);
  });
});
