/** Answers from caches that the tables do not give any more: told at once, or after waiting whether an invalidation comes. */
import { StaleWhat } from '../event-kinds.ts';
import type { DetectorName } from './detectors.ts';
import type { Grace } from './grace.ts';
import { covers, coversContext, type Invalidation } from './invalidation-log.ts';
import { MAX_SUSPICIONS } from './limits.ts';
import { readStale, type StaleAnswer } from './stale-answer.ts';
import { type StaleAccesses, tellAtOnce, tellBeforeFlush, tellNeverFlushed, tellNotWaited } from './stale-findings.ts';
import type { World } from './world.ts';

interface Suspicion extends StaleAccesses {
  last: StaleAnswer;
  count: number;
  /** On the clock of the grace. */
  readonly began: number;
}

/** What it is if no invalidation comes, of answers that wait for one. */
const MISSING: Readonly<Partial<Record<number, DetectorName>>> = {
  [StaleWhat.iotlb]: 'stale-iotlb',
  [StaleWhat.context]: 'stale-context',
};

export class StaleWatch {
  /** In the order of their time, and so of their deadlines. */
  readonly #suspicions = new Map<string, Suspicion>();

  constructor(
    private readonly world: World,
    private readonly grace: Grace,
  ) {}

  get deadline(): number {
    for (const { began } of this.#suspicions.values()) return this.grace.over(began);
    return Number.POSITIVE_INFINITY;
  }

  get waiting(): number {
    return this.#suspicions.size;
  }

  /** Returns the page, whose refusal, if that is what comes next, needs no other explanation. */
  stale(source: string, time: number, payload: Int32Array): { readonly requesterId: number; readonly page: number } {
    const answer = readStale(source, time, payload);
    const missing = MISSING[answer.what];
    if (missing === undefined) tellAtOnce(this.world, answer);
    else this.#suspect(answer, missing);
    return { requesterId: answer.requesterId, page: answer.transfer.page };
  }

  /** Everything that waited for this invalidation was DMA before it. */
  invalidated(invalidation: Invalidation): void {
    for (const [key, suspicion] of this.#suspicions) {
      const { what, requesterId, domain, transfer } = suspicion.first;
      const settles =
        what === StaleWhat.context
          ? coversContext(invalidation, domain, requesterId)
          : covers(invalidation, domain, transfer.page);
      if (!settles) continue;
      this.#suspicions.delete(key);
      tellBeforeFlush(this.world, suspicion, invalidation);
    }
  }

  tick(now: number): void {
    if (this.#suspicions.size === 0) return;
    for (const [key, suspicion] of this.#suspicions) {
      if (this.grace.over(suspicion.began) > now) return;
      this.#decide(key, suspicion, now);
    }
  }

  /** No invalidation can come any more. */
  finish(now: number): void {
    for (const [key, suspicion] of this.#suspicions) this.#decide(key, suspicion, now);
  }

  #suspect(answer: StaleAnswer, missing: DetectorName): void {
    const stopping = this.#stopping(missing);
    if (stopping !== undefined) {
      tellNotWaited(this.world, stopping, answer);
      return;
    }
    const { requesterId, domain, transfer, what, usedFrame } = answer;
    const key = `${what} ${requesterId} ${domain} ${transfer.page} ${usedFrame}`;
    const known = this.#suspicions.get(key);
    if (known !== undefined) {
      known.last = answer;
      known.count++;
      return;
    }
    if (this.#suspicions.size >= MAX_SUSPICIONS) {
      for (const [oldest, suspicion] of this.#suspicions) {
        this.#decide(oldest, suspicion, answer.time);
        break;
      }
    }
    const began = this.grace.running(answer.time);
    this.#suspicions.set(key, { first: answer, last: answer, count: 1, began });
  }

  /**
   * The detector for which the machine has to stop now: afterwards the access has gone on. Whoever switched `dma-before-flush` off does
   * not mind late invalidations, so then only the end of the grace can tell.
   */
  #stopping(missing: DetectorName): DetectorName | undefined {
    const { log } = this.world;
    if (log.stops('dma-before-flush') && !log.stops(missing)) return 'dma-before-flush';
    return log.stops(missing) && log.wants('dma-before-flush') ? missing : undefined;
  }

  #decide(key: string, suspicion: Suspicion, now: number): void {
    this.#suspicions.delete(key);
    tellNeverFlushed(this.world, suspicion, now);
  }
}
