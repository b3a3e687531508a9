import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { addMachineOptions, type MachineFlags, machineFromFlags } from '../../src/cli/machine-options.ts';
import { MAX_POLL_MICROSECONDS } from '../../src/machine/description.ts';

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
