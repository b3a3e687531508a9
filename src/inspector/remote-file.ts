/** How a client on the same machine finds a server: its address and token, in a file that only its owner can read. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checked, optional, record, text } from '../machine/argument-checks.ts';

export const REMOTE_FILE = 'remote.json';
const OWNER_ONLY = 0o600;
const MAX_CHARACTERS = 1024;

export interface RemoteAddress {
  /** `ws://HOST:PORT`. */
  readonly url: string;
  readonly token?: string | undefined;
}

const remoteAddress = record<RemoteAddress>({ url: text(MAX_CHARACTERS), token: optional(text(MAX_CHARACTERS)) });

export function writeRemoteFile(directory: string, address: RemoteAddress): void {
  removeRemoteFile(directory);
  // Made anew, because an existing file would keep its mode.
  writeFileSync(join(directory, REMOTE_FILE), `${JSON.stringify(address)}\n`, { mode: OWNER_ONLY, flag: 'wx' });
}

/** undefined: nothing is served there, or nothing that a client could use. */
export function readRemoteFile(directory: string): RemoteAddress | undefined {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(join(directory, REMOTE_FILE), 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const address = checked(remoteAddress, value, REMOTE_FILE);
  return address instanceof Error ? undefined : address;
}

export function removeRemoteFile(directory: string): void {
  rmSync(join(directory, REMOTE_FILE), { force: true });
}
