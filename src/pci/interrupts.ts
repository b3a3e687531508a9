import { EventClass, InterruptAction, InterruptWay, Kind } from '../trace/event-kinds.ts';
import { type Events, noEvents } from '../trace/events.ts';
import type { Trace } from '../trace/trace.ts';
import type { ClientPort, InterruptDescription } from '../vfio-user/device-model.ts';
import { msiMaskOffset, msiPendingOffset } from './capabilities.ts';
import { CapabilityId, CommandBit, Header, Msi, Msix, PowerManagement, StatusBit } from './config-layout.ts';
import type { ConfigSpace } from './config-space.ts';
import type { FunctionDefinition } from './definition.ts';
import type { MsixTable } from './msix.ts';
import type { InterruptLine } from './ports.ts';
import { type Saveable, StateError, type StateValue, stateFields, stateNumber } from './state.ts';

/** linux/vfio.h, VFIO_PCI_*_IRQ_INDEX. */
export const InterruptIndex = { intx: 0, msi: 1, msix: 2, error: 3, request: 4 } as const;

const ABSENT: InterruptDescription = {
  count: 0,
  eventfd: false,
  maskable: false,
  automasked: false,
  noresize: false,
};

/** The five interrupt indexes of a function, with the flags that vfio-pci gives them. */
export function describeInterrupts(definition: FunctionDefinition): InterruptDescription[] {
  const { interruptPin, msi, msix } = definition;
  const message = { eventfd: true, maskable: false, automasked: false };
  return [
    interruptPin ? { count: 1, eventfd: true, maskable: true, automasked: true, noresize: false } : ABSENT,
    msi ? { ...message, count: msi.vectors, noresize: true } : ABSENT,
    // Vectors can be armed one by one while others are in use, so their number may grow.
    msix ? { ...message, count: msix.vectors, noresize: false } : ABSENT,
    ABSENT,
    ABSENT,
  ];
}

/**
 * The interrupts of one function: MSI-X where it is enabled, else MSI, else INTx. "Enabled" is either the capability's enable bit
 * or an eventfd that the client set: the two reach the server one after the other, and a client may use eventfds alone.
 *
 * A message that cannot be sent (vector masked, no eventfd yet, bus mastering off, not in D0) stays pending and is sent once.
 *
 * As events: `raised` each time the client is signalled; `pending` when that has to wait; `lowered` when INTx is deasserted; `lost`
 * when nothing will come of it any more.
 */
export class FunctionInterrupts implements InterruptLine, Saveable {
  private client: ClientPort | undefined;
  private asserted = false;
  /** INTx was signalled, and the client masked it until it says that it is done. */
  private automasked = false;
  private msiArmed = false;
  private msixArmed = false;
  private msiPending = 0;
  /** What software last allocated, as a power of two. */
  private lastAllocated = 0;
  /** The function is stopped: nothing is signalled, all that is raised stays pending. */
  private stopped = false;
  private readonly events: Events;
  private readonly source: number;
  private readonly msiControl: number;
  private readonly msixControl: number;
  private readonly msiMask: number;
  private readonly msiPendingAt: number;
  private readonly msiVectors: number;
  private readonly pin: number;

  constructor(
    private readonly name: string,
    private readonly config: ConfigSpace,
    private readonly table: MsixTable | undefined,
    private readonly trace: Trace,
  ) {
    const { msi, interruptPin } = config.definition;
    const msiAt = config.capability(CapabilityId.msi);
    this.pin = interruptPin;
    this.msiVectors = msi?.vectors ?? 0;
    this.msiControl = msi ? msiAt + Msi.control : 0;
    this.msixControl = table ? config.capability(CapabilityId.msix) + Msix.control : 0;
    this.msiMask = msi?.maskable ? msiAt + msiMaskOffset(msi) : 0;
    this.msiPendingAt = msi?.maskable ? msiAt + msiPendingOffset(msi) : 0;
    this.events = trace.records ?? noEvents;
    this.source = this.events.sourceId(name);
    if (table) table.onUnmask = vector => this.deliverMsix(vector);
    config.own(Header.status, StatusBit.interrupt);
    if (this.msiPendingAt !== 0) config.own(this.msiPendingAt, 2 ** this.msiVectors - 1);
  }

  raise(vector = 0): void {
    if (this.usesMsix()) this.raiseMsix(vector);
    else if (this.usesMsi()) this.raiseMsi(vector);
    else this.assert();
  }

  lower(): void {
    if (!this.asserted) return;
    this.asserted = false;
    this.config.setBits(Header.status, StatusBit.interrupt, 0);
    this.tell(InterruptWay.intx, InterruptAction.lowered, 0);
  }

