/** What fuzzed guest memory holds: page tables, descriptors and commands that are almost right. */
import { argumentLayouts } from '../../src/iommu/dma-iommu/function/layout.ts';
import type { StructLayout } from '../../src/iommu/dma-iommu/function/struct.ts';
import { operations } from '../../src/iommu/dma-iommu/opcodes.ts';
import type { OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import { Random } from './random.ts';
import type { FileDescription } from './steps.ts';
import { dmaIommuStructures, vtdStructures } from './translations.ts';

/** Guest addresses that the fuzzer maps are mostly below this. */
export const LOW_MEMORY_BYTES = 16 * 1048576;
const PAGES = LOW_MEMORY_BYTES / 4096;
/** One entry of the dma-iommu function's command ring. */
const COMMAND_BYTES = 128;
const COMMAND_ARGUMENTS = 16;
const DESCRIPTOR_BYTES = 16;
const NAMES = Object.keys(operations) as OperationName[];
/** What others need. */
const CREATORS: readonly OperationName[] = ['createDomain', 'createDomainEx', 'createDevice'];
/** Handles are given out one after the other. */
const HANDLES = 48;

/** Where root, context and page tables lie that mostly lead somewhere: a walk of garbage ends at its first step. */
export const ROOT_TABLE = 0x1000n;
/** Root, context, three levels above the leaves, and leaves for all low memory. */
const GOOD_TABLES_BYTES = 0x6000 + (PAGES / 512) * 4096;

export function contentOf({ bytes, content, seed }: FileDescription): Uint8Array {
  const random = new Random(seed, bytes);
  if (content === 'vtd') return vtdStructures(random);
  if (content === 'dma-iommu') return dmaIommuStructures(random);
  const all = new Uint8Array(bytes);
  if (content === 'tables') {
    fillWithTables(random, all);
    if (bytes >= GOOD_TABLES_BYTES) putGoodTables(random, all);
  } else if (content === 'commands') {
    fillWithDescriptors(random, all.subarray(0, bytes >> 1));
    fillWithCommands(random, all.subarray(bytes >> 1));
  }
  return all;
}

/** An address of a page that may be mapped. */
export function pageAddress(random: Random): bigint {
  return BigInt(random.below(PAGES)) * 4096n;
}

/** Words that an IOMMU reads as entries of its tables, as invalidation descriptors, or as nonsense. */
export function tableWord(random: Random): bigint {
  switch (random.below(12)) {
    case 0:
      return 0n;
    case 1:
      return random.wide();
    case 2:
      return random.edge();
    // Invalidation descriptors: type, granularity, wait with its status data.
    case 3:
      return BigInt(random.below(8)) | (BigInt(random.below(4)) << 4n) | (BigInt(random.word()) << 32n);
    case 4:
      return 5n | 0x20n | (BigInt(random.below(4)) << 4n) | (BigInt(random.word()) << 32n);
    // A context entry's upper half: address width and domain.
    case 5:
      return BigInt(random.below(8)) | (BigInt(random.below(65536)) << 8n);
    case 6:
      return pageAddress(random) | 0x83n;
    default:
      return pageAddress(random) | BigInt(random.below(8));
  }
}

function fillWithTables(random: Random, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer);
  // Every fourth word is drawn; the others repeat it, as tables do.
  for (let at = 0; at + 32 <= bytes.length; at += 32) {
    const word = tableWord(random);
    for (let i = 0; i < 4; i++) view.setBigUint64(at + 8 * i, i % 2 === 0 ? word : word ^ BigInt(i << 12), true);
  }
}

/** For VT-d's invalidation queue. */
function fillWithDescriptors(random: Random, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + DESCRIPTOR_BYTES <= bytes.length; at += DESCRIPTOR_BYTES) {
    const [low, high] = invalidation(random);
    view.setBigUint64(at, low, true);
    view.setBigUint64(at + 8, high, true);
  }
}

