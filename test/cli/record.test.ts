import { writeFileSync } from 'node:fs';
import { CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import { CommandFailure, UsageError } from '../../src/cli/errors.ts';
import { EventClass } from '../../src/trace/event-kinds.ts';
import { wordsOf } from '../trace/recording/support.ts';
import { event, FakeMachine, join32, LIVE, MACHINE, named, open, scratch, viommu } from './recording-support.ts';

const names = named(1, 'edu0');
const read = (time: number) => event('dma.read', 1, time, 0x100, 0, 0x8000, 64, -1);
const attach = event('attach', 1, 9, 0x100, 7, 0, -1);

/** Gives its batches, then ends by closing the connection or by what the flags say. */
function machineWith(...batches: Int32Array[]): FakeMachine {
  const machine = new FakeMachine();
  machine.early = [names];
  machine.begun = take => {
    for (const words of batches) take(words, 0);
  };
  return machine;
}

describe('viommu record', () => {
  it('writes a file that viommu trace reads, until the time is up', async () => {
    const path = scratch();
    const machine = machineWith(join32(read(1), read(2)), attach);
    const { lines } = await viommu(['record', ...LIVE, '-o', path, '--for', '50ms'], machine);
    const reader = open(path);
    expect(wordsOf(reader)).toEqual(join32(names, read(1), read(2), attach));
    expect(reader).toMatchObject({ complete: true, dropped: 0 });
    expect(reader.header.machine).toEqual(MACHINE);
    expect(reader.header.host).toMatchObject({ node: process.version });
    expect(lines).toEqual([`${path}: 4 records, 0 dropped, ${(reader.bytes / 1024).toFixed(1)} KiB`]);
    expect(machine.stopped).toBe(true);
    expect((await viommu(['trace', path])).lines).toHaveLength(3);
  });

  it('ends when the file is large enough', async () => {
    const path = scratch();
    const machine = new FakeMachine();
    machine.begun = take => {
      for (let time = 0; time < 5000; time++) take(read(time), 0);
    };
    await viommu(['record', ...LIVE, '-o', path, '--max-bytes', '20K'], machine);
    expect(open(path).bytes).toBeGreaterThan(20 * 1024);
    expect(machine.stopped).toBe(true);
  });

  it('asks for the classes that are wanted, and keeps no others', async () => {
    const path = scratch();
    const machine = machineWith(join32(read(1), attach));
    await viommu(['record', ...LIVE, '-o', path, '--class', 'attach', '--for', '20ms'], machine);
    expect(machine.classes).toBe(EventClass.attach);
    expect(wordsOf(open(path))).toEqual(join32(names, attach));
  });

  it('asks for everything unless told otherwise', async () => {
    const machine = machineWith();
    await viommu(['record', ...LIVE, '-o', scratch(), '--for', '5ms'], machine);
    for (const bit of Object.values(EventClass)) expect(machine.classes! & bit).toBe(bit);
  });

  it('tells what was lost, and the file shows where', async () => {
    const path = scratch();
    const machine = new FakeMachine();
    machine.begun = take => {
      take(read(1), 0);
      take(join32(event('dropped', 0, 2, 10), read(3)), 3);
    };
    const { lines } = await viommu(['record', ...LIVE, '-o', path, '--for', '20ms', '--json'], machine);
    expect(JSON.parse(lines[0]!)).toMatchObject({ file: path, records: 4, dropped: 13, malformed: 0 });
    expect((await viommu(['trace', path, '--class', 'note'])).lines.map(line => line.trim().split(' ').at(-1))).toEqual(
      ['records=3', 'records=10'],
    );
  });

  it('keeps what it has when the server goes away', async () => {
    const path = scratch();
    const machine = machineWith(read(1));
    const { begun } = machine;
    machine.begun = take => {
      begun(take);
      machine.close(new Error('the connection is closed: code 1006'));
    };
    await expect(viommu(['record', ...LIVE, '-o', path], machine)).rejects.toThrow(/code 1006/);
    expect(open(path)).toMatchObject({ complete: true, records: 2 });
  });

  it('says which file cannot be written', async () => {
    const run = viommu(['record', ...LIVE, '-o', '/nowhere/a'], machineWith());
    await expect(run).rejects.toThrow(CommandFailure);
    await expect(run).rejects.toThrow(/cannot write \/nowhere\/a: ENOENT/);
  });

  it('ends at once when the disk is full', async () => {
    const machine = new FakeMachine();
    machine.begun = take => {
      const timer = setInterval(() => {
        take(read(1), 0);
        if (machine.stopped) clearInterval(timer);
      }, 1);
    };
    await expect(viommu(['record', ...LIVE, '-o', '/dev/full'], machine)).rejects.toThrow(/cannot write .*ENOSPC/);
  });

  it('empties a file that is there', async () => {
    const path = scratch();
    writeFileSync(path, 'x'.repeat(100_000));
    await viommu(['record', ...LIVE, '-o', path, '--for', '5ms'], machineWith());
    expect(open(path)).toMatchObject({ complete: true, damage: [] });
  });

  it.each([
    [['-o', 'x', '--max-bytes', '5X'], UsageError, /number of bytes/],
    [['-o', 'x', '--for', '5'], CommanderError, /not a time/],
    [['-o', 'x', '--class', 'none'], CommanderError, /no class/],
    [[], CommanderError, /--output/],
  ])('refuses %s', async (flags, kind, message) => {
    const run = viommu(['record', ...LIVE, ...flags], machineWith());
    await expect(run).rejects.toBeInstanceOf(kind);
    await expect(run).rejects.toThrow(message);
  });
});
