/**
 * A private apt: it asks the mirror that the machine's own apt is configured with, through the machine's own proxy and
 * authentication settings, but has its own lists, sources, state and downloads, so that nothing of the machine changes and
 * no privilege is needed. Signatures are always checked; a machine that trusts its mirror blindly is not followed in that.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CacheOptions, cacheDirectory, exists } from './cache.ts';
import { CommandMissing, type RunOptions, type RunResult, run } from './run.ts';

export const SUITES = ['trixie', 'trixie-backports'] as const;
export type Suite = (typeof SUITES)[number];

/** Where packages come from and by which keys they are believed. */
export interface Mirror {
  readonly uri: string;
  /** Keyring files to try, in this order; empty: the keys that the machine's apt believes in general. */
  readonly keyrings: readonly string[];
}

/** What to do instead, at the end of every message about packages that cannot be had. */
const WAY_OUT =
  'Install QEMU 10.1 or newer (with vfio-user-pci) yourself and pass its path with --qemu, or name a Debian mirror in ' +
  'VIOMMU_DEBIAN_MIRROR.';

/** Keyrings that Debian's own packages put there; the newer name first. */
const KEYRINGS = ['/usr/share/keyrings/debian-archive-keyring.pgp', '/usr/share/keyrings/debian-archive-keyring.gpg'];

const DEBIAN_RELEASES = /^(?:bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable)$/;

export class PackagesUnavailable extends Error {
  constructor(what: string) {
    super(`${what} ${WAY_OUT}`);
    this.name = 'PackagesUnavailable';
  }
}

/** A paragraph of `apt-get indextargets`. */
type Paragraph = ReadonlyMap<string, string>;

export function parseParagraphs(text: string): Paragraph[] {
  return text
    .split(/\n\s*\n/)
    .map(part => {
      const fields = part.split('\n').flatMap((line): [string, string][] => {
        const colon = line.indexOf(':');
        return colon <= 0 ? [] : [[line.slice(0, colon), line.slice(colon + 1).trim()]];
      });
      return new Map(fields);
    })
    .filter(paragraph => paragraph.size > 0);
}

/**
 * The Debian archive among what the machine's apt is configured with. `known` is what apt says of archives whose lists it
 * has (with origin), `configured` what it says when it never had lists, as in most container images.
 */
export function chooseMirror(known: readonly Paragraph[], configured: readonly Paragraph[]): Paragraph | undefined {
  const usable = (paragraph: Paragraph) =>
    paragraph.get('Component') === 'main' && !(paragraph.get('Repo-URI') ?? 'cdrom:').startsWith('cdrom:');
  return (
    known.find(one => usable(one) && one.get('Origin') === 'Debian' && one.get('Label') === 'Debian') ??
    configured.find(one => usable(one) && DEBIAN_RELEASES.test(one.get('Release') ?? ''))
  );
}

