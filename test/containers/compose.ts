/** `docker compose` with the checkout's own file: the machine's, or Debian's unpacked into the cache. */
import { spawn } from 'node:child_process';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageTree } from '../../qemu/packages.ts';
import { run } from '../../qemu/run.ts';
import { repository } from '../support.ts';
import type { Docker } from './docker.ts';
import type { TestImages } from './engine.ts';

const PLUGIN = 'usr/libexec/docker/cli-plugins/docker-compose';
const progress = (message: string) => console.error(`containers: ${message}`);

/** What a command line of compose starts with. */
async function composeCommand(): Promise<readonly string[]> {
  if ((await run(['docker', 'compose', 'version'])).status === 0) return ['docker', 'compose'];
  const tree = await packageTree(
    'tool-docker-compose',
    // It is one static program; what the package depends on is an engine.
    async () => [{ suite: 'trixie', packages: ['docker-compose'], dependencies: false }],
    { progress },
  );
  return [join(tree, PLUGIN)];
}

export interface Ended {
  readonly status: number | null;
  /** Everything that compose has printed, of all containers. */
  readonly output: string;
}

/** What a test wants otherwise than the checkout's file has it, by service. */
export type ServiceChanges = Readonly<Record<string, { readonly command?: readonly string[] }>>;

/** One project: its containers, network and volume have its name. */
export class Compose {
  private readonly environment: NodeJS.ProcessEnv;

  private constructor(
    readonly project: string,
    private readonly command: readonly string[],
    readonly docker: Docker,
    private readonly changes: string,
    environment: Readonly<Record<string, string>>,
  ) {
    this.environment = { ...process.env, DOCKER_HOST: docker.host, COMPOSE_ANSI: 'never', ...environment };
  }

  static async open(
    project: string,
    docker: Docker,
    images: TestImages,
    changes: ServiceChanges = {},
    environment: Readonly<Record<string, string>> = {},
  ): Promise<Compose> {
    const file = join(tmpdir(), `${project}.json`);
    await writeFile(file, JSON.stringify({ services: changes }));
    return new Compose(project, await composeCommand(), docker, file, {
      VIOMMU_SERVER_IMAGE: images.server,
      VIOMMU_QEMU_IMAGE: images.qemu,
      VIOMMU_NODE_BASE: images.nodeBase,
      ...environment,
    });
  }

  /** Runs `compose ARGUMENTS` to its end. */
  async run(...argv: readonly string[]): Promise<Ended> {
    return await this.start(...argv).ended;
  }

  start(...argv: readonly string[]): Running {
    const files = [join(repository, 'docker-compose.yml'), this.changes];
    const project = ['--project-name', this.project, ...files.flatMap(file => ['--file', file])];
    const [command = '', ...first] = this.command;
    const child = spawn(command, [...first, ...project, ...argv], {
      cwd: repository,
      env: this.environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return watch(child);
  }

  /** The containers of a service, by id. */
  async containers(service: string): Promise<string[]> {
    const filters = [`com.docker.compose.project=${this.project}`, `com.docker.compose.service=${service}`];
    const ids = await this.docker.run(
      'ps',
      '--all',
      '--quiet',
      ...filters.flatMap(one => ['--filter', `label=${one}`]),
    );
    return ids.split('\n').filter(id => id !== '');
  }

  /** Ends and removes all of it. */
  async down(): Promise<void> {
    const { status, output } = await this.run(
      '--profile',
      '*',
      'down',
      '--volumes',
      '--remove-orphans',
      '--timeout',
      '10',
    );
    await rm(this.changes, { force: true });
    if (status !== 0) throw new Error(`compose down ends with ${status}:\n${output}`);
  }
}

export interface Running {
  readonly ended: Promise<Ended>;
  /** Resolves when the output matches; rejects when it ends first. */
  says(pattern: RegExp): Promise<void>;
}

function watch(child: ReturnType<typeof spawn>): Running {
  let output = '';
  const listeners = new Set<() => void>();
  const take = (text: string) => {
    output += text;
    for (const listener of listeners) listener();
  };
  child.stdout?.setEncoding('utf8').on('data', take);
  child.stderr?.setEncoding('utf8').on('data', take);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', status => resolve({ status, output }));
  });
  return {
    ended,
    says: pattern =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (!pattern.test(output)) return;
          listeners.delete(look);
          resolve();
        };
        listeners.add(look);
        look();
        ended.then(({ status }) => reject(new Error(`it ended with ${status} before ${pattern}:\n${output}`)), reject);
      }),
  };
}
