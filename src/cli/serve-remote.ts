/** `viommu serve --listen`: the remote API beside the sockets. */
import { AccessError, isLoopback, newToken, parseListen } from '../inspector/access.ts';
import type { MachinePort } from '../inspector/machine-port.ts';
import { removeRemoteFile, writeRemoteFile } from '../inspector/remote-file.ts';
import { RemoteServer } from '../inspector/remote-server.ts';
import { CommandFailure, UsageError } from './errors.ts';

/** The machine's name where a server has but one. */
export const MACHINE_NAME = 'machine';

export interface ServedRemote {
  /** `ws://HOST:PORT`. */
  readonly url: string;
  close(): Promise<void>;
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
  const { host, port } = parse(listen);
  const token = always || !isLoopback(host) ? newToken() : undefined;
  let server: RemoteServer;
  try {
    server = await RemoteServer.start({ machines: new Map([[MACHINE_NAME, machine]]), host, port, token });
  } catch (error) {
    if (error instanceof AccessError) throw new UsageError(error.message);
    throw new CommandFailure(`cannot listen at ${listen}: ${(error as Error).message}`);
  }
  writeRemoteFile(directory, { url: server.url, token });
  return {
    url: server.url,
    async close() {
      removeRemoteFile(directory);
      await server.close();
    },
  };
}

function parse(listen: string): ReturnType<typeof parseListen> {
  try {
    return parseListen(listen);
  } catch (error) {
    throw error instanceof AccessError ? new UsageError(error.message) : error;
  }
}
