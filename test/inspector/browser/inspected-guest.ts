/** A guest whose machine has the inspector's page, and is recorded from the first moment on. */
import { join } from 'node:path';
// The device thread is a worker, which runs compiled code.
import { GuestRun } from '../../../dist/src/cli/guest-run.js';
import { createRecording } from '../../../dist/src/cli/recording-file.js';
import { type ServedRemote, serveAt } from '../../../dist/src/cli/serve-remote.js';
import { HostPort } from '../../../dist/src/inspector/host-port.js';
import type { MachineHost } from '../../../dist/src/machine/host.js';
import { GuestAgent } from '../../../images/guest/agent.ts';
import { provisionQemu } from '../../../qemu/provision.ts';
import { guestConfiguration } from '../../../src/cli/guest-options.ts';
import { stockGuest } from '../../../src/cli/stock-guest.ts';
import { describeMachine } from '../../../src/machine/description.ts';
import { EVENT_KINDS, EventClass } from '../../../src/trace/event-kinds.ts';
import { RecordCursor } from '../../../src/trace/record-cursor.ts';
import { type JsonRecord, toJson } from '../../../src/trace/record-format.ts';
import { READY_TIMEOUT_MS, temporaryDirectory } from '../../guest/support.ts';

export const ALL_CLASSES = EVENT_KINDS.reduce((mask, kind) => mask | EventClass[kind.class], 0);
/** QEMU gives up a register access after five seconds unless it is told otherwise; a machine that is paused keeps it waiting. */
const PATIENCE = ['-global', 'vfio-user-pci.x-msg-timeout=600000'];
const FILE_CLASSES = ALL_CLASSES & ~(EventClass.register | EventClass.translation);
const SOAK_SECONDS = 8;
const PROGRAM_TIMEOUT_MS = 120_000;
const quiet = () => {};

export class InspectedGuest {
  /** What each run of the load said. */
  readonly soaks: { readonly pass: boolean; readonly transfers: number }[] = [];
  private loading: Promise<void> | undefined;
  private wanted = false;

  private constructor(
    private readonly run: GuestRun,
    private readonly agent: GuestAgent,
    private readonly served: ServedRemote,
    private readonly closeRecording: () => Promise<void>,
    readonly recording: string,
    private readonly removeFiles: () => void,
  ) {}

  static async start(): Promise<InspectedGuest> {
    const directory = temporaryDirectory();
    const recording = join(directory.path, 'guest.viommu');
    const description = describeMachine('vtd', ['edu@01:00.0', 'edu@02:00.0']);
    const installation = await provisionQemu({ progress: quiet });
    const boot = await stockGuest('console=ttyS0 quiet');
    const flags = { memory: 'shared', firmware: 'bios', accel: 'auto', ram: 512, cpus: 2 } as const;
    let served: ServedRemote | undefined;
    let closeRecording = async () => {};
    let console = '';
    const run = await GuestRun.start({
      description,
      installation,
      configuration: await guestConfiguration(flags, installation, description, boot, PATIENCE),
      progress: quiet,
      agent: true,
      console: chunk => {
        console += chunk.toString();
      },
      onEvent: quiet,
      prepare: async host => {
        served = await serveAt('0', new HostPort(host), { page: true });
        const writer = await createRecording(recording, description, FILE_CLASSES);
        const tap = host.record(FILE_CLASSES, words => writer.append(words));
        closeRecording = async () => {
          tap.stop();
          await writer.close();
        };
      },
    });
    try {
      const agent = await GuestAgent.connect(run.qemu.agentSocket ?? '');
      await agent.ready(READY_TIMEOUT_MS);
      return new InspectedGuest(run, agent, served!, closeRecording, recording, directory.remove);
    } catch (error) {
      await run.close();
      throw new Error(`${(error as Error).message}\n${console}`);
    }
  }

  get host(): MachineHost {
    return this.run.host;
  }

  get url(): string {
    return this.served.pageUrl!;
  }

  /** JSON lines of a program; rejects where it does not end well. */
  async program(command: string): Promise<Record<string, unknown>[]> {
    const { status, output } = await this.agent.run(command, { timeoutMs: PROGRAM_TIMEOUT_MS });
    if (status !== 0) throw new Error(`${command} ended with ${status}:\n${output.join('\n')}`);
    return output.filter(line => line.startsWith('{')).map(line => JSON.parse(line));
  }

  /** Random correct use of both devices from now on, every byte checked. */
  startLoad(): void {
    this.wanted = true;
    const load = async () => {
      for (let seed = 1; this.wanted; seed++) {
        const [facts] = await this.program(`dma-soak --json --mode vfio --seconds ${SOAK_SECONDS} --seed ${seed}`);
        this.soaks.push(facts as { pass: boolean; transfers: number });
      }
    };
    this.loading ??= load();
    // Whoever stops it hears of it.
    this.loading.catch(quiet);
  }

  /** Rejects where a byte was wrong. */
  async stopLoad(): Promise<void> {
    this.wanted = false;
    await this.loading;
  }

  /** Ends guest and machine; the recording is complete then. */
  async end(): Promise<void> {
    this.agent.close();
    await this.run.close();
    await this.served.close();
    await this.closeRecording();
  }

  remove(): void {
    this.removeFiles();
  }
}

/** Records of a machine as JSON has them, as they come: beside what the page says of them. */
export class Witness {
  readonly records: JsonRecord[] = [];
  private readonly cursor = new RecordCursor();
  private readonly tap: { stop(): void };

  constructor(host: MachineHost, classes: number) {
    this.tap = host.record(classes, words => {
      this.cursor.load(words);
      while (this.cursor.next()) this.records.push(toJson(this.cursor));
    });
  }

  stop(): void {
    this.tap.stop();
  }
}
