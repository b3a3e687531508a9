/** A machine, a guest without a processor, and a small driver of the edu device. */
import { afterEach } from 'vitest';
import { HostPort } from '../../dist/src/inspector/host-port.js';
import { RemoteServer } from '../../dist/src/inspector/remote-server.js';
import { MachineHost } from '../../dist/src/machine/host.js';
import type { TestGuest } from '../../dist/src/testing/guest.js';
// The device thread is a worker, which runs compiled code.
import type { GuestFunction } from '../../dist/src/testing/guest-function.js';
import { attachMachine, type StartOptions, startMachine, type TestMachine } from '../../dist/src/testing/machine.js';
import type { VtdDomain, VtdDriver } from '../../dist/src/testing/vtd-driver.js';
import { describeMachine } from '../../src/machine/description.ts';
import { temporaryDirectory } from '../guest/support.ts';

const cleanups: (() => unknown)[] = [];

/** Whatever the test made goes in the reverse order. */
export function later(cleanup: () => unknown): void {
  cleanups.push(cleanup);
}

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Where the tests' device has its page, and what stands behind it. */
export const IOVA = 0x4560000n;
export const NEVER_MAPPED = 0x1230000n;

export const Edu = { buffer: 0x40000n, interrupt: 4n } as const;
const Register = {
  interruptStatus: 0x24,
  acknowledge: 0x64,
  source: 0x80,
  destination: 0x88,
  count: 0x90,
  command: 0x98,
};
const START = 1n;
const TO_MEMORY = 2n;

export class EduDriver {
  constructor(
    private readonly edu: GuestFunction,
    private readonly guest: TestGuest,
  ) {}

  /** The device reads guest memory into its buffer. */
  async read(iova: bigint, bytes: number, flags = 0n): Promise<void> {
    this.begin(iova, bytes, flags);
    await this.done();
  }

  /** The device writes its buffer to guest memory. */
  async write(iova: bigint, bytes: number, flags = 0n): Promise<void> {
    this.begin(iova, bytes, flags | TO_MEMORY);
    await this.done();
  }

  begin(iova: bigint, bytes: number, flags: bigint): void {
    const [outside, inside] =
      flags & TO_MEMORY ? [Register.destination, Register.source] : [Register.source, Register.destination];
    this.edu.write64(0, inside, Edu.buffer);
    this.edu.write64(0, outside, iova);
    this.edu.write64(0, Register.count, BigInt(bytes));
    this.edu.write64(0, Register.command, START | flags);
  }

  get busy(): boolean {
    return (this.edu.read32(0, Register.command) & Number(START)) !== 0;
  }

  done(): Promise<void> {
    return this.guest.until(() => !this.busy, 'the end of the DMA');
  }

  /** Interrupts since this was asked last; the device's own status is acknowledged. */
  takeInterrupts(): number {
    const status = this.edu.read32(0, Register.interruptStatus);
    if (status !== 0) this.edu.write32(0, Register.acknowledge, status);
    return this.edu.takeInterrupts();
  }
}

export interface Bench {
  readonly machine: TestMachine;
  readonly guest: TestGuest;
  readonly vtd: VtdDriver;
  readonly domain: VtdDomain;
  /** One page, mapped at `IOVA` for edu0. */
  readonly page: bigint;
  readonly edu: EduDriver;
}

export async function start(options: StartOptions = {}): Promise<TestMachine> {
  const machine = await startMachine(options);
  later(() => machine.stop());
  return machine;
}

/** As `viommu serve --listen` does it. */
export async function serve(options: StartOptions = {}): Promise<{ url: string; directory: string }> {
  const { path, remove } = temporaryDirectory();
  later(remove);
  const description = describeMachine(options.iommu ?? 'vtd', options.devices ?? ['edu@01:00.0', 'edu@02:00.0']);
  const host = await MachineHost.start(description, path);
  later(() => host.stop());
  const server = await RemoteServer.start({ machines: new Map([['machine', new HostPort(host)]]) });
  later(() => server.close());
  return { url: server.url, directory: path };
}

/** The machine is the one behind the remote API. */
export async function startRemote(options: StartOptions = {}): Promise<TestMachine> {
  const { url, directory } = await serve(options);
  const machine = await attachMachine({
    ...(options.record === undefined ? {} : { record: options.record }),
    url,
    directory,
  });
  later(() => machine.stop());
  return machine;
}

/** The guest has one page mapped for edu0. */
export async function connect(machine: TestMachine): Promise<Bench> {
  const guest = machine.connectGuest();
  later(() => guest.close());
  const vtd = guest.vtd();
  const domain = vtd.createDomain();
  const page = guest.memory.allocate();
  vtd.map(domain, IOVA, page);
  await vtd.attach('01:00.0', domain);
  return { machine, guest, vtd, domain, page, edu: new EduDriver(guest.function('edu0'), guest) };
}

export const WAYS = [
  ['in this process', start],
  ['behind the remote API', startRemote],
] as const;
