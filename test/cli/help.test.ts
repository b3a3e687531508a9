import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { addRecord } from '../../src/cli/record.ts';
import { addSanitizeOptions } from '../../src/cli/sanitize-options.ts';
import { runProgram } from '../support.ts';

/** As one line, whatever its width. */
const oneLine = (text: string) => text.replace(/\s+/g, ' ');

describe('the help', () => {
  it('shows defaults as a user would write them', () => {
    const help = oneLine(addSanitizeOptions(new Command('boot')).helpInformation());
    expect(help).toMatch(/--sanitize <what> [^(]*\(default: on\)/);
    expect(help).toMatch(/--record-classes <classes> [^(]*\(default: all\)/);
    const program = new Command('viommu');
    addRecord(program);
    expect(oneLine(program.commands[0]!.helpInformation())).toMatch(/--class <classes> [^(]*\(default: all\)/);
  });

  it('keeps the options of the debugger together', () => {
    const help = addSanitizeOptions(new Command('boot').option('--other', 'something else')).helpInformation();
    const [, others, debuggers] = /Options:\n([\s\S]*)The DMA debugger:\n([\s\S]*)/.exec(help) ?? [];
    expect(others).toContain('--other');
    expect(debuggers).toMatch(/--sanitize[\s\S]*--fail-on[\s\S]*--report[\s\S]*--record /);
  });

  it('names the commands to debug with', async () => {
    const { status, stdout } = await runProgram(['--help']);
    expect(status).toBe(0);
    const [, commands] = /Debug DMA:\n([\s\S]*?)\n\n/.exec(stdout) ?? [];
    expect(commands).toMatch(/trace [\s\S]*record [\s\S]*explain /);
    expect(stdout).toMatch(/\$ viommu explain run\.viommu F1/);
  });
});
