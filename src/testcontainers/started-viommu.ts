/** A server that runs in a container. */
import { AbstractStartedContainer, type StartedTestContainer } from 'testcontainers';
import { RemoteMachine } from '../inspector/remote-client.ts';
import type { MachineEvent } from '../machine/operations-command.ts';
import { attachMachine, type TestMachine, type WaitOptions, type WatchOptions } from '../testing/machine.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { Volume } from './volume.ts';

export const SERVER_PORT = 7180;
/** Where the server's image has its sockets, and guests look for them. */
export const SERVER_DIRECTORY = '/run/viommu';

/** A guest, as its server knows it. */
interface Stoppable {
  stop(): Promise<unknown>;
}

export class StartedViommuContainer extends AbstractStartedContainer {
  private readonly attached = new Set<TestMachine>();
  private readonly guests = new Set<Stoppable>();

  constructor(
    container: StartedTestContainer,
    private readonly volume: Volume,
    /** For `viommu ... --token`, and for clients of the remote API. */
    readonly token: string,
  ) {
    super(container);
  }

  /** The remote API's address from here. */
  get url(): string {
    return `ws://${this.getHost()}:${this.getMappedPort(SERVER_PORT)}`;
  }

  /** The name of the volume with the server's sockets, for containers that are to see them at SERVER_DIRECTORY. */
  get volumeName(): string {
    return this.volume.name;
  }

  /** Names of the machines that there are now. */
  async machines(): Promise<string[]> {
    const remote = await RemoteMachine.connect(this.url, { token: this.token });
    try {
      return await remote.machines();
    } finally {
      await remote.close();
    }
  }

  /** `machine`: its name; may be left out where there is one. Stopping what this gives leaves the machine as it is. */
  async attach(machine?: string, options: WatchOptions = {}): Promise<TestMachine> {
    const attached = await attachMachine({ ...options, url: this.url, token: this.token, machine });
    this.attached.add(attached);
    return attached;
  }

  /** What the sanitizer found in this machine; in all that there are now where none is named. */
  async findings(machine?: string): Promise<readonly Finding[]> {
    const found: Finding[] = [];
    for (const name of machine === undefined ? await this.machines() : [machine]) {
      const remote = await RemoteMachine.connect(this.url, { token: this.token, machine: name });
      try {
        found.push(...(await remote.findings()).findings);
      } finally {
        await remote.close();
      }
    }
    return found;
  }

  /** Waits for an event from now on; see `TestMachine.waitForEvent`. */
  async waitForEvent(
    wanted: string | ((event: MachineEvent) => boolean),
    { machine, ...wait }: WaitOptions & { readonly machine?: string } = {},
  ): Promise<MachineEvent> {
    const watched = await attachMachine({ url: this.url, token: this.token, machine });
    try {
      return await watched.waitForEvent(wanted, wait);
    } finally {
      await watched.stop();
    }
  }

  /** For guests: where the server is stopped first, it stops them, because they hold its volume. Gives what takes that back. */
  holdGuest(guest: Stoppable): () => void {
    this.guests.add(guest);
    return () => this.guests.delete(guest);
  }

  protected override async containerStopping(): Promise<void> {
    for (const guest of [...this.guests]) await guest.stop();
    for (const machine of this.attached) await machine.stop();
    this.attached.clear();
  }

  protected override async containerStopped(): Promise<void> {
    await this.volume.remove();
  }
}