/** 6.5.2: of the context cache, of the IOTLB, or a wait. */
function invalidation(random: Random): readonly [bigint, bigint] {
  const granularity = BigInt(1 + random.below(3)) << 4n;
  const domain = BigInt(random.below(4)) << 16n;
  switch (random.below(random.chance(10) ? 20 : 19)) {
    case 19:
      return [tableWord(random), tableWord(random)];
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
      return [1n | granularity | domain | (BigInt(random.below(4) << 8) << 32n), 0n];
    case 5:
    case 6:
    case 7:
    case 8:
      return [5n | 0x20n | (BigInt(random.below(2)) << 4n) | (BigInt(random.word()) << 32n), pageAddress(random)];
    default:
      return [2n | granularity | domain | 0xc0n, pageAddress(random) | BigInt(random.below(8))];
  }
}

function fillWithCommands(random: Random, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + COMMAND_BYTES <= bytes.length; at += COMMAND_BYTES) {
    const name = random.chance(30) ? random.pick(CREATORS) : random.pick(NAMES);
    view.setUint16(at, random.chance(97) ? operations[name].opcode : random.word() & 0xffff, true);
    view.setUint16(at + 2, random.chance(98) ? random.below(2) : random.word() & 0xffff, true);
    view.setUint32(at + 8, random.word(), true);
    // Bytes that no argument has must be zero.
    putArguments(random, view, at + COMMAND_ARGUMENTS, argumentLayouts[name]);
    if (random.chance(3)) view.setUint8(at + random.below(COMMAND_BYTES), random.word());
  }
}

function putArguments(random: Random, view: DataView, at: number, { fields }: StructLayout): void {
  for (const [name, { offset, bytes, kind }] of Object.entries(fields)) {
    if (typeof kind === 'object' && 'fields' in kind) putArguments(random, view, at + offset, kind as StructLayout);
    else if (bytes === 1) view.setUint8(at + offset, argument(random, name));
    else
      for (let word = 0; word + 4 <= bytes; word += 4)
        view.setUint32(at + offset + word, word > 0 && random.chance(90) ? 0 : argument(random, name), true);
  }
}

/** Every bus and device is led to the same page tables, where most of low memory is what it is and the rest is garbage. */
function putGoodTables(random: Random, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer);
  const put = (at: number, word: bigint) => view.setBigUint64(at, random.chance(98) ? word : tableWord(random), true);
  const [root, context, top, upper, middle, leaves] = [0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000];
  for (let at = 0; at < 4096; at += 16) {
    put(root + at, BigInt(context) | 1n);
    view.setBigUint64(root + at + 8, 0n, true);
    put(context + at, BigInt(top) | 1n);
    view.setBigUint64(context + at + 8, (BigInt(1 + random.below(4)) << 8n) | 2n, true);
  }
  view.setBigUint64(top, BigInt(upper) | 3n, true);
  view.setBigUint64(upper, BigInt(middle) | 3n, true);
  for (let table = 0; table < PAGES / 512; table++) put(middle + 8 * table, BigInt(leaves + 4096 * table) | 3n);
  for (let page = 0; page < PAGES; page++)
    put(leaves + 8 * page, BigInt(page * 4096) | BigInt(random.chance(90) ? 3 : random.below(4)));
}

/** Mostly what belongs there, sometimes a handle, a count, a flag or an address, and sometimes none of them. */
function argument(random: Random, name: string): number {
  if (random.chance(85)) {
    switch (name) {
      case 'pdo':
        return random.pick([0x100, 0x200, 0x300]);
      case 'domain':
      case 'device':
      case 'pasidDevice':
      case 'token':
      case 'segment':
        return 1 + random.below(HANDLES);
      case 'permissions':
        return 1 + random.below(3);
      case 'address':
      case 'logicalAddress':
      case 'explicitLogicalAddress':
        return Number(pageAddress(random));
      case 'size':
        return 4096 * (1 + random.below(16));
      case 'byteOffset':
      case 'hasAllocator':
      case 'reservedRegionCount':
        return 0;
    }
  }
  const kind = random.below(10);
  if (kind < 6) return random.below(4);
  if (kind < 8) return Number(pageAddress(random));
  if (kind === 8) return random.pick([0x100, 0x200, 0x300]);
  return random.chance(50) ? Number(random.edge() & 0xffffffffn) : random.word();
}
