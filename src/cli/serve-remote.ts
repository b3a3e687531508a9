/** `--listen` and `--inspect`: the remote API and the inspector's page, at the same places. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { AccessError, checkToken, isLoopback, isPath, newToken, parsePlace } from '../inspector/access.ts';
import type { Leases, MachineShelf } from '../inspector/leases.ts';
import type { TlsIdentity } from '../inspector/listener.ts';
import type { MachinePort } from '../inspector/machine-port.ts';
import { loadPage, PageError } from '../inspector/page-files.ts';
import { pageHandler } from '../inspector/page-server.ts';
import { removeRemoteFile, writeRemoteFile } from '../inspector/remote-file.ts';
import { RemoteServer } from '../inspector/remote-server.ts';
import type { Machines } from '../inspector/requests.ts';
import type { TraceValue } from '../trace/trace.ts';
import { VfioUserAcceptor } from '../vfio-user/websocket/acceptor.ts';
import { CommandFailure, UsageError } from './errors.ts';

/** The machine's name where a server has but one. */
export const MACHINE_NAME = 'machine';

const ANY_PORT = '0';

export interface RemoteFlags {
  readonly listen?: string | readonly string[];
  /** true: where `listen` says, or at any free port of 127.0.0.1. */
  readonly inspect?: string | true;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}

export interface ServedRemote {
  /** `ws://HOST:PORT`, `wss://HOST:PORT` or `ws+unix:PATH:/`: the one that is best on this host. */
  readonly url: string;
  /** All of them, that one first. */
  readonly urls: readonly string[];
  /** For a browser, with the token, if there is one; undefined: the page is not served. */
  readonly pageUrl: string | undefined;
  readonly server: RemoteServer;
  close(): Promise<void>;
}

/** What happens to links of vfio-user over WebSockets. */
export type LinkListener = (kind: string, detail: Readonly<Record<string, TraceValue>>) => void;

export interface ServeOptions {
  /** Addresses and tokens are left there. */
  readonly directory?: string;
  /** Makes a token for a loopback address, too. */
  readonly always?: boolean;
  readonly page?: boolean;
  readonly tls?: TlsIdentity | undefined;
  readonly leases?: (shelf: MachineShelf) => Leases;
  readonly onLink?: LinkListener | undefined;
}

/** Of a server that other programs and other hosts use. */
export function addListenOptions(command: Command): Command {
  return command
    .option(
      '--listen <place>',
      "open the remote API at [HOST:]PORT (127.0.0.1 unless said otherwise, port 0: any free one), at 'unix' (server.sock in the " +
        'directory) or unix:PATH; may be given again',
      (place: string, before: readonly string[] = []) => [...before, place],
    )
    .option('--tls-cert <file>', 'a certificate (PEM), with those above it: addresses speak wss and https')
    .option('--tls-key <file>', 'its private key (PEM)');
}

/** Listens at one place with one machine. `always` makes a token for a loopback address, too. */
export async function serveRemote(
  listen: string,
  directory: string,
  machine: MachinePort,
  always = false,
): Promise<ServedRemote> {
  return await serveAt(listen, machine, { directory, always });
}

/** The same with more to choose, and a machine by its name. Rejects with a `UsageError` or a `CommandFailure`. */
export async function serveAt(
  listen: string | readonly string[],
  machine: MachinePort,
  { name = MACHINE_NAME, ...options }: ServeOptions & { readonly name?: string } = {},
): Promise<ServedRemote> {
  return await serveMachines(typeof listen === 'string' ? [listen] : listen, new Map([[name, machine]]), options);
}

/** The token is VIOMMU_TOKEN of the environment, or else made where a place can be reached from other machines. */
export async function serveMachines(
  listen: readonly string[],
  machines: Machines,
  { directory, always = false, page = false, tls, leases, onLink }: ServeOptions = {},
): Promise<ServedRemote> {
  // The best first: nobody else can reach it, and it needs no token.
  const places = listen.map(text => asUsage(() => parsePlace(text, directory))).sort((a, b) => +isPath(b) - +isPath(a));
  const isOpen = places.some(place => !isPath(place) && !isLoopback(place.host));
  const token = tokenOfEnvironment() ?? (always || isOpen ? newToken() : undefined);
  const files = page ? loadPageFiles() : undefined;
  let server: RemoteServer;
  try {
    server = await RemoteServer.start({
      machines,
      places,
      token,
      tls,
      acceptor: open => new VfioUserAcceptor({ open, ...(onLink === undefined ? {} : { note: onLink }) }),
      ...(leases === undefined ? {} : { leases }),
      ...(files === undefined ? {} : { onRequest: pageHandler(files) }),
    });
  } catch (error) {
    if (error instanceof AccessError) throw new UsageError(error.message);
    throw new CommandFailure(`cannot listen at ${listen.join(', ')}: ${(error as Error).message}`);
  }
  const { url, urls } = server;
  if (directory !== undefined) {
    const [first, ...others] = urls.map(one => ({ url: one, token: one.startsWith('ws+unix:') ? undefined : token }));
    writeRemoteFile(directory, first!, others);
  }
  const pagePlace = urls.find(one => !one.startsWith('ws+unix:'));
  return {
    url,
    urls,
    pageUrl: page && pagePlace !== undefined ? pageUrl(pagePlace, token) : undefined,
    server,
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
  onLink?: LinkListener,
): Promise<ServedRemote | undefined> {
  const places = placesFrom(flags);
  if (places.length === 0) {
    if (flags.tlsCert !== undefined || flags.tlsKey !== undefined) throw new UsageError('--tls-cert needs --listen');
    return undefined;
  }
  return await serveAt(places, machine, { ...serveOptions(flags, directory), onLink });
}

export function serveOptions(flags: RemoteFlags, directory: string | undefined): ServeOptions {
  return {
    ...(directory === undefined ? {} : { directory }),
    page: flags.inspect !== undefined,
    tls: tlsFrom(flags),
  };
}

/** One server for both: where both have an address, they must be the same. */
export function placesFrom({ listen = [], inspect }: RemoteFlags): readonly string[] {
  const places = typeof listen === 'string' ? [listen] : listen;
  if (inspect === undefined) return places;
  const addresses = places.filter(place => !place.startsWith('unix'));
  if (inspect === true) return addresses.length > 0 ? places : [...places, ANY_PORT];
  if (addresses.length > 0 && !addresses.includes(inspect)) {
    throw new UsageError(`one server does both: leave out '${inspect}' or '${addresses.join(', ')}'`);
  }
  return addresses.length > 0 ? places : [...places, inspect];
}

function tlsFrom({ tlsCert, tlsKey }: RemoteFlags): TlsIdentity | undefined {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) throw new UsageError('--tls-cert and --tls-key belong together');
  return { cert: readPem(tlsCert), key: readPem(tlsKey) };
}

export function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

function tokenOfEnvironment(): string | undefined {
  const token = process.env.VIOMMU_TOKEN ?? '';
  if (token === '') return undefined;
  return asUsage(() => checkToken(token), 'VIOMMU_TOKEN: ');
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

function asUsage<T>(work: () => T, prefix = ''): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof AccessError ? new UsageError(prefix + error.message) : error;
  }
}
