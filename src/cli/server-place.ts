/** How a command reaches a server that leases machines, and what it says of one that it cannot reach. */
import { ErrorCode, RemoteError } from '../inspector/protocol.ts';
import { ConnectionError } from '../inspector/remote-client.ts';
import { CommandFailure } from './errors.ts';

interface Access {
  readonly url: string;
  readonly token: string | undefined;
  /** PEM. */
  readonly ca: Buffer | undefined;
}

/** The server's sockets are in a directory that both see. */
export interface SharedDirectory extends Access {
  readonly kind: 'directory';
  /** Absolute. */
  readonly directory: string;
}

/** Nothing is shared but a network. */
export interface ServerUrl extends Access {
  readonly kind: 'url';
  /** A connection that broke may come back within this time. */
  readonly graceMilliseconds: number;
}

export type ServerPlace = SharedDirectory | ServerUrl;

/** As people know it: what they gave as `--server`. */
export function placeName(place: ServerPlace): string {
  return place.kind === 'directory' ? place.directory : place.url;
}

/** Why there is no machine, and what to do about it. */
export function refusedLease(place: ServerPlace, error: unknown): unknown {
  const name = placeName(place);
  if (error instanceof RemoteError) {
    const advice =
      error.code === ErrorCode.unknownOperation
        ? ". Is it started with 'viommu serve --on-demand', and as new as this program?"
        : '';
    return new CommandFailure(`the server ${name} leases no machine: ${error.message}${advice}`);
  }
  if (!(error instanceof ConnectionError)) return error;
  return new CommandFailure(`no machine from the server ${name}: ${error.message}. ${advice(place, error.message)}`);
}

function advice(place: ServerPlace, message: string): string {
  if (/refused: 401/.test(message)) {
    return 'Give the token that it was started with, or that it left in its remote.json: --token, --token-file or VIOMMU_TOKEN';
  }
  if (/EACCES|EPERM/.test(message)) return 'Run this command as the user that runs the server';
  if (place.kind === 'directory')
    return `Is it still running? Start it again: viommu serve --dir ${place.directory} --on-demand`;
  if (/certificate|self.signed/i.test(message)) return 'Give the certificate to trust: --ca FILE';
  return `Does 'viommu serve --on-demand --listen' run there, and can it be reached from here?`;
}

/** What RFC 6455 (7.1.5) has for a connection that ended without a word. */
const WITHOUT_A_WORD = /code 1006$/;

/** The machine is gone in the middle of a run. */
export function lostMachine(place: ServerPlace, reason: string): CommandFailure {
  const again =
    place.kind === 'directory'
      ? `viommu serve --dir ${place.directory} --on-demand`
      : 'viommu serve --on-demand --listen ...';
  const told = reason.replace(WITHOUT_A_WORD, 'without a word, as when it is killed');
  return new CommandFailure(
    `the machine is gone, and with it the guest's devices: the server ${placeName(place)}: ${told}. Look at what the server ` +
      `said; where it has ended, start it again (${again}), then this command`,
  );
}
