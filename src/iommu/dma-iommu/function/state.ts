/**
 * What the function saves: its registers, where it is in its rings, what waits to be written there and the work that is queued, with the
 * state of the unit behind it.
 */
import {
  type Saveable,
  StateError,
  type StateValue,
  stateFields,
  stateList,
  stateNames,
  stateNumber,
  stateWords,
} from '../../../pci/state.ts';
import { Access } from '../../translator.ts';
import { HANDLE_MAX, OBJECTS_MAX, PASID_MAX, STREAMS } from '../limits.ts';
import { DMA_IOMMU_WORK, type DmaIommuWork } from '../pending-work.ts';
import { savedWide, stateWide } from '../saved-values.ts';
import type { DeviceHandle } from '../types.ts';
import type { DmaIommu } from '../unit.ts';
import type { CommandRing } from './command-ring.ts';
import type { Completions } from './completions.ts';
import type { FunctionCore } from './core.ts';
import type { FaultRing } from './fault-ring.ts';
import type { Probe, ProbeRegisters } from './probe.ts';
import type { Ring } from './ring.ts';
import type { Registered, StateChanges } from './state-changes.ts';
import type { TranslationSwitch } from './translation-switch.ts';

export interface FunctionStateParts {
  readonly core: FunctionCore;
  readonly unit: DmaIommu;
  readonly translation: TranslationSwitch;
  /** Of commands, completions and faults. */
  readonly rings: readonly Ring[];
  readonly commands: CommandRing;
  readonly completions: Completions;
  readonly faults: FaultRing;
  readonly stateChanges: StateChanges;
  readonly probe: ProbeRegisters;
  /** Power-on state but for the interrupt line, and nothing queued before does anything. */
  readonly clear: () => void;
}

const FIELDS = ['registers', 'rings', 'completions', 'faults', 'registrations', 'probe', 'work', 'unit'] as const;
const NO_PASID = -1;

export class DmaIommuState implements Saveable {
  constructor(private readonly parts: FunctionStateParts) {}

  save(): StateValue {
    const { core, unit, rings, completions, faults, stateChanges, probe } = this.parts;
    return {
      registers: core.registers.save(),
      rings: rings.map(ring => ring.save()),
      completions: completions.save(key => stateChanges.deviceOf(key)),
      faults: faults.save(),
      registrations: stateChanges.all().map(({ device, callback, context }) => ({
        device,
        callback: savedWide(callback),
        context: savedWide(context),
      })),
      probe: probe.waiting === undefined ? false : { ...probe.waiting },
      work: [...core.work],
      unit: unit.save(this.guest),
    };
  }

  restore(state: unknown): () => void {
    const { core, unit, rings, completions, faults, stateChanges, translation, clear } = this.parts;
    const { registers } = core;
    const fields = stateFields(state, 'the dma-iommu function', FIELDS);
    const restoreRegisters = registers.restore(fields.registers);
    const words = stateWords(fields.registers, 'the registers', registers.words.length);
    const bit = (register: string, field: string) => {
      const { word, shift } = registers.field(register, field);
      return (words[word]! >>> shift) & 1;
    };
    const translating = bit('CONTROL', 'TRANSLATE') === 1;
    if (bit('STATUS', 'TRANSLATING') !== Number(translating) || bit('CONTROL', 'RESET') === 1)
      throw new StateError('CONTROL and STATUS do not say the same');
    const ringStates = stateList(fields.rings, 'the rings', rings.length);
    const enabled = bit('CONTROL', 'ENABLE') === 1;
    const placed = rings.map((ring, at) => ring.restore(ringStates[at], words, enabled));
    if (bit('STATUS', 'READY') !== Number(placed[0]!.running && placed[1]!.running))
      throw new StateError('STATUS.READY does not say how the rings are');
    const ringFaults = faults.restore(fields.faults);
    const probe = fields.probe === false ? undefined : stateProbe(fields.probe);
    const { aside, apply } = unit.restore(fields.unit);
    const registrations = stateList(fields.registrations, 'the registrations', OBJECTS_MAX).map(stateRegistration);
    for (const { device } of registrations) {
      if (!aside.watch(device, () => {}, 0n)) throw new StateError(`there is no DMA device ${device} to be watched`);
    }
    const watched = new Set<number>(registrations.map(({ device }) => device));
    const restoreCompletions = completions.restore(fields.completions, watched, device => stateChanges.keyOf(device));
    const work = stateNames(fields.work, 'the work of the dma-iommu function', DMA_IOMMU_WORK);
    const expected: readonly (readonly [DmaIommuWork, boolean])[] = [
      ['deliver', aside.hasPendingFaults],
      ['faultRing', ringFaults.waits],
      ['probe', probe !== undefined],
      ['probe', bit('PROBE_COMMAND', 'START') === 1],
    ];
    for (const [name, due] of expected) {
      if (work.includes(name) !== due)
        throw new StateError(`of the work '${name}' the state does not say the same twice`);
    }
    if (!enabled && (work.includes('commands') || ringFaults.waits))
      throw new StateError('there is work for rings that are not enabled');
    return () => {
      clear();
      restoreRegisters();
      translation.enabled = translating;
      for (const ring of placed) ring.apply();
      apply(this.guest);
      for (const one of registrations)
        stateChanges.restore(one, callback => void unit.watch(one.device, callback, one.context));
      restoreCompletions();
      ringFaults.apply();
      for (const one of work) this.resume(one, probe);
    };
  }

  private get guest() {
    const { faults, stateChanges } = this.parts;
    return {
      isFaultHandler: faults.isOwn.bind(faults),
      faultHandler: faults.handler.bind(faults),
      isStateChangeCallback: stateChanges.isOwn.bind(stateChanges),
    };
  }

  private resume(work: DmaIommuWork, probe: Probe | undefined): void {
    const { unit, commands, faults, probe: registers } = this.parts;
    switch (work) {
      case 'deliver':
        unit.resumeFaults();
        break;
      case 'commands':
        commands.wake();
        break;
      case 'faultRing':
        faults.wake();
        break;
      case 'probe':
        registers.begin(probe!);
    }
  }
}

function stateRegistration(value: unknown): Registered {
  const what = 'a registration';
  const fields = stateFields(value, what, ['device', 'callback', 'context']);
  return {
    device: stateNumber(fields.device, what, 1, HANDLE_MAX) as DeviceHandle,
    callback: stateWide(fields.callback, what),
    context: stateWide(fields.context, what),
  };
}

function stateProbe(value: unknown): Probe {
  const what = 'a probe';
  const fields = stateFields(value, what, ['requesterId', 'pasid', 'high', 'low', 'access']);
  const word = (one: unknown) => stateNumber(one, what, -(2 ** 31), 2 ** 31 - 1);
  return {
    requesterId: stateNumber(fields.requesterId, what, 0, STREAMS - 1),
    pasid: stateNumber(fields.pasid, what, NO_PASID, PASID_MAX),
    high: word(fields.high),
    low: word(fields.low),
    access: stateNumber(fields.access, what, Access.read, Access.read | Access.write),
  };
}
