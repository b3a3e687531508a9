/** What the remote API needs of a machine; arguments have been checked before they come here. */
import type { OperationName } from '../iommu/dma-iommu/operations.ts';
import type { Snapshot } from '../iommu/dma-iommu/snapshot.ts';
import type { ProbeAnswer } from '../iommu/dma-iommu/unit.ts';
import type {
  InterfaceArguments,
  MachineEvent,
  OperationAnswer,
  OperationArguments,
  ProbeArguments,
} from '../machine/operations-command.ts';
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
  /** Trace events, and calls of callbacks. */
  readonly events: MachineEvents;
}