  /** The client came (or went, with undefined): nothing is armed yet, INTx is not masked. */
  attach(client: ClientPort | undefined): void {
    this.client = client;
    this.automasked = false;
    this.msiArmed = false;
    this.msixArmed = false;
    if (!client) return;
    this.msiArmed = this.anyArmed(InterruptIndex.msi, this.msiVectors);
    this.msixArmed = this.anyArmed(InterruptIndex.msix, this.table?.vectors ?? 0);
  }

  /** The client set or removed eventfds of this index. */
  armed(index: number): void {
    if (index === InterruptIndex.msi) this.msiArmed = this.anyArmed(index, this.msiVectors);
    if (index === InterruptIndex.msix) this.msixArmed = this.anyArmed(index, this.table?.vectors ?? 0);
    // Taking the eventfd away ends the automask with it.
    if (index === InterruptIndex.intx && !this.client?.isArmed(index, 0)) this.automasked = false;
    this.evaluate();
  }

  /** The client lets INTx through again: signal it once more where it is still asserted. */
  unmasked(index: number): void {
    if (index === InterruptIndex.intx) this.automasked = false;
    this.evaluate();
  }

  /** Sends whatever may go now: after a write to configuration space, and whenever else a condition changed. */
  evaluate(): void {
    const msix = this.usesMsix();
    const msi = !msix && this.usesMsi();
    if (!msix) this.dropPendingMsix();
    if (!msi && this.msiPending !== 0) this.dropPendingMsi();
    this.checkAllocation();
    if (msix) this.sendPendingMsix();
    else if (msi) this.sendPendingMsi();
    else this.signalLine();
  }

  /**
   * The function was reset: nothing asserted, nothing pending. What belongs to the client stays: its eventfds, and its mask
   * on INTx, which only it can lift.
   */
  reset(): void {
    this.lower();
    this.msiPending = 0;
    this.lastAllocated = 0;
    this.table?.reset();
  }

  stop(): void {
    this.stopped = true;
  }

  /** What had to wait goes out. */
  start(): void {
    if (!this.stopped) return;
    this.stopped = false;
    this.evaluate();
  }

  /** What configuration space and the client do not hold already. */
  save(): StateValue {
    return { msiPending: this.msiPending >>> 0, msix: this.table?.save() ?? false };
  }

  /** `restore` of the configuration space comes first. */
  restore(state: unknown): () => void {
    const fields = stateFields(state, 'the interrupts', ['msiPending', 'msix']);
    const pending = stateNumber(fields.msiPending, 'pending MSI', 0, 2 ** this.msiVectors - 1);
    if (this.table === undefined && fields.msix !== false) throw new StateError('the function has no MSI-X table');
    const restoreTable = this.table?.restore(fields.msix);
    return () => {
      restoreTable?.();
      // A level that is asserted shows in the status register. Whether the client has masked it, the client knows.
      this.asserted = (this.config.get16(Header.status) & StatusBit.interrupt) !== 0;
      this.setMsiPending(pending | 0);
      this.lastAllocated = 0;
    };
  }

  private usesMsix(): boolean {
    if (!this.table) return false;
    return this.msixArmed || (this.config.get16(this.msixControl) & Msix.enable) !== 0;
  }

  private usesMsi(): boolean {
    if (this.msiControl === 0) return false;
    return this.msiArmed || (this.config.get16(this.msiControl) & Msi.enable) !== 0;
  }

  private anyArmed(index: number, vectors: number): boolean {
    for (let vector = 0; vector < vectors; vector++) {
      if (this.client?.isArmed(index, vector)) return true;
    }
    return false;
  }

  private assert(): void {
    if (this.pin === 0) {
      this.trace.note('interrupt.lost', this.name, { why: 'no message interrupts enabled, and no interrupt pin' });
      this.tell(InterruptWay.intx, InterruptAction.lost, 0);
      return;
    }
    const fresh = !this.asserted;
    if (fresh) {
      this.asserted = true;
      this.config.setBits(Header.status, StatusBit.interrupt, StatusBit.interrupt);
    }
    if (!this.signalLine() && fresh) this.tell(InterruptWay.intx, InterruptAction.pending, 0);
  }

  /** True where the client was signalled. */
  private signalLine(): boolean {
    if (!this.asserted || this.automasked || this.stopped || !this.client) return false;
    if ((this.config.command & CommandBit.interruptDisable) !== 0 || this.isAsleep()) return false;
    this.automasked = this.client.trigger(InterruptIndex.intx, 0);
    if (this.automasked) this.tell(InterruptWay.intx, InterruptAction.raised, 0);
    return this.automasked;
  }

  private raiseMsix(vector: number): void {
    const table = this.table!;
    if (!this.checkVector(InterruptWay.msix, vector, table.vectors)) return;
    table.setPending(vector, true);
    this.noteBusMaster(vector);
    this.deliverMsix(vector);
    if (table.isPending(vector)) this.tell(InterruptWay.msix, InterruptAction.pending, vector);
  }

