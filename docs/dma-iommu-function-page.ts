/** The reference page of the dma-iommu function: prose, and tables made from its registers and layouts. */
import { BAD_LIST } from '../src/iommu/dma-iommu/function/choices.ts';
import { dmaIommuFunctionDefinition, Vector } from '../src/iommu/dma-iommu/function/identity.ts';
import * as layout from '../src/iommu/dma-iommu/function/layout.ts';
import {
  COMMANDS_PER_JOB,
  FAULTS_PENDING_MAX,
  LIST_ELEMENTS_PER_JOB,
  RING_SIZE_MAX,
  RING_SIZE_MIN,
} from '../src/iommu/dma-iommu/function/limits.ts';
import { dmaIommuRegisters, RingError } from '../src/iommu/dma-iommu/function/registers.ts';
import { type FieldLayout, type StructLayout, snakeCase } from '../src/iommu/dma-iommu/function/struct.ts';
import { ntStatusName } from '../src/iommu/dma-iommu/ntstatus.ts';
import { operationNames, operations } from '../src/iommu/dma-iommu/opcodes.ts';
import type { OperationName } from '../src/iommu/dma-iommu/operations.ts';
import type { Field, Register } from '../src/pci/registers.ts';

const NOTE = '<!-- Made from the definitions in the source by `npm run docs`; edit those. -->';
const SECTIONS = ['Identification', 'Control', 'Rings', 'Interrupts', 'Directory', 'Probe'] as const;

/** What a register is for; every register has an entry. */
const ABOUT: Readonly<Record<string, string>> = {
  ID: 'The characters `DIOM`, the first in the lowest byte.',
  VERSION: 'Version of this layout. A higher minor version only adds.',
  CAPABILITIES: 'What the unit can do.',
  MAX_DOMAINS: 'Domains at a time.',
  MAX_DEVICES: 'Domains, devices, PASID devices, tokens and segments at a time, all together.',
  MAX_PAGES: 'Page frames in the list of one command.',
  MAX_ADDRESSES: 'Addresses in the list of one flush.',
  MAX_REGIONS: 'Reserved regions of one domain.',
  MAX_CONFIGURATIONS: 'Configurations of one device.',
  RING_LIMITS: 'Smallest and largest value of the SIZE registers.',
  CONTROL: 'ENABLE runs the rings, TRANSLATE blocks what is attached to no domain, RESET puts everything back.',
  STATUS: 'READY: the command ring runs and can complete. An error stops its ring until software writes 1 to it.',
  ERROR: 'The code of the first error of each ring since it was cleared.',
  COMMAND_BASE: 'Address of the command ring. Fixed while ENABLE is set.',
  COMMAND_SIZE: 'log2 of its entries. Fixed while ENABLE is set.',
  COMMAND_HEAD: 'The next command to be carried out. Moves when it has been.',
  COMMAND_TAIL: 'Behind the last command. Writing it is the doorbell.',
  COMPLETION_BASE: 'Address of the completion ring. Fixed while ENABLE is set.',
  COMPLETION_SIZE: 'log2 of its entries. Fixed while ENABLE is set.',
  COMPLETION_HEAD: 'The first entry that software still needs. Writing it makes room.',
  COMPLETION_TAIL: 'Behind the last entry that the unit wrote.',
  FAULT_BASE: 'Address of the fault ring. Fixed while ENABLE is set.',
  FAULT_SIZE: 'log2 of its entries; 0: there is no fault ring. Fixed while ENABLE is set.',
  FAULT_HEAD: 'The first entry that software still needs. Writing it makes room.',
  FAULT_TAIL: 'Behind the last entry that the unit wrote.',
  FAULT_OVERFLOW: 'Faults that were lost since the last reset; wraps around.',
  INTERRUPT_ENABLE: 'Which sources interrupt. One that is pending interrupts when it is enabled.',
  INTERRUPT_PENDING: 'What has happened. A source interrupts once, until software writes 1 to its bit.',
  INTERRUPT_VECTOR: 'The MSI-X vector of each source. A vector that does not exist interrupts nobody.',
  DIRECTORY_COUNT: 'Endpoints behind the unit.',
  DIRECTORY_INDEX: 'Which of them the two registers below are about.',
  DIRECTORY_ENTRY: 'The endpoint; 0 where there is none of that index.',
  DIRECTORY_MAPPINGS: 'How many input mapping ids it has; `queryInputMappings` lists them.',
  PROBE_DEVICE: 'Whose access to look at.',
  PROBE_PASID: 'The PASID of the access; without VALID it has none.',
  PROBE_IOVA: 'Its address.',
  PROBE_COMMAND: 'START starts the probe and reads as 1 until the result is there.',
  PROBE_RESULT: 'The answer. SHIFT is log2 of the bytes of the mapping; FAULT_TYPE is set where it is not translated.',
  PROBE_ADDRESS: 'The guest-physical address of the byte; 0 where it is not translated.',
  PROBE_DOMAIN: 'Handle of the domain; 0: none.',
};

