/** Answers the remote API's commands on the device thread. What comes out is plain data that can be cloned. */

import { operationsOf } from '../iommu/dma-iommu/opcodes.ts';
import type { Answer, OperationName } from '../iommu/dma-iommu/operations.ts';
import type { Snapshot } from '../iommu/dma-iommu/snapshot.ts';
import type { DmaIommu, ProbeAnswer } from '../iommu/dma-iommu/unit.ts';
import { OperationCalls } from './operation-calls.ts';
import type { CallbackEvent, InterfaceArguments, ProbeArguments, RemoteCommand } from './operations-command.ts';

export interface InterfaceAnswer extends Answer {
  readonly version?: number;
  /** Bytes of the structure that Windows fills in, on a 64-bit system. */
  readonly size?: number;
  /** In the order of the structure's function pointers. */
  readonly operations?: readonly OperationName[];
}

export type RemoteAnswer = Answer | ProbeAnswer | InterfaceAnswer | Snapshot;

const NO_PASID = -1;

export class RemoteCommands {
  private readonly calls: OperationCalls;

  /** `source` is the unit's name; `emit` is called within `answer` or a job, and must not throw. */
  constructor(
    private readonly unit: DmaIommu,
    source: string,
    emit: (event: CallbackEvent) => void,
    /** Where the endpoints' DMA passes something before the unit, that answers probes. */
    private readonly prober: Pick<DmaIommu, 'probe'> = unit,
  ) {
    this.calls = new OperationCalls(unit, source, emit);
  }

  answer(command: RemoteCommand): RemoteAnswer {
    switch (command.name) {
      case 'operate':
        return this.calls.run(command);
      case 'probe':
        return this.probe(command.args);
      case 'interface':
        return this.getInterface(command.args);
      case 'snapshot':
        return this.unit.snapshot();
    }
  }

  private probe({ requesterId, pasid = NO_PASID, logicalAddress, access }: ProbeArguments): ProbeAnswer {
    const word = (value: bigint) => Number(BigInt.asIntN(32, value));
    return this.prober.probe(requesterId, pasid, word(logicalAddress >> 32n), word(logicalAddress), access);
  }

  private getInterface({ version, ex = false, flags = 0n }: InterfaceArguments): InterfaceAnswer {
    const answer = ex ? this.unit.getInterfaceEx(version, flags) : this.unit.getInterface(version);
    if (!answer.interface) return { status: answer.status };
    const { version: given, size } = answer.interface;
    return { status: answer.status, version: given, size, operations: operationsOf(given) };
  }
}
