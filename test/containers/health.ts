import type { Docker } from './docker.ts';

const POLL_MS = 50;

/** Resolves with the milliseconds between the container's start and the end of the check that found it healthy. */
export async function untilHealthy(docker: Docker, container: string): Promise<number> {
  for (;;) {
    const state = JSON.parse(await docker.inspect(container, '{{json .State}}')) as State;
    if (!state.Running) throw new Error(`${container} has ended:\n${await logs(docker, container)}`);
    const check = state.Health?.Log?.findLast(one => one.ExitCode === 0);
    if (state.Health?.Status === 'healthy' && check) return Date.parse(check.End) - Date.parse(state.StartedAt);
    if (state.Health?.Status === 'unhealthy') {
      const said = state.Health.Log?.map(one => one.Output).join('\n');
      throw new Error(`${container} is unhealthy:\n${said}\n${await logs(docker, container)}`);
    }
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

/** Resolves when the container's log matches; throws where it ends first. */
export async function untilSays(docker: Docker, container: string, pattern: RegExp): Promise<void> {
  for (;;) {
    const running = (await docker.inspect(container, '{{.State.Running}}')) === 'true';
    const said = await logs(docker, container);
    if (pattern.test(said)) return;
    if (!running) throw new Error(`${container} has ended:\n${said}`);
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

interface State {
  readonly Running: boolean;
  readonly StartedAt: string;
  readonly Health?: {
    readonly Status: string;
    readonly Log?: readonly { readonly End: string; readonly ExitCode: number; readonly Output: string }[];
  };
}

async function logs(docker: Docker, container: string): Promise<string> {
  const { stdout, stderr } = await docker.try('logs', container);
  return stdout + stderr;
}
