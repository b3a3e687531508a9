/** What a driver would do to each kind of function, with garbage where its tables, rings and addresses belong. */
import { words } from '../../src/vfio-user/conformance/wire.ts';
import { Command } from '../../src/vfio-user/spec.ts';
import { LOW_MEMORY_BYTES, pageAddress, ROOT_TABLE } from './content.ts';
import { compose, type Outgoing } from './messages.ts';
import { DOORBELL_REGION, ENTRIES, ENTRY_BYTES, OFFERED_FILE_BYTES, offers, WORK_REGION } from './offers.ts';
import type { Random } from './random.ts';

/** `offering`: edu's registers, and what `offers.ts` says. */
export type FunctionKind = 'vtd' | 'dma-iommu' | 'edu' | 'offering';

const BAR = 0;
const CONFIG = 7;
const PAGE = 4096;
/** Configuration space: COMMAND, with memory space and bus mastering. */
const COMMAND = 4;
const MEMORY_AND_MASTER = 6;

/** VT-d registers by offset (11.4), and the bits of GCMD. */
export const Vtd = {
  gcmd: 0x18,
  rtaddr: 0x20,
  ccmd: 0x28,
  fsts: 0x34,
  fectl: 0x38,
  iqt: 0x88,
  iqa: 0x90,
  ics: 0x9c,
  iectl: 0xa0,
} as const;
const GCMD = [
  0x84000000, 0x84000000, 0x84000000, 0x84000000, 0x80000000, 0x40000000, 0x04000000, 0xc4000000, 0x02000000, 0,
  0x01000000,
] as const;

/** The dma-iommu function's registers by offset. */
export const DmaIommu = {
  control: 0x30,
  status: 0x34,
  rings: [0x40, 0x60, 0x80],
  commandTail: 0x50,
  enable: 0xa0,
  pending: 0xa4,
  directory: 0xc4,
  probe: 0xe0,
} as const;

const Edu = {
  factorial: 0x08,
  status: 0x20,
  raise: 0x60,
  acknowledge: 0x64,
  source: 0x80,
  destination: 0x88,
  count: 0x90,
  command: 0x98,
  pasid: 0xa0,
} as const;
const EDU_BUFFER = 0x40000;
/** A few pages that are used again and again: what was cached is found. */
const NEARBY_BYTES = 0x8000;
/** Where the file of descriptors and commands is mapped from the start, behind the tables. */
const DESCRIPTORS = 0x400000n;
const COMMANDS = 0x480000n;

/** One of the things that a driver does: some accesses in a row. */
export function driverProgram(random: Random, kind: FunctionKind): Outgoing[] {
  if (kind === 'vtd') return vtdProgram(random);
  if (kind === 'offering' && random.chance(40)) return offeringProgram(random);
  return kind === 'dma-iommu' ? dmaIommuProgram(random) : eduProgram(random);
}

/** What a driver does first. */
export function bringUp(random: Random, kind: FunctionKind): Outgoing[] {
  if (kind === 'vtd') {
    return [
      wide(Vtd.rtaddr, random.chance(80) ? ROOT_TABLE : lowPage(random)),
      word(Vtd.gcmd, 0x40000000),
      wide(Vtd.iqt, 0n),
      wide(Vtd.iqa, DESCRIPTORS + BigInt(random.below(64)) * 4096n),
      word(Vtd.gcmd, 0x04000000),
      word(Vtd.gcmd, random.pick([0x84000000, 0x84000000, 0x84000000, 0x04000000])),
      wide(Vtd.iqt, BigInt(random.below(200) * 16)),
    ];
  }
  if (kind === 'edu' || kind === 'offering') return [];
  const [command, completion, fault] = DmaIommu.rings;
  return [
    wide(command, COMMANDS + BigInt(random.below(64)) * 4096n),
    word(command + 8, 6),
    wide(completion, lowPage(random)),
    word(completion + 8, 6),
    wide(fault, lowPage(random)),
    word(fault + 8, 4),
    word(DmaIommu.control, random.pick([1, 3])),
    word(DmaIommu.commandTail, 1 + random.below(60)),
  ];
}

/** What makes DMA possible at all. */
export function enable(): Outgoing {
  return word(COMMAND, MEMORY_AND_MASTER, CONFIG);
}

