/** The page about the operations says what the source says. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import * as choices from '../../../src/iommu/dma-iommu/choices.ts';
import { BUDDY_NODES_MAX, RANGES_MAX, SNAPSHOT_ENTRIES_MAX } from '../../../src/iommu/dma-iommu/limits.ts';
import { NtStatus } from '../../../src/iommu/dma-iommu/ntstatus.ts';
import { operationNames, operations } from '../../../src/iommu/dma-iommu/opcodes.ts';

const page = join(import.meta.dirname, '..', '..', '..', 'docs', 'dma-iommu-interface.md');
const rows = readFileSync(page, 'utf8')
  .split('\n')
  .filter(line => line.startsWith('| '))
  .map(line => line.slice(2, -2).split(' | '));

it('lists every operation by its opcode, versions and function type', () => {
  const listed = rows.filter(([first]) => first?.startsWith('0x'));
  expect(listed.map(([opcode, name, versions]) => [opcode, name, versions])).toEqual(
    operationNames.map(name => {
      const { opcode, versions } = operations[name];
      return [`0x${opcode.toString(16).padStart(2, '0')}`, `\`${name}\``, versions.join(', ')];
    }),
  );
  listed.forEach(([, , , prototype], i) => {
    expect(prototype).toContain(` ${operations[operationNames[i]!].callback}(`);
  });
});

it('names statuses that exist', () => {
  const named = rows
    .filter(([first]) => first?.startsWith('0x'))
    .flatMap(row => row[5]!.match(/[A-Z]+_[A-Z_0-9]+/g) ?? []);
  expect(named.length).toBeGreaterThan(50);
  for (const name of named) expect(Object.keys(NtStatus)).toContain(name);
});

it('lists every choice with its value', () => {
  const listed = new Map(rows.map(([name, value]) => [name, value]));
  for (const [name, value] of Object.entries(choices)) {
    const said = listed.get(`\`${name}\``);
    expect(said, name).toBeDefined();
    if (said! in NtStatus) expect(NtStatus[said as keyof typeof NtStatus], name).toBe(value);
  }
});

it('names the limits of a unit', () => {
  const text = readFileSync(page, 'utf8');
  for (const limit of [RANGES_MAX, BUDDY_NODES_MAX, SNAPSHOT_ENTRIES_MAX]) {
    expect(text).toContain(limit.toLocaleString('en-US'));
  }
});
