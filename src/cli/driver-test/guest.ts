/** A guest that is up for one round of `viommu test`, with the round's files in it. */
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { GuestAgent } from '../../../images/guest/agent.ts';
import { copyIn } from '../../../images/guest/copy-in.ts';
import { LineReader } from '../../../images/guest/lines.ts';
import type { Accelerator } from '../../../qemu/command-line.ts';
import type { QemuInstallation } from '../../../qemu/provision.ts';
import type { MachineDescription } from '../../machine/description.ts';
import { ConsoleWatch } from '../console-watch.ts';
import { DebugSession, type Say } from '../debug-session.ts';
import { CommandFailure } from '../errors.ts';
import { eventToJson, formatEvent } from '../event-printer.ts';
import { type GuestFlags, guestConfiguration } from '../guest-options.ts';
import { GuestRun } from '../guest-run.ts';
import type { GuestMachine, MachineSource } from '../machine-access.ts';
import { printProgress } from '../progress.ts';
import type { SanitizeFlags } from '../sanitize-options.ts';
import type { TestKernel } from './kernel.ts';
import { type GuestFile, isInArchive, type Payload, writeArchive } from './payload.ts';

/** The kernel's start under TCG takes seconds; this is for machines ten times slower. */
const READY_TIMEOUT_MS = 180_000;
/** A kernel that panics within its panic does not come to its end. */
const LAST_WORDS_MS = 3000;
/** An oops, with the panic that it leads to. */
const KEPT_CONSOLE_LINES = 400;
const END_OF_PANIC = /---\[ end Kernel panic/;
/** Compressed, over the serial port. */
const MAX_PUSHED_BYTES = 64 * 1024;

export interface TestGuestOptions {
  readonly flags: GuestFlags & SanitizeFlags & { readonly verbose?: boolean; readonly json?: boolean };
  /** Where its machine comes from. */
  readonly source: MachineSource<GuestMachine>;
  readonly description: MachineDescription;
  readonly installation: QemuInstallation;
  readonly kernel: TestKernel;
  /** Folder for the archive, which is this guest's only. */
  readonly scratch: string;
  /** Gets what the debugger says. */
  readonly say: Say;
}

export class TestGuest {
  private constructor(
    readonly run: GuestRun<GuestMachine>,
    readonly agent: GuestAgent,
    readonly console: ConsoleWatch,
    readonly session: DebugSession,
    readonly accelerator: Accelerator,
    /** The end of the console since whoever reads it last cleared it. */
    readonly said: string[],
    private readonly panicTold: Promise<void>,
    /** What the guest has, by path. */
    private readonly digests: Map<string, string>,
  ) {}

  /** Resolves when the guest is up and has the payload. Rejects with a CommandFailure that shows its console, with nothing left. */
  static async start(options: TestGuestOptions, payload: Payload): Promise<TestGuest> {
    const { flags, source, description, installation, kernel, scratch, say } = options;
    const initrd = `${scratch}/initramfs.cpio`;
    const archived = payload.files.filter(isInArchive);
    await writeArchive(kernel.initramfs, archived, initrd);
    const boot = { kind: 'kernel', kernel: kernel.image, initrd, append: kernel.append } as const;
    const configuration = await guestConfiguration(flags, installation, description, boot);
    const console = new ConsoleWatch();
    let tellPanic = () => {};
    const panicTold = new Promise<void>(resolve => {
      tellPanic = resolve;
    });
    const said: string[] = [];
    const lines = new LineReader(line => {
      said.push(line);
      if (said.length > KEPT_CONSOLE_LINES) said.shift();
      if (END_OF_PANIC.test(line)) tellPanic();
    });
    let session: DebugSession | undefined;
    let isHeard = true;
    const run = await GuestRun.startFrom({
      source,
      description,
      sanitize: flags.sanitize,
      prepare: async host => {
        session = await DebugSession.start(host, flags, line => {
          if (isHeard) say(line);
        });
      },
      installation,
      configuration,
      progress: printProgress,
      agent: true,
      console: chunk => {
        console.take(chunk);
        lines.push(chunk);
      },
      onEvent: event => {
        if (flags.verbose) globalThis.console.error(flags.json ? eventToJson(event) : formatEvent(event));
      },
    });
    try {
      const agent = await GuestAgent.connect(run.qemu.agentSocket ?? '');
      await Promise.race([ready(agent, run, console), run.broken, console.panicked]);
      const digests = new Map(archived.map(file => [file.guestPath, digest(file)]));
      const guest = new TestGuest(run, agent, console, session!, configuration.accelerator, said, panicTold, digests);
      await guest.push(payload);
      return guest;
    } catch (error) {
      await run.close();
      // Closes the recording; there is nothing to tell of a guest that did nothing.
      isHeard = false;
      await session!.finish();
      throw error;
    }
  }

  /** Brings what differs from what the guest has. */
  async push(payload: Payload): Promise<void> {
    for (const file of payload.files) {
      const wanted = digest(file);
      if (this.digests.get(file.guestPath) === wanted) continue;
      await this.alive(copyIn(this.agent, file.bytes, file.guestPath, file.mode));
      this.digests.set(file.guestPath, wanted);
    }
  }

  /** Whether so much as differs comes in faster than another guest boots. */
  canPush({ files }: Payload): boolean {
    const bytes = files
      .filter(file => this.digests.get(file.guestPath) !== digest(file))
      .reduce((sum, file) => sum + gzipSync(file.bytes).length, 0);
    return bytes <= MAX_PUSHED_BYTES;
  }

  /** What `work` gives; rejects as soon as the guest's kernel has panicked or the machine has ended. */
  alive<T>(work: Promise<T>): Promise<T> {
    // Its failure, when the guest has ended, is told by the other two.
    work.catch(() => {});
    return Promise.race([work, this.run.broken, this.console.panicked]);
  }

  /** Resolves when a kernel that has panicked has said all that it says then. */
  async lastWords(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>(resolve => {
      timer = setTimeout(resolve, LAST_WORDS_MS);
    });
    await Promise.race([this.panicTold, late]);
    clearTimeout(timer);
  }

  /** Ends the guest and the machine; what the session has to say comes later. */
  async close(): Promise<void> {
    this.agent.close();
    await this.run.close();
  }
}

async function ready(agent: GuestAgent, run: GuestRun<GuestMachine>, console: ConsoleWatch): Promise<void> {
  try {
    await agent.ready(READY_TIMEOUT_MS);
  } catch (error) {
    const said = [console.tail(), run.qemu.stderr().trimEnd()].filter(text => text !== '').join('\n');
    throw new CommandFailure(
      `the guest did not come up: ${(error as Error).message}\n${said === '' ? 'Its console is empty.' : `Its console:\n${said}`}`,
    );
  }
}

function digest({ bytes, mode }: GuestFile): string {
  return createHash('sha256').update(bytes).update(String(mode)).digest('hex');
}
