/** The hardware's state as the inspector is told of it, made up from a fake machine. */

import { eduRegisters } from '../../../src/devices/edu/registers.ts';
import { vtdCapabilities } from '../../../src/iommu/vtd/capabilities.ts';
import { vtdRegisters } from '../../../src/iommu/vtd/registers.ts';
import type {
  InspectionAnswer,
  QueueAnswer,
  RegisterBlockDescription,
  TlbAnswer,
  WalkAnswer,
} from '../../../src/machine/inspection.ts';
import type { RegisterBlock } from '../../../src/pci/registers.ts';
import { DEVICES, type FakeMachine, type FakeMapping } from './fake-machine.ts';

const vtd = vtdRegisters(vtdCapabilities());
const NOTHING = 0x7d0000n;

export const BLOCKS: readonly (RegisterBlockDescription & {
  readonly size: number;
  readonly definition: RegisterBlock;
})[] = [
  { function: 'iommu', ...described(vtd) },
  ...DEVICES.map(({ name }) => ({ function: name, ...described(eduRegisters) })),
];

function described(definition: RegisterBlock) {
  const { name, specification, bytes, registers } = definition;
  const without = registers.map(register => ({
    ...register,
    fields: register.fields.map(({ name: field, bits, access, why }) => ({
      name: field,
      bits,
      access,
      ...(why === undefined ? {} : { why }),
    })),
  }));
  return { block: name, region: 0, specification, registers: without, size: bytes, definition };
}

export function inspection(machine: FakeMachine): InspectionAnswer {
  return {
    registers: BLOCKS.map(({ size: _size, definition: _definition, ...block }) => block),
    functions: [
      { name: 'iommu', kind: 'vtd', connected: true, busMaster: true },
      ...DEVICES.map(({ name, requesterId }) => ({ name, kind: 'edu', requesterId, connected: true, busMaster: true })),
    ],
    state: machine.isPaused ? 'paused' : 'running',
  };
}

/** Reset values, and a few that change while the machine runs. */
export function registerBytes(machine: FakeMachine, name: string): { block: string; bytes: Uint8Array } | undefined {
  const found = BLOCKS.find(one => one.function === name);
  if (found === undefined) return undefined;
  const bytes = new Uint8Array(found.size);
  const view = new DataView(bytes.buffer);
  for (const { offset, bytes: width, fields } of found.definition.registers) {
    let value = 0n;
    for (const { bits, reset } of fields) value |= BigInt(reset ?? 0) << BigInt(bits[1]);
    for (let n = 0; n < width; n++) bytes[offset + n] = Number((value >> BigInt(n * 8)) & 0xffn);
  }
  if (name === 'iommu') {
    view.setUint32(0x1c, 0xc4000000, true);
    view.setBigUint64(0x20, 0x7c00000n, true);
    view.setUint32(0x80, machine.queueTail, true);
    view.setUint32(0x88, machine.queueTail, true);
    view.setBigUint64(0x90, 0x7c10000n, true);
    view.setUint32(0x34, machine.counters.faults[5]! > 0 ? 2 : 0, true);
  } else {
    const device = DEVICES.find(one => one.name === name)!;
    const { reads, writes } = machine.counters.devices[device.source - 2]!;
    view.setUint32(0x20, 0x80, true);
    view.setBigUint64(0x80, 0xfffff000n - BigInt((reads % 16) * 64), true);
    view.setBigUint64(0x90, BigInt(64 * (1 + (writes % 16))), true);
  }
  return { block: found.block, bytes };
}

function find(machine: FakeMachine, domain: number, page: number): FakeMapping | undefined {
  return machine.mappings.find(one => one.domain === domain && page >= one.page && page < one.page + one.pages);
}

