import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { addFetch, describeSummary, type FetchSummary } from '../../src/cli/fetch.ts';

const summary: FetchSummary = {
  cache: '/c/viommu',
  cacheBytes: 466_000_000,
  qemu: { version: '11.1.3', command: ['/q'], uefi: true },
  kernel: '/c/viommu/vmlinuz',
  initrd: '/c/viommu/initramfs.cpio',
  placements: [
    { firmware: 'bios', memory: 'shared', accelerator: 'tcg', address: '0xfe602000' },
    { firmware: 'uefi', memory: 'message', accelerator: 'tcg', address: '0xc040000000' },
  ],
};

describe('viommu fetch', () => {
  it('says where everything is', () => {
    expect(describeSummary(summary)).toBe(
      [
        'QEMU         11.1.3, with UEFI firmware',
        'kernel       /c/viommu/vmlinuz',
        'initramfs    /c/viommu/initramfs.cpio',
        'IOMMU at     bios, shared memory: 0xfe602000',
        '             uefi, message memory: 0xc040000000',
        'all in       /c/viommu (466 MB)',
      ].join('\n'),
    );
  });

  it('says what was not asked, and what QEMU came without', () => {
    const lines = describeSummary({ ...summary, qemu: { ...summary.qemu, uefi: false }, placements: [] }).split('\n');
    expect(lines[0]).toBe('QEMU         11.1.3, without UEFI firmware');
    expect(lines.join('\n')).not.toContain('IOMMU at');
  });

  it('has help with examples', () => {
    const program = new Command('viommu');
    addFetch(program);
    let help = '';
    const writeOut = (text: string) => {
      help += text;
    };
    program.commands[0]?.configureOutput({ writeOut }).outputHelp();
    expect(help).toMatch(/--qemu[\s\S]*--no-probe[\s\S]*--json[\s\S]*Examples:[\s\S]*\$ viommu fetch/);
  });

  describe('with a QEMU that is too old', () => {
    let directory: string;

    beforeEach(() => {
      directory = mkdtempSync(join(tmpdir(), 'viommu-fetch-'));
    });

    afterEach(() => {
      vi.restoreAllMocks();
      rmSync(directory, { recursive: true, force: true });
    });

    it('refuses it and says what is needed', async () => {
      const qemu = join(directory, 'qemu');
      writeFileSync(qemu, '#!/bin/sh\necho "QEMU emulator version 9.2.0"\n');
      chmodSync(qemu, 0o755);
      const program = new Command('viommu');
      addFetch(program);
      const fetched = program.parseAsync(['fetch', '--qemu', qemu], { from: 'user' });
      await expect(fetched).rejects.toThrow(/9\.2\.0; vfio-user-pci needs 10\.1 or newer/);
    });
  });
});