/** Any place that may be a register, or lie across two. */
export function anyAccess(random: Random, kind: FunctionKind): Outgoing {
  const region = random.chance(75) ? BAR : CONFIG;
  const span = region === CONFIG ? 256 : kind === 'vtd' ? 0x280 : kind === 'dma-iommu' ? 0x110 : 0xb0;
  const count = random.pick([1, 2, 4, 4, 4, 8, 8, 3, 16]);
  const offset = random.below(span) & (random.chance(90) ? ~3 : ~0);
  if (random.chance(60)) return compose.read(region, offset, count);
  return compose.write(
    region,
    offset,
    Uint8Array.from({ length: count }, () => random.word()),
  );
}

/** A long one. */
export function longAccess(random: Random): Outgoing {
  // Each word of a BAR is noted where there is no register: thousands of them are work for little.
  const count = random.below(random.chance(90) ? 128 : 8192);
  return random.chance(70)
    ? compose.read(BAR, random.below(64), count)
    : compose.write(BAR, 0x800, new Uint8Array(count));
}

function vtdProgram(random: Random): Outgoing[] {
  switch (random.below(8)) {
    case 0:
      return [
        wide(Vtd.rtaddr, random.chance(80) ? ROOT_TABLE : pageAddress(random) | BigInt(random.below(4) << 10)),
        word(Vtd.gcmd, 0xc4000000),
      ];
    case 1:
      return [
        word(Vtd.gcmd, 0x80000000),
        word(Vtd.fsts, 0xff),
        wide(Vtd.iqt, 0n),
        wide(
          Vtd.iqa,
          random.chance(80)
            ? DESCRIPTORS + BigInt(random.below(64)) * 4096n
            : pageAddress(random) | BigInt(random.below(8)) | (random.chance(20) ? 1n << 11n : 0n),
        ),
        word(Vtd.gcmd, random.pick([0x04000000, 0x84000000])),
      ];
    case 2:
    case 3:
      return [word(Vtd.fsts, 0xff), wide(Vtd.iqt, BigInt(random.below(256) * 16))];
    case 4:
      return [word(Vtd.gcmd, random.pick(GCMD))];
    case 5:
      return [
        word(Vtd.fectl + 4, random.word() & 0xffff),
        word(Vtd.fectl + 8, 0xfee00000 | (random.below(256) << 12)),
        word(Vtd.fectl, random.chance(80) ? 0 : 0x80000000),
        word(Vtd.fsts, 0xffffffff),
      ];
    case 6:
      return [word(Vtd.ics, 1), word(Vtd.iectl + 8, 0xfee00000), word(Vtd.iectl, 0), word(Vtd.fsts, random.word())];
    default:
      return [wide(Vtd.ccmd, (1n << 63n) | (BigInt(random.below(4)) << 61n) | BigInt(random.word()))];
  }
}

function dmaIommuProgram(random: Random): Outgoing[] {
  switch (random.below(6)) {
    case 0:
      return [
        word(DmaIommu.control, 0),
        ...DmaIommu.rings.flatMap(ring => [
          wide(ring, ringAddress(random)),
          word(ring + 8, random.chance(90) ? 6 : random.word()),
        ]),
        word(DmaIommu.control, random.pick([1, 3])),
      ];
    case 1:
    case 2:
      return [
        word(DmaIommu.status, 0xffffffff),
        word(0x6c, random.below(64)),
        word(DmaIommu.commandTail, random.below(random.chance(97) ? 64 : 0x10000)),
      ];
    case 3:
      return [word(DmaIommu.control, random.pick([1, 1, 3, 3, 0, 1, 3, 2, 4, 7])), word(DmaIommu.status, 0xffffffff)];
    case 4:
      return [
        word(DmaIommu.probe, random.pick([0x100, 0x200, 0x300, random.word()])),
        wide(DmaIommu.probe + 8, random.chance(80) ? pageAddress(random) : random.edge()),
        word(DmaIommu.probe + 16, 0x80000000 | random.below(4)),
      ];
    default:
      // What the rings have filled is given back.
      return [
        word(0x6c, random.below(64)),
        word(0x8c, random.below(64)),
        word(DmaIommu.enable, random.below(16)),
        word(DmaIommu.pending, 15),
        word(DmaIommu.directory, random.below(8)),
      ];
  }
}

