/** The pages of docs/ that are made from the definitions in the source: `npm run docs` writes them, a test compares them. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eduRegisters } from '../src/devices/edu/registers.ts';
import { vtdCapabilities } from '../src/iommu/vtd/capabilities.ts';
import { FAULT_REASONS } from '../src/iommu/vtd/fault-reasons.ts';
import { vtdRegisters } from '../src/iommu/vtd/registers.ts';
import type { Field, Register, RegisterBlock } from '../src/pci/registers.ts';
import { EVENT_KINDS, EventClass, type EventKind } from '../src/trace/event-kinds.ts';
import { detectorTable } from '../src/trace/sanitizer/detectors.ts';
import { type LimitDefinition, limitRules, limitTable } from '../src/vfio-user/limit-table.ts';
import { commandsPage } from './commands-page.ts';
import { dmaIommuFunctionPage } from './dma-iommu-function-page.ts';

const NOTE = '<!-- Made from the definitions in the source by `npm run docs`; edit those. -->';

/** Content by file name in docs/. */
export function generatedPages(): Readonly<Record<string, string>> {
  return {
    'vtd.md': vtdPage(),
    'edu.md': eduPage(),
    'dma-iommu-function.md': dmaIommuFunctionPage(),
    'detectors.md': detectorsPage(),
    'events.md': eventsPage(),
    'limits.md': limitsPage(),
    'commands.md': commandsPage(),
  };
}

function vtdPage(): string {
  const block = vtdRegisters(vtdCapabilities());
  const reasons = Object.entries(FAULT_REASONS).map(
    ([reason, { name, condition, qualified }]) =>
      `| ${Number(reason).toString(16).toUpperCase()}h | ${name} | ${condition} | ${qualified ? 'yes' : 'no'} |`,
  );
  return page(
    '# The VT-d unit',
    `Legacy mode, after the ${block.specification}. Section numbers are of that document.`,
    'Three things of legacy mode need a device-TLB, which no endpoint here has (ECAP.DT is zero): a context entry of translation type 01 is ' +
      'invalid (reason 3), FSTS.ICE and FSTS.ITE are reserved, and reason Dh has no cause. The specification asks for just that.',
    '## Capabilities',
    'What the unit advertises, and why.',
    table(['register', 'field', 'bits', 'value', 'why'], capabilityRows(block)),
    '## Registers',
    registerTables(block),
    '## Fault reasons',
    'A suppressible fault is not reported where the context entry has Fault Processing Disable set.',
    table(['reason', 'what', 'condition', 'suppressible'], []) + reasons.join('\n'),
  );
}

function eduPage(): string {
  return page(
    '# The edu device',
    `Register-compatible with the ${eduRegisters.specification}. Options: \`dmaMask\` (12 to 64 bits, default 28), \`express\` (default true).`,
    registerTables(eduRegisters),
  );
}

function detectorsPage(): string {
  const detectors = detectorTable();
  const rows = detectors.map(({ name, title, action }) => [`[\`${name}\`](#${name})`, title, action]);
  return page(
    '# What the sanitizer finds',
    'Each of these is a mistake that hardware keeps silent about, or says little of. `viommu boot`, `serve` and `demo` look for them without ' +
      'being asked; [first-dma-bug.md](first-dma-bug.md) shows one from beginning to end.',
    '`--sanitize` changes what is done about them, as a list that is read from left to right: `on` (the defaults below), `off`, `all`; ' +
      '`NAME=stop` (the machine stops, and the command ends with status 3), `NAME=warn` or `NAME`, ' +
      '`NAME=off` or `-NAME`. For example: `--sanitize stale-iotlb=stop,-register-spin`, or `--sanitize off,use-after-unmap`.',
    'A finding is a `warning`; a `note` where the occasion is a lesser one and may be in order; `stop` where it stopped the machine. ' +
      '`--fail-on warning` makes a command end with status 3 where there are warnings, `--fail-on note` with any finding, and ' +
      '`--fail-on NAME,NAME` with findings of these detectors.',
    table(['detector', 'what', 'default'], rows),
    ...detectors.map(
      ({ name, title, about, suggestion }) => `## ${name}\n\n**${title}.** ${about}\n\nWhat to look for: ${suggestion}`,
    ),
  );
}

