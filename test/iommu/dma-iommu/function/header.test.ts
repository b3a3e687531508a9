/** The C header says what the device does: compiled, its numbers are those of the definitions. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as identity from '../../../../src/iommu/dma-iommu/function/identity.ts';
import * as layout from '../../../../src/iommu/dma-iommu/function/layout.ts';
import * as limits from '../../../../src/iommu/dma-iommu/function/limits.ts';
import {
  dmaIommuRegisters,
  ID,
  ProbeSource,
  RingError,
  Source,
  VERSION,
} from '../../../../src/iommu/dma-iommu/function/registers.ts';
import { type StructLayout, snakeCase } from '../../../../src/iommu/dma-iommu/function/struct.ts';
import { NtStatus } from '../../../../src/iommu/dma-iommu/ntstatus.ts';
import { operationNames, operations } from '../../../../src/iommu/dma-iommu/opcodes.ts';
import * as types from '../../../../src/iommu/dma-iommu/types.ts';
import type { Field } from '../../../../src/pci/registers.ts';

const HEADER = join(import.meta.dirname, '../../../../images/guest/include/dma_iommu.h');

/** C expression to the value that it must have. */
const expected = new Map<string, number>();

const upper = (name: string) => (name === name.toUpperCase() ? name : snakeCase(name).toUpperCase());

function constants(prefix: string, values: Readonly<Record<string, number>>, leaveOut: readonly string[] = []): void {
  for (const [name, value] of Object.entries(values)) {
    if (!leaveOut.includes(name)) expected.set(`DMA_IOMMU_${prefix}_${upper(name).replace(/^_/, '')}`, value);
  }
}

/** `cType` is what stands behind `struct`; members are named as the fields, unless `path` says otherwise. */
function structure(cType: string, { bytes, fields }: StructLayout, whole = true): void {
  if (whole) expected.set(`sizeof(struct ${cType})`, bytes);
  for (const [name, field] of Object.entries(fields)) {
    const member = snakeCase(name);
    expected.set(`offsetof(struct ${cType}, ${member})`, field.offset);
    expected.set(`sizeof(((struct ${cType} *)0)->${member})`, field.bytes);
  }
}

const bitsOf = ({ bits: [high, low] }: Field) => ({ low, mask: 2 ** (high - low + 1) - 1 });

for (const register of dmaIommuRegisters().registers) expected.set(`DMA_IOMMU_REG_${register.name}`, register.offset);

/** Single bits are constants of their own; of wider fields, the shift and the mask. */
function fieldsOf(registerName: string, prefix: string, rename: Readonly<Record<string, string>> = {}): void {
  const register = dmaIommuRegisters().registers.find(one => one.name === registerName)!;
  for (const field of register.fields) {
    const { low, mask } = bitsOf(field);
    const name = `DMA_IOMMU_${prefix}_${rename[field.name] ?? field.name}`;
    if (mask === 1) expected.set(name, 2 ** low);
    else {
      expected.set(`${name}_SHIFT`, low);
      expected.set(`${name}_MASK`, mask);
    }
  }
}

for (const name of ['CAPABILITIES', 'CONTROL', 'STATUS']) fieldsOf(name, name);
fieldsOf('PROBE_RESULT', 'PROBE');
fieldsOf('PROBE_COMMAND', 'PROBE');
fieldsOf('INTERRUPT_ENABLE', 'INTERRUPT');
fieldsOf('INTERRUPT_PENDING', 'INTERRUPT');

constants('RING_ERROR', RingError);
constants('PROBE_SOURCE', ProbeSource);
constants('VECTOR', identity.Vector);
constants('NT', NtStatus);
constants('PERMISSION', types.Permission);
constants('DOMAIN_TYPE', types.DomainType, ['Max']);
constants('ARCH', types.DomainConfigurationArch, ['Invalid']);
constants('MEMORY', types.MapPhysicalAddressType, ['Max']);
constants('ALLOCATOR', types.LogicalAllocatorType, ['Max']);
constants('CONFIGURATION', types.DeviceCreationConfigType, ['None', 'Max']);
constants('FAULT_ARCH', types.FaultInformationArch, ['Invalid']);
constants('FAULT_TYPE', types.FaultType);
constants('STATE_FIELD', types.InterfaceStateField);
constants('PRESENT', layout.Present);
constants('COMMAND', layout.CommandFlag);
constants('COMPLETION', layout.CompletionKind);
constants('FAULT_ARM64', layout.Arm64FaultFlag);
constants('FAULT_X64', layout.X64FaultFlag);
for (const name of operationNames) expected.set(`DMA_IOMMU_OP_${upper(name)}`, operations[name].opcode);
for (const [name, value] of Object.entries({
  PCI_VENDOR_ID: identity.VENDOR_ID,
  PCI_DEVICE_ID: identity.DEVICE_ID,
  PCI_CLASS_CODE: identity.CLASS_CODE,
  BAR_REGISTERS: identity.REGISTER_BAR,
  BAR_REGISTER_BYTES: identity.REGISTER_BAR_BYTES,
  BAR_MSIX: identity.MSIX_BAR,
  VECTORS: identity.VECTORS,
  ID,
  VERSION_MAJOR: VERSION.major,
  VERSION_MINOR: VERSION.minor,
  VERSION_MINOR_MASK: 0xffff,
  VERSION_MAJOR_SHIFT: 16,
  RING_SIZE_MIN: limits.RING_SIZE_MIN,
  RING_SIZE_MAX: limits.RING_SIZE_MAX,
  RING_ALIGNMENT: limits.RING_ALIGNMENT,
  RING_LIMITS_MIN_SHIFT: 0,
  RING_LIMITS_MAX_SHIFT: 8,
  RING_LIMITS_MASK: 0x1f,
  ERROR_COMMAND_SHIFT: 0,
  ERROR_COMPLETION_SHIFT: 8,
  ERROR_FAULT_SHIFT: 16,
  ERROR_MASK: 0xff,
  DIRECTORY_REQUESTER_ID_MASK: 0xffff,
  DIRECTORY_ACPI: 2 ** 16,
  DIRECTORY_PASID: 2 ** 17,
  DIRECTORY_VALID: 2 ** 31,
  PROBE_PASID_MASK: 0xfffff,
  PROBE_PASID_VALID: 2 ** 31,
  PASID_DEFAULT_ONLY: types.PasidConfigType.DefaultPasidOnly,
  PASID_TAGGED_DMA: types.PasidConfigType.PasidTaggedDma,
  COMMAND_BYTES: layout.commandLayout.bytes,
  COMPLETION_BYTES: layout.completionLayout.bytes,
  FAULT_BYTES: layout.faultLayout.bytes,
})) {
  expected.set(`DMA_IOMMU_${name}`, value);
}
for (const [name, bit] of Object.entries(Source)) expected.set(`DMA_IOMMU_INTERRUPT_${upper(name)}`, 2 ** bit);

