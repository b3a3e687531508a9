/** Tells from a bridge's events whether QEMU has lost a device for good: a link also ends whenever QEMU does. */
import type { TraceEvent } from '../trace/trace.ts';

export class LinkWatch {
  /** Resolves with the reason; never rejects. */
  readonly dead: Promise<string>;
  /** Functions whose connection is away at the moment. */
  private readonly away = new Set<string>();
  private resolve: (reason: string) => void = () => {};

  constructor() {
    this.dead = new Promise(resolve => {
      this.resolve = resolve;
    });
  }

  hear({ kind, source, detail }: TraceEvent): void {
    switch (kind) {
      case 'link.lost':
        this.away.add(source);
        return;
      case 'link.resumed':
      case 'link.opened':
        this.away.delete(source);
        return;
      case 'link.failed':
        this.resolve(`no connection to ${source}: ${detail.reason}`);
        return;
      case 'link.closed':
        if (this.away.has(source)) this.resolve(`${source}: ${detail.reason}`);
    }
  }
}
