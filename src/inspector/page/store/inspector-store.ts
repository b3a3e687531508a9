/** All that the page knows: what the machine answered, what it recorded, and which view is shown. Views read it and ask it to act. */
import { batch, type Signal, signal } from '@preact/signals';
import type { InspectionAnswer, RunState, StepWhat } from '../../../machine/inspection.ts';
import { EventClass } from '../../../trace/event-kinds.ts';
import type { Finding } from '../../../trace/sanitizer/finding.ts';
import { Connection, DisconnectedError, type OpenSocket, type RemoteNotice } from '../connection.ts';
import { formatRequesterId } from '../format.ts';
import { parseRoute, type Route } from '../route.ts';
import {
  type Answer,
  type Mappings,
  readDescription,
  readFindings,
  readInspection,
  readMappings,
  readNames,
  readRunState,
  toRecord,
} from '../wire.ts';
import { type DeviceCounters, readCounters, readDevices } from './counters.ts';
import { type DeviceRates, ratesOf } from './device-rates.ts';
import { Latencies } from './latency.ts';
import { needsOf } from './needs.ts';
import { PastMappings } from './past-mappings.ts';
import { Poller } from './poller.ts';
import { RateHistory } from './rates.ts';
import { RecordStore } from './record-store.ts';
import { Recorder } from './recorder.ts';
import { Touches } from './touches.ts';

/** The machine name under which a server shows a recorded file. */
export const RECORDING = 'recording';

const STATISTICS_MILLISECONDS = 500;
const MAPPINGS_MILLISECONDS = 1000;
const SLOW_MILLISECONDS = 2500;
const CALM_MILLISECONDS = 250;
const RECONNECT_MILLISECONDS = 1000;
const RECONNECT_MILLISECONDS_MAX = 8000;
const ALL_CLASSES = Object.values(EventClass).reduce((mask, bit) => mask | bit, 0);

export interface Link {
  readonly state: 'connecting' | 'open' | 'closed';
  readonly reason: string;
}

export interface StoreOptions {
  readonly url: string;
  readonly token?: string | undefined;
  readonly open: OpenSocket;
  /** Which machine, where the server has several. Default: the first. */
  readonly machine?: string | undefined;
}

const NO_MAPPINGS: Mappings = { mappings: [], attachments: [] };

export class InspectorStore {
  readonly link = signal<Link>({ state: 'connecting', reason: '' });
  readonly machines = signal<readonly string[]>([]);
  readonly machine = signal<string | undefined>(undefined);
  readonly route: Signal<Route> = signal(parseRoute(''));
  readonly visible = signal(true);
  readonly inspection = signal<InspectionAnswer | undefined>(undefined);
  readonly state = signal<RunState>('running');
  readonly findings = signal<readonly Finding[]>([]);
  readonly findingsLost = signal(0);
  readonly mappings = signal<Mappings>(NO_MAPPINGS);
  readonly statistics = signal<Answer>({});
  readonly devices = signal<Readonly<Record<string, DeviceCounters>>>({});
  readonly deviceRates = signal<Readonly<Record<string, DeviceRates>>>({});
  /** Why something is not to be had, by the operation's name. */
  readonly unavailable = signal<Readonly<Record<string, string>>>({});
  /** What the last pause, step or resume was refused for. */
  readonly controlError = signal('');
  readonly measuresLatency = signal(false);
  /** Raised when there are new records, at most once for each picture. */
  readonly recordsVersion = signal(0);
  /** The same at most four times a second: for pictures that take long to make. */
  readonly calmVersion = signal(0);
  readonly ratesVersion = signal(0);
  /** Raised when everything is to be read again: views that ask for themselves listen to it. */
  readonly refreshes = signal(0);
  readonly recorderVersion = signal(0);

  readonly records = new RecordStore();
  readonly touches = new Touches();
  readonly pastMappings = new PastMappings();
  readonly rates = new RateHistory();
  readonly latencies = new Latencies(requesterId => this.functionOf(requesterId));
  readonly recorder: Recorder;

  private connection: Connection | undefined;
  private closed = false;
  private attempts = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private ticking = false;
  private calming: ReturnType<typeof setTimeout> | undefined;
  private lastDevices:
    | { readonly time: number; readonly devices: Readonly<Record<string, DeviceCounters>> }
    | undefined;
  private readonly pollers = {
    statistics: new Poller({ milliseconds: STATISTICS_MILLISECONDS, ask: () => this.readStatistics(), rest: 1 }),
    mappings: new Poller({ milliseconds: MAPPINGS_MILLISECONDS, ask: () => this.readMappings() }),
    slow: new Poller({ milliseconds: SLOW_MILLISECONDS, ask: () => this.readSlow() }),
  };

