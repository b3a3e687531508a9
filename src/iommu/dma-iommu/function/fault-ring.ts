/** Faults on their way to the guest. A full ring loses them, and counts them. */
import { MemoryStatus } from '../../../memory/guest-memory.ts';
import { type StateValue, stateFields, stateFlag, stateList, stateNumber } from '../../../pci/state.ts';
import { savedFault, savedWide, stateFault, stateWide } from '../saved-values.ts';
import { type DeviceFaultHandler, type FaultInformation, FaultInformationArch } from '../types.ts';
import type { FunctionCore } from './core.ts';
import type { Interrupts } from './interrupts.ts';
import { Arm64FaultFlag, faultLayout, X64FaultFlag } from './layout.ts';
import { FAULTS_PENDING_MAX } from './limits.ts';
import { RingError, Source } from './registers.ts';
import type { Ring } from './ring.ts';
import { Entry } from './struct.ts';

const { fields } = faultLayout;
const FIRST_WORD_BYTES = 4;
const SEQUENCE_MAX = 0xffff_ffff;

export interface RingFault {
  readonly context: bigint;
  readonly fault: FaultInformation;
  readonly sequence: number;
}

export class FaultRing {
  private readonly overflow: number;
  private readonly entry = new Entry(faultLayout.bytes);
  private readonly pending: RingFault[] = [];
  /** Counts faults, lost ones too, since the rings were enabled. */
  private sequence = 0;
  /** The last fault was lost: only the first of a row is noted. */
  private losing = false;
  private current: DeviceFaultHandler | undefined;

  constructor(
    private readonly core: FunctionCore,
    private readonly ring: Ring,
    private readonly interrupts: Interrupts,
  ) {
    this.overflow = core.registers.offset('FAULT_OVERFLOW') >>> 2;
  }

  /** The handler to give to the unit, with the guest's context as `faultContext`. Deaf after a reset. */
  handler(): DeviceFaultHandler {
    if (this.current !== undefined) return this.current;
    const handler: DeviceFaultHandler = (context, fault) => {
      if (handler === this.current) this.take(typeof context === 'bigint' ? context : 0n, fault);
    };
    this.current = handler;
    return handler;
  }

  isOwn(handler: DeviceFaultHandler): boolean {
    return handler === this.current;
  }

  start(): void {
    this.clear();
    this.sequence = 0;
  }

  stop(): void {
    for (const { fault } of this.pending) this.lose(fault);
    this.clear();
  }

  reset(): void {
    this.current = undefined;
    this.clear();
  }

  /** There is room again, or software cleared an error. */
  wake(): void {
    const { work } = this.core;
    if (work.has('faultRing') || this.pending.length === 0) return;
    work.add('faultRing');
    this.core.later(() => this.drain());
  }

  save(): StateValue {
    const pending = this.pending.map(({ context, fault, sequence }) => ({
      context: savedWide(context),
      fault: savedFault(fault),
      sequence,
    }));
    return { pending, sequence: this.sequence, losing: this.losing };
  }

  /** As `Saveable.restore`; `wake` goes on with what waits. */
  restore(state: unknown): { readonly waits: boolean; readonly apply: () => void } {
    const fields = stateFields(state, 'the fault ring', ['pending', 'sequence', 'losing']);
    const sequence = stateNumber(fields.sequence, 'the sequence of faults', 0, SEQUENCE_MAX);
    const losing = stateFlag(fields.losing, 'whether faults are lost');
    const pending = stateList(fields.pending, 'the faults for the ring', FAULTS_PENDING_MAX).map((one): RingFault => {
      const fault = stateFields(one, 'a fault for the ring', ['context', 'fault', 'sequence']);
      return {
        context: stateWide(fault.context, 'the context of a fault'),
        fault: stateFault(fault.fault),
        sequence: stateNumber(fault.sequence, 'the sequence of a fault', 0, SEQUENCE_MAX),
      };
    });
    const apply = () => {
      this.pending.push(...pending);
      this.sequence = sequence;
      this.losing = losing;
    };
    return { waits: pending.length > 0, apply };
  }