const INTRODUCTION = `A PCI function through which a guest calls every operation of DMA_IOMMU_INTERFACE and DMA_IOMMU_INTERFACE_EX, versions 1 to 3. What
each operation does is not said here, only how it is called. \`images/guest/include/dma_iommu.h\` has all of this in C. Everything is
little-endian, and addresses are guest-physical unless they are called logical.`;

const CONTROL = `**ENABLE**, when it becomes 1, takes over the base and the size of every ring, and sets all indices to 0 and the phase to 1. Software
clears its ring memory before that. When it becomes 0 the rings stop: a command that is under way may have been carried out without a
completion, and faults that were not written yet are counted as lost. Domains, registrations and translation stay as they are.

**TRANSLATE** is 0 after a reset: firmware, boot loaders and systems without a driver do DMA with physical addresses, and there is no domain
yet that could say otherwise. While it is 0, DMA of what is attached to no domain passes untranslated; while it is 1 it is blocked. What
is attached to a domain is always translated.

**RESET** puts the whole unit back: registers, domains, devices, registrations, caches. Other bits of the same write are not looked at. It is
done when the write is. Handles of before mean nothing any more.`;

const RINGS = `Indices go from 0 to the number of entries less one and then to 0 again; equal indices mean that a ring is empty, so one entry is
always free. A ring has 2^SIZE entries, SIZE from ${RING_SIZE_MIN} to ${RING_SIZE_MAX}; its base is a multiple of 4096.

- The unit carries out commands in order, one at a time. It copies an entry before it looks at it, and reads each list once.
- A command is taken when the completion ring has room. Where it has none, commands wait, and go on when software moves COMPLETION_HEAD.
- Completions and faults have a phase, stored last: 1 on the first lap after ENABLE, 0 on the second, and so on. Software may poll it
  instead of the TAIL registers.
- A fault that finds the fault ring full, stopped or missing, or more than ${FAULTS_PENDING_MAX} others waiting, is lost and counted in FAULT_OVERFLOW. The
  sequence number of a fault counts lost ones too.
- After ${COMMANDS_PER_JOB} commands, or ${LIST_ELEMENTS_PER_JOB} elements of lists and pages of ranges, other work of the machine gets its turn.

An index that the ring does not have, or that passes the other one, is refused: the register keeps its value, and the ring has an error.
A ring with an error stands still, and goes on where it was when software clears the error. Bases and sizes are corrected while ENABLE is 0.`;

const INTERRUPTS = `After a reset, completions and ring errors interrupt by vector ${Vector.completion}, faults by ${Vector.fault}, state changes by ${Vector.stateChange}. Software clears the
pending bit first and looks at the ring afterwards, so that nothing is missed. Where MSI-X is not enabled the function asserts INTA while any
enabled source is pending.`;

const PROBE = `A probe says what an access would do, without doing it: no fault is reported, and no cache changes. SOURCE is 0 where no table was looked at,
1 where nothing is translated, 2 where the translation came from the TLB, 3 where tables were walked. STALE: it came from the TLB, and the
tables as they are now say otherwise. Without READ or WRITE the access is a read.`;

const COMMANDS = `An entry has ${layout.commandLayout.bytes} bytes; arguments are placed from offset ${layout.commandLayout.fields.args.offset} on, and offsets below count from there. All bytes without a name are
zero. Lists of page frames and of addresses have 8 bytes for each. A BOOLEAN is true where it is not 0. Handles are what completions gave, and a physical device object is a requester id.

Flag 1 (\`DMA_IOMMU_COMMAND_NO_INTERRUPT\`): the completion does not set INTERRUPT_PENDING.`;

const EVENTS = `A guest cannot pass a function. Where an operation takes a callback, the guest passes numbers that come back:

- **Fault reporting**: the faults of the device go to the fault ring, with the context. \`has_config\` 0 stands for a NULL FaultConfig.
- **State changes**: an entry with kind 1 goes to the completion ring; its cookie is the context, its result the structure below. The first
  one is there before the completion of the registration. A later change of the same registration that finds an earlier one still
  waiting for room becomes one with it. The callback number is what unregisters.`;

const ANSWERS = `Of what never becomes an operation; Windows has no such ring, so these are our choices. Each is noted in the trace.

- An opcode that no operation has: STATUS_INVALID_DEVICE_REQUEST.
- A flag that does not exist, or a byte of the entry without a name that is not zero: STATUS_INVALID_PARAMETER.
- A list longer than its limit: STATUS_INSUFFICIENT_RESOURCES.
- A list or buffer that is not aligned, or not in memory, is a bad parameter; the operation is not carried out, but queryInputMappings is
  (it changes nothing):`;

