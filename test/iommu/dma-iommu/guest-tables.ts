/** Page tables that a caller builds in guest memory, word by word as its architecture defines them. */
import {
  DomainConfigurationArch,
  type DomainConfigurationArm64,
  type DomainConfigurationX64,
} from '../../../src/iommu/dma-iommu/types.ts';
import type { LocalMemory } from '../../../src/memory/local-memory.ts';

const FIRST_TABLE_FRAME = 16;
const ADDRESS = 0x0000_ffff_ffff_f000n;

/** Tables of `levels` levels that each use `bits` bits of the address, from frame 16 on unless told otherwise. */
class GuestTables {
  readonly root: bigint;
  #next: number;

  constructor(
    readonly memory: LocalMemory,
    readonly levels: number,
    readonly shift: number,
    readonly bits: number,
    readonly tableEntry: (address: bigint) => bigint,
    first = FIRST_TABLE_FRAME,
  ) {
    this.#next = first;
    this.root = this.#allocate();
  }

  /** Puts an entry where a walk for the address arrives at `level`; makes the tables above it. */
  set(address: bigint, level: number, entry: bigint): void {
    let table = this.root;
    for (let at = this.levels; at > level; at--) {
      const known = this.#load(table, this.#index(address, at));
      let next = known & ADDRESS & ~((1n << BigInt(this.shift)) - 1n);
      if (known === 0n) {
        next = this.#allocate();
        this.#store(table, this.#index(address, at), this.tableEntry(next));
      }
      table = next;
    }
    this.#store(table, this.#index(address, level), entry);
  }

  #index(address: bigint, level: number): bigint {
    return (address >> BigInt(this.shift + this.bits * (level - 1))) & ((1n << BigInt(this.bits)) - 1n);
  }

  #allocate(): bigint {
    const pages = 2 ** (this.shift - 12);
    this.#next = Math.ceil(this.#next / pages) * pages;
    const frame = this.#next;
    this.#next += pages;
    return BigInt(frame) << 12n;
  }

  #load(table: bigint, index: bigint): bigint {
    const address = table + index * 8n;
    this.memory.load64(Number(address >> 12n), Number(address & 0xfffn));
    return (BigInt(this.memory.high >>> 0) << 32n) | BigInt(this.memory.low >>> 0);
  }

  #store(table: bigint, index: bigint, entry: bigint): void {
    const address = table + index * 8n;
    this.memory.write64(Number(address >> 12n), Number(address & 0xfffn), entry);
  }
}

/** Present, writable, user, accessed, dirty. */
const X64_ENTRY = 0x67n;

export class X64Tables extends GuestTables {
  constructor(memory: LocalMemory, levels = 4, first?: number) {
    super(memory, levels, 12, 9, address => address | X64_ENTRY, first);
  }

  map(address: bigint, physical: bigint, flags = X64_ENTRY): void {
    this.set(address, 1, physical | flags);
  }
}

/** Valid; table, or page of the last level; access flag. */
const ARM64_TABLE = 0x3n;
const ARM64_PAGE = 0x403n;

export class Arm64Tables extends GuestTables {
  constructor(memory: LocalMemory, granule: 4 | 16 | 64 = 4, levels = granule === 64 ? 3 : 4, first?: number) {
    const shift = { 4: 12, 16: 14, 64: 16 }[granule];
    super(memory, levels, shift, shift - 3, address => address | ARM64_TABLE, first);
  }

  map(address: bigint, physical: bigint, flags = ARM64_PAGE): void {
    this.set(address, 1, physical | flags);
  }
}

export function arm64Config(
  given: Partial<DomainConfigurationArm64> & { readonly ttbr0?: bigint },
): DomainConfigurationArm64 {
  return {
    type: DomainConfigurationArch.Arm64,
    ttbr0: 0n,
    ttbr1: 0n,
    mair0: 0xff,
    mair1: 0,
    inputSize0: 48,
    inputSize1: 0,
    coherentTableWalks: true,
    translationEnabled: true,
    ...given,
  };
}

export function x64Config(given: {
  readonly root: bigint;
  readonly levels?: number;
  readonly translationEnabled?: boolean;
}): DomainConfigurationX64 {
  const { root, levels, translationEnabled = true } = given;
  return { type: DomainConfigurationArch.X64, firstLevelPageTableRoot: root, translationEnabled, levels };
}
