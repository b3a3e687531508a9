/**
 * Machines for tests: start one in this process, or attach to one that is being served; wait for what happens, ask what was found,
 * make things go wrong on purpose.
 */
import { join } from 'node:path';
import { type ConnectOptions, RemoteMachine } from '../inspector/remote-client.ts';
import { readRemoteFile } from '../inspector/remote-file.ts';
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import { describeMachine, type IommuKindName, type MachineDescription } from '../machine/description.ts';
import { MachineHost } from '../machine/host.ts';
import type { InjectionRule } from '../machine/injection/rules.ts';
import type { MachineEvent } from '../machine/operations-command.ts';
import { makeTemporaryDirectory } from '../posix/temporary-directory.ts';
import { parseClasses } from '../trace/event-filter.ts';
import { EventClass } from '../trace/event-kinds.ts';
import type { DetectorName } from '../trace/sanitizer/detectors.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';
import { parsePolicy, type SanitizePolicy } from '../trace/sanitizer/policy.ts';
import type { Attachment, LiveMapping } from '../trace/sanitizer/sanitizer.ts';
import { hostAccess, type MachineAccess, remoteAccess } from './access.ts';
import { Arrivals } from './arrivals.ts';
import { EventLog } from './event-log.ts';
import {
  describeExpectedFinding,
  describeFindings,
  deviceName,
  type ExpectedFinding,
  findFinding,
} from './findings.ts';
import { type GuestOptions, TestGuest } from './guest.ts';
import { Injected } from './injected.ts';
import { type FormatOptions, formatMappings, sortMappings } from './mappings.ts';
import { type DecodedRecord, RecordLog } from './record-log.ts';
import { type ExpectedTranslation, findTranslation, type TranslatedRun } from './translations.ts';

/** What is waited for comes within this time, in milliseconds, unless a test says otherwise. */
export const TIMEOUT_MS = 10_000;
const CLASSES = 'translation,dma,mapping,attach,invalidation,fault,interrupt';
const FOR_TRANSLATIONS = EventClass.translation | EventClass.dma;

/** For whoever looks at a machine. */
export interface WatchOptions {
  /** Which classes of records to keep, as for `viommu record --class`. Default: all but registers, connections and notes. */
  readonly record?: string | undefined;
}

/** For `startMachine`. */
export interface StartOptions extends WatchOptions {
  /** Default: what `iommu` and `devices` say. */
  readonly machine?: MachineDescription;
  /** Default: `vtd`. */
  readonly iommu?: IommuKindName;
  /** As `--device`. Default: two edu devices behind root ports. */
  readonly devices?: readonly string[];
  /** Where the sockets are made. Default: a directory of its own, removed at the end. */
  readonly directory?: string;
  /** As `--sanitize`, or as `parsePolicy` gives it. Default: `on`. */
  readonly sanitize?: string | SanitizePolicy;
}

/** For `attachMachine`: one of `directory` and `url`. */
export interface AttachOptions extends WatchOptions, ConnectOptions {
  /** The directory of `viommu serve --listen`. */
  readonly directory?: string;
  /** The address instead. */
  readonly url?: string;
}

/** For what waits. */
export interface WaitOptions {
  /** Default: 10 seconds. */
  readonly timeoutMs?: number;
}

/** Serves a machine from this process, on a device thread of its own. */
export async function startMachine(options: StartOptions = {}): Promise<TestMachine> {
  const { iommu = 'vtd', devices = ['edu@01:00.0', 'edu@02:00.0'] } = options;
  const description = options.machine ?? describeMachine(iommu, devices);
  const { sanitize } = options;
  const policy = typeof sanitize === 'string' ? parsePolicy(sanitize) : sanitize;
  const own = options.directory === undefined ? makeTemporaryDirectory('testing') : undefined;
  const directory = options.directory ?? own!.path;
  const remove = () => own?.remove();
  try {
    const host = await MachineHost.start(description, directory, { sanitize: policy });
    return await TestMachine.watch(hostAccess(host), { ...options, sockets: host.sockets, whenStopped: remove });
  } catch (error) {
    remove();
    throw error;
  }
}

/** Watches a machine of this process. Stopping it stops the machine. */
export async function watchMachine(host: MachineHost, options: WatchOptions = {}): Promise<TestMachine> {
  return await TestMachine.watch(hostAccess(host), { ...options, sockets: host.sockets });
}

