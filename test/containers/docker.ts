/** The docker command, against one engine. */
import { type RunResult, run } from '../../qemu/run.ts';
import { repository } from '../support.ts';

export interface BuildRequest {
  readonly file: string;
  readonly tag: string;
  readonly target?: string;
  /** `NAME=value`, or `NAME` with its value from the environment. */
  readonly arguments?: readonly string[];
  /** Default: the checkout. */
  readonly context?: string;
}

export class Docker {
  /** As `DOCKER_HOST` takes it. */
  readonly host: string;

  constructor(host: string) {
    this.host = host;
  }

  /** Runs `docker ARGUMENTS`; a bad status is a result. */
  async try(...argv: readonly string[]): Promise<RunResult> {
    return await run(['docker', '--host', this.host, ...argv]);
  }

  /** Runs `docker ARGUMENTS` and returns what it prints, without the last line's end; throws where it fails. */
  async run(...argv: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.try(...argv);
    if (status !== 0) throw new Error(`docker ${argv.join(' ')} ends with ${status}:\n${stdout}${stderr}`);
    return stdout.trimEnd();
  }

  async build({ file, tag, target, context, arguments: values = [] }: BuildRequest): Promise<void> {
    await this.run(
      'build',
      // Packages come through whatever network and name service the machine has.
      ...['--network', 'host'],
      ...['--label', 'viommu.test=1', '--tag', tag, '--file', `${repository}/${file}`],
      ...(target === undefined ? [] : ['--target', target]),
      ...values.flatMap(value => ['--build-arg', value]),
      context ?? repository,
    );
  }

  /** Of a Go template over what `docker inspect` knows. */
  async inspect(name: string, template: string): Promise<string> {
    return await this.run('inspect', '--format', template, name);
  }
}
