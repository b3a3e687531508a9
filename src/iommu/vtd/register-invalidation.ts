/** Invalidation through the context command and IOTLB registers (6.5.1): what software uses where there is no queue. */
import type { FieldHandle } from '../../pci/registers.ts';
import { MAX_ADDRESS_MASK } from './capabilities.ts';
import type { VtdCore } from './core.ts';
import { type CacheInvalidator, Granularity } from './invalidation.ts';
import { SingleJob } from './single-job.ts';

const INVALIDATION_HINT = 1 << 6;
const ADDRESS_MASK = 0x3f;

/** What the two command registers have in common. */
interface Command {
  readonly register: string;
  /** ICC or IVT: set by software, cleared when done. */
  readonly busy: FieldHandle;
  readonly requested: FieldHandle;
  readonly actual: FieldHandle;
  readonly domain: FieldHandle;
  readonly job: SingleJob;
}

export class RegisterInvalidation {
  private readonly contextCommand: Command;
  private readonly iotlbCommand: Command;
  private readonly source: FieldHandle;
  private readonly functionMask: FieldHandle;
  private readonly queueEnabled: FieldHandle;
  private readonly address: number;

  /** `mode` tells the translation table mode in use; other modes than legacy have no register-based invalidation. */
  constructor(
    private readonly core: VtdCore,
    private readonly caches: CacheInvalidator,
    private readonly mode: () => number,
  ) {
    const { registers } = core;
    const command = (register: string, busy: string, requested: string, actual: string): Command => ({
      register,
      busy: registers.field(register, busy),
      requested: registers.field(register, requested),
      actual: registers.field(register, actual),
      domain: registers.field(register, 'DID'),
      job: new SingleJob(core, register === 'CCMD' ? 'context' : 'iotlb'),
    });
    this.contextCommand = command('CCMD', 'ICC', 'CIRG', 'CAIG');
    this.iotlbCommand = command('IOTLB', 'IVT', 'IIRG', 'IAIG');
    this.source = registers.field('CCMD', 'SID');
    this.functionMask = registers.field('CCMD', 'FM');
    this.queueEnabled = registers.field('GSTS', 'QIES');
    this.address = registers.offset('IVA') >>> 2;
  }

  /** Software wrote the upper word of CCMD. */
  contextWritten(): void {
    this.schedule(this.contextCommand, () => this.runContext());
  }

  /** Software wrote the upper word of IOTLB. */
  iotlbWritten(): void {
    this.schedule(this.iotlbCommand, () => this.runIotlb());
  }

  /** One job for each register at most, however often software writes it while the jobs wait for a client. */
  private schedule(command: Command, run: () => void): void {
    if (this.core.registers.get(command.busy)) command.job.schedule(run);
  }

  private runContext(): void {
    const { registers, statistics } = this.core;
    const command = this.contextCommand;
    if (!registers.get(command.busy)) return;
    const granularity = registers.get(command.requested);
    const error = this.refusal(granularity);
    if (error === undefined) {
      const source = registers.get(this.source);
      const mask = registers.get(this.functionMask);
      this.caches.context(statistics.registerBased, granularity, registers.get(command.domain), source, mask);
    }
    this.finish(command, granularity, error);
  }

  private runIotlb(): void {
    const { registers, statistics } = this.core;
    const command = this.iotlbCommand;
    if (!registers.get(command.busy)) return;
    const granularity = registers.get(command.requested);
    const low = registers.words[this.address];
    const high = registers.words[this.address + 1];
    const mask = low & ADDRESS_MASK;
    const tooLarge = granularity === Granularity.selective && mask > MAX_ADDRESS_MASK;
    const error = this.refusal(granularity) ?? (tooLarge ? `address mask ${mask} above CAP.MAMV` : undefined);
    if (error === undefined) {
      const leafOnly = (low & INVALIDATION_HINT) !== 0;
      const domain = registers.get(command.domain);
      this.caches.iotlb(statistics.registerBased, granularity, domain, high, low, mask, leafOnly);
    }
    this.finish(command, granularity, error);
  }

  private refusal(granularity: number): string | undefined {
    if (this.core.registers.get(this.queueEnabled)) return 'queued invalidation is enabled';
    if (this.mode() !== 0) return 'the translation table mode is not legacy';
    if (granularity === Granularity.reserved) return 'reserved granularity';
    return undefined;
  }

  /** An actual granularity of zero says that the request was incorrect and ignored (11.4.6.1, 11.4.6.3). */
  private finish(command: Command, granularity: number, error: string | undefined): void {
    const { registers, statistics } = this.core;
    registers.set(command.actual, error === undefined ? granularity : 0);
    registers.set(command.busy, 0);
    if (error === undefined) return;
    statistics.registerErrors++;
    this.core.note('vtd.invalidationRefused', { register: command.register, why: error });
  }
}
