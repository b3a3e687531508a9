import { describe, expect, it } from 'vitest';
import { EventLog } from '../event-log.ts';
import { Bench, COMMAND_BYTES, encodeCommand, Frame } from './support.ts';

const flush = (domain: number) => encodeCommand('flushDomain', { domain });

/** Software changes what is in the ring right after the command was read the first time. */
function changedAfterFirstReading(bench: Bench, index: number, entry: Uint8Array): void {
  let reads = 0;
  bench.memory.during = writing => {
    if (!writing && ++reads === 2) bench.memory.poke(Frame.commands * 4096 + index * COMMAND_BYTES, entry);
  };
}

describe('a command that changes while it is carried out', () => {
  it('is told, and the first reading is used', () => {
    const trace = new EventLog('fault');
    const bench = new Bench({ trace, checks: true }).enable();
    changedAfterFirstReading(bench, 0, flush(0x1234));
    bench.put(flush(7)).doorbell();
    bench.jobs.run();
    expect(bench.operations.calls.map(({ args }) => args.domain)).toEqual([7]);
    const [event, ...others] = trace.take('descriptor.changed');
    expect(others).toEqual([]);
    const offset = event!.fields.offset as number;
    expect(event).toEqual({
      kind: 'descriptor.changed',
      source: 'iommu',
      fields: {
        address: BigInt(Frame.commands) << 12n,
        offset,
        bytes: COMMAND_BYTES,
        before: new DataView(flush(7).buffer).getBigUint64(offset, true),
        after: new DataView(flush(0x1234).buffer).getBigUint64(offset, true),
      },
    });
    expect(event!.fields.before).not.toBe(event!.fields.after);
  });

  it('is told where it lies', () => {
    const trace = new EventLog('fault');
    const bench = new Bench({ trace, checks: true }).enable();
    bench.command('flushDomain', { domain: 1 });
    changedAfterFirstReading(bench, 1, flush(3));
    bench.command('flushDomain', { domain: 2 });
    expect(trace.fields('descriptor.changed').map(({ address }) => address)).toEqual([
      BigInt(Frame.commands * 4096 + COMMAND_BYTES),
    ]);
  });

  it('is not looked for unless checks are on and somebody wants to know', () => {
    for (const options of [
      { trace: new EventLog('fault'), checks: false },
      { trace: new EventLog('dma'), checks: true },
    ]) {
      const bench = new Bench(options).enable();
      let reads = 0;
      bench.memory.during = writing => {
        if (!writing) reads++;
      };
      bench.command('flushDomain', { domain: 1 });
      expect(reads).toBe(1);
    }
  });
});

it('commands that stay as they are cause no event', () => {
  const trace = new EventLog('fault');
  const bench = new Bench({ trace, checks: true }).enable();
  for (let i = 0; i < 20; i++) bench.command('flushDomain', { domain: i });
  expect(trace.take()).toEqual([]);
});

it('rings that are stopped during the second reading do not carry the command out', () => {
  const bench = new Bench({ trace: new EventLog('fault'), checks: true }).enable();
  let reads = 0;
  bench.memory.during = () => {
    if (++reads === 2) bench.write('CONTROL', 0);
  };
  bench.put(flush(1)).doorbell();
  bench.jobs.run();
  expect(reads).toBe(2);
  expect(bench.operations.calls).toEqual([]);
});

describe('the translation switch', () => {
  it('tells of requests that go around the unit', () => {
    const trace = new EventLog('translation');
    const { translation } = new Bench({ trace });
    const out = { frame: 0, shift: 0, permissions: 0, bytes: 0 };
    expect(translation.translateRun(0x123, 1, 0x5678, 2, 100, out)).toBe(true);
    expect(trace.take()).toEqual([
      {
        kind: 'translation',
        source: 'iommu',
        fields: {
          requesterId: 0x123,
          access: 2,
          source: 'untranslated',
          permissions: 3,
          shift: 12,
          iova: 0x1_0000_5678n,
          frame: 0x10_0005,
          domain: -1,
        },
      },
    ]);
    expect(translation.translate(0x123, 0x800, 0, 2, out)).toBe(false);
    translation.enabled = true;
    translation.translate(0x123, 0, 0, 1, out);
    expect(trace.take()).toEqual([]);
  });
});
