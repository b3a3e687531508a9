/** The control thread's side of an offering thread. */
import { Worker } from 'node:worker_threads';
import { createEventFd, signalEventFd } from '../../src/posix/eventfd.ts';
import { closeDescriptor } from '../../src/posix/socket.ts';
import type { TraceEvent } from '../../src/trace/trace.ts';
import type { OfferingMessage, OfferingQuestion, OfferingStatistics, OfferingThreadData } from './offering-thread.ts';

export class OfferingHost {
  sockets: Readonly<Record<string, string>> = {};
  onEvent: ((event: TraceEvent) => void) | undefined;
  /** Rejects where the thread ends by an error. */
  readonly ended: Promise<void>;
  private readonly worker: Worker;
  private readonly wakeDescriptor = createEventFd();
  private readonly waiting: ((statistics: OfferingStatistics) => void)[] = [];

  /** Resolves when every socket is listening. */
  static async start(
    directory: string,
    devices: readonly string[],
    offering: readonly string[],
  ): Promise<OfferingHost> {
    const host = new OfferingHost(directory, devices, offering);
    await Promise.race([host.ready, host.ended]);
    return host;
  }

  private readonly ready: Promise<void>;

  private constructor(directory: string, devices: readonly string[], offering: readonly string[]) {
    const workerData: OfferingThreadData = { directory, devices, offering, wakeDescriptor: this.wakeDescriptor };
    this.worker = new Worker(new URL('./offering-thread.js', import.meta.url), { workerData });
    this.ready = new Promise(resolve => {
      this.worker.on('message', (message: OfferingMessage) => {
        if (message.type === 'event') this.onEvent?.(message.event);
        else if (message.type === 'statistics') this.waiting.shift()?.(message.statistics);
        else {
          this.sockets = message.sockets;
          resolve();
        }
      });
    });
    this.ended = new Promise((resolve, reject) => {
      this.worker.once('error', reject);
      this.worker.once('exit', () => {
        closeDescriptor(this.wakeDescriptor);
        resolve();
      });
    });
    this.ended.catch(() => {});
  }

  statistics(): Promise<OfferingStatistics> {
    return new Promise(resolve => {
      this.waiting.push(resolve);
      this.ask('statistics');
    });
  }

  async stop(): Promise<void> {
    this.ask('stop');
    await this.ended;
  }

  private ask(question: OfferingQuestion): void {
    this.worker.postMessage(question);
    signalEventFd(this.wakeDescriptor);
  }
}
