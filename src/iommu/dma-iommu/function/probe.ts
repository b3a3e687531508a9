/** The probe registers: what an access of a device would do, answered by a job. */
import type { FieldHandle } from '../../../pci/registers.ts';
import { Access } from '../../translator.ts';
import type { ProbeAnswer } from '../unit.ts';
import { bitOf, type FunctionCore } from './core.ts';
import { ProbeSource } from './registers.ts';
import type { TranslationSwitch } from './translation-switch.ts';

const START = bitOf(31);
const FRAME_HIGH_SHIFT = 20;
const FRAME_LOW_SHIFT = 12;
const OFFSET_MASK = 0xfff;
const NO_PASID = -1;

/** What was asked, as the registers were when it was. */
export interface Probe {
  readonly requesterId: number;
  readonly pasid: number;
  readonly high: number;
  readonly low: number;
  readonly access: number;
}

export class ProbeRegisters {
  private readonly device: FieldHandle;
  private readonly pasid: FieldHandle;
  private readonly pasidValid: FieldHandle;
  private readonly iova: number;
  private readonly command: number;
  private readonly result: number;
  private readonly address: number;
  private readonly domain: number;
  /** Grows with every reset: a result that comes too late is nobody's. Rings are not its concern, so neither is their cycle. */
  private life = 0;
  private probed: Probe | undefined;

  constructor(
    private readonly core: FunctionCore,
    private readonly translation: TranslationSwitch,
    private readonly push: (job: () => void) => void,
  ) {
    const { registers } = core;
    this.device = registers.field('PROBE_DEVICE', 'REQUESTER_ID');
    this.pasid = registers.field('PROBE_PASID', 'PASID');
    this.pasidValid = registers.field('PROBE_PASID', 'VALID');
    this.iova = registers.offset('PROBE_IOVA') >>> 2;
    this.command = registers.offset('PROBE_COMMAND') >>> 2;
    this.result = registers.offset('PROBE_RESULT') >>> 2;
    this.address = registers.offset('PROBE_ADDRESS') >>> 2;
    this.domain = registers.offset('PROBE_DOMAIN') >>> 2;
  }

  reset(): void {
    this.life++;
    this.core.work.delete('probe');
  }

  /** Software wrote PROBE_COMMAND. While a probe runs the register keeps what it was. */
  commandWritten(before: number): void {
    const { core } = this;
    const { registers } = core;
    const { words } = registers;
    if (before & START) {
      words[this.command] = before;
      core.note('dmaIommu.probeBusy', {});
      return;
    }
    const command = words[this.command]!;
    if ((command & START) === 0) return;
    const access = command & (Access.read | Access.write);
    if (access === 0) core.note('dmaIommu.probeAccess', {});
    const requesterId = registers.get(this.device);
    const pasid = registers.get(this.pasidValid) === 1 ? registers.get(this.pasid) : NO_PASID;
    const high = words[this.iova + 1]!;
    const low = words[this.iova]!;
    this.begin({ requesterId, pasid, high, low, access: access === 0 ? Access.read : access });
  }

  /** undefined: none waits. */
  get waiting(): Probe | undefined {
    return this.core.work.has('probe') ? this.probed : undefined;
  }

  /** Has a probe answered by a job. */
  begin(probe: Probe): void {
    const { life } = this;
    this.probed = probe;
    this.core.work.add('probe');
    this.push(() => {
      if (life === this.life) this.run(life, probe);
    });
  }

  private run(life: number, { requesterId, pasid, high, low, access }: Probe): void {
    this.core.work.delete('probe');
    const answer = this.translation.probe(requesterId, pasid, high, low, access);
    // The walk may have waited for guest memory, and a reset may have come meanwhile.
    if (life !== this.life) return;
    const { words } = this.core.registers;
    const { translated, frame } = answer;
    words[this.result] =
      Number(translated) |
      (Number(answer.stale) << 1) |
      (sourceOf(answer) << 4) |
      (answer.level << 8) |
      (answer.permissions << 12) |
      ((translated ? answer.shift : 0) << 16) |
      ((translated ? 0 : answer.fault) << 24);
    words[this.address] = translated ? (frame << FRAME_LOW_SHIFT) | (low & OFFSET_MASK) : 0;
    words[this.address + 1] = translated ? frame >>> FRAME_HIGH_SHIFT : 0;
    words[this.domain] = answer.domain;
    words[this.command] = words[this.command]! & ~START;
  }
}

function sourceOf({ source, translated }: ProbeAnswer): ProbeSource {
  switch (source) {
    case 'iotlb':
      return ProbeSource.tlb;
    case 'paging-structure':
    case 'walk':
      return ProbeSource.walk;
    default:
      return translated ? ProbeSource.bypass : ProbeSource.none;
  }
}
