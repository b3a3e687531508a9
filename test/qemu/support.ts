import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import {
  type GuestPackages,
  provisionGuestPackages,
  provisionQemu,
  type QemuInstallation,
} from '../../qemu/provision.ts';

/** The first run on a machine downloads and unpacks some 150 MB. */
export const PROVISION_TIMEOUT_MS = 600_000;
/** Machines without KVM that others use too are slow; nothing depends on how long it takes. */
export const GUEST_TIMEOUT_MS = 120_000;

export const say = (message: string): void => console.log(message);

/** A directory that goes away when the test file is done. To be called while the file is read, not in a test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-test-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** The real ones, from the user's cache: made at the first use. */
export const realQemu = (): Promise<QemuInstallation> => provisionQemu({ progress: say });
export const realGuestPackages = (): Promise<GuestPackages> => provisionGuestPackages({ progress: say });