structure('dma_iommu_memory', layout.memoryLayout);
structure('dma_iommu_reserved_region', layout.reservedRegionLayout);
structure('dma_iommu_device_configuration', layout.deviceConfigurationLayout);
structure('dma_iommu_configure_domain_arm64', layout.arm64ConfigurationLayout);
structure('dma_iommu_configure_domain_x64', layout.x64ConfigurationLayout);
structure('dma_iommu_state_change', layout.stateChangeLayout);
structure('dma_iommu_command', layout.commandLayout);
structure('dma_iommu_completion', layout.completionLayout);
structure('dma_iommu_fault', layout.faultLayout);
for (const name of operationNames) {
  structure(`dma_iommu_${snakeCase(name)}`, layout.argumentLayouts[name]);
  expected.set(`offsetof(struct dma_iommu_command, args.${snakeCase(name)})`, layout.commandLayout.fields.args.offset);
}
for (const [name, result] of Object.entries(layout.resultLayouts)) {
  const type = name === 'createDomainEx' ? 'createDomain' : name;
  structure(`dma_iommu_${snakeCase(type)}_result`, result);
  expected.set(
    `offsetof(struct dma_iommu_completion, result.${snakeCase(name)})`,
    layout.completionLayout.fields.result.offset,
  );
}
const configuration = layout.deviceConfigurationLayout.fields.u.offset;
for (const [member, offset] of Object.entries({
  'u.acpi.input_mapping_base': layout.acpiConfigurationLayout.fields.inputMappingBase.offset,
  'u.acpi.mappings_count': layout.acpiConfigurationLayout.fields.mappingsCount.offset,
  'u.device_id': 0,
  'u.pasid.type': layout.pasidConfigurationLayout.fields.type.offset,
  'u.pasid.suppress_faults': layout.pasidConfigurationLayout.fields.suppressFaults.offset,
})) {
  expected.set(`offsetof(struct dma_iommu_device_configuration, ${member})`, configuration + offset);
}

describe('dma_iommu.h', () => {
  const directory = mkdtempSync(join(tmpdir(), 'dma-iommu-header-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  let actual = new Map<string, number>();
  let defined = new Set<string>();

  beforeAll(() => {
    const source = join(directory, 'layout.c');
    const lines = [...expected.keys()].map(
      expression => `  printf("%s\\t%llu\\n", ${JSON.stringify(expression)}, (unsigned long long)(${expression}));`,
    );
    writeFileSync(
      source,
      `#include <stddef.h>\n#include <stdio.h>\n#include "${HEADER}"\nint main(void) {\n${lines.join('\n')}\n  return 0;\n}\n`,
    );
    const flags = ['-std=c11', '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-O0'];
    execFileSync('gcc', [...flags, '-o', join(directory, 'layout'), source]);
    const output = execFileSync(join(directory, 'layout'), { encoding: 'utf8' });
    actual = new Map(
      output
        .trim()
        .split('\n')
        .map(line => line.split('\t'))
        .map(([expression, value]) => [expression!, Number(value)]),
    );
    const macros = execFileSync('gcc', ['-dM', '-E', HEADER], { encoding: 'utf8' });
    defined = new Set([...macros.matchAll(/^#define (DMA_IOMMU_\w+) \S/gm)].map(match => match[1]!));
  });

  it('has the numbers of the definitions', () => {
    const differences = [...expected].filter(([expression, value]) => actual.get(expression) !== value);
    expect(differences).toEqual([]);
    expect(actual.size).toBeGreaterThan(300);
  });

  it('defines nothing that is not compared', () => {
    expect([...defined].filter(name => !expected.has(name)).sort()).toEqual([]);
  });

  it('depends on nothing but stdint.h', () => {
    const source = join(directory, 'alone.c');
    writeFileSync(source, `#include "${HEADER}"\nstruct dma_iommu_command command;\n`);
    execFileSync('gcc', [
      '-std=c11',
      '-ffreestanding',
      '-nostdlib',
      '-Wall',
      '-Werror',
      '-c',
      '-o',
      join(directory, 'alone.o'),
      source,
    ]);
    const included = execFileSync('gcc', ['-std=c11', '-ffreestanding', '-MM', source], { encoding: 'utf8' });
    expect(included.split(/[\s\\]+/).filter(name => name.endsWith('.h'))).toEqual([HEADER]);
  });
});