/** Content of docs/dma-iommu-function.md. */
export function dmaIommuFunctionPage(): string {
  const { registers } = dmaIommuRegisters();
  const prose: Readonly<Record<(typeof SECTIONS)[number], string>> = {
    Identification: '',
    Control: CONTROL,
    Rings: `${RINGS}\n\n${table(['code', 'error'], ringErrors())}`,
    Interrupts: INTERRUPTS,
    Directory: 'The endpoints that the unit serves, looked up when the registers are read: they may come and go.',
    Probe: PROBE,
  };
  const parts = SECTIONS.flatMap(section => [
    `## ${section}`,
    prose[section],
    ...registers.filter(register => register.section === section).map(registerPart),
  ]);
  return `${[
    '# The dma-iommu function',
    NOTE,
    INTRODUCTION,
    identity(),
    'Registers take aligned accesses of 4 bytes, those of 8 bytes also of 8.',
    ...parts,
    '## Commands',
    COMMANDS,
    structurePart('Entry of the command ring', 'dma_iommu_command', layout.commandLayout),
    structurePart('Physical memory', 'dma_iommu_memory', layout.memoryLayout),
    structurePart('Element of reserved_regions', 'dma_iommu_reserved_region', layout.reservedRegionLayout),
    structurePart('Element of configurations', 'dma_iommu_device_configuration', layout.deviceConfigurationLayout),
    structurePart('ARM64 configuration', 'dma_iommu_configure_domain_arm64', layout.arm64ConfigurationLayout),
    structurePart('X64 configuration', 'dma_iommu_configure_domain_x64', layout.x64ConfigurationLayout),
    table(
      ['opcode', 'operation', 'versions', 'arguments (offset:bytes)', 'outputs (offset:bytes)'],
      operationNames.map(operationRow),
    ),
    '## Completions',
    structurePart('Entry of the completion ring', 'dma_iommu_completion', layout.completionLayout),
    '## Events',
    EVENTS,
    structurePart('State change', 'dma_iommu_state_change', layout.stateChangeLayout),
    structurePart('Entry of the fault ring', 'dma_iommu_fault', layout.faultLayout),
    '## Answers to bad commands',
    ANSWERS,
    table(
      ['operation', 'status'],
      Object.entries(BAD_LIST).map(([name, status]) => [name, ntStatusName(status)]),
    ),
  ]
    .filter(part => part !== '')
    .map(part => part.trimEnd())
    .join('\n\n')}\n`;
}

function identity(): string {
  const { identity: ids, bars, msix } = dmaIommuFunctionDefinition;
  const bar = bars[0]!;
  return `Vendor ${hex(ids.vendorId)}, device ${hex(ids.deviceId)}, class 0x${ids.classCode.toString(16).padStart(6, '0')}; BAR${bar.index}: registers, ${bar.bytes} bytes; ${msix!.vectors} MSI-X vectors, in BAR${msix!.table.bar}.`;
}

function ringErrors(): string[][] {
  const about: Readonly<Record<keyof typeof RingError, string>> = {
    none: 'none',
    alignment: 'the base is not a multiple of 4096',
    size: 'the size is out of range',
    address: 'the ring reaches beyond 8 TiB',
    index: 'software wrote an index that the ring cannot take',
    memory: 'no memory at an entry, or none that allows the access',
  };
  return Object.entries(RingError).map(([name, code]) => [String(code), about[name as keyof typeof RingError]]);
}

function registerPart(register: Register): string {
  const about = ABOUT[register.name];
  if (about === undefined) throw new Error(`docs say nothing of ${register.name}`);
  const heading = `### ${register.name} (offset ${hex(register.offset)}, ${register.bytes} bytes)`;
  const rows = register.fields.map(field => [
    bits(field),
    field.name,
    field.access,
    hex(field.reset ?? 0),
    ...(register.name === 'CAPABILITIES' ? [field.why ?? ''] : []),
  ]);
  const head = ['bits', 'field', 'access', 'reset', ...(register.name === 'CAPABILITIES' ? ['why'] : [])];
  return `${heading}\n\n${about}\n\n${table(head, rows)}`;
}

function structurePart(title: string, cName: string, { bytes, fields }: StructLayout): string {
  const rows = Object.entries(fields).map(([name, field]) => [
    String(field.offset),
    String(field.bytes),
    snakeCase(name),
  ]);
  return `### ${title}: \`struct ${cName}\`, ${bytes} bytes\n\n${table(['offset', 'bytes', 'field'], rows)}`;
}

function operationRow(name: OperationName): string[] {
  const { opcode, versions } = operations[name];
  const outputs = (layout.resultLayouts as { readonly [Name in OperationName]?: StructLayout })[name];
  return [
    hex(opcode),
    name,
    versions.join(', '),
    members(layout.argumentLayouts[name]),
    outputs === undefined ? '' : members(outputs),
  ];
}

function members({ fields }: StructLayout): string {
  return Object.entries(fields)
    .map(([name, field]: [string, FieldLayout]) => `\`${snakeCase(name)}\` ${field.offset}:${field.bytes}`)
    .join(', ');
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
