/** Command lines that pages show: each command and option in them is there. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { buildProgram } from '../../src/cli/program.ts';
import { repository } from '../support.ts';

const program = buildProgram();
const docs = readdirSync(join(repository, 'docs')).filter(name => name.endsWith('.md'));
const pages = ['README.md', join('examples', 'driver-test', 'README.md'), ...docs.map(name => join('docs', name))];
/** Behind `viommu`, to where the shell begins with something else. */
const CALL = /(?<![\w./-])viommu ((?:[^#|;&)`\n]|&(?!&| |$))*)/g;

/** Stand for any command. */
const PLACEHOLDERS: ReadonlySet<string> = new Set(['COMMAND', '...']);

/** Blocks for a shell, with lines that go on made one, and what stands in backquotes. */
function shellTexts(page: string): string[] {
  const blocks = [...page.matchAll(/```(?:sh|bash|console|yaml)\n([\s\S]*?)```/g)].map(([, text]) => text!);
  const inline = [...page.replace(/```[\s\S]*?```/g, '').matchAll(/`([^`]+)`/g)].map(([, text]) => text!);
  return [...blocks, ...inline].map(text => text.replace(/\\\n/g, ' '));
}

/** What is wrong with the words behind `viommu`; undefined: nothing. */
function problemOf(words: readonly string[]): string | undefined {
  let command: Command = program;
  let rest = words;
  while (command.commands.length > 0 && rest[0] !== undefined && !rest[0].startsWith('-')) {
    const name = rest[0];
    const inner = command.commands.find(one => one.name() === name);
    if (inner === undefined) return PLACEHOLDERS.has(name) ? undefined : `no command ${name}`;
    command = inner;
    rest = rest.slice(1);
  }
  const end = rest.indexOf('--');
  const options = (end < 0 ? rest : rest.slice(0, end)).filter(word => /^--?[a-z]/.test(word));
  const known = new Set(['--help', '-h', '--version', ...command.options.flatMap(({ long, short }) => [long, short])]);
  const missing = options.map(option => option.split('=', 1)[0]!).find(option => !known.has(option));
  return missing === undefined ? undefined : `${command.name()} has no option ${missing}`;
}

function callsOf(text: string): string[] {
  return [...text.matchAll(CALL)].map(([, rest]) => rest!.trim()).filter(rest => /^[a-z-]/.test(rest));
}

describe('command lines', () => {
  it.each(pages)('of %s are those of the program', page => {
    const calls = shellTexts(readFileSync(join(repository, page), 'utf8')).flatMap(callsOf);
    const wrong = calls.flatMap(call => {
      const problem = problemOf(call.split(/\s+/));
      return problem === undefined ? [] : [`viommu ${call}: ${problem}`];
    });
    expect(wrong).toEqual([]);
  });

  it('are looked at', () => {
    const readme = shellTexts(readFileSync(join(repository, 'README.md'), 'utf8')).flatMap(callsOf);
    expect(readme.some(call => call.startsWith('serve --dir '))).toBe(true);
    expect(problemOf(['boot', '--kernel', 'x', '--', '--anything'])).toBeUndefined();
    expect(problemOf(['boot', '--kernal', 'x'])).toBe('boot has no option --kernal');
    expect(problemOf(['domain', 'creat'])).toBe('no command creat');
  });
});

describe('docs/commands.md', () => {
  it('names every command and option', () => {
    const page = readFileSync(join(repository, 'docs', 'commands.md'), 'utf8');
    const names = (command: Command, parent: string): string[] => {
      const name = `${parent} ${command.name()}`;
      const flags = command.options.map(option => `\`${option.flags.replaceAll('|', '\\|')}\``);
      return [`# ${name}\n`, ...flags, ...command.commands.flatMap(one => names(one, name))];
    };
    const missing = program.commands.flatMap(one => names(one, 'viommu')).filter(name => !page.includes(name));
    expect(missing).toEqual([]);
  });
});
