/** The global set-up of the project `containers`: the machine's engine, or one of our own for as long as the tests run. */
import { withLock } from '../../qemu/cache.ts';
import { CommandMissing } from '../../qemu/run.ts';
import { Docker } from './docker.ts';
import { ENGINE_VARIABLE, type Engine, TEST_LABEL } from './engine.ts';
import { startPrivateEngine, whyNoPrivateEngine } from './private-engine.ts';

const DEFAULT_HOST = 'unix:///var/run/docker.sock';
const say = (message: string) => console.error(`containers: ${message}`);

let tearDown: (() => Promise<void>) | undefined;

export async function setup(): Promise<void> {
  const engine = await find();
  if ('skipped' in engine) say(`skipped, ${engine.skipped}`);
  // Workers inherit it.
  process.env[ENGINE_VARIABLE] = JSON.stringify(engine);
}

export async function teardown(): Promise<void> {
  await tearDown?.();
  delete process.env[ENGINE_VARIABLE];
}

async function find(): Promise<Engine> {
  const named = process.env.DOCKER_HOST;
  const host = named ?? DEFAULT_HOST;
  const docker = new Docker(host);
  try {
    if ((await docker.try('version')).status === 0) {
      tearDown = () => removeOurs(docker);
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

/** On an engine that is not ours: only what has our label and is of no use as cache. */
async function removeOurs(docker: Docker): Promise<void> {
  const filter = `label=${TEST_LABEL}`;
  const ids = (await docker.run('ps', '--all', '--quiet', '--filter', filter)).split('\n').filter(id => id !== '');
  if (ids.length > 0) await docker.run('rm', '--force', '--volumes', ...ids);
  await docker.run('image', 'prune', '--force', '--filter', filter);
}
