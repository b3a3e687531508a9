/** `--listen` and `--inspect`: the remote API and the inspector's page, at one address. */
import { AccessError, isLoopback, newToken, parseListen } from '../inspector/access.ts';
import type { MachinePort } from '../inspector/machine-port.ts';
import { loadPage, PageError } from '../inspector/page-files.ts';
import { pageHandler } from '../inspector/page-server.ts';
import { removeRemoteFile, writeRemoteFile } from '../inspector/remote-file.ts';
import { RemoteServer } from '../inspector/remote-server.ts';
import { CommandFailure, UsageError } from './errors.ts';

/** The machine's name where a server has but one. */
export const MACHINE_NAME = 'machine';

const ANY_PORT = '0';

export interface RemoteFlags {
  readonly listen?: string;
  /** true: at the address of `listen`, or at any free port of 127.0.0.1. */
  readonly inspect?: string | true;
}

export interface ServedRemote {
  /** `ws://HOST:PORT`. */
  readonly url: string;
  /** For a browser, with the token, if there is one; undefined: the page is not served. */
  readonly pageUrl: string | undefined;
  close(): Promise<void>;
}

export interface ServeOptions {
  /** Address and token are left there. */
  readonly directory?: string;
  /** Makes a token for a loopback address, too. */
  readonly always?: boolean;
  readonly page?: boolean;
  /** Default: `MACHINE_NAME`. */
  readonly name?: string;
}

/**
 * Listens at `[HOST:]PORT` and leaves address and token in the directory. Where other machines could connect, a token is made;
 * `always` makes one for a loopback address, too.
 */
export async function serveRemote(
  listen: string,
  directory: string,
  machine: MachinePort,
  always = false,
): Promise<ServedRemote> {
  return await serveAt(listen, machine, { directory, always });
}

/** The same with more to choose. Rejects with a `UsageError` or a `CommandFailure`. */
export async function serveAt(
  listen: string,
  machine: MachinePort,
  { directory, always = false, page = false, name = MACHINE_NAME }: ServeOptions = {},
): Promise<ServedRemote> {
  const { host, port } = parse(listen);
  const token = always || !isLoopback(host) ? newToken() : undefined;
  const onRequest = page ? pageHandler(loadPageFiles(), { token, origins: [] }) : undefined;
  let server: RemoteServer;
  try {
    server = await RemoteServer.start({
      machines: new Map([[name, machine]]),
      host,
      port,
      token,
      ...(onRequest === undefined ? {} : { onRequest }),
    });
  } catch (error) {
    if (error instanceof AccessError) throw new UsageError(error.message);
    throw new CommandFailure(`cannot listen at ${listen}: ${(error as Error).message}`);
  }
  if (directory !== undefined) writeRemoteFile(directory, { url: server.url, token });
  return {
    url: server.url,
    pageUrl: page ? pageUrl(server.url, token) : undefined,
    async close() {
      if (directory !== undefined) removeRemoteFile(directory);
      await server.close();
    },
  };
}

/** What the flags ask for; undefined: nothing. */
export async function serveFlags(
  flags: RemoteFlags,
  machine: MachinePort,
  directory?: string,
): Promise<ServedRemote | undefined> {
  const place = placeFrom(flags);
  if (place === undefined) return undefined;
  return await serveAt(place, machine, {
    ...(directory === undefined ? {} : { directory }),
    page: flags.inspect !== undefined,
  });
}

/** One server for both: where both have an address, they must be the same. */
export function placeFrom({ listen, inspect }: RemoteFlags): string | undefined {
  if (inspect === undefined) return listen;
  if (inspect === true) return listen ?? ANY_PORT;
  if (listen !== undefined && listen !== inspect) {
    throw new UsageError(`one server does both: leave out '${inspect}' or '${listen}'`);
  }
  return inspect;
}

/** A fragment is never sent to a server, so that the token stays between the browser and its page. */
function pageUrl(url: string, token: string | undefined): string {
  const place = `${url.replace(/^ws/, 'http')}/`;
  return token === undefined ? place : `${place}#token=${token}`;
}

function loadPageFiles(): ReturnType<typeof loadPage> {
  try {
    return loadPage();
  } catch (error) {
    throw error instanceof PageError ? new CommandFailure(error.message) : error;
  }
}

function parse(listen: string): ReturnType<typeof parseListen> {
  try {
    return parseListen(listen);
  } catch (error) {
    throw error instanceof AccessError ? new UsageError(error.message) : error;
  }
}
