/** Reads what the root table and a context table say of a requester (3.4, 9.1, 9.3). */
import type { GuestMemory } from '../../memory/guest-memory.ts';
import type { VtdCapabilities } from './capabilities.ts';
import { CONTEXT_ENTRY_BYTES, ContextEntry, type ContextRules, contextRules } from './context.ts';
import { EntryReader } from './entry-reader.ts';
import { FaultReason } from './fault-reasons.ts';
import { checkRoot, contextTableFrame, type ReservedBits, ROOT_ENTRY_BYTES, rootReserved } from './root-table.ts';

export class ContextReader {
  /** After a `read` that returned zero: the context entry. Reused. */
  readonly entry = new ContextEntry();
  /** The words of both entries; `tablesRead` says which of them are those of the last `read`. */
  readonly root: EntryReader;
  readonly context: EntryReader;
  /** 0: no entry was read; 1: the root entry; 2: the context entry too. */
  tablesRead = 0;
  /** Where the entry read last lies. */
  entryFrame = 0;
  entryOffset = 0;

  private readonly rules: ContextRules;
  private readonly rootReserved: ReservedBits;

  constructor(memory: GuestMemory, capabilities: VtdCapabilities) {
    this.root = new EntryReader(memory);
    this.context = new EntryReader(memory);
    this.rules = contextRules(capabilities);
    this.rootReserved = rootReserved(capabilities.hostAddressWidth);
  }

  /**
   * Reads the requester's entries into `entry`, from the root table at `rootFrame`; `mode` is RTADDR.TTM. Returns why they cannot be
   * used, or zero.
   */
  read(requesterId: number, rootFrame: number, mode: number): FaultReason | 0 {
    const { entry, root, context } = this;
    entry.faultProcessingDisabled = false;
    this.tablesRead = 0;
    if (mode !== 0) return FaultReason.rootTableMode;
    this.entryFrame = rootFrame;
    this.entryOffset = (requesterId >>> 8) * ROOT_ENTRY_BYTES;
    if (!root.readWhole(rootFrame, this.entryOffset)) return FaultReason.rootTableAccess;
    this.tablesRead = 1;
    const rootError = checkRoot(root.w0, root.w1, root.w2, root.w3, this.rootReserved);
    if (rootError !== 0) return rootError;
    this.entryFrame = contextTableFrame(root.w0, root.w1);
    this.entryOffset = (requesterId & 0xff) * CONTEXT_ENTRY_BYTES;
    if (!context.readWhole(this.entryFrame, this.entryOffset)) return FaultReason.contextTableAccess;
    this.tablesRead = 2;
    return entry.decode(context.w0, context.w1, context.w2, context.w3, this.rules);
  }
}