/** Of what is mapped from the start. */
function lowPage(random: Random): bigint {
  return BigInt(random.below(1024)) * 4096n;
}

function ringAddress(random: Random): bigint {
  return random.chance(60)
    ? COMMANDS + BigInt(random.below(64)) * 4096n
    : random.chance(80)
      ? pageAddress(random)
      : random.edge();
}

function eduProgram(random: Random): Outgoing[] {
  switch (random.below(6)) {
    case 0:
      return [word(Edu.status, 0x80), word(Edu.factorial, random.chance(80) ? random.below(40) : random.word())];
    case 1:
      return [word(Edu.raise, random.word()), word(Edu.acknowledge, random.word())];
    default:
      return eduTransfer(random);
  }
}

/** Its own memory by messages, work in it, and the doorbell. */
function offeringProgram(random: Random): Outgoing[] {
  const place = (region: number, bytes: number) => random.below(offers[region]!.size - bytes + 1);
  switch (random.below(5)) {
    case 0: {
      const region = 2 + random.below(4);
      return [compose.read(region, place(region, 64), random.below(65))];
    }
    case 1: {
      const region = 2 + random.below(4);
      return [compose.write(region, place(region, 16), workEntry(random))];
    }
    case 2:
      return [compose.regionInfo(random.below(9), 32 + random.below(2) * 4096)];
    case 3:
      return [
        { command: Command.deviceGetRegionIoFds, payload: words(4096, 0, random.pick([0, 2, DOORBELL_REGION]), 0) },
      ];
    default: {
      const entry = ENTRY_BYTES * random.below(ENTRIES);
      return [
        compose.write(WORK_REGION, entry, workEntry(random)),
        compose.write(DOORBELL_REGION, 0, new Uint8Array(4)),
      ];
    }
  }
}

/** What a client may put into the device's list of work. `vector`: by default one of the first of an index, or any. */
export function workEntry(random: Random, vector = anyVector(random)): Uint8Array {
  const direction = random.chance(50) ? 0x80000000 : 0;
  const page = random.chance(95) ? 1 + random.below(LOW_MEMORY_BYTES / 4096) : random.word();
  return words((page | direction) >>> 0, random.word(), random.below(OFFERED_FILE_BYTES), vector);
}

function anyVector(random: Random): number {
  return random.chance(80) ? (random.below(3) << 16) | random.below(4) : random.word();
}

function eduTransfer(random: Random): Outgoing[] {
  const count = random.chance(90) ? 1 + random.below(PAGE) : random.below(2 * PAGE);
  const inBuffer = random.below(PAGE);
  const memory = random.chance(90)
    ? BigInt(random.below(random.pick([NEARBY_BYTES, LOW_MEMORY_BYTES / 4, LOW_MEMORY_BYTES / 4, LOW_MEMORY_BYTES])))
    : random.edge();
  const toMemory = random.chance(50);
  const pasid = random.chance(90) ? 0n : 0x80000000n | BigInt(random.below(4));
  return eduMove(
    memory,
    inBuffer,
    random.chance(50) ? Math.min(count, PAGE - inBuffer) : count,
    toMemory,
    pasid,
    random.chance(40),
  );
}

/** Starts one transfer between guest memory and the device's buffer. */
export function eduMove(
  memory: bigint,
  inBuffer: number,
  count: number,
  toMemory: boolean,
  pasid = 0n,
  interrupts = false,
): Outgoing[] {
  const buffer = BigInt(EDU_BUFFER + inBuffer);
  return [
    wide(Edu.source, toMemory ? buffer : memory),
    wide(Edu.destination, toMemory ? memory : buffer),
    wide(Edu.count, BigInt(count)),
    wide(Edu.pasid, pasid),
    word(Edu.command, 1 | (toMemory ? 2 : 0) | (interrupts ? 4 : 0)),
  ];
}

export function word(offset: number, value: number, region = BAR): Outgoing {
  return compose.write(region, offset, new Uint8Array(Uint32Array.of(value).buffer));
}

export function wide(offset: number, value: bigint): Outgoing {
  return compose.write(BAR, offset, new Uint8Array(BigUint64Array.of(value).buffer));
}