/** Keyring files named in a file of apt's sources: `Signed-By: /path` or `[signed-by=/path]` (sources.list(5)). */
export function signedBy(sources: string): string[] {
  const found = sources.matchAll(/^[^#\n]*?signed-by\s*[:=]\s*([^\s\]]+)/gim);
  return [...found].flatMap(match => match[1]!.split(',')).filter(path => path.startsWith('/'));
}

export async function findMirror(environment: NodeJS.ProcessEnv = process.env): Promise<Mirror> {
  const named = environment.VIOMMU_DEBIAN_MIRROR;
  if (named !== undefined && named !== '') return { uri: named, keyrings: await existing(KEYRINGS) };
  const targets = async (...options: string[]) =>
    parseParagraphs((await aptGet(['indextargets', ...options, 'Created-By: Packages'])).stdout);
  const chosen = chooseMirror(await targets(), await targets('--no-release-info'));
  if (chosen === undefined) {
    throw new PackagesUnavailable("This machine's apt knows no Debian mirror, so Debian's packages cannot be fetched.");
  }
  const entry = chosen.get('Sourcesentry')?.replace(/:\d+$/, '');
  const own = entry !== undefined && (await exists(entry)) ? signedBy(await readFile(entry, 'utf8')) : [];
  return { uri: chosen.get('Repo-URI')!, keyrings: await existing([...new Set([...own, ...KEYRINGS])]) };
}

async function existing(paths: readonly string[]): Promise<string[]> {
  const there = await Promise.all(paths.map(exists));
  return paths.filter((_, index) => there[index]);
}

/** The sources of the private apt, in deb822 form (sources.list(5)). */
export function sourcesFile(mirror: Mirror, keyring: string | undefined): string {
  const lines = [
    'Types: deb',
    `URIs: ${mirror.uri}`,
    `Suites: ${SUITES.join(' ')}`,
    'Components: main',
    'Architectures: amd64',
    'Targets: Packages',
  ];
  if (keyring !== undefined) lines.push(`Signed-By: ${keyring}`);
  return `${lines.join('\n')}\n`;
}

/**
 * The configuration of the private apt (apt.conf(5)), read after the machine's own. Hooks of the machine are cleared: they
 * mean the machine's package database.
 */
export function configurationFile(directory: string, superuser: boolean): string {
  if (/["\\\n]/.test(directory)) {
    throw new Error(`The cache directory's name cannot be written in apt's configuration: ${directory}`);
  }
  const hooks = ['Pre-Invoke', 'Post-Invoke', 'Post-Invoke-Success'];
  const lines = [
    ...hooks.map(hook => `#clear APT::Update::${hook};`),
    ...['Pre-Invoke', 'Post-Invoke', 'Pre-Install-Pkgs'].map(hook => `#clear DPkg::${hook};`),
    '#clear APT::Architectures;',
    '#clear APT::Default-Release;',
    'APT::Architecture "amd64";',
    'APT::Architectures { "amd64"; };',
    `Dir::State "${directory}/state";`,
    `Dir::State::lists "${directory}/state/lists";`,
    `Dir::State::status "${directory}/state/status";`,
    `Dir::Cache "${directory}/cache";`,
    `Dir::Cache::archives "${directory}/cache/archives";`,
    'Dir::Etc::sourcelist "/dev/null";',
    `Dir::Etc::sourceparts "${directory}/sources";`,
    'Dir::Etc::preferences "/dev/null";',
    'Dir::Etc::preferencesparts "/dev/null";',
    'Acquire::Retries "3";',
    'Acquire::AllowInsecureRepositories "false";',
    'Acquire::AllowWeakRepositories "false";',
    'Acquire::AllowDowngradeToInsecureRepositories "false";',
    'APT::Get::AllowUnauthenticated "false";',
    'APT::Get::Assume-Yes "true";',
    'APT::Install-Recommends "false";',
    'APT::Install-Suggests "false";',
    'APT::Update::Error-Mode "any";',
  ];
  // apt gives up root for the user _apt while it downloads, and that user cannot enter root's cache directory.
  if (superuser) lines.push('APT::Sandbox::User "root";');
  return `${lines.join('\n')}\n`;
}

export interface PrivateApt {
  /** Where `.deb` files arrive that `install --download-only` asks for. */
  readonly archives: string;
  aptGet(argv: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** One field of the newest version of a package in the suite (deb-control(5)); throws when there is no such package. */
  field(name: string, field: string, suite: Suite): Promise<string>;
}

/** Sets the private apt up below the cache directory and brings its lists up to date. The caller holds the lock `apt`. */
export async function openPrivateApt(options: CacheOptions): Promise<PrivateApt> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new PackagesUnavailable(
      `Packages are unpacked for Linux on x86-64 only, not for ${process.platform} ${process.arch}.`,
    );
  }
  const directory = join(options.cache ?? cacheDirectory(), 'apt');
  const archives = join(directory, 'cache', 'archives');
  for (const path of [
    join(directory, 'state', 'lists', 'partial'),
    join(archives, 'partial'),
    join(directory, 'sources'),
  ]) {
    await mkdir(path, { recursive: true });
  }
  const configuration = join(directory, 'apt.conf');
  await writeFile(join(directory, 'state', 'status'), '');
  await writeFile(configuration, configurationFile(directory, process.getuid?.() === 0));
  const mirror = await findMirror();
  await update(mirror, directory, configuration, options);
  return {
    archives,
    aptGet: (argv, runOptions) => aptGet(['-c', configuration, ...argv], runOptions),
    async field(name, field, suite) {
      const shown = await runApt(
        'apt-cache',
        ['-c', configuration, '-t', suite, '--no-all-versions', 'show', name],
        {},
      );
      const value = parseParagraphs(shown.stdout)[0]?.get(field);
      if (value === undefined)
        throw new PackagesUnavailable(`Package ${name} has no ${field} in ${suite}: ${lastLines(shown)}`);
      return value;
    },
  };
}

/** Tries the keyrings one after the other: an older one may lack the key that signs the suites. */
async function update(mirror: Mirror, directory: string, configuration: string, options: CacheOptions): Promise<void> {
  options.progress('Reading package lists of Debian 13 (trixie, trixie-backports)');
  const keyrings = mirror.keyrings.length === 0 ? [undefined] : mirror.keyrings;
  let failure = '';
  for (const keyring of keyrings) {
    await writeFile(join(directory, 'sources', 'debian.sources'), sourcesFile(mirror, keyring));
    const result = await aptGet(['-c', configuration, 'update']);
    if (result.status === 0) return;
    failure = lastLines(result);
    if (!isKeyProblem(failure)) break;
  }
  if (isKeyProblem(failure)) {
    throw new PackagesUnavailable(
      `The keys on this machine (${keyrings.join(', ') || "apt's own"}) do not know who signs Debian 13: upgrade or install ` +
        `the package debian-archive-keyring (2023.3+deb12u2 or newer). apt says: ${failure}`,
    );
  }
  throw new PackagesUnavailable(`The package lists of Debian 13 cannot be read. apt says: ${failure}`);
}

function isKeyProblem(text: string): boolean {
  return /NO_PUBKEY|Missing key|couldn't be verified|is not signed|no valid OpenPGP/i.test(text);
}

/** What apt complained about, on one line. */
export function lastLines(result: RunResult): string {
  const lines = result.stderr.split('\n').filter(line => /^(?:E|W|Err)\b/.test(line));
  return (
    (lines.length > 0 ? lines : result.stderr.trim().split('\n')).slice(-6).join(' | ') || `status ${result.status}`
  );
}

function aptGet(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return runApt('apt-get', argv, options);
}

async function runApt(command: string, argv: readonly string[], options: RunOptions): Promise<RunResult> {
  try {
    return await run([command, '-q', ...argv], options);
  } catch (error) {
    if (error instanceof CommandMissing) {
      throw new PackagesUnavailable(`This machine has no ${command}, so Debian's packages cannot be fetched.`);
    }
    throw error;
  }
}
