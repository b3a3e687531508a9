/**
 * The C library for the dma-iommu function, where it needs none: the tables of wdm.h, and what it does before any command. What it does
 * with a real function is shown by dma-iommu-demo in a guest.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildProgramIn } from '../../images/guest/programs.ts';
import { run } from '../../qemu/run.ts';
import { NtStatus, ntStatusName } from '../../src/iommu/dma-iommu/ntstatus.ts';
import { operationsOf } from '../../src/iommu/dma-iommu/opcodes.ts';
import * as types from '../../src/iommu/dma-iommu/types.ts';

const COMPILING_MS = 60_000;
const VERSIONS = [1, 2, 3] as const;
const MAX_SLOTS = 27;

const pascal = (name: string) => name.charAt(0).toUpperCase() + name.slice(1);
const print = (format: string, values: readonly string[]) =>
  values.map(value => `printf("${format}\\n", ${value});`).join('\n');

const enumerations: readonly (readonly [prefix: string, values: Readonly<Record<string, number>>])[] = [
  ['DomainType', types.DomainType],
  ['MapPhysicalAddressType', types.MapPhysicalAddressType],
  ['IommuDmaLogicalAllocator', types.LogicalAllocatorType],
  ['DomainConfiguration', types.DomainConfigurationArch],
  ['IommuDeviceCreationConfigType', types.DeviceCreationConfigType],
  ['PasidConfigType', types.PasidConfigType],
  ['FaultInformation', types.FaultInformationArch],
  ['', types.FaultType],
];

/** Code by the name of what it prints. All goes into one program, because compiling one takes a second. */
const snippets: Record<string, string> = {
  numbers: print(
    '%d',
    enumerations.flatMap(([prefix, values]) => Object.keys(values).map(name => `(int)${prefix}${name}`)),
  ),
  statuses: print(
    '%s',
    [...Object.values(NtStatus), 0x12345678].map(status => `dma_iommu_status_name(0x${status.toString(16)}u)`),
  ),
  found: `
    static int owner, other;
    uint64_t fault = callback_add(CALLBACK_FAULT, &owner, &other, NULL);
    uint64_t change = callback_add(CALLBACK_STATE_CHANGE, &owner, &owner, &other);
    ${print('%d', [
      'fault != 0 && change != 0 && fault != change',
      'callback_find(CALLBACK_STATE_CHANGE, &owner, NULL) == change',
      'callback_find(CALLBACK_STATE_CHANGE, &owner, &other) == 0',
      'callback_find(CALLBACK_FAULT, &other, NULL) == 0',
      'callback_get(CALLBACK_STATE_CHANGE, change)->context == &other',
      'callback_get(CALLBACK_FAULT, change) == NULL',
    ])}
    callback_remove(change);
    ${print('%d', ['callback_get(CALLBACK_STATE_CHANGE, change) == NULL', 'callback_get(CALLBACK_FAULT, fault) != NULL'])}`,
  'made up': `
    static const uint64_t numbers[] = { 0, 1, 64, 65, 0xffffffffffffffff };
    callback_remove(0xffffffffffffffff);
    for (int i = 0; i < 5; i++)
      ${print('%d', ['callback_get(CALLBACK_FAULT, numbers[i]) == NULL'])}`,
  'too many': `
    static int owner;
    int count = 0;
    while (count < 1000 && callback_add(CALLBACK_FAULT, &owner, &owner, NULL) != 0)
      count++;
    ${print('%d', ['count'])}`,
};
for (const version of VERSIONS) {
  const names = operationsOf(version).map(pascal);
  snippets[`offsets ${version}`] = print(
    '%zu',
    names.map(name => `offsetof(DMA_IOMMU_INTERFACE_V${version}, ${name})`),
  );
  snippets[`slots ${version}`] = `
    DMA_IOMMU_INTERFACE_EX ex = { 0 };
    void **slots = (void **)&ex.V1;
    int filled = 0, behind = 0;
    IoGetIommuInterfaceEx(${version}, 0, &ex);
    for (int i = 0; i < ${names.length}; i++)
      filled += slots[i] != NULL;
    for (int i = ${names.length}; i < ${MAX_SLOTS}; i++)
      behind += slots[i] != NULL;
    ${print('%d', ['(int)ex.Size', 'filled', 'behind'])}`;
}

/** What each snippet printed, line by line. */
let printed: Record<string, string[]>;

beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'viommu-library-'));
  try {
    printed = await printAll(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}, COMPILING_MS);

async function printAll(folder: string): Promise<Record<string, string[]>> {
  const headers = ['"dma_iommu/unit.h"', '"dma_iommu/callbacks.h"', '<stdio.h>'].map(file => `#include ${file}\n`);
  const blocks = Object.entries(snippets).map(
    ([name, code]) => `{\nputs("# ${name}");\ncallback_remove_all();\n${code}\n}\n`,
  );
  await writeFile(join(folder, 'main.c'), `${headers.join('')}int main(void)\n{\n${blocks.join('')}return 0;\n}\n`);
  await writeFile(join(folder, 'libraries'), 'dma_iommu\nmemory\npci\nreport\n');
  const { status, stdout } = await run([
    await buildProgramIn(folder, 'library', { cache: folder, progress: () => {} }),
  ]);
  expect(status).toBe(0);
  const sections = stdout.trimEnd().split('# ').slice(1);
  return Object.fromEntries(
    sections.map(section => section.trimEnd().split('\n')).map(([name, ...rest]) => [name, rest]),
  );
}

describe('the wdm.h names in C', () => {
  it.each(VERSIONS)('have the operations of version %i in the order of their slots', version => {
    expect(printed[`offsets ${version}`]).toEqual(operationsOf(version).map((_, slot) => String(8 * slot)));
  });

  it.each([
    [1, 0x78],
    [2, 0xc0],
    [3, 0xe8],
  ] as const)('fill every slot of version %i, say its size 0x%x, and touch nothing behind it', (version, size) => {
    expect(printed[`slots ${version}`]).toEqual([size, operationsOf(version).length, 0].map(String));
  });

  it('have the numbers of the operations themselves', () => {
    expect(printed.numbers).toEqual(enumerations.flatMap(([, values]) => Object.values(values).map(String)));
  });

  it('have a name for every status, and the number of any other', () => {
    expect(printed.statuses).toEqual([...Object.values(NtStatus).map(ntStatusName), '0x12345678']);
  });
});

describe('callbacks by number', () => {
  it('are found by owner and kind, and are gone once removed', () => {
    expect(printed.found).toEqual(Array(8).fill('1'));
  });

  it('answer nothing to a number that the device made up', () => {
    expect(printed['made up']).toEqual(Array(5).fill('1'));
  });

  it('are refused when there are too many', () => {
    expect(printed['too many']).toEqual(['64']);
  });
});
