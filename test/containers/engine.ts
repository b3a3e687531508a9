/**
 * The container engine that the tests of the project `containers` use, and the images that they use it with. The global set-up
 * has found or started it (setup.ts); tests only ask.
 */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { baseImages } from './base-images.ts';
import type { Docker } from './docker.ts';

/** Where the global set-up leaves for the workers what it has found. */
export const ENGINE_VARIABLE = 'VIOMMU_TEST_ENGINE';

export type Engine = { readonly host: string } | { readonly skipped: string };

/** The engine's address as `DOCKER_HOST` takes it, or why there is none. */
export async function containerEngine(): Promise<Engine> {
  const found = process.env[ENGINE_VARIABLE];
  if (found === undefined) return { skipped: 'not run in the test project `containers`, whose set-up finds an engine' };
  return JSON.parse(found) as Engine;
}

export interface TestImages {
  readonly server: string;
  readonly qemu: string;
  /** What they are made from. */
  readonly nodeBase: string;
  readonly debianBase: string;
}

/** On images that the tests make, and, with the run as its value, on containers and volumes. */
export const TEST_LABEL = 'viommu.test';
/** Where the global set-up leaves what tells this run's things from those of another one on the same engine. */
export const RUN_VARIABLE = 'VIOMMU_TEST_RUN';

/** For what the tests make with a label. */
export function runLabel(): string {
  return `${TEST_LABEL}=${runName()}`;
}

/** As testcontainers takes it. */
export function runLabels(): Record<string, string> {
  return { [TEST_LABEL]: runName() };
}

/** A name that nothing else has, by which the end of this run finds what was left. */
export function uniqueName(): string {
  return `${runPrefix(runName())}${randomBytes(4).toString('hex')}`;
}

/** What all names of a run start with. */
export function runPrefix(run: string): string {
  return `viommu-test-${run}-`;
}

function runName(): string {
  const run = process.env[RUN_VARIABLE];
  if (run === undefined)
    throw new Error('this is not run in the test project `containers`, whose set-up names each run');
  return run;
}

/** Each has a tag, because a builder without a tag on a stage forgets it with the next `image prune`. */
const STAGES = ['dependencies', 'build', 'server', 'compiler', 'guest', 'qemu'] as const;
const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'];

const tag = (stage: (typeof STAGES)[number]) =>
  stage === 'server' || stage === 'qemu' ? `viommu-${stage}:test` : `viommu-stage-${stage}:test`;

/** Where the global set-up leaves the path of the file in which the workers find the images, once they are built. */
export const IMAGES_VARIABLE = 'VIOMMU_TEST_IMAGES';

/** What that file has. */
export type BuiltImages = { readonly images: TestImages } | { readonly failed: string };

const POLL_MS = 100;

/** The images, built from this checkout by the global set-up. Throws with the builder's output when that failed. */
export async function testImages(): Promise<TestImages> {
  const path = process.env[IMAGES_VARIABLE];
  if (path === undefined) throw new Error('There is no container engine');
  for (;;) {
    const built = await readBuilt(path);
    if (built !== undefined && 'images' in built) return built.images;
    if (built !== undefined) throw new Error(built.failed);
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

async function readBuilt(path: string): Promise<BuiltImages | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as BuiltImages;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Builds the images from this checkout; fast where nothing has changed. Throws with the builder's output when that fails.
 * `VIOMMU_NODE_BASE` and `VIOMMU_DEBIAN_BASE` name other bases.
 */
export async function buildImages(docker: Docker): Promise<TestImages> {
  const bases = await baseImages(docker);
  for (const stage of STAGES) {
    const start = performance.now();
    await buildStage(docker, stage, bases.node);
    console.log(`containers: ${tag(stage)} in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
  return { server: tag('server'), qemu: tag('qemu'), nodeBase: bases.node, debianBase: bases.debian };
}

async function buildStage(docker: Docker, stage: (typeof STAGES)[number], nodeBase: string): Promise<void> {
  const proxies = PROXY_VARIABLES.filter(name => process.env[name] !== undefined);
  await docker.build({
    target: stage,
    tag: tag(stage),
    file: 'images/Dockerfile',
    arguments: [`NODE_BASE=${nodeBase}`, ...proxies],
  });
}
