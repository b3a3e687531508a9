/** The IOMMUs that a machine may have. Adding one: a folder in src/iommu and an entry here. */

import { DmaIommuFunction } from '../iommu/dma-iommu/function/function.ts';
import { dmaIommuFunctionDefinition } from '../iommu/dma-iommu/function/identity.ts';
import { TranslationSwitch } from '../iommu/dma-iommu/function/translation-switch.ts';
import type { PendingWork } from '../iommu/dma-iommu/pending-work.ts';
import type { DeviceDirectory } from '../iommu/dma-iommu/types.ts';
import { DmaIommu } from '../iommu/dma-iommu/unit.ts';
import type { IommuInspection } from '../iommu/inspection.ts';
import { withBypass } from '../iommu/table-steps.ts';
import type { Translator } from '../iommu/translator.ts';
import { Untranslated } from '../iommu/untranslated.ts';
import { hideAfterPlacement, vtdFunctionDefinition } from '../iommu/vtd/function.ts';
import { VtdUnit } from '../iommu/vtd/unit.ts';
import type { RegionMemory } from '../memory/region-memory.ts';
import type { FunctionDefinition } from '../pci/definition.ts';
import type { PciFunction } from '../pci/function.ts';
import type { JobQueue } from '../pci/ports.ts';
import type { RegisterFile, RegisterHandler } from '../pci/registers.ts';
import type { Saveable } from '../pci/state.ts';
import type { Trace } from '../trace/trace.ts';
import type { IommuKindName, MachineDescription } from './description.ts';
import { functionMessages } from './function-messages.ts';
import type { Injection } from './injection/injection.ts';
import type { IommuStatistics } from './statistics.ts';

/** What an IOMMU is built from: the function that carries its registers is there already. */
export interface IommuParts {
  readonly name: string;
  readonly description: MachineDescription;
  readonly pci: PciFunction;
  /** The guest's memory as the IOMMU's own function reaches it. */
  readonly memory: RegionMemory;
  readonly jobs: JobQueue;
  readonly trace: Trace;
  /** Compare caches with tables, and follow what is mapped. */
  readonly checks: boolean;
  readonly injection: Injection;
}

/** One running IOMMU. */
export interface RunningIommu {
  readonly translator: Translator;
  /** The same for requests that carry this PASID; missing where the IOMMU knows none. */
  withPasid?(pasid: number): Translator;
  readonly bars: ReadonlyMap<number, RegisterHandler>;
  /** Reset of its function, and end of its client. */
  reset(): void;
  statistics(): IommuStatistics;
  /** Those of BAR 0. */
  readonly registers: RegisterFile;
  /** To be called before `registers` is read from outside: brings up to date what is else computed when the guest reads it. */
  refreshRegisters?(): void;
  readonly inspection: IommuInspection;
  /** Missing where the IOMMU cannot be saved. */
  readonly state?: Saveable;
  /** The operations of DMA_IOMMU_INTERFACE, where the IOMMU has them. */
  readonly operations?: { readonly unit: DmaIommu } & Pick<DmaIommu, 'probe'>;
}

export interface IommuKind {
  readonly definition: FunctionDefinition;
  start(parts: IommuParts): RunningIommu;
}

const vtd: IommuKind = {
  definition: vtdFunctionDefinition,
  start({ name, description, pci, memory, jobs, trace, checks, injection }) {
    const options = { cachingMode: description.iommu.cachingMode };
    const messages = injection.iommuMessages(functionMessages(pci));
    const { dropCompletion } = injection;
    const unit = new VtdUnit({ name, memory, messages, jobs, trace, options, checks, dropCompletion });
    hideAfterPlacement(pci);
    return {
      translator: unit,
      bars: new Map([[0, unit]]),
      reset: () => unit.reset(),
      statistics: () => ({ kind: 'vtd', ...unit.statistics }),
      registers: unit.registers,
      inspection: unit.inspection,
      state: unit.state,
    };
  },
};

const dmaIommu: IommuKind = {
  definition: dmaIommuFunctionDefinition,
  start({ name, description, pci, memory, jobs, trace, checks, injection }) {
    const { compat } = description.iommu;
    const checkStale = description.iommu.checkStale || checks;
    const directory = directoryOf(description);
    const work: PendingWork = new Set();
    const options = { checkStale };
    const unit = new DmaIommu({ name, memory, devices: directory, jobs, trace, compat, options, work });
    const translation = new TranslationSwitch(unit, { trace, name });
    const ports = new DmaIommuFunction({
      name,
      operations: unit,
      memory,
      line: injection.iommuLine(pci.line),
      jobs,
      trace,
      directory,
      translation,
      compat,
      checks,
      work,
    });
    return {
      translator: translation,
      withPasid: pasid => translation.withPasid(pasid),
      bars: ports.bars,
      reset: () => ports.reset(),
      statistics: () => ({ kind: 'dma-iommu', ...unit.statistics }),
      registers: ports.registers,
      refreshRegisters: () => ports.refreshRegisters(),
      inspection: withBypass(unit.inspection, (requesterId, pasid) => translation.bypasses(requesterId, pasid ?? -1)),
      state: ports.stateWith(unit),
      operations: { unit, probe: (...question) => translation.probe(...question) },
    };
  },
};

/** `none` has no function at all. */
export const iommuKinds: Readonly<Record<Exclude<IommuKindName, 'none'>, IommuKind>> = { vtd, 'dma-iommu': dmaIommu };

/** What endpoints get where the machine has no IOMMU. */
export const noIommu: Pick<RunningIommu, 'translator' | 'withPasid'> = { translator: new Untranslated() };

/** The endpoints of the machine as PCI devices: enumerated by the bus, one input mapping each. */
function directoryOf({ endpoints }: MachineDescription): DeviceDirectory {
  const devices = endpoints.map(({ requesterId }) => ({
    requesterId,
    inputMappingIds: [requesterId],
    acpi: false,
    pasidCapable: true,
  }));
  const byId = new Map(devices.map(device => [device.requesterId, device]));
  return { find: pdo => byId.get(pdo), all: () => devices };
}
