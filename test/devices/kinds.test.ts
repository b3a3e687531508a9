import { describe, expect, it } from 'vitest';
import { findKind, kinds } from '../../src/devices/kinds.ts';
import { checkDefinition } from '../../src/pci/definition-check.ts';

describe('endpoint kinds', () => {
  it('are found by name', () => {
    for (const kind of kinds) expect(findKind(kind.kind)).toBe(kind);
  });

  it('have different names', () => {
    expect(new Set(kinds.map(kind => kind.kind)).size).toBe(kinds.length);
  });

  it('have functions that can be laid out', () => {
    for (const kind of kinds) expect(() => checkDefinition(kind.define({}))).not.toThrow();
  });

  it('that do not exist are answered with those that do', () => {
    expect(() => findKind('nic')).toThrow("there is no endpoint kind 'nic': the kinds are edu");
  });
});
