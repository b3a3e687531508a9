/** A QEMU on a thread of its own that does DMA all the time and checks it: `qemu-worker.mjs`. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { repository } from '../support.ts';

export class FakeQemu {
  /** Resolves with why it stopped: undefined where it was told to. Never rejects. */
  readonly ended: Promise<string | undefined>;
  private readonly worker: Worker;
  private readonly control = new Int32Array(new SharedArrayBuffer(8));

  constructor(path: string) {
    const modules = join(repository, 'dist', 'src');
    this.worker = new Worker(new URL('./qemu-worker.mjs', import.meta.url), {
      workerData: { modules, path, shared: this.control.buffer },
    });
    this.ended = new Promise(resolve => {
      let why: string | undefined = 'it ended by itself';
      this.worker.on('message', (message: { done?: true; failed?: string }) => {
        if (message.done) why = undefined;
        if (message.failed !== undefined) why = message.failed;
      });
      this.worker.on('error', error => {
        why = (error as Error).message;
      });
      this.worker.on('exit', () => resolve(why));
    });
  }

  /** Rounds whose every byte was right. */
  get rounds(): number {
    return Atomics.load(this.control, 0);
  }

  /** Resolves when so many more rounds have gone well; rejects where it stops before. */
  async goOn(rounds: number): Promise<void> {
    const wanted = this.rounds + rounds;
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        if (this.rounds < wanted) return;
        this.worker.off('message', look);
        resolve();
      };
      this.worker.on('message', look);
      this.ended.then(why => reject(new Error(`QEMU stopped after ${this.rounds} rounds: ${why}`)));
      look();
    });
  }

  /** Why it stopped before; undefined: it went on until now. */
  async stop(): Promise<string | undefined> {
    Atomics.store(this.control, 1, 1);
    return await this.ended;
  }
}
