/**
 * Programs in which translation works: tables and commands that are right, then DMA to the same few pages over and over, mixed with
 * invalidations, changes of the tables and single pieces of garbage. What is drawn elsewhere mostly fails before it comes to that.
 */

import { argumentLayouts } from '../../src/iommu/dma-iommu/function/layout.ts';
import type { StructLayout } from '../../src/iommu/dma-iommu/function/struct.ts';
import { operations } from '../../src/iommu/dma-iommu/opcodes.ts';
import type { OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import { DomainType, MapPhysicalAddressType } from '../../src/iommu/dma-iommu/types.ts';
import { IOTLB_OFFSET } from '../../src/iommu/vtd/capabilities.ts';
import type { Outgoing } from './messages.ts';
import { anyAccess, DmaIommu, eduMove, enable, Vtd, wide, word } from './programs.ts';
import type { Random } from './random.ts';

const PAGE = 4096;
/** Guest addresses beyond those that are drawn: the unit's structures in its own client's memory, the data in the endpoint's. */
export const STRUCTURES = 0x2000000;
export const STRUCTURE_BYTES = 32 * PAGE;
export const DATA = 0x2100000;
export const DATA_BYTES = 64 * PAGE;
/** Pages of data that may be read and written, and behind them those that may be read. All others are not present. */
const WRITABLE_PAGES = 32;
const READABLE_PAGES = 48;

/** VT-d's structures, by page. */
const Table = { root: 0, context: 1, top: 2, upper: 3, middle: 4, leaves: 5, queue: 6, status: 7 } as const;
const QUEUE_ENTRIES = PAGE / 16;

/** The dma-iommu function's, by byte. */
const Ring = { commands: 0, completions: 0x4000, faults: 0x8000 } as const;
const COMMAND_BYTES = 128;
const COMMAND_ARGUMENTS = 16;
const COMMANDS = 64;
/** Commands that come first, and make a domain, two devices and the mappings. */
const SETUP_COMMANDS = 6;
/** Handles, as they are given out. */
const Handle = { domain: 1, devices: [2, 3] } as const;
const REQUESTERS = [0x100, 0x200] as const;
const READ_WRITE = 3;

const WEIGHTS = { transfer: 70, fault: 8, queue: 12, register: 4, change: 4, garbage: 2 } as const;

/** What one of the two clients does, or what is done to the unit's structures. */
export type Act =
  | { readonly on: 'iommu' | 'edu'; readonly send: Outgoing; readonly posted: boolean }
  | { readonly on: 'iommu' | 'edu'; readonly settle: true }
  | { readonly write: Uint8Array; readonly at: number };

/** Both kinds: their structures are there and mapped, and the functions have just been reset. */
export function translationProgram(random: Random, kind: 'vtd' | 'dma-iommu'): Act[] {
  // Without a queue VT-d is told by registers what is stale.
  const queues = random.chance(70);
  const acts: Act[] = [...both(enable()), ...(kind === 'vtd' ? startVtd(queues) : startDmaIommu())];
  let tail = kind === 'vtd' ? 0 : SETUP_COMMANDS;
  for (let rounds = 12 + random.below(28); rounds > 0; rounds--) {
    const byRegister = kind === 'vtd' && !queues && random.chance(25);
    switch (byRegister ? 'register' : random.weighted(WEIGHTS)) {
      case 'transfer':
        acts.push(...transfer(random, kind, random.below(random.pick([4, 4, 8, READABLE_PAGES]))));
        break;
      case 'fault':
        acts.push(...transfer(random, kind, READABLE_PAGES + random.below(64)));
        break;
      case 'queue':
        tail =
          kind === 'vtd'
            ? (tail + 1 + random.below(8)) % QUEUE_ENTRIES
            : Math.min(COMMANDS - 1, tail + 1 + random.below(3));
        acts.push(...onIommu(kind === 'vtd' ? wide(Vtd.iqt, BigInt(tail * 16)) : word(DmaIommu.commandTail, tail)));
        break;
      case 'register':
        if (kind === 'vtd')
          acts.push(...onIommu(random.chance(50) ? invalidateContexts(random) : invalidatePages(random)));
        break;
      case 'change':
        if (kind === 'vtd')
          acts.push({ write: quad(leaf(random, random.below(8))), at: Table.leaves * PAGE + 8 * random.below(8) });
        break;
      case 'garbage':
        acts.push(...onIommu(anyAccess(random, kind)));
        break;
    }
  }
  return acts;
}

/** Tables by which addresses from 0 on lead to the data, and a queue of invalidations. */
export function vtdStructures(random: Random): Uint8Array {
  const bytes = new Uint8Array(STRUCTURE_BYTES);
  const view = new DataView(bytes.buffer);
  const put = (page: number, at: number, value: bigint) => view.setBigUint64(page * PAGE + at, value, true);
  const to = (page: number) => BigInt(STRUCTURES + page * PAGE);
  for (let at = 0; at < PAGE; at += 16) {
    put(Table.root, at, to(Table.context) | 1n);
    put(Table.context, at, to(Table.top) | 1n);
    // 48 bits; one of a few domains.
    put(Table.context, at + 8, (BigInt(1 + random.below(3)) << 8n) | 2n);
  }
  put(Table.top, 0, to(Table.upper) | 3n);
  put(Table.upper, 0, to(Table.middle) | 3n);
  put(Table.middle, 0, to(Table.leaves) | 3n);
  for (let page = 0; page < READABLE_PAGES; page++) {
    put(Table.leaves, 8 * page, BigInt(DATA + page * PAGE) | (page < WRITABLE_PAGES ? 3n : 1n));
  }
  for (let entry = 0; entry < QUEUE_ENTRIES; entry++) {
    const [low, high] = invalidation(random);
    put(Table.queue, 16 * entry, low);
    put(Table.queue, 16 * entry + 8, high);
  }
  return bytes;
}

/** A ring of commands: what is needed first, then maps, unmaps and flushes. */
export function dmaIommuStructures(random: Random): Uint8Array {
  const bytes = new Uint8Array(STRUCTURE_BYTES);
  const { domain, devices } = Handle;
  const memory = (page: number, count: number) => ({
    type: MapPhysicalAddressType.ContiguousRange,
    address: DATA + page * PAGE,
    size: count * PAGE,
  });
  const map = (page: number, count: number, permissions: number) =>
    command('mapIdentityRangeEx', { domain, permissions, memory: memory(page, count) });
  const all = [
    command('createDomainEx', { domainType: DomainType.Translate }),
    ...REQUESTERS.map(pdo => command('createDevice', { pdo })),
    ...devices.map(device => command('attachDeviceEx', { domain, device })),
    map(0, WRITABLE_PAGES, READ_WRITE),
  ];
  while (all.length < COMMANDS) {
    const page = random.below(WRITABLE_PAGES);
    if (random.chance(40)) all.push(command('flushDomain', { domain }));
    else {
      all.push(command('unmapIdentityRangeEx', { domain, memory: memory(page, 1) }));
      if (random.chance(80)) all.push(map(page, 1, 1 + random.below(3)));
    }
  }
  for (const [index, one] of all.slice(0, COMMANDS).entries()) bytes.set(one, Ring.commands + COMMAND_BYTES * index);
  return bytes;
}

function startVtd(queues: boolean): Act[] {
  return [
    wide(Vtd.rtaddr, BigInt(STRUCTURES + Table.root * PAGE)),
    word(Vtd.gcmd, 0x40000000),
    ...(queues
      ? [wide(Vtd.iqt, 0n), wide(Vtd.iqa, BigInt(STRUCTURES + Table.queue * PAGE)), word(Vtd.gcmd, 0x04000000)]
      : []),
    word(Vtd.gcmd, queues ? 0x84000000 : 0x80000000),
  ].flatMap(onIommu);
}

function startDmaIommu(): Act[] {
  const [commands, completions, faults] = DmaIommu.rings;
  return [
    wide(commands, BigInt(STRUCTURES + Ring.commands)),
    word(commands + 8, 6),
    wide(completions, BigInt(STRUCTURES + Ring.completions)),
    word(completions + 8, 7),
    wide(faults, BigInt(STRUCTURES + Ring.faults)),
    word(faults + 8, 6),
    word(DmaIommu.control, 3),
    word(DmaIommu.commandTail, SETUP_COMMANDS),
  ].flatMap(onIommu);
}

/** A transfer, which is done when the next message comes. */
function transfer(random: Random, kind: 'vtd' | 'dma-iommu', page: number): Act[] {
  const offset = random.below(PAGE);
  const count = 1 + random.below(PAGE - offset);
  const address = BigInt((kind === 'vtd' ? 0 : DATA) + page * PAGE + offset);
  const move = eduMove(address, random.below(PAGE - count + 1), count, random.chance(40));
  return [
    ...move.map((send, index): Act => ({ on: 'edu', send, posted: index < move.length - 1 })),
    { on: 'edu', settle: true },
  ];
}

function invalidateContexts(random: Random): Outgoing {
  return wide(Vtd.ccmd, (1n << 63n) | (BigInt(1 + random.below(3)) << 61n) | BigInt(1 + random.below(3)));
}

function invalidatePages(random: Random): Outgoing {
  const request = (1n << 63n) | (BigInt(1 + random.below(2)) << 60n) | (BigInt(1 + random.below(3)) << 32n);
  return wide(IOTLB_OFFSET + 8, request);
}

function leaf(random: Random, page: number): bigint {
  return BigInt(DATA + page * PAGE) | BigInt(random.pick([3, 3, 3, 1, 2, 0]));
}

/** 6.5.2: of contexts, of pages, or a wait with a status. */
function invalidation(random: Random): readonly [bigint, bigint] {
  const granularity = BigInt(1 + random.below(3)) << 4n;
  const domain = BigInt(1 + random.below(3)) << 16n;
  switch (random.below(5)) {
    case 0:
      return [1n | granularity | domain, 0n];
    case 1:
    case 2:
      return [2n | granularity | domain | 0xc0n, BigInt(random.below(READABLE_PAGES) * PAGE)];
    default:
      return [
        5n | 0x20n | (BigInt(random.word()) << 32n),
        BigInt(STRUCTURES + Table.status * PAGE + 8 * random.below(64)),
      ];
  }
}

type Values = Readonly<Record<string, number | Readonly<Record<string, number>>>>;

function command(name: OperationName, values: Values): Uint8Array {
  const bytes = new Uint8Array(COMMAND_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, operations[name].opcode, true);
  put(view, COMMAND_ARGUMENTS, argumentLayouts[name], values);
  return bytes;
}

/** What has no value stays zero. */
function put(view: DataView, at: number, { fields }: StructLayout, values: Values): void {
  for (const [name, value] of Object.entries(values)) {
    const { offset, bytes, kind } = fields[name]!;
    if (typeof value === 'object') put(view, at + offset, kind as StructLayout, value);
    else if (bytes === 8) view.setBigUint64(at + offset, BigInt(value), true);
    else view.setUint32(at + offset, value, true);
  }
}

function onIommu(send: Outgoing): Act[] {
  return [
    { on: 'iommu', send, posted: false },
    { on: 'iommu', settle: true },
  ];
}

function both(send: Outgoing): Act[] {
  return (['iommu', 'edu'] as const).map(on => ({ on, send, posted: true }));
}

function quad(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}
