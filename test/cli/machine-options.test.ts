import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addMachineOptions, limitsHelp, type MachineFlags, machineFromFlags } from '../../src/cli/machine-options.ts';
import { MAX_POLL_MICROSECONDS } from '../../src/machine/description.ts';
import { limitRange } from '../../src/vfio-user/limit-settings.ts';
import { limitNames, limitTable } from '../../src/vfio-user/limit-table.ts';

function machineOf(...flags: string[]) {
  const command = addMachineOptions(new Command())
    .exitOverride()
    .configureOutput({ writeErr() {} });
  return machineFromFlags(command.parse(flags, { from: 'user' }).opts<MachineFlags>(), []);
}

describe('--poll-us', () => {
  it.each([
    ['auto', 'auto'],
    ['0', 0],
    ['50', 50],
    [String(MAX_POLL_MICROSECONDS), MAX_POLL_MICROSECONDS],
  ])('takes %s', (text, expected) => {
    expect(machineOf('--poll-us', text).pollMicroseconds).toBe(expected);
  });

  it('asks for nothing where it is missing', () => {
    expect(machineOf()).not.toHaveProperty('pollMicroseconds');
  });

  it.each(['', '-1', '1.5', '1e2', 'on', String(MAX_POLL_MICROSECONDS + 1)])(
    "refuses '%s', and says what it takes",
    text => {
      expect(() => machineOf(`--poll-us=${text}`)).toThrow(/Write 'auto' or a whole number/);
    },
  );
});

describe('--limit', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'viommu-options-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  function machineFile(description: object): string {
    const path = join(directory, 'machine.json');
    writeFileSync(path, JSON.stringify(description));
    return path;
  }

  it('may be given again; of two for one limit the last counts', () => {
    const flags = ['--limit', 'maxDmaMaps=7', '--limit', 'dmaTimeout=100', '--limit', 'maxDmaMaps=8'];
    expect(machineOf(...flags).limits).toEqual({ maxDmaMaps: 8, dmaTimeout: 100 });
  });

  it('asks for nothing where it is missing', () => {
    expect(machineOf()).not.toHaveProperty('limits');
  });

  it('goes before what a machine file says, limit by limit', () => {
    const file = machineFile({ limits: { maxDmaMaps: 7, maxDescriptors: 3 } });
    expect(machineOf('--machine', file, '--limit', 'maxDmaMaps=9').limits).toEqual({
      maxDmaMaps: 9,
      maxDescriptors: 3,
    });
  });

  it('is checked together with what a machine file says', () => {
    const file = machineFile({ limits: { maxQueuedBytes: 65536 } });
    expect(() => machineOf('--machine', file, '--limit', 'maxDataTransfer=65536')).toThrow(
      expect.objectContaining({ name: 'DescriptionError', message: expect.stringMatching(/do not go together/) }),
    );
  });

  it.each([
    ['maxDmaMap=7', /did you mean maxDmaMaps \(1 to 65535 regions\)/],
    ['maxDmaMaps', /Write NAME=VALUE: the limit maxDmaMaps must be a whole number, 1 to 65535 regions/],
    ['maxDmaMaps=', /1 to 65535 regions, not ''/],
    ['maxDmaMaps=0', /1 to 65535 regions, not '0'/],
    ['maxDmaMaps=-1', /not '-1'/],
    ['maxDmaMaps=1e3', /not '1e3'/],
    ['maxDmaMaps=0x10', /not '0x10'/],
    ['maxDmaMaps=99999999999999999999', /1 to 65535 regions/],
    ['=7', /no limit is called ''/],
  ])("refuses '%s', and says what it takes", (text, message) => {
    expect(() => machineOf(`--limit=${text}`)).toThrow(message);
  });

  it('is told of in the help of what serves a machine', () => {
    const help = addMachineOptions(new Command('serve')).helpInformation().replace(/\s+/g, ' ');
    expect(help).toContain(`(names: ${limitNames.join(', ')})`);
  });

  it('has a line for each limit in the help of serve', () => {
    for (const name of limitNames) {
      expect(limitsHelp()).toMatch(
        new RegExp(`^  ${name} +${limitRange(name)} .*\\(default: ${limitTable[name].default}\\)$`, 'm'),
      );
    }
  });
});
