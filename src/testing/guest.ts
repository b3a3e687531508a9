/**
 * A guest without QEMU and without a processor: it connects to every function of a machine as QEMU does, shares memory with them, and
 * does what the test says. For tests of drivers' logic and of device models that have no need of a real kernel.
 */
import { EventLoop } from '../posix/event-loop.ts';
import { GuestFunction } from './guest-function.ts';
import { GuestRam } from './guest-memory.ts';
import { VtdDriver } from './vtd-driver.ts';

const MEMORY_BYTES = 16 * 1024 * 1024;
const UNTIL_TIMEOUT_MS = 5000;
const IOMMU = 'iommu';

/** For `TestGuest`. */
export interface GuestOptions {
  /** RAM from guest-physical address 0 on. Default: 16 MiB. */
  readonly memoryBytes?: number;
}

/** A guest without a processor: RAM, and registers of the machine's functions to read and write. */
export class TestGuest {
  /** Its RAM, which the machine's functions reach by DMA. */
  readonly memory: GuestRam;
  private readonly loop: EventLoop;
  private readonly functions = new Map<string, GuestFunction>();

  /** `sockets`: paths by function name. Throws a SystemError where nobody listens, or somebody is connected already. */
  constructor(sockets: Readonly<Record<string, string>>, { memoryBytes = MEMORY_BYTES }: GuestOptions = {}) {
    this.memory = new GuestRam(memoryBytes);
    this.loop = new EventLoop(error => {
      throw error;
    });
    try {
      for (const [name, path] of Object.entries(sockets)) {
        this.functions.set(name, new GuestFunction(name, this.loop, path, this.memory));
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** An endpoint by its id, or `iommu`. Throws an Error where there is none. */
  function(name: string): GuestFunction {
    const found = this.functions.get(name);
    if (found !== undefined) return found;
    throw new Error(`there is no function '${name}': the machine has ${[...this.functions.keys()].join(', ')}`);
  }

  /** Takes the machine's VT-d unit into use: translation is on, and no device is attached to anything. */
  vtd(): VtdDriver {
    return new VtdDriver(this.function(IOMMU), this.memory);
  }

  /** Waits for something that the machine does; rejects after the time, 5 seconds by default. */
  async until(done: () => boolean, what = 'what was waited for', timeoutMs = UNTIL_TIMEOUT_MS): Promise<void> {
    const end = performance.now() + timeoutMs;
    while (!done()) {
      if (performance.now() > end) throw new Error(`${what} did not come within ${timeoutMs} ms`);
      await new Promise(resolve => setTimeout(resolve, 1));
    }
  }

  /** Disconnects, as QEMU does when it ends. */
  close(): void {
    for (const one of this.functions.values()) one.close();
    this.functions.clear();
    this.loop.close();
    this.memory.close();
  }
}
