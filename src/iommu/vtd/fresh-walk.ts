/** What the tables in memory say of a requester and an address now, whatever any cache holds. */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { PageTableFormat } from '../../page-tables/format.ts';
import { Walker, WalkStatus } from '../../page-tables/walker.ts';
import { FreshStatus } from '../../trace/event-kinds.ts';
import type { VtdCapabilities } from './capabilities.ts';
import { type ContextCache, Slot, SlotKind } from './context-cache.ts';
import { ContextReader } from './context-reader.ts';
import { frameOf } from './core.ts';
import { FaultReason } from './fault-reasons.ts';

const READ_WRITE = 3;

/** What a Set Root Table Pointer took over: the one thing beside the tables that a walk goes by. */
export interface RootPointer {
  readonly rootFrame: number;
  readonly mode: number;
}

export class FreshWalk {
  /** After `look`, whichever access is meant: `denied` only where nothing at all is allowed. */
  status: (typeof FreshStatus)[keyof typeof FreshStatus] = FreshStatus.detached;
  /** Where `status` is `mapped`: frame of the 4 KiB page that holds the address, log2 of the mapping's bytes, `Access` bits. */
  frame = 0;
  shift = 12;
  permissions = 0;
  /** -1 where there is no good context entry. */
  domain = -1;
  readonly reader: ContextReader;
  readonly walker: Walker;
  /** Of the root table that `look` went by. */
  rootFrame = 0;
  /** Why the context entry cannot be used, or zero. */
  reason: FaultReason | 0 = FaultReason.contextNotPresent;

  constructor(
    memory: GuestMemory,
    capabilities: VtdCapabilities,
    format: PageTableFormat,
    private readonly contexts: ContextCache,
    private readonly pointer: RootPointer,
  ) {
    this.reader = new ContextReader(memory, capabilities);
    this.walker = new Walker(format, memory, false);
  }

  /** Reads the requester's entries and, if they are good, walks. `reader` and `walker` tell the details. */
  look(requesterId: number, high: number, low: number): void {
    const { reader, pointer, walker } = this;
    this.rootFrame = pointer.rootFrame;
    this.reason = reader.read(requesterId, pointer.rootFrame, pointer.mode);
    this.permissions = 0;
    this.frame = 0;
    this.shift = 12;
    this.domain = -1;
    if (this.reason !== 0) {
      const absent = this.reason === FaultReason.rootNotPresent || this.reason === FaultReason.contextNotPresent;
      this.status = absent ? FreshStatus.detached : FreshStatus.malformed;
      return;
    }
    const { entry } = reader;
    this.domain = entry.domain;
    if (high >>> entry.limitShift !== 0) {
      this.status = FreshStatus.notPresent;
    } else if (entry.passThrough) {
      this.status = FreshStatus.mapped;
      this.frame = frameOf(high, low);
      this.permissions = READ_WRITE;
    } else {
      this.take(walker.walk(entry.rootFrame, entry.levels, high, low, 0));
    }
  }

  private take(status: WalkStatus): void {
    const { walker } = this;
    if (status === WalkStatus.ok) {
      this.frame = walker.frame;
      this.shift = walker.shift;
      this.permissions = walker.permissions;
      this.status = walker.permissions === 0 ? FreshStatus.denied : FreshStatus.mapped;
    } else if (status === WalkStatus.notPresent) this.status = FreshStatus.notPresent;
    else this.status = status === WalkStatus.denied ? FreshStatus.denied : FreshStatus.malformed;
  }

  /** What `status` is for one access; zero is one that any permission allows. */
  statusFor(access: number): (typeof FreshStatus)[keyof typeof FreshStatus] {
    const { status, permissions } = this;
    return status === FreshStatus.mapped && (permissions & access) !== access ? FreshStatus.denied : status;
  }

  /** Whether the context cache answers for the requester otherwise than the entry that `look` has read. */
  contextDiffers(requesterId: number): boolean {
    const { contexts, reader, reason } = this;
    const at = contexts.find(requesterId);
    if (at < 0) return false;
    const slot = contexts.words;
    const kind = slot[at + Slot.kind];
    if (kind === SlotKind.fault) return reason === 0;
    if (reason !== 0) return true;
    const { domain, rootFrame, levels, passThrough } = reader.entry;
    if (slot[at + Slot.domain] !== domain || (kind === SlotKind.passThrough) !== passThrough) return true;
    return !passThrough && (slot[at + Slot.rootFrame] !== rootFrame || slot[at + Slot.levels] !== levels);
  }
}
