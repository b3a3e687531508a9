/** What a VT-d unit counted since it was made; a reset of the unit does not clear it. Plain data, so it can be cloned. */
import type { TranslationEngine } from '../translation-engine.ts';

/** One for the queue, one for the registers. */
export interface InvalidationCounts {
  contextGlobal: number;
  contextDomain: number;
  contextDevice: number;
  iotlbGlobal: number;
  iotlbDomain: number;
  iotlbPages: number;
}

export interface VtdStatistics {
  /** Requests while translation is enabled; the next three are parts of it. */
  translations: number;
  passThrough: number;
  /** Writes to the interrupt address range: they bypass translation. */
  interruptRequests: number;
  /** Requests while translation is disabled. */
  untranslated: number;
  contextHits: number;
  contextMisses: number;
  readonly engine: TranslationEngine['counters'];
  readonly queued: InvalidationCounts;
  readonly registerBased: InvalidationCounts;
  interruptEntryInvalidations: number;
  waitDescriptors: number;
  queueErrors: number;
  /** Register-based requests answered with an actual granularity of zero. */
  registerErrors: number;
  /** By fault reason, recorded or not. */
  readonly faults: number[];
  faultsRecorded: number;
  /** Not recorded because of FPD. */
  faultsSuppressed: number;
  /** Not recorded because another of the same requester was pending. */
  faultsCollapsed: number;
  /** Not recorded because the records were full. */
  faultsOverflowed: number;
  faultInterrupts: number;
  completionInterrupts: number;
}

const FAULT_REASONS = 256;

function invalidationCounts(): InvalidationCounts {
  return { contextGlobal: 0, contextDomain: 0, contextDevice: 0, iotlbGlobal: 0, iotlbDomain: 0, iotlbPages: 0 };
}

export function newStatistics(engine: TranslationEngine['counters']): VtdStatistics {
  return {
    translations: 0,
    passThrough: 0,
    interruptRequests: 0,
    untranslated: 0,
    contextHits: 0,
    contextMisses: 0,
    engine,
    queued: invalidationCounts(),
    registerBased: invalidationCounts(),
    interruptEntryInvalidations: 0,
    waitDescriptors: 0,
    queueErrors: 0,
    registerErrors: 0,
    faults: new Array<number>(FAULT_REASONS).fill(0),
    faultsRecorded: 0,
    faultsSuppressed: 0,
    faultsCollapsed: 0,
    faultsOverflowed: 0,
    faultInterrupts: 0,
    completionInterrupts: 0,
  };
}