/** Attaches to a machine that `viommu serve --listen` serves. Stopping leaves it running. */
export async function attachMachine(options: AttachOptions): Promise<TestMachine> {
  const { directory } = options;
  const address = options.url === undefined && directory !== undefined ? readRemoteFile(directory) : undefined;
  const url = options.url ?? address?.url;
  if (url === undefined) {
    throw new Error(
      directory === undefined
        ? "say which machine: the directory of 'viommu serve --listen', or its url"
        : `no machine can be reached in ${directory}: is 'viommu serve --dir ${directory} --listen 0' running?`,
    );
  }
  const remote = await RemoteMachine.connect(url, { ...options, token: options.token ?? address?.token });
  try {
    return await TestMachine.watch(remoteAccess(remote), options);
  } catch (error) {
    await remote.close();
    throw error;
  }
}

interface WatchedMachine extends WatchOptions {
  /** Default: those in `directory`. */
  readonly sockets?: Readonly<Record<string, string>>;
  readonly directory?: string;
  readonly whenStopped?: () => void;
}

/** A machine that a test looks at: what `startMachine`, `attachMachine` and `watchMachine` give. */
export class TestMachine {
  /** What was recorded since the start. */
  readonly records: RecordLog;
  private readonly arrivals: Arrivals;
  private readonly log: EventLog;
  /** Socket path by function name; empty where only the address of a server was given. */
  readonly sockets: Readonly<Record<string, string>>;

  private constructor(
    private readonly access: MachineAccess,
    readonly description: MachineDescription,
    private readonly classes: number,
    private readonly options: WatchedMachine,
    parts: { readonly arrivals: Arrivals; readonly records: RecordLog; readonly log: EventLog },
  ) {
    this.arrivals = parts.arrivals;
    this.records = parts.records;
    this.log = parts.log;
    this.sockets = options.sockets ?? socketsIn(options.directory, description);
  }

  /** For `startMachine` and `attachMachine`. */
  static async watch(access: MachineAccess, options: WatchedMachine): Promise<TestMachine> {
    // Findings wake those who wait for them.
    const classes = parseClasses(options.record ?? CLASSES) | EventClass.finding;
    const arrivals = new Arrivals();
    const log = new EventLog(arrivals);
    const records = new RecordLog(arrivals);
    access.ended.then(() => arrivals.close());
    await access.events(event => log.add(event));
    const { machine } = await access.records(classes, (words, lost) => records.take(words, lost));
    return new TestMachine(access, machine, classes, options, { arrivals, records, log });
  }

  /** The machine has ended, or cannot be reached any more. */
  get ended(): boolean {
    return this.arrivals.closed;
  }

  /** What was found so far. What may be a mistake, but is not decided yet, is not in it: see `settle`. */
  async findings(): Promise<readonly Finding[]> {
    return (await this.access.findings()).findings;
  }

  /** The same, with whether anybody looks for mistakes. */
  findingsAnswer(): Promise<FindingsAnswer> {
    return this.access.findings();
  }

  /** What is mapped now, as far as it was seen; by domain and address. */
  async mappings(): Promise<readonly LiveMapping[]> {
    return sortMappings((await this.access.mappings()).mappings);
  }

  /** What is mapped now, as text to compare. */
  async formatMappings(options?: FormatOptions): Promise<string> {
    return formatMappings((await this.access.mappings()).mappings, options);
  }

  /** Which devices are attached to which domains. */
  async attachments(): Promise<readonly Attachment[]> {
    return (await this.access.mappings()).attachments;
  }

  /** What the machine counted since its start. */
  statistics(): Promise<object> {
    return this.access.statistics();
  }

  /** The events since the start, or since `forget`. */
  get events(): readonly MachineEvent[] {
    return this.log.all;
  }

  /**
   * Waits until all that happened so far is here to be looked at: events and records have come, and what looked like a mistake is
   * decided. (An unmapped page that is used needs a tenth of a second, because its invalidation may still come.)
   */
  async settle({ timeoutMs = TIMEOUT_MS }: WaitOptions = {}): Promise<void> {
    const { arrivals, access, records } = this;
    const answer = await arrivals.until(async () => {
      const now = await access.findings();
      return now.undecided ? undefined : now;
    }, timeoutMs);
    if (arrivals.closed) return;
    if (answer === undefined) throw new Error(`the machine did not settle within ${timeoutMs} ms`);
    const { time } = answer;
    if (time === undefined) return;
    // Another reader has the machine name its sources again: records that come after all that were before.
    const marks = await access.records(0, () => {});
    try {
      const came = await arrivals.until(() => records.lastTime >= time || undefined, timeoutMs);
      if (came === undefined && !arrivals.closed) throw new Error(`records did not come within ${timeoutMs} ms`);
    } finally {
      if (!arrivals.closed) await marks.stop();
    }
  }

