/** Debian packages fetched and unpacked into a tree of their own: nothing is installed, nothing of them is run by dpkg. */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { lastLines, openPrivateApt, PackagesUnavailable, type PrivateApt, type Suite } from './apt.ts';
import { type CacheOptions, exists, makeOnce, withLock } from './cache.ts';
import { megabytes } from './progress.ts';
import { CommandMissing, run } from './run.ts';

export interface PackageRequest {
  readonly suite: Suite;
  readonly packages: readonly string[];
  /** With everything they depend on (not what they recommend), or they alone. */
  readonly dependencies: boolean;
}

const LOADER = 'usr/lib64/ld-linux-x86-64.so.2';
const LIBRARIES = ['usr/lib/x86_64-linux-gnu', 'usr/lib', 'lib/x86_64-linux-gnu'];

/**
 * The tree `trees/<name>` of the cache with all the requests unpacked in it, made at the first call. `finish` may add to
 * the tree before it counts as complete. Throws PackagesUnavailable with what is missing and what to do.
 */
export function packageTree(
  name: string,
  choose: (apt: PrivateApt) => Promise<readonly PackageRequest[]>,
  options: CacheOptions,
  finish?: (tree: string) => Promise<void>,
): Promise<string> {
  return makeOnce(`trees/${name}`, options, tree =>
    withLock('apt', options, async () => {
      const apt = await openPrivateApt(options);
      for (const request of await choose(apt)) await unpack(request, tree, apt, options);
      await finish?.(tree);
      options.progress(`${name} is ready: ${megabytes(await treeSize(tree))} in ${tree.replace(/\.partial$/, '')}`);
    }),
  );
}

async function unpack(request: PackageRequest, tree: string, apt: PrivateApt, options: CacheOptions): Promise<void> {
  const { suite, packages } = request;
  // What an interrupted run left would be unpacked with the rest.
  await removePackages(apt.archives);
  const what = packages.join(', ');
  options.progress(`Downloading ${what}${request.dependencies ? ' and what they need' : ''} from ${suite}`);
  const argv = request.dependencies
    ? ['-t', suite, 'install', '--download-only', ...packages]
    : ['-t', suite, 'download', ...packages];
  const result = await apt.aptGet(argv, { cwd: apt.archives });
  const files = await packageFiles(apt.archives);
  if (result.status !== 0 || files.length === 0) {
    throw new PackagesUnavailable(`Cannot download ${what} from ${suite}. apt says: ${lastLines(result)}`);
  }
  let packed = 0;
  for (const file of files) {
    packed += (await stat(file)).size;
    await extract(file, tree);
  }
  await removePackages(apt.archives);
  options.progress(`Unpacked ${files.length} package${files.length === 1 ? '' : 's'}, ${megabytes(packed)} packed`);
}

async function extract(file: string, tree: string): Promise<void> {
  await mkdir(tree, { recursive: true });
  try {
    const result = await run(['dpkg-deb', '-x', file, tree]);
    if (result.status !== 0) throw new Error(`Cannot unpack ${file}: ${result.stderr.trim()}`);
  } catch (error) {
    if (error instanceof CommandMissing)
      throw new PackagesUnavailable('This machine has no dpkg-deb to unpack packages.');
    throw error;
  }
}

async function packageFiles(directory: string): Promise<string[]> {
  const names = await readdir(directory);
  return names.filter(name => name.endsWith('.deb')).map(name => join(directory, name));
}

async function removePackages(directory: string): Promise<void> {
  for (const file of await packageFiles(directory)) await rm(file);
}

/**
 * The start of a command line that runs a program of an unpacked tree with the tree's own loader and libraries, whatever
 * C library the machine has.
 */
export async function treeCommand(tree: string, program: string): Promise<string[]> {
  const libraries: string[] = [];
  for (const directory of LIBRARIES) {
    const path = join(tree, directory);
    if (await exists(path)) libraries.push(path);
  }
  return [join(tree, LOADER), '--library-path', libraries.join(':'), join(tree, program)];
}

/** Bytes of all regular files below a directory. */
export async function treeSize(directory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}

/** The command line of a program that is needed on the side: the one on PATH, or else unpacked from Debian's package. */
export async function provisionTool(program: string, packageName: string, options: CacheOptions): Promise<string[]> {
  try {
    await run([program, '--version'], { timeoutMs: 10_000 });
    return [program];
  } catch (error) {
    if (!(error instanceof CommandMissing)) throw error;
  }
  const request: PackageRequest = { suite: 'trixie', packages: [packageName], dependencies: true };
  const tree = await packageTree(`tool-${packageName}`, async () => [request], options);
  return await treeCommand(tree, join('usr/bin', program));
}
