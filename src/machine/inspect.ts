/** Answers inspection commands on the device thread, in jobs. But for run control, nothing changes by asking. */
import { RegionIndex } from '../pci/function.ts';
import type { RegisterBlock, RegisterFile } from '../pci/registers.ts';
import { formatRequesterId } from '../trace/record-fields.ts';
import { configDescription } from './config-description.ts';
import type {
  InspectCommand,
  InspectionAnswer,
  RegisterBlockDescription,
  RegisterDescription,
  RegistersAnswer,
  RegisterValues,
  StateAnswer,
  StepAnswer,
  WalkAnswer,
} from './inspection.ts';
import { IOMMU_ID, type Machine, type ServedFunction } from './machine.ts';

const CONFIG_BLOCK = 'pci';
const REGISTER_BAR = 0;

/** Gets the answer, at once or, of a step that waits for the guest, later. */
export type InspectReply = (answer: unknown) => void;

export class Inspector {
  constructor(private readonly machine: Machine) {}

  /** Throws an Error that says why there is no answer. */
  answer(command: InspectCommand, reply: InspectReply): void {
    if (command.name === 'step' && command.what === 'register') {
      const { control } = this.machine;
      control.stepRegister(stepped => reply({ state: control.state, stepped } satisfies StepAnswer));
      return;
    }
    reply(this.answerNow(command));
  }

  private answerNow(command: InspectCommand): unknown {
    const { control, iommu } = this.machine;
    switch (command.name) {
      case 'inspect':
        return this.inspect();
      case 'registers':
        return this.registers(command.function);
      case 'walk':
        return this.walk(command.requesterId, command.pasid, command.iova);
      case 'tlb':
        if (iommu !== undefined) return iommu.inspection.tlb(command.limit);
        throw new Error('the machine has no IOMMU');
      case 'queue':
        if (iommu?.inspection.queue) return iommu.inspection.queue();
        throw new Error('only vtd has an invalidation queue in memory: the machine was started with another IOMMU');
      case 'pause':
        control.pause();
        return this.state();
      case 'resume':
        control.resume();
        return this.state();
      case 'step':
        return { stepped: control.stepDma(), state: control.state } satisfies StepAnswer;
    }
  }

  private state(): StateAnswer {
    return { state: this.machine.control.state };
  }

  private inspect(): InspectionAnswer {
    const functions = [...this.machine.functions.values()];
    return {
      registers: functions.flatMap(one => this.blocksOf(one).map(({ description }) => description)),
      functions: functions.map(({ name, endpoint, pci, server }) => ({
        name,
        kind: endpoint?.kind ?? this.machine.iommuKind,
        ...(endpoint === undefined ? {} : { requesterId: endpoint.requesterId }),
        connected: server.connected,
        busMaster: pci.busMaster,
      })),
      state: this.machine.control.state,
    };
  }

  private registers(name: string): RegistersAnswer {
    const served = this.machine.functions.get(name);
    if (served === undefined) {
      const known = [...this.machine.functions.keys()].join(', ');
      throw new Error(`there is no function '${name}': the machine has ${known}`);
    }
    if (name === IOMMU_ID) this.machine.iommu?.refreshRegisters?.();
    return { blocks: this.blocksOf(served).map(({ values }) => values) };
  }

  private walk(requesterId: number, pasid: number | undefined, iova: bigint): WalkAnswer {
    const { iommu } = this.machine;
    if (iommu !== undefined) return iommu.inspection.walk(requesterId, pasid, iova);
    throw new Error(`the machine has no IOMMU: what ${formatRequesterId(requesterId)} writes is not translated`);
  }

  private blocksOf(served: ServedFunction): readonly Block[] {
    const { name, pci } = served;
    const file = name === IOMMU_ID ? this.machine.iommu?.registers : served.registers;
    const config: Block = {
      description: {
        function: name,
        block: CONFIG_BLOCK,
        region: RegionIndex.config,
        ...configDescription(pci.config),
      },
      values: { function: name, block: CONFIG_BLOCK, bytes: pci.config.bytes.slice() },
    };
    return file === undefined ? [config] : [registerBlock(name, file), config];
  }
}

interface Block {
  readonly description: RegisterBlockDescription;
  readonly values: RegisterValues;
}

function registerBlock(name: string, { block, words }: RegisterFile): Block {
  return {
    description: {
      function: name,
      block: block.name,
      region: REGISTER_BAR,
      specification: block.specification,
      registers: describeBlock(block),
    },
    // A copy, little-endian as this system is.
    values: { function: name, block: block.name, bytes: new Uint8Array(words.slice().buffer) },
  };
}

function describeBlock({ registers }: RegisterBlock): RegisterDescription[] {
  return registers.map(({ name, offset, bytes, section, fields }) => ({
    name,
    offset,
    bytes,
    section,
    fields: fields.map(({ name: field, bits, access, why }) => ({
      name: field,
      bits,
      access,
      ...(why === undefined ? {} : { why }),
    })),
  }));
}