  /** The first event since the start, or since `forget`, that is of this kind or that the predicate takes; waits for it. */
  async waitForEvent(
    wanted: string | ((event: MachineEvent) => boolean),
    { timeoutMs = TIMEOUT_MS }: WaitOptions = {},
  ): Promise<MachineEvent> {
    const takes = typeof wanted === 'string' ? (event: MachineEvent) => event.kind === wanted : wanted;
    return await this.log.first(takes, timeoutMs, typeof wanted === 'string' ? `'${wanted}'` : 'that is wanted');
  }

  /** The first record since the start, or since `forget`, that the predicate takes; waits for it. */
  async waitForRecord(
    takes: (record: DecodedRecord) => boolean,
    { timeoutMs = TIMEOUT_MS }: WaitOptions = {},
  ): Promise<DecodedRecord> {
    const found = await this.arrivals.until(() => {
      for (const record of this.records.all()) if (takes(record)) return record;
      return undefined;
    }, timeoutMs);
    if (found === undefined) throw new Error(`there was no such record ${this.when(timeoutMs)}`);
    return found;
  }

  /** A finding of this detector; waits for it. */
  async waitForFinding(
    detector: DetectorName,
    expected: ExpectedFinding = {},
    { timeoutMs = TIMEOUT_MS }: WaitOptions = {},
  ): Promise<Finding> {
    const found = await this.lookForFinding(detector, expected, timeoutMs);
    if (found !== undefined) return found;
    const wanted = describeExpectedFinding(detector, expected);
    const there = describeFindings(await this.findings());
    throw new Error(`there was no finding of ${wanted} ${this.when(timeoutMs)}; there are:\n${there}`);
  }

  private when(timeoutMs: number): string {
    return this.ended ? 'before the machine ended' : `within ${timeoutMs} ms`;
  }

  /** The same; undefined where there is none within the time. Rejects where nobody has the device's name. */
  async lookForFinding(
    detector: DetectorName,
    expected: ExpectedFinding,
    timeoutMs: number,
  ): Promise<Finding | undefined> {
    const { device } = expected;
    const known = device === undefined ? expected : { ...expected, device: deviceName(this.description, device) };
    return await this.arrivals.until(async () => findFinding(await this.findings(), detector, known), timeoutMs);
  }

  /**
   * A translation among the records; undefined where there is none within the time. Rejects where nobody has the device's name, and
   * where the records cannot tell.
   */
  async lookForTranslation(expected: ExpectedTranslation, timeoutMs: number): Promise<TranslatedRun | undefined> {
    if ((this.classes & FOR_TRANSLATIONS) !== FOR_TRANSLATIONS) {
      throw new Error("translations are not recorded: give the option 'record' with translation and dma");
    }
    const { device } = expected;
    const known = device === undefined ? expected : { ...expected, device: deviceName(this.description, device) };
    return await this.arrivals.until(() => findTranslation(this.records, known), timeoutMs);
  }

  /** Forgets the events and records so far: what is waited for has to come from here on. Findings stay. */
  forget(): void {
    this.log.forget();
    this.records.forget();
  }

  /** Makes something go wrong, for the driver's error paths to be tested. Rejects where the machine has no such thing. */
  async inject(rule: InjectionRule): Promise<Injected> {
    return new Injected(this.access, this.arrivals, await this.access.inject(rule));
  }

  /** Connects to all functions in place of QEMU. */
  connectGuest(options?: GuestOptions): TestGuest {
    if (Object.keys(this.sockets).length === 0) {
      throw new Error('it is not known where the sockets are: attach with the directory of viommu serve');
    }
    return new TestGuest(this.sockets, options);
  }

  /** Ends a machine that was started, leaves one that was attached to. */
  async stop(): Promise<void> {
    await this.access.close();
    this.options.whenStopped?.();
  }
}

function socketsIn(directory: string | undefined, { iommu, endpoints }: MachineDescription): Record<string, string> {
  if (directory === undefined) return {};
  const names = [...(iommu.kind === 'none' ? [] : ['iommu']), ...endpoints.map(({ id }) => id)];
  return Object.fromEntries(names.map(name => [name, join(directory, `${name}.sock`)]));
}
