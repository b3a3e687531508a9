/** What a guest that runs headless leaves in its directory, for `viommu guest` and for health checks. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { CommandFailure, UsageError } from '../errors.ts';

export const AGENT_SOCKET = 'agent.sock';
export const GUEST_FILE = 'guest.json';

/** unix(7): 108 bytes with the NUL. */
const MAX_SOCKET_PATH_BYTES = 107;
const OWNER_ONLY = 0o700;

export interface GuestState {
  /** Of the process that runs the guest. */
  readonly pid: number;
  /** The guest's agent has answered. */
  readonly ready: boolean;
  /** By which name a server knows its machine; missing where the machine is served by the same process. */
  readonly machine?: string | undefined;
}

export function agentSocket(directory: string): string {
  const path = join(resolve(directory), AGENT_SOCKET);
  if (Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES) return path;
  throw new UsageError(
    `a socket's path has at most ${MAX_SOCKET_PATH_BYTES} bytes, ${path} has more: use a shorter directory`,
  );
}

export function makeGuestDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: OWNER_ONLY });
  } catch (error) {
    throw new CommandFailure(`cannot make the directory ${directory}: ${(error as Error).message}`);
  }
}

/** In one step: somebody may be reading it. */
export function writeGuestState(directory: string, state: GuestState): void {
  const path = join(directory, GUEST_FILE);
  writeFileSync(`${path}.new`, `${JSON.stringify(state)}\n`);
  renameSync(`${path}.new`, path);
}

/** undefined: no guest runs there, or what is there is not understood. */
export function readGuestState(directory: string): GuestState | undefined {
  try {
    const { pid, ready } = JSON.parse(readFileSync(join(directory, GUEST_FILE), 'utf8')) as Partial<GuestState>;
    return typeof pid === 'number' && typeof ready === 'boolean' ? { pid, ready } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

export function removeGuestState(directory: string): void {
  rmSync(join(directory, GUEST_FILE), { force: true });
}