export function walk(machine: FakeMachine, requesterId: number, iova: bigint): WalkAnswer {
  const device = DEVICES.find(one => one.requesterId === requesterId);
  const root = 0x7c00000n + BigInt((requesterId >> 8) * 16);
  const step = (
    what: string,
    address: bigint,
    words: readonly bigint[],
    fields: readonly (readonly [string, number, number])[],
  ) => {
    const whole = words.reduce((all, word, n) => all | (word << BigInt(64 * n)), 0n);
    const value = (high: number, low: number) => (whole >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
    const decoded = fields.map(([name, high, low]) => ({
      name,
      bits: [high, low] as [number, number],
      value: value(high, low),
    }));
    return { what, address, words, fields: decoded, present: (whole & 3n) !== 0n };
  };
  const rootFields = [
    ['P', 0, 0],
    ['CTP', 63, 12],
  ] as const;
  if (device === undefined) {
    return { steps: [step('root entry', root, [0n, 0n], rootFields)], status: 'not attached', agrees: true };
  }
  const { domain } = device;
  const mapping = find(machine, domain, Number(iova >> 12n));
  const contextFields = [
    ['P', 0, 0],
    ['FPD', 1, 1],
    ['TT', 3, 2],
    ['SSPTPTR', 63, 12],
    ['AW', 66, 64],
    ['DID', 87, 72],
  ] as const;
  const entryFields = [
    ['R', 0, 0],
    ['W', 1, 1],
    ['PS', 7, 7],
    ['ADDR', 51, 12],
  ] as const;
  const steps = [
    step('root entry', root, [0x7c01001n, 0n], rootFields),
    step('context entry', 0x7c01000n, [NOTHING | 1n, BigInt((domain << 8) | 2)], contextFields),
  ];
  for (let level = 4; level >= 1; level--) {
    const index = (iova >> BigInt(12 + 9 * (level - 1))) & 0x1ffn;
    const table = NOTHING + BigInt((4 - level) * 0x1000);
    const target = level > 1 ? table + 0x1000n : BigInt(mapping?.frame ?? 0) << 12n;
    const isPresent = level > 1 || mapping !== undefined;
    const entry = isPresent ? target | BigInt(level > 1 ? 3 : mapping!.permissions) : 0n;
    steps.push(step(`level ${level}`, table + index * 8n, [entry], entryFields));
  }
  if (mapping === undefined) return { steps, status: 'not present', domain, agrees: true };
  const address = (BigInt(mapping.frame + Number(iova >> 12n) - mapping.page) << 12n) | (iova & 0xfffn);
  const { permissions } = mapping;
  const isStale = mapping.page === 0xfffff && domain === 2;
  const cached = { address: isStale ? 0x2344000n : address & ~0xfffn, shift: 12, permissions };
  return { steps, status: 'mapped', address, shift: 12, permissions, domain, cached, agrees: !isStale };
}

export function tlb(machine: FakeMachine, limit: number): TlbAnswer {
  const entries = machine.mappings.slice(0, limit).map(({ domain, page, frame, permissions }) => ({
    domain,
    iova: BigInt(page) << 12n,
    address: BigInt(frame) << 12n,
    shift: 12,
    permissions,
  }));
  return { entries, total: machine.mappings.length };
}

export function queue(machine: FakeMachine): QueueAnswer {
  const head = machine.queueTail;
  const entries = Array.from({ length: 24 }, (_, n) => {
    const offset = (head - (16 - n) * 16) & 0xfff;
    const isWait = n % 2 === 1;
    const page = 0xfffff - n;
    return {
      offset,
      words: isWait ? [0x0000000100000025n, 0x7c1000n] : [0x0001000000000032n, BigInt(page) << 12n],
      text: isWait
        ? 'wait, writes 0x1 to 0x7c1000'
        : `IOTLB invalidate, page-selective, domain 1, 0x${page.toString(16)}000, 1 page`,
      state: n < 16 ? ('done' as const) : ('free' as const),
    };
  });
  return { enabled: true, base: 0x7c10000n, bytes: 4096, head, tail: machine.queueTail, entries };
}
