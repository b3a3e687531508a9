/** Builds a kernel module for the guest in a container, so that neither a compiler nor headers are needed here. */
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { GenericContainer, getContainerRuntimeClient, Wait } from 'testcontainers';
import { fileInArchive } from './archive.ts';
import { checkModule } from './module-info.ts';
import { packageRoot } from './package-root.ts';

export interface KernelModuleOptions {
  /** A folder with a Kbuild file or a Makefile for kbuild. It is left as it is. */
  readonly source: string;
  /** Where the module goes: its file name is that of the module, e.g. `build/my_driver.ko`. */
  readonly target: string;
  /** The kernel's, as `uname -r` tells it. Default: the newest of the Debian suite. */
  readonly release?: string;
  /** The Debian image to build in. Default: the environment's VIOMMU_DEBIAN_BASE, else `debian:trixie-slim`. */
  readonly base?: string;
  /** The network in which packages are fetched, e.g. `host`. Default: the environment's VIOMMU_BUILD_NETWORK, else the engine's. */
  readonly network?: string;
  /** Told what is being done. */
  readonly progress?: (line: string) => void;
}

const IMAGE = 'viommu-kernel-build';
const DEFAULT_BASE = 'debian:trixie-slim';
const MODULES = '/home/builder/module';

/** Gives the module's absolute path. Rejects with the compiler's words where it cannot be built. */
export async function buildKernelModule(options: KernelModuleOptions): Promise<string> {
  const source = resolve(options.source);
  const target = resolve(options.target);
  const { progress = () => {}, release } = options;
  if (!(await isFolder(source))) throw new Error(`there is no folder ${source} with a module's source`);
  const image = await buildImage(options, progress);
  progress(`Building ${basename(target)}`);
  const container = await new GenericContainer(image)
    .withCopyDirectoriesToContainer([{ source, target: '/source' }])
    .withNetworkMode('none')
    .withCommand(['sleep', 'infinity'])
    .withWaitStrategy(Wait.forSuccessfulCommand('true'))
    .start();
  try {
    const { exitCode, output, stdout } = await container.exec(['build-module']);
    if (exitCode !== 0) throw new Error(`${source} cannot be built:\n${output.trimEnd()}`);
    const made = stdout.split('\n').filter(line => line.endsWith('.ko'));
    if (!made.includes(basename(target))) {
      throw new Error(`${source} has no module ${basename(target)}; it makes ${made.join(', ') || 'none'}`);
    }
    const archive = await container.copyArchiveFromContainer(`${MODULES}/${basename(target)}`);
    const module = await fileInArchive(archive as AsyncIterable<Buffer>);
    if (release !== undefined) checkModule(target, module, release);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, module);
    return target;
  } finally {
    await container.stop();
  }
}

/** The engine keeps its layers: the second time is quick. */
async function buildImage(options: KernelModuleOptions, progress: (line: string) => void): Promise<string> {
  const { release = '' } = options;
  const base = options.base ?? (process.env.VIOMMU_DEBIAN_BASE || DEFAULT_BASE);
  const network = options.network ?? (process.env.VIOMMU_BUILD_NETWORK || undefined);
  const image = `${IMAGE}:${imageTag(release)}`;
  const { dockerode } = (await getContainerRuntimeClient()).container;
  const context = join(packageRoot(), 'images', 'kernel-build');
  progress(`Building the image ${image}, with a compiler and the kernel's headers`);
  const stream = await dockerode.buildImage(
    { context, src: ['Dockerfile', 'build-module'] },
    {
      t: image,
      rm: true,
      forcerm: true,
      buildargs: { DEBIAN_BASE: base, KERNEL_RELEASE: release },
      ...(network === undefined ? {} : { networkmode: network }),
    },
  );
  await new Promise<void>((done, fail) => {
    dockerode.modem.followProgress(stream, (error, said: readonly BuildMessage[]) => {
      const problem = error?.message ?? said.find(one => one.error !== undefined)?.error;
      if (problem === undefined) done();
      else fail(new Error(`the image ${image} cannot be built: ${problem}\n${lastOutput(said)}`));
    });
  });
  return image;
}

/** What the engine tells of a build (Engine API, "Build an image"). */
interface BuildMessage {
  readonly stream?: string;
  readonly error?: string;
}

/** Of a failing build's output. */
const KEPT_LINES = 40;

function lastOutput(said: readonly BuildMessage[]): string {
  const text = said.map(one => one.stream ?? '').join('');
  return text.trimEnd().split('\n').slice(-KEPT_LINES).join('\n');
}

/** A release as a tag may be written (letters, digits, `_`, `.` and `-`). */
export function imageTag(release: string): string {
  return release === '' ? 'newest' : release.replaceAll(/[^\w.-]/g, '_').slice(0, 128);
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
