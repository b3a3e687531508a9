/** A guest without a terminal: its agent is offered in a directory, for `viommu guest ...` of any process that sees it. */
import { rmSync } from 'node:fs';
import { GuestAgent } from '../../../images/guest/agent.ts';
import { endWithProcess } from '../../../qemu/children.ts';
import type { RunningQemu } from '../../../qemu/launch.ts';
import type { Progress } from '../../../qemu/progress.ts';
import { GuestBroker, refuseTaken } from './broker.ts';
import { agentSocket, makeGuestDirectory, removeGuestState, writeGuestState } from './directory.ts';
import { MAX_TIMEOUT_MS } from './protocol.ts';

/** Rejects where the directory cannot be used, or another guest uses it: better said before a guest starts. */
export async function claimGuestDirectory(directory: string): Promise<void> {
  const path = agentSocket(directory);
  makeGuestDirectory(directory);
  await refuseTaken(path);
}

export class HeadlessGuest {
  /** Resolves when the guest's agent has answered; rejects where the guest ends before. */
  readonly ready: Promise<void>;

  /** The directory has been claimed. */
  static async start(
    qemu: RunningQemu,
    directory: string,
    progress: Progress,
    machine?: string,
  ): Promise<HeadlessGuest> {
    const agent = await GuestAgent.connect(qemu.agentSocket ?? '');
    try {
      const broker = await GuestBroker.start(agentSocket(directory), agent);
      return new HeadlessGuest(agent, broker, directory, progress, machine);
    } catch (error) {
      agent.close();
      throw error;
    }
  }

  private readonly release: () => void;

  private constructor(
    private readonly agent: GuestAgent,
    private readonly broker: GuestBroker,
    private readonly directory: string,
    progress: Progress,
    machine: string | undefined,
  ) {
    this.release = endWithProcess({ endNow: () => this.removeFiles(), askToEnd() {} });
    writeGuestState(directory, { pid: process.pid, ready: false, machine });
    this.ready = agent.ready(MAX_TIMEOUT_MS).then(() => {
      writeGuestState(directory, { pid: process.pid, ready: true, machine });
      progress(`The guest is ready: viommu guest exec --dir ${directory} -- COMMAND`);
    });
    // Whoever waits for the guest hears of its end.
    this.ready.catch(() => {});
  }

  /** Nothing of it remains in the directory. */
  async close(): Promise<void> {
    this.agent.close();
    await this.broker.close();
    this.removeFiles();
    this.release();
  }

  private removeFiles(): void {
    removeGuestState(this.directory);
    rmSync(agentSocket(this.directory), { force: true });
  }
}