  private clear(): void {
    this.pending.length = 0;
    this.core.work.delete('faultRing');
    this.losing = false;
  }

  private take(context: bigint, fault: FaultInformation): void {
    const { sequence } = this;
    this.sequence = (sequence + 1) >>> 0;
    if (!this.ring.running || this.pending.length >= FAULTS_PENDING_MAX) {
      this.lose(fault);
      return;
    }
    this.pending.push({ context, fault, sequence });
    this.wake();
  }

  private drain(): void {
    this.core.work.delete('faultRing');
    const { core, ring, pending } = this;
    const { cycle } = core;
    // What comes while memory is waited for is written, too: their number is limited by what fits the ring.
    while (pending.length > 0) {
      const next = pending[0]!;
      if (!ring.running || ring.full) {
        pending.shift();
        this.lose(next.fault);
        continue;
      }
      this.encode(next);
      const written = this.write(cycle);
      if (cycle !== core.cycle) return;
      pending.shift();
      if (!written) {
        ring.fail(RingError.memory, { index: ring.tail });
        this.lose(next.fault);
        continue;
      }
      this.losing = false;
      ring.advanceTail();
      this.interrupts.raise(Source.fault);
    }
  }

  private lose({ requesterId }: FaultInformation): void {
    const { words } = this.core.registers;
    words[this.overflow] = (words[this.overflow]! + 1) | 0;
    if (this.losing) return;
    this.losing = true;
    this.core.note('dmaIommu.faultLost', { requesterId, lost: words[this.overflow]! >>> 0 });
  }

  private encode({ context, fault, sequence }: RingFault): void {
    const { entry } = this;
    entry.bytes.fill(0);
    entry.set(fields.phase, this.ring.phase);
    entry.set(fields.arch, fault.type);
    entry.set(fields.isStage1, Number(fault.isStage1));
    entry.set(fields.access, fault.access);
    entry.set(fields.requesterId, fault.requesterId);
    entry.set64(fields.context, context);
    entry.set(fields.pasid, fault.pasid);
    entry.set(fields.sequence, sequence);
    const information = fault.type === FaultInformationArch.Arm64 ? fault.arm64 : fault.x64;
    entry.set64(fields.faultAddress, information.faultAddress);
    entry.set64(fields.iommuBaseAddress, information.iommuBaseAddress);
    entry.set(fields.domain, information.domainHandle);
    entry.set(fields.type, information.type);
    entry.set(fields.flags, flagsOf(fault));
    if (fault.type === FaultInformationArch.Arm64) {
      entry.set(fields.pdo, fault.arm64.physicalDeviceObject);
      entry.set(fields.inputMappingId, fault.arm64.inputMappingId);
    } else {
      entry.set(fields.pciSegment, fault.x64.pciSegment);
    }
  }

  /** The word with the phase comes last: a guest that sees it sees the entry. */
  private write(cycle: number): boolean {
    const { core, ring, entry } = this;
    const frame = ring.frameOf(ring.tail);
    const offset = ring.offsetOf(ring.tail);
    const rest = faultLayout.bytes - FIRST_WORD_BYTES;
    const status = core.memory.write(frame, offset + FIRST_WORD_BYTES, entry.bytes, FIRST_WORD_BYTES, rest);
    if (status !== MemoryStatus.ok || cycle !== core.cycle) return false;
    return core.memory.store32(frame, offset, entry.words[0]!) === MemoryStatus.ok;
  }
}

function flagsOf(fault: FaultInformation): number {
  if (fault.type === FaultInformationArch.X64) return fault.x64.flags.faultAddressValid ? X64FaultFlag.addressValid : 0;
  const { writeNotRead, instructionNotData, privileged, faultAddressValid } = fault.arm64.flags;
  return (
    (writeNotRead ? Arm64FaultFlag.writeNotRead : 0) |
    (instructionNotData ? Arm64FaultFlag.instructionNotData : 0) |
    (privileged ? Arm64FaultFlag.privileged : 0) |
    (faultAddressValid ? Arm64FaultFlag.addressValid : 0)
  );
}
