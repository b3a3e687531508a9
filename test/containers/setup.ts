/** The global set-up of the project `containers`: the machine's engine, or one of our own for as long as the tests run. */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withLock } from '../../qemu/cache.ts';
import { CommandMissing } from '../../qemu/run.ts';
import { Docker } from './docker.ts';
import {
  type BuiltImages,
  buildImages,
  ENGINE_VARIABLE,
  type Engine,
  IMAGES_VARIABLE,
  RUN_VARIABLE,
  runPrefix,
  TEST_LABEL,
} from './engine.ts';
import { startPrivateEngine, whyNoPrivateEngine } from './private-engine.ts';

const DEFAULT_HOST = 'unix:///var/run/docker.sock';
const say = (message: string) => console.error(`containers: ${message}`);

let tearDown: (() => Promise<void>) | undefined;
/** Resolves when the images are built, or cannot be, and that is written down. */
let building: Promise<void> | undefined;
let directory: string | undefined;

export async function setup(): Promise<void> {
  const run = randomBytes(4).toString('hex');
  process.env[RUN_VARIABLE] = run;
  const engine = await find(run);
  if ('skipped' in engine) say(`skipped, ${engine.skipped}`);
  // Workers inherit it.
  process.env[ENGINE_VARIABLE] = JSON.stringify(engine);
  if ('skipped' in engine) return;
  // Other projects' tests run meanwhile; those with containers wait for it.
  directory = await mkdtemp(join(tmpdir(), 'viommu-images-'));
  process.env[IMAGES_VARIABLE] = join(directory, 'images.json');
  building = buildInto(process.env[IMAGES_VARIABLE], new Docker(engine.host));
}

async function buildInto(path: string, docker: Docker): Promise<void> {
  const built = await buildImages(docker).then(
    (images): BuiltImages => ({ images }),
    (error: Error): BuiltImages => ({ failed: error.message }),
  );
  if ('failed' in built) say(built.failed);
  // Whoever reads it finds nothing or all.
  await writeFile(`${path}.new`, JSON.stringify(built));
  await rename(`${path}.new`, path);
}

export async function teardown(): Promise<void> {
  try {
    await building;
  } finally {
    // Whatever became of the images, no engine and no container stays.
    if (directory !== undefined) await rm(directory, { recursive: true, force: true });
    await tearDown?.();
  }
  delete process.env[IMAGES_VARIABLE];
  delete process.env[ENGINE_VARIABLE];
  delete process.env[RUN_VARIABLE];
}

async function find(run: string): Promise<Engine> {
  const named = process.env.DOCKER_HOST;
  const host = named ?? DEFAULT_HOST;
  const docker = new Docker(host);
  try {
    if ((await docker.try('version')).status === 0) {
      tearDown = () => removeOurs(docker, run);
      return { host };
    }
  } catch (error) {
    if (error instanceof CommandMissing) return { skipped: 'there is no docker command on this machine' };
    throw error;
  }
  if (named !== undefined) return { skipped: `no engine answers at DOCKER_HOST=${named}` };
  const reason = await whyNoPrivateEngine();
  return reason === undefined ? await startOurs() : { skipped: reason };
}

/** Holds the lock of the engine's directory until the tests are over. */
async function startOurs(): Promise<Engine> {
  let over!: () => void;
  const testsAreOver = new Promise<void>(resolve => {
    over = resolve;
  });
  let started!: (engine: Engine) => void;
  const answer = new Promise<Engine>(resolve => {
    started = resolve;
  });
  const held = withLock('container-engine', { progress: say }, async () => {
    const engine = await startPrivateEngine().catch((error: Error) => error);
    if (engine instanceof Error) {
      started({ skipped: `an engine could not be started: ${engine.message}` });
      return;
    }
    started({ host: engine.docker.host });
    await testsAreOver;
    await engine.stop();
  });
  tearDown = async () => {
    over();
    await held;
  };
  return await Promise.race([answer, held.then((): Engine => ({ skipped: 'an engine ended at once' }))]);
}

/** On an engine that is not ours: only what this run has made, and is of no use as cache. Tests remove theirs; this is for those that failed. */
async function removeOurs(docker: Docker, run: string): Promise<void> {
  const list = async (...argv: readonly string[]) =>
    (await docker.run(...argv)).split('\n').filter(line => line !== '');
  const label = `label=${TEST_LABEL}=${run}`;
  const name = `name=${runPrefix(run)}`;
  const containers = new Set<string>();
  for (const filter of [label, name]) {
    for (const id of await list('ps', '--all', '--quiet', '--filter', filter)) containers.add(id);
  }
  const volumes = new Set(await list('volume', 'ls', '--quiet', '--filter', name));
  for (const volume of await list('volume', 'ls', '--quiet', '--filter', label)) volumes.add(volume);
  if (containers.size > 0) {
    // A server's volume is named by its class.
    const mounts = '{{range .Mounts}}{{if eq .Type "volume"}}{{println .Name}}{{end}}{{end}}';
    for (const volume of await list('inspect', '--format', mounts, ...containers)) volumes.add(volume);
    await docker.run('rm', '--force', '--volumes', ...containers);
  }
  if (volumes.size > 0) await docker.run('volume', 'rm', '--force', ...volumes);
  const networks = await list('network', 'ls', '--quiet', '--filter', name);
  if (networks.length > 0) await docker.run('network', 'rm', ...networks);
  // Layers that no image names any more.
  await docker.run('image', 'prune', '--force', '--filter', `label=${TEST_LABEL}`);
}
