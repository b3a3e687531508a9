import { describe, expect, it } from 'vitest';
import { EventClass, Kind } from '../../../src/trace/event-kinds.ts';
import type { EventListener } from '../../../src/trace/events.ts';
import { replay } from '../../../src/trace/recording/replay.ts';
import { event, named, note, open, record, text, write } from './support.ts';

/** Keeps what it hears. */
class Listener implements EventListener {
  readonly heard: unknown[] = [];

  constructor(readonly wants: number) {}

  event(kind: number, source: string, time: number, payload: Int32Array): void {
    this.heard.push([kind, source, time, [...payload]]);
  }

  note(kind: string, source: string, time: number, detail: object): void {
    this.heard.push([kind, source, time, detail]);
  }
}

async function heard(wants: number, ...records: Int32Array[]) {
  const listener = new Listener(wants);
  const reader = open((await write(records)).path);
  const told: number[] = [];
  const findings: unknown[] = [];
  const result = replay(reader, listener, {
    before: time => told.push(time),
    finding: (value, time) => findings.push([value, time]),
  });
  return { heard: listener.heard, told, findings, result };
}

const attach = event('attach', 1, 5, 0x100, 7, 0, -1);
const read = event('dma.read', 2, 6, 0x100, 0, 0x1000, 64, -1);

describe('a replay', () => {
  it('tells events of the classes that are wanted, with their source and payload', async () => {
    const { heard: events, result } = await heard(EventClass.attach, named(1, 'iommu'), attach, read);
    expect(events).toEqual([[Kind.attach, 'iommu', 5, [0x100, 7, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0]]]);
    expect(result).toMatchObject({ events: 1, notes: 0, time: 5 });
  });

  it('tells all words of long records, and none of a record before', async () => {
    const words = Array.from({ length: 13 }, (_, word) => word + 100);
    const { heard: events } = await heard(
      EventClass.fault | EventClass.attach,
      record(Kind.fault, 0, 1, words),
      attach,
    );
    expect(events).toMatchObject([
      [Kind.fault, 'source 0', 1, words],
      [Kind.attach, 'source 1', 5, { length: 13 }],
    ]);
    expect((events[1] as unknown[][])[3]!.slice(4)).toEqual(new Array(9).fill(0));
  });

  it('tells notes whatever is wanted, with their 64-bit numbers', async () => {
    const { heard: events } = await heard(0, note(1, 9, 'edu.mask', 'edu0', { address: 0xffff_ffff_0000_0000n }));
    expect(events).toEqual([['edu.mask', 'edu0', 9, { address: 0xffff_ffff_0000_0000n }]]);
  });

  it('keeps the order, and says before each what time it is', async () => {
    const { told } = await heard(
      EventClass.attach,
      attach,
      note(1, 9, 'a', 'b', {}),
      event('detach', 1, 11, 0x100, 7, -1),
    );
    expect(told).toEqual([5, 9, 11]);
  });

  it('gives the findings of a recording to who asks', async () => {
    const { findings } = await heard(0, text(Kind.finding, 0, 9, { id: 'F1' }));
    expect(findings).toEqual([[{ id: 'F1' }, 9]]);
  });

  it('counts notes that are none', async () => {
    const { heard: events, result } = await heard(0, text(Kind.note, 0, 9, ['only a kind']), text(Kind.note, 0, 9, 5));
    expect(events).toEqual([]);
    expect(result.malformed).toBe(2);
  });
});
