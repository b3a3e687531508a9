/** What the remote API needs of a machine; arguments have been checked before they come here. */
import type { OperationName } from '../iommu/dma-iommu/operations.ts';
import type { Snapshot } from '../iommu/dma-iommu/snapshot.ts';
import type { ProbeAnswer } from '../iommu/dma-iommu/unit.ts';
import type { FindingsAnswer, MappingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import type { InjectionRule, InjectionState } from '../machine/injection/rules.ts';
import type {
  InterfaceArguments,
  MachineEvent,
  OperationAnswer,
  OperationArguments,
  ProbeArguments,
} from '../machine/operations-command.ts';
import type { RecordTap, TakeRecords } from '../machine/record-taps.ts';
import type { InterfaceAnswer } from '../machine/remote-commands.ts';

export interface MachineEvents {
  on(event: 'event', listener: (event: MachineEvent) => void): unknown;
  off(event: 'event', listener: (event: MachineEvent) => void): unknown;
}

/**
 * Each promise rejects where the machine has ended or has no such thing; the error's message goes to the client. Commands reach
 * the machine in the order of the calls.
 */
export interface MachinePort {
  operate<Name extends OperationName>(operation: Name, args: OperationArguments[Name]): Promise<OperationAnswer<Name>>;
  probe(args: ProbeArguments): Promise<ProbeAnswer>;
  getInterface(args: InterfaceArguments): Promise<InterfaceAnswer>;
  /** Plain data. */
  statistics(): Promise<object>;
  snapshot(): Promise<Snapshot>;
  readonly description: MachineDescription;
  findings(): Promise<FindingsAnswer>;
  /** As the sanitizer knows them. */
  mappings(): Promise<MappingsAnswer>;
  /** Records of these classes (`EventClass` bits), from now on, and perhaps of others that somebody else wants. */
  record(classes: number, take: TakeRecords): RecordTap;
  /** Answers with the rule's id. */
  inject(rule: InjectionRule): Promise<number>;
  /** Lets go what the rule holds; false: there is no such rule. */
  releaseInjection(id: number): Promise<boolean>;
  removeInjection(id: number): Promise<boolean>;
  injections(): Promise<readonly InjectionState[]>;
  /** Trace events, and calls of callbacks. */
  readonly events: MachineEvents;
}
