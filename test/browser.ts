/** A Chromium for tests: what the machine has, or one that is installed where this process may do that. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, chromium } from 'playwright-core';
import { describe } from 'vitest';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const PACKAGES = ['chromium', 'fonts-dejavu-core'];
const APT_TIMEOUT_MS = 10 * 60_000;

export interface BrowserProgram {
  readonly path: string | undefined;
  /** Where there is none: why. */
  readonly missing: string;
}

/** VIOMMU_CHROMIUM, then PATH, then Debian's packages where root may install them. */
export function provideChromium(
  progress: (message: string) => void = message => console.error(message),
): BrowserProgram {
  const wished = process.env.VIOMMU_CHROMIUM;
  if (wished !== undefined && wished !== '') {
    return isProgram(wished)
      ? { path: wished, missing: '' }
      : { path: undefined, missing: `VIOMMU_CHROMIUM is ${wished}, which is no program` };
  }
  const found = findOnPath();
  if (found !== undefined) return { path: found, missing: '' };
  const failure = install(progress);
  const installed = findOnPath();
  if (installed !== undefined) return { path: installed, missing: '' };
  return { path: undefined, missing: `there is no Chromium on PATH and none in VIOMMU_CHROMIUM; ${failure}` };
}

/** The browser ends with `close`. */
export async function launchChromium(
  { path, missing }: BrowserProgram,
  args: readonly string[] = [],
): Promise<Browser> {
  if (path === undefined) throw new Error(missing);
  // Its sandbox does not work for root.
  const asRoot = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return await chromium.launch({ executablePath: path, args: [...asRoot, ...args] });
}

/** Tests that need a browser; where there is none they are skipped, and their title says why. */
export function describeInBrowser(title: string, tests: (program: BrowserProgram) => void): void {
  const program = provideChromium();
  if (program.path === undefined) describe.skip(`${title} (skipped: ${program.missing})`, () => tests(program));
  else describe(title, () => tests(program));
}

function findOnPath(): string | undefined {
  const directories = (process.env.PATH ?? '').split(delimiter).filter(directory => directory !== '');
  return directories.flatMap(directory => NAMES.map(name => join(directory, name))).find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Returns why it did not work; empty where it did. */
function install(progress: (message: string) => void): string {
  if (process.getuid?.() !== 0) return 'only root may install one';
  progress('Installing Chromium for the tests of the inspector ...');
  // With the lists that are there, then with new ones.
  if (apt('install', '-y', '--no-install-recommends', ...PACKAGES) === '') return '';
  progress('Reading the lists of packages anew ...');
  const update = apt('update');
  if (update !== '') return `apt-get update failed: ${update}`;
  const again = apt('install', '-y', '--no-install-recommends', ...PACKAGES);
  return again === '' ? '' : `apt-get install failed: ${again}`;
}

/** Its last words; empty where it went well. */
function apt(...args: string[]): string {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const { status, stderr, error } = spawnSync('apt-get', args, { env, encoding: 'utf8', timeout: APT_TIMEOUT_MS });
  if (error) return error.message;
  return status === 0
    ? ''
    : (stderr.trim().split('\n').at(-1) ?? `it ended with ${status}`) || `it ended with ${status}`;
}
