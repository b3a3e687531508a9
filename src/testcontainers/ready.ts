/** Waits until a guest answers: for as long as its container runs, and no longer. */
import { setTimeout } from 'node:timers/promises';
import { getContainerRuntimeClient, type StartedTestContainer, type WaitStrategy } from 'testcontainers';

type Container = Parameters<WaitStrategy['waitUntilReady']>[0];

/** Where `viommu boot` in the container leaves what `viommu guest` needs. */
export const GUEST_DIRECTORY = '/run/guest';
const RETRY_MS = 100;
/** Of the container's output in an error's message. */
const KEPT_LINES = 40;

export class GuestReady implements WaitStrategy {
  private isSet = false;

  constructor(private timeoutMs: number) {}

  async waitUntilReady(container: Container): Promise<void> {
    const deadline = performance.now() + this.timeoutMs;
    let end: string | undefined;
    const exited = container.wait().then(
      ({ StatusCode }: { readonly StatusCode: number }) => {
        end = `with status ${StatusCode}`;
      },
      (error: Error) => {
        end = `unseen (${error.message})`;
      },
    );
    for (;;) {
      const seconds = Math.max(1, Math.ceil((deadline - performance.now()) / 1000));
      const isReady = await Promise.race([ask(container, seconds), exited]);
      if (isReady === true) return;
      // What was asked in vain may have been so because of this.
      if (end === undefined) await Promise.race([setTimeout(RETRY_MS), exited]);
      if (end !== undefined) throw new Error(`the guest's container ended ${end}:\n${await lastLines(container)}`);
      if (performance.now() >= deadline) {
        throw new Error(`the guest was not ready within ${this.timeoutMs} ms:\n${await lastLines(container)}`);
      }
    }
  }

  withStartupTimeout(startupTimeoutMs: number): this {
    this.timeoutMs = startupTimeoutMs;
    this.isSet = true;
    return this;
  }

  isStartupTimeoutSet(): boolean {
    return this.isSet;
  }

  getStartupTimeout(): number {
    return this.timeoutMs;
  }
}

/** Whether the guest is ready now; waits for it in the container, as long as that can. */
async function ask(container: Container, seconds: number): Promise<boolean> {
  try {
    const command = ['viommu', 'guest', 'wait', '--dir', GUEST_DIRECTORY, '--timeout', String(seconds)];
    const exec = await container.exec({ Cmd: command, AttachStdout: true, AttachStderr: true });
    const stream = await exec.start({});
    for await (const _chunk of stream) {
      // Its end is what counts.
    }
    return (await exec.inspect()).ExitCode === 0;
  } catch (error) {
    // The engine refuses where the container does not run, which `exited` tells with its output.
    if ((error as { readonly statusCode?: number }).statusCode === 409) return false;
    throw error;
  }
}

async function lastLines(container: Container): Promise<string> {
  const options = { stdout: true, stderr: true, tail: KEPT_LINES, follow: false } as const;
  return plainLog((await container.logs(options)) as Buffer);
}

/** All that a container said until now. Its own `logs()` goes on for as long as it runs. */
export async function allLogs(started: StartedTestContainer): Promise<string> {
  const container = (await getContainerRuntimeClient()).container.getById(started.getId());
  const options = { stdout: true, stderr: true, follow: false } as const;
  return plainLog((await container.logs(options)) as Buffer);
}

const FRAME_HEADER_BYTES = 8;
const FRAME_LENGTH_AT = 4;

/** Docker's stream of standard output and error in frames (Engine API, "Stream format"), as text. */
export function plainLog(frames: Buffer): string {
  const parts: string[] = [];
  for (let at = 0; at + FRAME_HEADER_BYTES <= frames.length; ) {
    const end = at + FRAME_HEADER_BYTES + frames.readUInt32BE(at + FRAME_LENGTH_AT);
    parts.push(frames.toString('utf8', at + FRAME_HEADER_BYTES, end));
    at = end;
  }
  return parts.join('');
}
