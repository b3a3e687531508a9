/** What the remote API needs of a machine; arguments have been checked before they come here. */
import type { OperationName } from '../iommu/dma-iommu/operations.ts';
import type { Snapshot } from '../iommu/dma-iommu/snapshot.ts';
import type { ProbeAnswer } from '../iommu/dma-iommu/unit.ts';
import type { FindingsAnswer, MappingsAnswer } from '../machine/debug-commands.ts';
import type { InjectionRule, InjectionState } from '../machine/injection/rules.ts';
import type {
  InspectionAnswer,
  QueueAnswer,
  RegistersAnswer,
  StateAnswer,
  StepAnswer,
  StepWhat,
  TlbAnswer,
  WalkAnswer,
} from '../machine/inspection.ts';
import type {
  InterfaceArguments,
  MachineEvent,
  OperationAnswer,
  OperationArguments,
  ProbeArguments,
} from '../machine/operations-command.ts';
import type { RecordTap } from '../machine/record-taps.ts';
import type { InterfaceAnswer } from '../machine/remote-commands.ts';
import type { EventKind } from '../trace/event-kinds.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';

/**
 * Whole records, in slots of 32 bytes; only good until the call returns. Who replays a file waits for the promise; a machine waits for
 * nobody.
 */
export type TakeBatch = (words: Int32Array) => unknown;

export interface FindingEvents {
  on(event: 'finding', listener: (finding: Finding) => void): unknown;
  off(event: 'finding', listener: (finding: Finding) => void): unknown;
}

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
  /** Of a recording: as its file has it. */
  readonly description: unknown;
  /** What the records mean. Missing: the kinds of this program. */
  readonly kinds?: readonly EventKind[];
  /** Records come from a file, as fast as they are taken. */
  readonly replays?: boolean;
  findings(): Promise<FindingsAnswer>;
  /** As the sanitizer knows them. */
  mappings(): Promise<MappingsAnswer>;
  /** Records of these classes (`EventClass` bits), from now on, and perhaps of others that somebody else wants. */
  record(classes: number, take: TakeBatch): RecordTap;
  /** Answers with the rule's id. */
  inject(rule: InjectionRule): Promise<number>;
  /** Lets go what the rule holds; false: there is no such rule. */
  releaseInjection(id: number): Promise<boolean>;
  removeInjection(id: number): Promise<boolean>;
  injections(): Promise<readonly InjectionState[]>;
  /** The hardware as it is; nothing changes by asking. */
  inspect(): Promise<InspectionAnswer>;
  registers(name: string): Promise<RegistersAnswer>;
  walk(requesterId: number, iova: bigint, pasid?: number): Promise<WalkAnswer>;
  tlb(limit: number): Promise<TlbAnswer>;
  queue(): Promise<QueueAnswer>;
  pause(): Promise<StateAnswer>;
  step(what: StepWhat): Promise<StepAnswer>;
  resume(): Promise<StateAnswer>;
  /** Trace events, and calls of callbacks. */
  readonly events: MachineEvents;
  /** New findings, as they come. Missing: there come none. */
  readonly newFindings?: FindingEvents;
  /** Resolves where the device thread answers, or has ended as it was told to. Missing: there is none. */
  alive?(): Promise<void>;
  /** Resolves when the machine has ended by itself or was stopped; never rejects. Missing: it does not end. */
  readonly ended?: Promise<MachineEnd>;
  /** A connection to one of its functions, as a descriptor that speaks vfio-user without descriptors; the caller owns it. */
  openStream?(functionName: string): Promise<number>;
}

export interface MachineEnd {
  readonly reason: string;
  /** It was a finding that was to stop the machine. */
  readonly stoppedByFinding: boolean;
}
