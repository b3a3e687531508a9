/**
 * Machines for tests: start one in this process, or attach to one that is being served; wait for what happens, ask what was found,
 * make things go wrong on purpose.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectOptions, RemoteMachine } from '../inspector/remote-client.ts';
import { readRemoteFile } from '../inspector/remote-file.ts';
import { describeMachine, type MachineDescription } from '../machine/description.ts';
import { MachineHost } from '../machine/host.ts';
import type { InjectionRule, InjectionState } from '../machine/injection/rules.ts';
import type { MachineEvent } from '../machine/operations-command.ts';
import { parseClasses } from '../trace/event-filter.ts';
import type { DetectorName } from '../trace/sanitizer/detectors.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { parsePolicy, type SanitizePolicy } from '../trace/sanitizer/policy.ts';
import type { Attachment, LiveMapping } from '../trace/sanitizer/sanitizer.ts';
import { hostAccess, type MachineAccess, remoteAccess } from './access.ts';
import { EventLog } from './event-log.ts';
import { RecordLog } from './record-log.ts';

/** What is waited for comes within this time, in milliseconds, unless a test says otherwise. */
const TIMEOUT_MS = 10_000;
const CLASSES = 'translation,dma,mapping,attach,invalidation,fault,interrupt';

export interface WatchOptions {
  /** Which classes of records to keep, as for `viommu record --class`. Default: all but registers, connections and notes. */
  readonly record?: string;
}

export interface StartOptions extends WatchOptions {
  /** Default: a VT-d unit with two edu devices behind root ports. */
  readonly machine?: MachineDescription;
  /** Where the sockets are made. Default: a directory of its own, removed at the end. */
  readonly directory?: string;
  /** As `--sanitize`, or as `parsePolicy` gives it. Default: `on`. */
  readonly sanitize?: string | SanitizePolicy;
}

export interface AttachOptions extends WatchOptions, ConnectOptions {
  /** The directory of `viommu serve --listen`. */
  readonly directory?: string;
  /** The address instead. */
  readonly url?: string;
}

export interface WaitOptions {
  /** Default: 10 seconds. */
  readonly timeoutMs?: number;
}

/** Something that goes wrong on purpose. */
export interface Injected {
  readonly id: number;
  /** Lets go what it holds. */
  release(): Promise<void>;
  /** It will not apply again. */
  remove(): Promise<void>;
  /** How often it applied, and whether it is over. */
  state(): Promise<InjectionState | undefined>;
}

/** Serves a machine from this process, on a device thread of its own. */
export async function startMachine(options: StartOptions = {}): Promise<TestMachine> {
  const description = options.machine ?? describeMachine('vtd', ['edu@01:00.0', 'edu@02:00.0']);
  const own = options.directory === undefined;
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'viommu-'));
  const remove = () => {
    if (own) rmSync(directory, { recursive: true, force: true });
  };
  try {
    const { sanitize } = options;
    const policy = typeof sanitize === 'string' ? parsePolicy(sanitize) : sanitize;
    const host = await MachineHost.start(description, directory, { sanitize: policy });
    return await TestMachine.watch(hostAccess(host), options, host.sockets, remove);
  } catch (error) {
    remove();
    throw error;
  }
}

/** Attaches to a machine that `viommu serve --listen` serves. */
export async function attachMachine(options: AttachOptions): Promise<TestMachine> {
  const address =
    options.url === undefined && options.directory !== undefined ? readRemoteFile(options.directory) : undefined;
  const url = options.url ?? address?.url;
  if (url === undefined) throw new Error("say which machine: the directory of 'viommu serve --listen', or its url");
  const machine = await RemoteMachine.connect(url, { ...options, token: options.token ?? address?.token });
  return await TestMachine.watch(remoteAccess(machine), options, {}, () => {});
}

export class TestMachine {
  /** What was recorded since the start. */
  readonly records = new RecordLog();
  private readonly events = new EventLog();

  private constructor(
    private readonly access: MachineAccess,
    /** Socket path by function name; empty where the machine was attached to. */
    readonly sockets: Readonly<Record<string, string>>,
    private readonly removeFiles: () => void,
  ) {}

  /** For `startMachine` and `attachMachine`. */
  static async watch(
    access: MachineAccess,
    { record = CLASSES }: WatchOptions,
    sockets: Readonly<Record<string, string>>,
    removeFiles: () => void,
  ): Promise<TestMachine> {
    const machine = new TestMachine(access, sockets, removeFiles);
    await access.events(event => machine.events.add(event));
    await access.records(parseClasses(record), words => machine.records.take(words));
    return machine;
  }

  async findings(): Promise<readonly Finding[]> {
    return (await this.access.findings()).findings;
  }

  /** What is mapped now, as far as it was seen. */
  async mappings(): Promise<readonly LiveMapping[]> {
    return (await this.access.mappings()).mappings;
  }

  /** Which devices are attached to which domains. */
  async attachments(): Promise<readonly Attachment[]> {
    return (await this.access.mappings()).attachments;
  }

  statistics(): Promise<object> {
    return this.access.statistics();
  }

  /** The first event since the start, or since `forget`, that is of this kind or that the predicate takes; waits for it. */
  async waitForEvent(
    wanted: string | ((event: MachineEvent) => boolean),
    { timeoutMs = TIMEOUT_MS }: WaitOptions = {},
  ): Promise<MachineEvent> {
    const takes = typeof wanted === 'string' ? (event: MachineEvent) => event.kind === wanted : wanted;
    return await this.events.first(takes, timeoutMs, typeof wanted === 'string' ? `'${wanted}'` : 'that is wanted');
  }

  /** The first finding of this detector; waits for it. */
  async waitForFinding(detector: DetectorName, { timeoutMs = TIMEOUT_MS }: WaitOptions = {}): Promise<Finding> {
    const end = performance.now() + timeoutMs;
    for (;;) {
      const found = (await this.findings()).find(finding => finding.detector === detector);
      if (found !== undefined) return found;
      if (performance.now() > end) throw new Error(`there was no finding of ${detector} within ${timeoutMs} ms`);
      await this.events.next(Math.max(1, Math.min(LOOK_AGAIN_MS, end - performance.now())));
    }
  }

  /** Forgets the events and records so far: what is waited for has to come from here on. */
  forget(): void {
    this.events.forget();
    this.records.forget();
  }

  /** Makes something go wrong, for the driver's error paths to be tested. */
  async inject(rule: InjectionRule): Promise<Injected> {
    const { access } = this;
    const id = await access.inject(rule);
    return {
      id,
      async release() {
        await access.releaseInjection(id);
      },
      async remove() {
        await access.removeInjection(id);
      },
      async state() {
        return (await access.injections()).find(one => one.id === id);
      },
    };
  }

  /** Ends a machine that was started, leaves one that was attached to. */
  async stop(): Promise<void> {
    await this.access.close();
    this.removeFiles();
  }
}

/** Findings may come without an event, when a time of grace is over. */
const LOOK_AGAIN_MS = 50;
