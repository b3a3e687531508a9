/** The reference page of the commands: what `--help` says, in one place. */
import type { Argument, Command, Option } from 'commander';
import { buildProgram } from '../src/cli/program.ts';

const NOTE = '<!-- Made from the definitions in the source by `npm run docs`; edit those. -->';
/** Every command has it. */
const HELP = '--help';

export function commandsPage(): string {
  const commands = buildProgram().commands.filter(({ commands: inner }) => inner.length === 0);
  const families = buildProgram().commands.filter(({ commands: inner }) => inner.length > 0);
  return `${[
    '# Commands',
    NOTE,
    'What `viommu COMMAND --help` says, without its examples. Options stand before or behind arguments; what follows `--` goes to somebody ' +
      'else.',
    'Exit statuses: 0 done; 1 the answer is no (a case failed, a guest ended badly), or something outside went wrong; 2 wrong use; 3 the ' +
      'sanitizer found what `--fail-on` names, or what was to stop the machine; 130 and 143 ended by SIGINT and SIGTERM. `viommu guest ' +
      'exec` ends with the status of what it ran.',
    ...commands.map(command => section(command, 'viommu')),
    ...families.map(family),
  ].join('\n\n')}\n`;
}

function family(command: Command): string {
  const common = commonOptions(command.commands);
  const flags = new Set(common.map(({ flags: one }) => one));
  const shared = common.length === 0 ? [] : ['All of them take', optionTable(common)];
  return [
    `## viommu ${command.name()}`,
    sentence(command.description()),
    ...shared,
    ...command.commands.map(one => section(one, `viommu ${command.name()}`, '###', flags)),
  ].join('\n\n');
}

function section(command: Command, parent: string, heading = '##', without: ReadonlySet<string> = new Set()): string {
  const words = command.registeredArguments.map(argumentText);
  const options = optionsOf(command).filter(({ flags }) => !without.has(flags));
  const rows = command.registeredArguments
    .filter(({ description }) => description !== '')
    .map(one => [`\`${bars(argumentText(one))}\``, cell(one.description)]);
  return [
    `${heading} ${parent} ${command.name()}`,
    `\`${[parent, command.name(), ...words].join(' ')}\``,
    sentence(command.description()),
    ...(rows.length === 0 ? [] : [table(['argument', 'what'], rows)]),
    ...(options.length === 0 ? [] : [optionTable(options)]),
  ].join('\n\n');
}

/** Those that all of them take, described alike. */
function commonOptions([first, ...others]: readonly Command[]): Option[] {
  if (first === undefined || others.length === 0) return [];
  const isIn = (one: Option, command: Command) =>
    optionsOf(command).some(({ flags, description }) => flags === one.flags && description === one.description);
  return optionsOf(first).filter(one => others.every(command => isIn(one, command)));
}

function optionsOf(command: Command): Option[] {
  return command.options.filter(({ long, hidden }) => long !== HELP && !hidden);
}

function optionTable(options: readonly Option[]): string {
  return table(
    ['option', 'what'],
    options.map(option => [`\`${bars(option.flags)}\``, cell(whatOf(option))]),
  );
}

function whatOf({ description, argChoices, defaultValue, defaultValueDescription, envVar }: Option): string {
  const usual = defaultValueDescription ?? (typeof defaultValue === 'boolean' ? undefined : defaultValue);
  const more = [
    argChoices === undefined ? '' : `one of ${argChoices.join(', ')}`,
    usual === undefined ? '' : `default: ${String(usual)}`,
    envVar === undefined ? '' : `or the environment's ${envVar}`,
  ].filter(text => text !== '');
  return more.length === 0 ? description : `${description} (${more.join('; ')})`;
}

function argumentText(argument: Argument): string {
  const name = argument.name() + (argument.variadic ? '...' : '');
  return argument.required ? `<${name}>` : `[${name}]`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** An angle bracket would begin a tag. */
function cell(text: string): string {
  return bars(text).replaceAll('<', '&lt;');
}

/** A bar would end the cell. */
function bars(text: string): string {
  return text.replaceAll('|', '\\|');
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}
