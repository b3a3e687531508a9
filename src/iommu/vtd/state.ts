/**
 * What a VT-d unit saves: its registers, what they do not show (the root table in use, where the next fault goes) and the work that
 * waits. The context cache, the IOTLB and the paging-structure caches are not in it: hardware may evict an entry at any time (6.2), so a
 * restored unit starts with empty ones.
 */
import {
  type Saveable,
  StateError,
  type StateValue,
  stateFields,
  stateNames,
  stateNumber,
  stateWords,
} from '../../pci/state.ts';
import { VTD_WORK, type VtdCore, type VtdWork } from './core.ts';

export interface VtdStateParts {
  readonly core: VtdCore;
  /** Where the next fault is recorded. */
  readonly faults: { position: number };
  /** What the last Set Root Table Pointer took over, and GSTS.TES. */
  readonly root: { rootFrame: number; mode: number; enabled: boolean };
  /** Power-on state, and nothing queued before does anything. */
  readonly clear: () => void;
  /** Queues such work anew. */
  readonly resume: Readonly<Record<VtdWork, () => void>>;
}

const LAST_TABLE_MODE = 3;

export class VtdState implements Saveable {
  constructor(private readonly parts: VtdStateParts) {}

  save(): StateValue {
    const { core, faults, root } = this.parts;
    return {
      registers: core.registers.save(),
      rootFrame: root.rootFrame,
      mode: root.mode,
      nextFault: faults.position,
      work: [...core.pending],
    };
  }

  restore(state: unknown): () => void {
    const { core, faults, root, clear, resume } = this.parts;
    const { registers, capabilities } = core;
    const fields = stateFields(state, 'the VT-d unit', ['registers', 'rootFrame', 'mode', 'nextFault', 'work']);
    const restoreRegisters = registers.restore(fields.registers);
    const words = stateWords(fields.registers, 'the VT-d registers', registers.words.length);
    const frames = 2 ** (capabilities.hostAddressWidth - 12);
    const rootFrame = stateNumber(fields.rootFrame, 'the root table in use', 0, frames - 1);
    const mode = stateNumber(fields.mode, 'the table mode in use', 0, LAST_TABLE_MODE);
    const nextFault = stateNumber(fields.nextFault, 'the next fault record', 0, capabilities.faultRecords - 1);
    const work = stateNames(fields.work, "the VT-d unit's work", VTD_WORK);
    const at = ({ word, shift, mask }: { word: number; shift: number; mask: number }) =>
      ((words[word]! >>> shift) & mask) >>> 0;
    if (at(registers.field('FSTS', 'FRI')) >= capabilities.faultRecords) {
      throw new StateError('VT-d: FSTS.FRI names a fault record that does not exist');
    }
    const enabled = at(registers.field('GSTS', 'TES')) === 1;
    return () => {
      clear();
      restoreRegisters();
      root.rootFrame = rootFrame;
      root.mode = mode;
      root.enabled = enabled;
      faults.position = nextFault;
      for (const one of work) resume[one]();
    };
  }
}
