/** Shows the machines of another server at this one, as they come and go. */
import type { MachineShelf } from './leases.ts';
import { RemoteError } from './protocol.ts';
import { ConnectionError, type RemoteMachine } from './remote-client.ts';
import { RemotePort } from './remote-port.ts';

export class MachineMirror {
  private readonly ports = new Map<string, RemotePort>();
  private wanted: ReadonlySet<string> = new Set();
  private working: Promise<void> = Promise.resolve();

  /** Resolves when the machines that there are now are on the shelf. Rejects with a `RemoteError` or a `ConnectionError`. */
  static async start(
    server: RemoteMachine,
    shelf: MachineShelf,
    onError: (error: unknown) => void,
  ): Promise<MachineMirror> {
    const mirror = new MachineMirror(server, shelf, onError);
    mirror.want(await server.watchMachines(names => mirror.want(names)));
    await mirror.working;
    return mirror;
  }

  private constructor(
    private readonly server: RemoteMachine,
    private readonly shelf: MachineShelf,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** One change after the other: a machine may go before it was shown. */
  private want(names: readonly string[]): void {
    this.wanted = new Set(names);
    this.working = this.working.then(() => this.change()).catch(this.onError);
  }

  private async change(): Promise<void> {
    for (const name of this.ports.keys()) {
      if (this.wanted.has(name)) continue;
      this.ports.delete(name);
      this.shelf.remove(name, 'its server has it no more');
    }
    for (const name of this.wanted) if (!this.ports.has(name)) await this.show(name);
  }

  private async show(name: string): Promise<void> {
    let port: RemotePort;
    try {
      port = await RemotePort.open(this.server.at(name));
    } catch (error) {
      // It has gone meanwhile, which is told too, or everything has.
      if (error instanceof RemoteError || error instanceof ConnectionError) return;
      throw error;
    }
    this.ports.set(name, port);
    this.shelf.add(name, port);
  }
}