  private deliverMsix(vector: number): void {
    const table = this.table!;
    if (!table.isPending(vector) || table.isMasked(vector) || !this.maySend()) return;
    if ((this.config.get16(this.msixControl) & Msix.functionMask) !== 0) return;
    if (!this.client?.trigger(InterruptIndex.msix, vector)) return;
    table.setPending(vector, false);
    this.tell(InterruptWay.msix, InterruptAction.raised, vector);
  }

  private sendPendingMsix(): void {
    const table = this.table!;
    for (let index = 0; index < table.pending.length; index++) {
      if (table.pending[index] === 0) continue;
      for (let bit = 0; bit < 32; bit++) this.deliverMsix(index * 32 + bit);
    }
  }

  /** What waited for MSI-X to be switched on again, and now is not waited for any more. */
  private dropPendingMsix(): void {
    const { table } = this;
    if (!table) return;
    for (let index = 0; index < table.pending.length; index++) {
      for (let bits = table.pending[index]!; bits !== 0; bits &= bits - 1) {
        this.tell(InterruptWay.msix, InterruptAction.lost, index * 32 + 31 - Math.clz32(bits & -bits));
      }
      table.pending[index] = 0;
    }
  }

  private dropPendingMsi(): void {
    for (let vector = 0; vector < this.msiVectors; vector++) {
      if ((this.msiPending & (1 << vector)) !== 0) this.tell(InterruptWay.msi, InterruptAction.lost, vector);
    }
    this.setMsiPending(0);
  }

  private raiseMsi(raised: number): void {
    if (!this.checkVector(InterruptWay.msi, raised, this.msiVectors)) return;
    const vector = this.allocatedVector(raised);
    this.setMsiPending(this.msiPending | (1 << vector));
    this.noteBusMaster(vector);
    this.sendPendingMsi();
    if ((this.msiPending & (1 << vector)) !== 0) this.tell(InterruptWay.msi, InterruptAction.pending, vector);
  }

  /** With fewer vectors allocated than asked for, the function shares what it got (PCI 6.8.3.2). */
  private allocatedVector(vector: number): number {
    const control = this.config.get16(this.msiControl);
    if ((control & Msi.enable) === 0) return vector;
    return vector & ((1 << ((control >>> Msi.allocatedShift) & 0b111)) - 1);
  }

  /** Software may allocate as many vectors as the function asks for, and no more (PCI 6.8.1.3). */
  private checkAllocation(): void {
    if (this.msiControl === 0) return;
    const allocated = 1 << ((this.config.get16(this.msiControl) >>> Msi.allocatedShift) & 0b111);
    if (allocated === this.lastAllocated) return;
    this.lastAllocated = allocated;
    if (allocated <= this.msiVectors) return;
    this.trace.note('interrupt.vector', this.name, { allocated, vectors: this.msiVectors });
  }

  private sendPendingMsi(): void {
    if (this.msiPending === 0 || !this.client || !this.maySend()) return;
    const ready = this.msiPending & ~(this.msiMask === 0 ? 0 : this.config.get32(this.msiMask));
    let sent = 0;
    for (let vector = 0; vector < this.msiVectors; vector++) {
      const bit = 1 << vector;
      if ((ready & bit) === 0 || !this.client.trigger(InterruptIndex.msi, vector)) continue;
      sent |= bit;
      this.tell(InterruptWay.msi, InterruptAction.raised, vector);
    }
    if (sent !== 0) this.setMsiPending(this.msiPending & ~sent);
  }

  private setMsiPending(bits: number): void {
    this.msiPending = bits;
    if (this.msiPendingAt !== 0) this.config.set32(this.msiPendingAt, bits);
  }

  private checkVector(way: number, vector: number, vectors: number): boolean {
    if (vector >= 0 && vector < vectors) return true;
    this.trace.note('interrupt.vector', this.name, { vector, vectors });
    this.tell(way, InterruptAction.lost, vector);
    return false;
  }

  private tell(way: number, action: number, vector: number): void {
    if ((this.events.mask & EventClass.interrupt) === 0) return;
    this.events.emit(Kind.interrupt, this.source, way | (action << 4), vector, 0, 0, 0);
  }

  /** A message is a memory write of the function: it needs bus mastering (PCIe 7.5.1.1.3) and power (PM 5.4.1). */
  private maySend(): boolean {
    return !this.stopped && (this.config.command & CommandBit.busMaster) !== 0 && !this.isAsleep();
  }

  private isAsleep(): boolean {
    return this.config.powerState !== PowerManagement.d0;
  }

  /** The driver's mistake that hardware keeps silent about. */
  private noteBusMaster(vector: number): void {
    if ((this.config.command & CommandBit.busMaster) !== 0) return;
    this.trace.note('interrupt.notBusMaster', this.name, { vector });
  }
}
