/** A good client that goes on beside the others: whatever these do, its answers must be right. */
import type { EventLoop } from '../../src/posix/event-loop.ts';
import { GuestFunction } from '../../src/testing/guest-function.ts';
import { GuestRam } from '../../src/testing/guest-memory.ts';
import { MigrationState } from '../../src/vfio-user/migration.ts';
import { MigrationClient } from '../../src/vfio-user/migration-client.ts';
import { Feature } from '../../src/vfio-user/spec.ts';
import type { FunctionFacts } from './expectation.ts';
import { FuzzFailure } from './failure.ts';

const BAR = 0;
const Edu = {
  identification: 0x00,
  liveness: 0x04,
  source: 0x80,
  destination: 0x88,
  count: 0x90,
  command: 0x98,
} as const;
const IDENTITY = 0x010000ed;
const VENDOR_AND_DEVICE = 0x11e81234;
const EDU_BUFFER = 0x40000n;
const TO_MEMORY = 3;
const FROM_MEMORY = 1;
const RAM_BYTES = 4 * 1048576;
const COUNT = 256;
/** A transfer that takes longer is a hang: more than a message of another client may take. */
const PATIENCE_MS = 30_000;

export class Witness {
  done = 0;
  private readonly ram = new GuestRam(RAM_BYTES);
  private readonly edu: GuestFunction;
  private readonly from: bigint;
  private readonly to: bigint;

  constructor(
    private readonly name: string,
    private readonly loop: EventLoop,
    socket: string,
    private readonly doesDma: boolean,
  ) {
    this.edu = new GuestFunction(name, loop, socket, this.ram);
    this.from = this.ram.allocate();
    this.to = this.ram.allocate();
  }

  /** One round of valid work, with DMA or without. */
  work(doesDma: boolean): void {
    const { edu } = this;
    this.done++;
    const word = Math.imul(this.done, 0x9e3779b1) >>> 0;
    edu.write32(BAR, Edu.liveness, word);
    this.expect('liveness', edu.read32(BAR, Edu.liveness), ~word >>> 0);
    this.expect('identification', edu.read32(BAR, Edu.identification), IDENTITY);
    const config = edu.client.regionRead(7, 0, 4);
    this.expect(
      'vendor and device',
      new DataView(config.buffer, config.byteOffset).getUint32(0, true),
      VENDOR_AND_DEVICE,
    );
    if (this.doesDma && doesDma) this.transfer(word);
  }

  close(): void {
    this.edu.close();
    this.ram.close();
  }

  private transfer(word: number): void {
    const { ram } = this;
    const bytes = Uint8Array.from({ length: COUNT }, (_, i) => word >>> (8 * (i & 3)));
    ram.write(this.from, bytes);
    ram.write(this.to, new Uint8Array(COUNT));
    this.move(this.from, EDU_BUFFER, FROM_MEMORY);
    this.move(EDU_BUFFER, this.to, TO_MEMORY);
    if (!Buffer.from(ram.read(this.to, COUNT)).equals(bytes)) this.fail('its DMA brought other bytes');
  }

  private move(source: bigint, destination: bigint, command: number): void {
    const { edu } = this;
    edu.write64(BAR, Edu.source, source);
    edu.write64(BAR, Edu.destination, destination);
    edu.write64(BAR, Edu.count, BigInt(COUNT));
    edu.write32(BAR, Edu.command, command);
    if (!this.loop.waitUntil(() => (edu.read32(BAR, Edu.command) & 1) === 0, PATIENCE_MS)) {
      this.fail(`its DMA was not done within ${PATIENCE_MS} ms`);
    }
  }

  private expect(what: string, is: number, shouldBe: number): void {
    if (is !== shouldBe) this.fail(`${what} is 0x${is.toString(16)}, not 0x${shouldBe.toString(16)}`);
  }

  private fail(why: string): never {
    throw new FuzzFailure(why, `the witness at ${this.name}`);
  }
}

/** What a function says of itself. */
export function readFacts(loop: EventLoop, socket: string): FunctionFacts {
  const ram = new GuestRam(RAM_BYTES);
  const edu = new GuestFunction('facts', loop, socket, ram);
  const migration = new MigrationClient(edu.client);
  const word = (command: number, payload: Uint32Array, at: number) => {
    const { payload: answer } = edu.client.request(command, new Uint8Array(payload.buffer));
    return new DataView(answer.buffer, answer.byteOffset).getUint32(at, true);
  };
  try {
    const { regions, irqs } = edu.client.getDeviceInfo();
    return {
      regions: Array.from({ length: regions }, (_, index) => ({
        flags: word(5, Uint32Array.of(32, 0, index, 0, 0, 0, 0, 0), 4),
        size: edu.client.regionInfo(index).size,
      })),
      interrupts: Array.from({ length: irqs }, (_, index) => ({
        flags: word(7, Uint32Array.of(16, 0, index, 0), 4),
        count: edu.client.irqInfo(index).count,
      })),
      migrates: migration.probe(Feature.deviceState),
      logs: migration.probe(Feature.loggingStart),
    };
  } finally {
    edu.close();
    ram.close();
  }
}

/** What it saves. */
export function readState(loop: EventLoop, socket: string): Uint8Array {
  const ram = new GuestRam(RAM_BYTES);
  const one = new GuestFunction('state', loop, socket, ram);
  const migration = new MigrationClient(one.client);
  try {
    migration.setState(MigrationState.stopCopy);
    const state = migration.readAll();
    migration.setState(MigrationState.running);
    return new Uint8Array(state);
  } finally {
    one.close();
    ram.close();
  }
}
