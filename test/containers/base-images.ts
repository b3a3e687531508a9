/**
 * What the images are made from. A machine of a CI may reach no registry of images, so where it can, Debian is put together
 * from the machine's own mirror, with the Node that runs the tests; anywhere else it is the public images.
 */
import { copyFile, cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { findMirror } from '../../qemu/apt.ts';
import { exists, fingerprint } from '../../qemu/cache.ts';
import { CommandMissing, run } from '../../qemu/run.ts';
import type { Docker } from './docker.ts';

export interface BaseImages {
  readonly node: string;
  readonly debian: string;
}

const PUBLIC: BaseImages = { node: 'node:24-slim', debian: 'debian:trixie-slim' };
const SUITE = 'trixie';
/** Changes with anything below that changes what is in the bases. */
const LAYOUT_VERSION = 1;

export async function baseImages(docker: Docker): Promise<BaseImages> {
  const { VIOMMU_NODE_BASE: node, VIOMMU_DEBIAN_BASE: debian } = process.env;
  if (node !== undefined) return { node, debian: debian ?? PUBLIC.debian };
  if (process.getuid?.() !== 0 || !(await hasBootstrap())) return PUBLIC;
  const npm = await npmSettings();
  const version = fingerprint([LAYOUT_VERSION, process.version, npm]);
  const own = { debian: `viommu-base-debian:${version}`, node: `viommu-base-node:${version}` };
  if ((await docker.try('image', 'inspect', own.debian)).status !== 0) await importDebian(docker, own.debian, npm);
  if ((await docker.try('image', 'inspect', own.node)).status !== 0) await addNode(docker, own, npm);
  return own;
}

async function hasBootstrap(): Promise<boolean> {
  try {
    return (await run(['mmdebstrap', '--version'])).status === 0;
  } catch (error) {
    if (error instanceof CommandMissing) return false;
    throw error;
  }
}

interface NpmSettings {
  readonly registry: string | undefined;
  /** Certificates that the machine trusts, where npm has been told of them. */
  readonly authorities: string | undefined;
}

async function npmSettings(): Promise<NpmSettings> {
  const get = async (name: string) => {
    const value = (await run(['npm', 'config', 'get', name])).stdout.trim();
    return value === '' || value === 'null' || value === 'undefined' ? undefined : value;
  };
  return { registry: await get('registry'), authorities: await get('cafile') };
}

const AUTHORITIES = '/etc/ssl/certs/ca-certificates.crt';

async function importDebian(docker: Docker, tag: string, { authorities }: NpmSettings): Promise<void> {
  await inTemporaryDirectory(async directory => {
    const { uri } = await findMirror();
    const archive = join(directory, 'debian.tar');
    const suites = [SUITE, `${SUITE}-backports`].map(suite => `deb ${uri} ${suite} main`);
    const trust =
      authorities === undefined
        ? []
        : [
            `--customize-hook=mkdir -p "$1${dirname(AUTHORITIES)}"`,
            `--customize-hook=upload '${authorities}' ${AUTHORITIES}`,
          ];
    const made = await run(['nice', 'mmdebstrap', '--variant=minbase', ...trust, SUITE, archive, ...suites]);
    if (made.status !== 0) throw new Error(`mmdebstrap ends with ${made.status}:\n${made.stderr}`);
    await docker.run('import', '--change', 'CMD ["bash"]', archive, tag);
  });
}

/** As the public image has it: node and npm in /usr/local. */
async function addNode(
  docker: Docker,
  { debian, node }: BaseImages,
  { registry, authorities }: NpmSettings,
): Promise<void> {
  await inTemporaryDirectory(async directory => {
    const local = join(directory, 'root/usr/local');
    for (const folder of ['bin', 'etc', 'lib/node_modules']) await mkdir(join(local, folder), { recursive: true });
    await copyFile(process.execPath, join(local, 'bin/node'));
    await cp(await npmFolder(), join(local, 'lib/node_modules/npm'), { recursive: true, verbatimSymlinks: true });
    await symlink('../lib/node_modules/npm/bin/npm-cli.js', join(local, 'bin/npm'));
    await symlink('../lib/node_modules/npm/bin/npx-cli.js', join(local, 'bin/npx'));
    const settings = [
      ...(registry === undefined ? [] : [`registry=${registry}`]),
      ...(authorities === undefined ? [] : [`cafile=${AUTHORITIES}`]),
    ];
    await writeFile(join(local, 'etc/npmrc'), settings.map(line => `${line}\n`).join(''));
    await writeFile(join(directory, 'Dockerfile'), `FROM ${debian}\nCOPY root /\nCMD ["node"]\n`);
    await docker.run('build', '--network', 'none', '--label', 'viommu.test=1', '--tag', node, directory);
  });
}

/** The npm beside the Node that runs this, wherever its package manager put it. */
async function npmFolder(): Promise<string> {
  const root = (await run(['npm', 'root', '--global'])).stdout.trim();
  const beside = join(dirname(process.execPath), '../lib/node_modules');
  for (const folder of [root, beside]) {
    if (await exists(join(folder, 'npm/package.json'))) return join(folder, 'npm');
  }
  throw new Error(`npm is neither in ${root} nor in ${beside}; name an image with Node in VIOMMU_NODE_BASE`);
}

async function inTemporaryDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'viommu-base-'));
  try {
    await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
