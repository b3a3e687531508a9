/** What fuzzed guest memory holds: page tables, descriptors and commands that are almost right. */
import { operations } from '../../src/iommu/dma-iommu/opcodes.ts';
import { Random } from './random.ts';
import type { FileDescription } from './steps.ts';

/** Guest addresses that the fuzzer maps are mostly below this. */
export const LOW_MEMORY_BYTES = 16 * 1048576;
const PAGES = LOW_MEMORY_BYTES / 4096;
/** One entry of the dma-iommu function's command ring. */
const COMMAND_BYTES = 128;
const COMMAND_ARGUMENTS = 16;
const DESCRIPTOR_BYTES = 16;
const OPCODES = Object.values(operations).map(({ opcode }) => opcode);

export function contentOf({ bytes, content, seed }: FileDescription): Uint8Array {
  const all = new Uint8Array(bytes);
  const random = new Random(seed, bytes);
  if (content === 'tables') fillWithTables(random, all);
  else if (content === 'commands') {
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
  switch (random.below(20)) {
    case 0:
      return [tableWord(random), tableWord(random)];
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
    view.setUint16(at, random.chance(95) ? random.pick(OPCODES) : random.word() & 0xffff, true);
    view.setUint16(at + 2, random.chance(95) ? random.below(2) : random.word() & 0xffff, true);
    view.setUint32(at + 8, random.word(), true);
    const end = COMMAND_ARGUMENTS + 4 * random.below((COMMAND_BYTES - COMMAND_ARGUMENTS) / 4);
    for (let offset = COMMAND_ARGUMENTS; offset < end; offset += 4) view.setUint32(at + offset, argument(random), true);
  }
}

/** A handle, a count, a flag, an address, or none of them. */
function argument(random: Random): number {
  const kind = random.below(10);
  if (kind < 6) return random.below(4);
  if (kind < 8) return Number(pageAddress(random));
  if (kind === 8) return random.pick([0x100, 0x200, 0x300]);
  return random.chance(50) ? Number(random.edge() & 0xffffffffn) : random.word();
}
