/** Something that goes wrong on purpose. */
import type { InjectionState } from '../machine/injection/rules.ts';
import type { MachineAccess } from './access.ts';
import type { Arrivals } from './arrivals.ts';

const TIMEOUT_MS = 10_000;

export class Injected {
  constructor(
    private readonly access: MachineAccess,
    private readonly arrivals: Arrivals,
    readonly id: number,
  ) {}

  /** Lets go what it holds; it will not apply again. */
  async release(): Promise<void> {
    await this.access.releaseInjection(this.id);
  }

  /** The same, and the machine forgets it. */
  async remove(): Promise<void> {
    await this.access.removeInjection(this.id);
  }

  /** How often it applied, what it holds, and whether it is over; undefined once it was removed. */
  async state(): Promise<InjectionState | undefined> {
    return (await this.access.injections()).find(one => one.id === this.id);
  }

  /** Waits until it has applied so often. */
  async applied(times = 1, timeoutMs = TIMEOUT_MS): Promise<InjectionState> {
    let last: InjectionState | undefined;
    const found = await this.arrivals.until(async () => {
      last = await this.state();
      return last !== undefined && last.applied >= times ? last : undefined;
    }, timeoutMs);
    if (found !== undefined) return found;
    const so = last === undefined ? 'it was removed' : `it applied ${last.applied} times`;
    throw new Error(`injection ${this.id} did not apply ${times} times within ${timeoutMs} ms: ${so}`);
  }
}