function eventsPage(): string {
  const kinds: readonly EventKind[] = EVENT_KINDS;
  const sections = Object.keys(EventClass).map(name => {
    const rows = kinds
      .filter(kind => kind.class === name)
      .map(({ name: kind, about, fields }) => [`\`${kind}\``, about, fields.map(field => field.name).join(', ')]);
    return `## ${name}\n\n${table(['kind', 'what', 'fields'], rows)}`;
  });
  return page(
    '# Events',
    'All kinds of events by their class, as `--class` and `--kind` of `viommu trace` know them. [tracing.md](tracing.md) says how to look at ' +
      'them, [recordings.md](recordings.md) how they lie in a file.',
    ...sections,
  );
}

function limitsPage(): string {
  const limits: Readonly<Record<string, LimitDefinition>> = limitTable;
  const rows = Object.entries(limits).map(([name, { unit, least, most, default: usual, what, beyond }]) => {
    return [`\`${name}\``, unit, `${least} to ${most}`, String(usual), what, beyond];
  });
  const together = limitRules.map(({ small, factor, spare, large, why }) => {
    const part = factor === 1 ? `\`${small}\`` : `${factor} × \`${small}\``;
    return [spare === 0 ? part : `${part} + ${spare}`, `\`${large}\``, why];
  });
  return page(
    '# Limits of a connection',
    'What one vfio-user client may have of the server, and cause in it: the bounds of its connection, of each function by itself. A larger ' +
      'one costs memory, or time of the device thread; all are safe at the ends of their ranges.',
    'Set them where a machine is described, by hand or in its JSON file ([machines.md](machines.md)), for all its functions; flags go before ' +
      'the file. Programs that make a server of a device model by themselves have `VfioUserServerOptions.limits`.',
    '```sh\nviommu serve --dir /tmp/m --limit maxDmaMaps=1024 --limit dmaTimeout=2000\n```',
    '```json\n{ "iommu": "vtd", "endpoints": ["edu@01:00.0"], "limits": { "maxDmaMaps": 1024, "dmaTimeout": 2000 } }\n```',
    'A client that [leases a machine](remote-api.md#machines-on-demand) may ask for lower limits in its description, never for higher ones ' +
      'than the server has been given for its own machines: that is refused (`bad-arguments`). What it does not name is as the server has it.',
    table(['limit', 'unit', 'range', 'default', 'what', 'beyond it'], rows),
    '## Limits that go together',
    'A limit that is not given gives way to one that is: with `maxDataTransfer=65536` alone, `maxDirtyBitmap` is 65472. Two that are given ' +
      'and do not fit are refused, with what would.',
    table(['this', 'is at most', 'because'], together),
  );
}

function capabilityRows(block: RegisterBlock): string[][] {
  return block.registers.flatMap(register =>
    register.fields.flatMap(field =>
      field.why === undefined ? [] : [[register.name, field.name, bits(field), hex(field.reset ?? 0), field.why]],
    ),
  );
}

function registerTables(block: RegisterBlock): string {
  return block.registers.map(registerTable).join('\n\n');
}

function registerTable(register: Register): string {
  const heading = `### ${register.name} (offset ${hex(register.offset)}, ${register.bytes} bytes, section ${register.section})`;
  const rows = register.fields.map(field => [bits(field), field.name, field.access, hex(field.reset ?? 0)]);
  return `${heading}\n\n${table(['bits', 'field', 'access', 'reset'], rows).trimEnd()}`;
}

function bits({ bits: [high, low] }: Field): string {
  return high === low ? String(high) : `${high}:${low}`;
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |\n`;
  return line(head) + line(head.map(() => '---')) + rows.map(line).join('');
}

function page(title: string, ...parts: string[]): string {
  return `${[title, NOTE, ...parts.map(part => part.trimEnd())].join('\n\n')}\n`;
}

if (process.argv[1] === import.meta.filename) {
  for (const [name, content] of Object.entries(generatedPages()))
    writeFileSync(join(process.cwd(), 'docs', name), content);
}
