/** What a unit counted since it was made; a reset of the unit does not clear it. Plain data, so it can be cloned. */
import type { TranslationCounters } from '../translation-engine.ts';
import { operationNames } from './opcodes.ts';
import type { OperationName } from './operations.ts';
import { FaultType } from './types.ts';

export interface OperationCounts {
  succeeded: number;
  failed: number;
}

export interface DmaIommuStatistics {
  /** Requests; all others are parts of it. */
  translations: number;
  /** Of devices attached to nothing, or to a domain that is not configured. */
  blocked: number;
  /** Translations that a fresh walk would not give; counted while they are looked for. */
  staleHits: number;
  /** Index: `FaultType`. */
  readonly faults: number[];
  /** Handed to a device's fault handler. */
  faultsReported: number;
  /** Not told to anybody because too many were waiting. */
  faultsDropped: number;
  readonly operations: Record<OperationName, OperationCounts>;
  /** One per format of page tables in use, by its name. */
  readonly engines: Record<string, TranslationCounters>;
}

export function newStatistics(): DmaIommuStatistics {
  return {
    translations: 0,
    blocked: 0,
    staleHits: 0,
    faults: new Array<number>(Object.keys(FaultType).length).fill(0),
    faultsReported: 0,
    faultsDropped: 0,
    operations: Object.fromEntries(operationNames.map(name => [name, { succeeded: 0, failed: 0 }])) as Record<
      OperationName,
      OperationCounts
    >,
    engines: {},
  };
}