  constructor(private readonly options: StoreOptions) {
    this.recorder = new Recorder({
      store: this.records,
      onMachine: description => this.describe(description),
      onRecords: () => this.tick(),
      onChange: () => {
        this.recorderVersion.value++;
        this.tick();
      },
    });
    this.records.listen(cursor => {
      this.touches.record(cursor);
      if (this.isRecording) this.pastMappings.record(cursor);
      if (this.measuresLatency.value) this.latencies.record(cursor);
    });
  }

  /** A recorded file is looked at, no running machine. */
  get isRecording(): boolean {
    return this.machine.value === RECORDING;
  }

  /** Why there is no machine to look at; what was known of one stays shown. Undefined: there is one. */
  get machineAbsence(): string | undefined {
    const { value: name } = this.machine;
    if (name === undefined) return 'The server has no machine now. The next one is shown when it comes.';
    if (this.machines.value.includes(name)) return undefined;
    return `${name} has ended. What you see is what was known before.`;
  }

  start(): void {
    this.closed = false;
    this.connect();
  }

  stop(): void {
    this.closed = true;
    clearTimeout(this.retry);
    this.connection?.close();
    this.applyNeeds();
  }

  show(route: Route): void {
    this.route.value = route;
    this.applyNeeds();
  }

  setVisible(visible: boolean): void {
    this.visible.value = visible;
    this.applyNeeds();
  }

  measureLatency(on: boolean): void {
    this.measuresLatency.value = on;
    this.applyNeeds();
  }

  /** Rejects where the machine has no such thing, or cannot be asked. */
  ask(operation: string, args?: object): Promise<Answer> {
    if (this.connection === undefined) return Promise.reject(new DisconnectedError('not connected'));
    return this.connection.request(operation, args, this.machine.value);
  }

  async control(what: 'pause' | 'resume' | StepWhat): Promise<void> {
    try {
      const answer = await (what === 'pause' || what === 'resume' ? this.ask(what) : this.ask('step', { what }));
      this.controlError.value = answer.stepped === false ? 'there was nothing to step: nothing waits to be done' : '';
      // A step leaves it paused; what the answer does not say is read again.
      const told = readRunState(answer);
      if (told !== undefined) this.state.value = told;
      else await this.readInspection();
    } catch (error) {
      this.controlError.value = (error as Error).message;
    }
  }

  /** Reads again what the visible view shows. */
  async refresh(): Promise<void> {
    const needs = needsOf(this.route.value, this.measuresLatency.value);
    this.refreshes.value++;
    await this.readSlow();
    if (needs.mappings) await this.readMappings();
    if (needs.statistics) await this.readStatistics();
  }

  async chooseMachine(name: string): Promise<void> {
    if (name === this.machine.value || this.connection === undefined) return;
    batch(() => {
      this.machine.value = name;
      this.forget();
    });
    this.recorder.leave();
    this.recorder.connected(this.connection, name);
    this.applyNeeds();
    await this.refresh();
  }

  functionOf(requesterId: number): string | undefined {
    return this.inspection.value?.functions.find(one => one.requesterId === requesterId)?.name;
  }

  /** `edu0 (01:00.0)`, or only the number. */
  nameOf(requesterId: number): string {
    const name = this.functionOf(requesterId);
    return name === undefined ? formatRequesterId(requesterId) : `${name} (${formatRequesterId(requesterId)})`;
  }

  /** By the names of the functions. */
  deviceNames(): Map<string, number> {
    const functions = this.inspection.value?.functions ?? [];
    return new Map(functions.flatMap(one => (one.requesterId === undefined ? [] : [[one.name, one.requesterId]])));
  }

  private connect(): void {
    this.link.value = { state: 'connecting', reason: this.link.value.reason };
    const connection: Connection = new Connection({
      url: this.options.url,
      token: this.options.token,
      open: this.options.open,
      onOpen: () => void this.opened(connection),
      onClose: reason => this.lost(connection, reason),
    });
    this.connection = connection;
  }

  private async opened(connection: Connection): Promise<void> {
    this.attempts = 0;
    try {
      const hear = ({ detail }: RemoteNotice) => this.machinesChanged(connection, readNames(detail));
      const names = readNames(await connection.request('watch', undefined, undefined, hear));
      const wished = this.machine.value ?? this.options.machine;
      batch(() => {
        this.machines.value = names;
        this.machine.value = wished !== undefined && names.includes(wished) ? wished : names[0];
        // Another machine may be behind the address by now: what it was before is of no use.
        this.forget();
        this.link.value = { state: 'open', reason: '' };
      });
      if (this.machine.value !== undefined) this.recorder.connected(connection, this.machine.value);
      this.applyNeeds();
    } catch (error) {
      // The end of the connection is told by itself.
      if (!(error instanceof DisconnectedError)) this.link.value = { state: 'open', reason: (error as Error).message };
    }
  }

