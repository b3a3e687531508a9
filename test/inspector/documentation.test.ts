import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { defaultLimits, MAX_KINDS, requestLimits } from '../../src/inspector/limits.ts';
import { ErrorCode, serviceNames } from '../../src/inspector/protocol.ts';
import { operationNames } from '../../src/iommu/dma-iommu/opcodes.ts';
import { MAX_FLUSH_ADDRESSES, MAX_PAGE_FRAMES, MAX_RESERVED_REGIONS } from '../../src/machine/operations-command.ts';
import { OPTIONAL_MEMBERS, sampleArguments } from '../machine/sample-arguments.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'remote-api.md'), 'utf8');
const row = (name: string) => page.split('\n').find(line => line.startsWith(`| \`${name}\` |`)) ?? '';

describe('docs/remote-api.md', () => {
  it.each(operationNames)('has all arguments of %s', operation => {
    const [, args = ''] = row(operation).split(' | ');
    for (const name of Object.keys(sampleArguments[operation])) {
      expect(args).toContain(OPTIONAL_MEMBERS.has(name) ? `\`${name}?\`` : `\`${name}\``);
    }
  });

  it.each([...serviceNames, ...Object.values(ErrorCode)])('has a line for %s', name => {
    expect(row(name)).not.toBe('');
  });

  it('has the limits as they are', () => {
    for (const limit of [
      requestLimits.values,
      requestLimits.containers,
      MAX_PAGE_FRAMES,
      MAX_FLUSH_ADDRESSES,
      MAX_RESERVED_REGIONS,
      defaultLimits.requestsInFlight,
      defaultLimits.connections,
      defaultLimits.subscriptions,
      MAX_KINDS,
    ]) {
      expect(page).toMatch(new RegExp(`\\b${limit}\\b`));
    }
  });
});
