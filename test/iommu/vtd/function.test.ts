import { describe, expect, it } from 'vitest';
import { type HideableFunction, hideAfterPlacement, vtdFunctionDefinition } from '../../../src/iommu/vtd/function.ts';

describe('function definition', () => {
  it('offers one 64-bit BAR of 4 KiB and no interrupt', () => {
    expect(vtdFunctionDefinition.bars).toEqual([{ index: 0, bytes: 4096, width: 64, prefetchable: false }]);
    expect(vtdFunctionDefinition).toMatchObject({ interruptPin: 0, express: false });
    expect(vtdFunctionDefinition.msi ?? vtdFunctionDefinition.msix).toBeUndefined();
  });

  it('has bus mastering hard-wired on, for the unit’s own messages', () => {
    expect(vtdFunctionDefinition.hardwiredCommand).toBe(4);
  });

  it('is nothing that a driver binds to', () => {
    const { vendorId, classCode } = vtdFunctionDefinition.identity;
    expect(vendorId).not.toBe(0x8086);
    expect(classCode).toBe(0x088000);
  });
});

describe('hiding', () => {
  function hideable(): HideableFunction & { calls: string[] } {
    const calls: string[] = [];
    return {
      calls,
      hidden: false,
      onCommand: command => calls.push(`command ${command}`),
      onReset: () => calls.push('reset'),
      onConnected: () => calls.push('connected'),
      onDisconnected: () => calls.push('disconnected'),
    };
  }

  it('starts when memory space is enabled', () => {
    const pci = hideable();
    hideAfterPlacement(pci);
    pci.onCommand?.(4);
    expect(pci.hidden).toBe(false);
    pci.onCommand?.(6);
    expect(pci.hidden).toBe(true);
  });

  it('lasts when memory space is disabled again', () => {
    const pci = hideable();
    hideAfterPlacement(pci);
    pci.onCommand?.(2);
    pci.onCommand?.(0);
    expect(pci.hidden).toBe(true);
  });

  it.each(['onReset', 'onConnected', 'onDisconnected'] as const)('ends by %s', hook => {
    const pci = hideable();
    hideAfterPlacement(pci);
    pci.onCommand?.(2);
    pci[hook]?.();
    expect(pci.hidden).toBe(false);
  });

  it('keeps the hooks that were there', () => {
    const pci = hideable();
    hideAfterPlacement(pci);
    pci.onCommand?.(2);
    pci.onReset?.();
    pci.onConnected?.();
    pci.onDisconnected?.();
    expect(pci.calls).toEqual(['command 2', 'reset', 'connected', 'disconnected']);
  });

  it('does without hooks', () => {
    const pci: HideableFunction = { hidden: false };
    hideAfterPlacement(pci);
    pci.onCommand?.(2);
    expect(pci.hidden).toBe(true);
    pci.onReset?.();
    expect(pci.hidden).toBe(false);
  });
});
