/** What a domain's type and configuration make of a logical address. */
import { Access, type Translation } from '../translator.ts';
import { BLOCKED_FAULT } from './choices.ts';
import type { TableView } from './known-mappings.ts';
import type { TableEngine } from './table-engine.ts';
import { FaultType } from './types.ts';

/** What `AddressSpace.translate` returns on success; any other number is a `FaultType`. */
export const TRANSLATED = -1;

export interface SpaceProbe {
  /** `TRANSLATED` or a `FaultType`. */
  readonly result: number;
  /** Where the answer comes from; `none` where there are no tables to look at. */
  readonly source: 'iotlb' | 'paging-structure' | 'walk' | 'none';
  /** Level of the page-table entry that decided, from 1; 0: none. */
  readonly level: number;
  /** A fresh walk of the tables as they are now ends otherwise. */
  readonly stale: boolean;
}

/** The tables that an address goes through. */
export interface SpaceTables {
  readonly tables: TableEngine;
  /** The domain's name in the caches; an odd one is that of a second root. */
  readonly tag: number;
  readonly rootFrame: number;
  readonly levels: number;
  /** What the tables translate of the address. */
  readonly high: number;
  readonly low: number;
}

export interface AddressSpace {
  /** Fills `out` and returns `TRANSLATED`, or returns the type of the fault. */
  translate(high: number, low: number, access: number, out: Translation): number;
  /** The same without any effect. */
  probe(high: number, low: number, access: number, out: Translation): SpaceProbe;
  /** Drops what is cached of the address's page; where there is nothing cached, there is no such method. */
  invalidate?(high: number, low: number, leafOnly: boolean): void;
  /** Where the tables are software's: what they say now. */
  readonly view?: TableView;
  /** For the inspector; undefined where no table is for the address. */
  tablesFor?(high: number, low: number): SpaceTables | undefined;
  /** For the inspector: the address as requests carry it, from what tables under this tag translate of it. Default: the same. */
  requestAddress?(tag: number, translated: bigint): bigint;
  /** Pages of 4 KiB that `invalidate` drops at least. Default 1. */
  readonly granulePages?: number;
}

/** Bits of an address's upper word that a frame number has no room for. */
const UNADDRESSABLE = ~0x7ff;

export function identity(high: number, low: number, out: Translation): number {
  if ((high & UNADDRESSABLE) !== 0) return FaultType.AddressSizeFault;
  out.frame = (high << 20) | (low >>> 12);
  out.shift = 12;
  out.permissions = Access.read | Access.write;
  return TRANSLATED;
}

/** Logical addresses are physical ones: PassThrough, and stage 1 bypassed. */
export const identitySpace: AddressSpace = {
  translate: (high, low, _access, out) => identity(high, low, out),
  probe: (high, low, _access, out) => ({ result: identity(high, low, out), source: 'none', level: 0, stale: false }),
};

/** A caller-managed domain that is not configured yet. */
export const blockedSpace: AddressSpace = {
  translate: () => BLOCKED_FAULT,
  probe: () => ({ result: BLOCKED_FAULT, source: 'none', level: 0, stale: false }),
};
