/** Fault reasons of legacy mode (7.1.3, table of fault conditions), with what they are called in events. */

export const FaultReason = {
  rootNotPresent: 0x1,
  contextNotPresent: 0x2,
  contextInvalid: 0x3,
  addressBeyondWidth: 0x4,
  writeDenied: 0x5,
  readDenied: 0x6,
  pageTableAccess: 0x7,
  rootTableAccess: 0x8,
  contextTableAccess: 0x9,
  rootReserved: 0xa,
  contextReserved: 0xb,
  pageTableReserved: 0xc,
  /** Of translation requests and translated requests only: needs a device-TLB, so nothing here causes it. */
  requestBlocked: 0xd,
  interruptAddress: 0xe,
  rootTableMode: 0x30,
} as const;
export type FaultReason = (typeof FaultReason)[keyof typeof FaultReason];

export interface FaultReasonInfo {
  readonly name: string;
  /** Condition code of the specification. */
  readonly condition: string;
  /** A qualified fault is not reported where the context entry has Fault Processing Disable set. */
  readonly qualified: boolean;
}

export const FAULT_REASONS: Readonly<Record<FaultReason, FaultReasonInfo>> = {
  [FaultReason.rootNotPresent]: { name: 'root entry not present', condition: 'LRT.2', qualified: false },
  [FaultReason.contextNotPresent]: { name: 'context entry not present', condition: 'LCT.2', qualified: true },
  [FaultReason.contextInvalid]: { name: 'invalid context entry', condition: 'LCT.4', qualified: true },
  [FaultReason.addressBeyondWidth]: { name: 'address beyond width', condition: 'LGN.1', qualified: true },
  [FaultReason.writeDenied]: { name: 'write not permitted', condition: 'LGN.2', qualified: true },
  [FaultReason.readDenied]: { name: 'read not permitted', condition: 'LGN.3', qualified: true },
  [FaultReason.pageTableAccess]: { name: 'page table not accessible', condition: 'LSS.1', qualified: true },
  [FaultReason.rootTableAccess]: { name: 'root table not accessible', condition: 'LRT.1', qualified: false },
  [FaultReason.contextTableAccess]: { name: 'context table not accessible', condition: 'LCT.1', qualified: false },
  [FaultReason.rootReserved]: { name: 'reserved bits in root entry', condition: 'LRT.3', qualified: false },
  [FaultReason.contextReserved]: { name: 'reserved bits in context entry', condition: 'LCT.3', qualified: true },
  [FaultReason.pageTableReserved]: { name: 'reserved bits in page-table entry', condition: 'LSS.2', qualified: true },
  [FaultReason.requestBlocked]: { name: 'request type blocked', condition: 'LCT.5', qualified: true },
  [FaultReason.interruptAddress]: { name: 'interrupt address range', condition: 'LGN.4', qualified: true },
  [FaultReason.rootTableMode]: { name: 'unsupported translation table mode', condition: 'RTA.1', qualified: false },
};
