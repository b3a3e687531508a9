/** What a backend program says of itself to programs that manage guests. vfio-user has no schema for it yet: that of vhost-user.json is kept to. */
import { accessSync, constants, statSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { eduKind } from '../devices/edu/kind.ts';
import { CommandFailure, UsageError } from './errors.ts';

/** What is served where no `--device` says otherwise. */
export const DEFAULT_KIND = eduKind;
/** Where such programs look for files about backends (vfio-user, section "Backend Program Conventions"), and the name of ours there. */
export const DESCRIPTIONS_DIRECTORY = '/usr/share/vfio-user';
export const DESCRIPTION_NAME = `50-viommu-${DEFAULT_KIND.kind}.json`;
/** The program that takes the options of a backend as its own. */
export const BACKEND_PROGRAM = join(import.meta.dirname, 'backend-main.js');

/** As vhost-user.json's `VHostUserBackendCapabilities` has it: features are options beyond those that every backend takes. */
export interface BackendCapabilities {
  readonly type: string;
  readonly features: readonly string[];
}

/** As vhost-user.json's `VhostUserBackend` has it. */
export interface BackendDescription {
  readonly description: string;
  readonly type: string;
  readonly binary: string;
  readonly tags: readonly string[];
}

export function backendCapabilities(features: readonly string[]): BackendCapabilities {
  return { type: DEFAULT_KIND.kind, features };
}

/** Throws a UsageError where `binary` is no absolute path, a CommandFailure where it cannot be run. */
export function backendDescription(binary: string, version: string): BackendDescription {
  if (!isAbsolute(binary)) throw new UsageError(`'${binary}' is no absolute path, as the file must have it`);
  checkRunnable(binary);
  return {
    description: `viommu ${DEFAULT_KIND.kind}: ${DEFAULT_KIND.about}`,
    type: DEFAULT_KIND.kind,
    binary,
    tags: [`viommu ${version}`],
  };
}

function checkRunnable(path: string): void {
  try {
    accessSync(path, constants.X_OK);
    if (statSync(path).isFile()) return;
  } catch (error) {
    throw new CommandFailure(`${path} cannot be run (${(error as Error).message}): say what can, with --binary`);
  }
  throw new CommandFailure(`${path} is no program: say which is, with --binary`);
}
