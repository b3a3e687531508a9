/** How a client on the same machine finds a server: its address and token, in a file that only its owner can read. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { checked, list, optional, record, text } from '../machine/argument-checks.ts';
import { unixPathOf, unixUrl } from './access.ts';

export const REMOTE_FILE = 'remote.json';
const OWNER_ONLY = 0o600;
const MAX_CHARACTERS = 1024;

export interface RemoteAddress {
  /** `ws://HOST:PORT`, `wss://HOST:PORT` or `ws+unix:PATH:/`. */
  readonly url: string;
  readonly token?: string | undefined;
}

export interface RemoteFile extends RemoteAddress {
  /** Other addresses of the same server. */
  readonly others?: readonly RemoteAddress[] | undefined;
}

const MAX_ADDRESSES = 16;
const members = { url: text(MAX_CHARACTERS), token: optional(text(MAX_CHARACTERS)) };
const remoteAddress = record<RemoteAddress>(members);
const remoteFile = record<RemoteFile>({ ...members, others: optional(list(remoteAddress, MAX_ADDRESSES)) });

/** The first of several addresses is the one to take. */
export function writeRemoteFile(
  directory: string,
  { url, token }: RemoteAddress,
  others: readonly RemoteAddress[] = [],
): void {
  removeRemoteFile(directory);
  const content: RemoteFile = { url, token, ...(others.length > 0 ? { others } : {}) };
  // Made anew, because an existing file would keep its mode.
  writeFileSync(join(directory, REMOTE_FILE), `${JSON.stringify(content)}\n`, { mode: OWNER_ONLY, flag: 'wx' });
}

/** undefined: nothing is served there, or nothing that a client could use. */
export function readRemoteFile(directory: string): RemoteFile | undefined {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(join(directory, REMOTE_FILE), 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const file = checked(remoteFile, value, REMOTE_FILE);
  return file instanceof Error ? undefined : { ...file, url: asSeenFrom(directory, file.url) };
}

/** The server may know its directory by another name: it is shared between containers. */
function asSeenFrom(directory: string, url: string): string {
  const path = unixPathOf(url);
  if (path === undefined) return url;
  const here = resolve(directory, basename(path));
  return existsSync(here) ? unixUrl(here) : url;
}

export function removeRemoteFile(directory: string): void {
  rmSync(join(directory, REMOTE_FILE), { force: true });
}