  private machinesChanged(connection: Connection, names: readonly string[]): void {
    if (connection !== this.connection) return;
    this.machines.value = names;
    const [first] = names;
    if (this.machine.value === undefined && first !== undefined) {
      void this.chooseMachine(first);
      return;
    }
    // Its subscriptions ended with it.
    if (this.machineAbsence !== undefined) this.recorder.disconnected();
    this.applyNeeds();
  }

  private lost(connection: Connection, reason: string): void {
    if (connection !== this.connection) return;
    this.connection = undefined;
    this.link.value = { state: 'closed', reason };
    this.recorder.disconnected();
    this.applyNeeds();
    if (this.closed) return;
    const wait = Math.min(RECONNECT_MILLISECONDS * 2 ** this.attempts++, RECONNECT_MILLISECONDS_MAX);
    this.retry = setTimeout(() => this.connect(), wait);
  }

  private forget(): void {
    this.unavailable.value = {};
    this.controlError.value = '';
    this.inspection.value = undefined;
    this.findings.value = [];
    this.findingsLost.value = 0;
    this.mappings.value = NO_MAPPINGS;
    this.rates.clear();
    this.lastDevices = undefined;
    this.deviceRates.value = {};
    this.touches.clear();
    this.pastMappings.clear();
    this.records.clear();
  }

  private applyNeeds(): void {
    const isThere = this.link.value.state === 'open' && this.machineAbsence === undefined;
    const isLive = this.visible.value && isThere && !this.closed;
    const needs = needsOf(this.route.value, this.measuresLatency.value);
    // A file gives its records once, all of them; after that it has nothing more to say.
    this.recorder.want(this.isRecording ? ALL_CLASSES : isLive ? needs.classes : 0);
    this.pollers.statistics.want(isLive && needs.statistics && !this.isRecording);
    this.pollers.mappings.want(isLive && needs.mappings);
    this.pollers.slow.want(isLive);
  }

  private async readStatistics(): Promise<void> {
    await this.reading('statistics', async () => {
      const statistics = toRecord((await this.ask('statistics')).statistics);
      const time = Date.now() / 1000;
      const devices = readDevices(statistics);
      this.rates.add(time, readCounters(statistics));
      batch(() => {
        this.statistics.value = statistics;
        const seconds = time - (this.lastDevices?.time ?? time);
        this.deviceRates.value = ratesOf(this.lastDevices?.devices, devices, seconds);
        this.devices.value = devices;
        this.ratesVersion.value++;
      });
      this.lastDevices = { time, devices };
    });
  }

  private async readMappings(): Promise<void> {
    await this.reading('mappings', async () => {
      const mappings = readMappings(await this.ask('mappings'));
      for (const { requesterId, pasid, domain } of mappings.attachments) {
        if (pasid === -1) this.touches.attached(requesterId, domain);
      }
      this.mappings.value = mappings;
    });
  }

  private async readSlow(): Promise<void> {
    await this.reading('findings', async () => {
      const { findings, lost } = readFindings(await this.ask('findings'));
      batch(() => {
        this.findings.value = findings;
        this.findingsLost.value = lost;
      });
    });
    await this.readInspection();
  }

  private async readInspection(): Promise<void> {
    // Nothing there can change, and it would be refused.
    if (this.isRecording) return;
    await this.reading('inspect', async () => {
      const inspection = readInspection(await this.ask('inspect'));
      batch(() => {
        this.inspection.value = inspection;
        this.state.value = inspection.state;
      });
    });
  }

  /** What cannot be had is remembered with the reason, until it can. */
  private async reading(operation: string, read: () => Promise<void>): Promise<void> {
    let failure: string | undefined;
    try {
      await read();
    } catch (error) {
      if (error instanceof DisconnectedError) return;
      failure = (error as Error).message;
    }
    const { [operation]: before, ...others } = this.unavailable.value;
    if (failure === before) return;
    this.unavailable.value = failure === undefined ? others : { ...others, [operation]: failure };
  }

  /** A recorded file tells what its machine was made of; of a running one `inspect` tells more. */
  private describe(description: Answer): void {
    if (!this.isRecording) return;
    const functions = readDescription(description);
    if (functions.length > 0) this.inspection.value = { registers: [], functions, state: 'running' };
  }

  private tick(): void {
    if (this.ticking) return;
    this.ticking = true;
    nextPicture(() => {
      this.ticking = false;
      this.recordsVersion.value++;
    });
    this.calming ??= setTimeout(() => {
      this.calming = undefined;
      this.calmVersion.value++;
    }, CALM_MILLISECONDS);
  }
}

/** Outside of a browser, and in a page that is not shown, there are no pictures to wait for. */
function nextPicture(callback: () => void): void {
  const hasPictures = typeof requestAnimationFrame === 'function' && document.visibilityState === 'visible';
  if (hasPictures) requestAnimationFrame(callback);
  else setTimeout(callback);
}
