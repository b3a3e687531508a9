import { CommandFailure } from './errors.ts';

const KEPT_LINES = 40;
const PANIC = /Kernel panic/;

/** Keeps the end of the guest's console for error messages, and notices when its kernel has given up. */
export class ConsoleWatch {
  /** Rejects when the kernel panics. */
  readonly panicked: Promise<never>;
  private readonly lines: string[] = [];
  private partial = '';
  private reject: (error: Error) => void = () => {};

  constructor() {
    this.panicked = new Promise<never>((_, reject) => {
      this.reject = reject;
    });
    this.panicked.catch(() => {});
  }

  take(chunk: Buffer): void {
    const parts = (this.partial + chunk.toString('latin1')).split(/\r?\n/);
    this.partial = (parts.pop() ?? '').slice(-4096);
    for (const line of parts) {
      this.lines.push(line);
      if (this.lines.length > KEPT_LINES) this.lines.shift();
      if (PANIC.test(line)) this.reject(new CommandFailure(`the guest's kernel panicked:\n${this.tail()}`));
    }
  }

  tail(): string {
    return [...this.lines, this.partial].join('\n').trimEnd();
  }
}
