import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { describeMachine } from '../../src/machine/description.ts';
import type {
  InspectionAnswer,
  QueueAnswer,
  RegistersAnswer,
  StateAnswer,
  StepAnswer,
  TlbAnswer,
  WalkAnswer,
} from '../../src/machine/inspection.ts';
import {
  BAR0,
  bytes32,
  bytes64,
  DOMAIN,
  EDU0,
  EDU1,
  Edu,
  Frame,
  InspectRig,
  IOVA,
  PAGE,
  read32,
  Vtd,
} from './inspect-rig.ts';

let rig: InspectRig;
beforeEach(() => {
  rig = new InspectRig();
});
afterEach(() => rig.close());

const walk = (iova = IOVA, requesterId = EDU0) => rig.ask<WalkAnswer>({ name: 'walk', requesterId, iova });
const tlb = (limit = 100) => rig.ask<TlbAnswer>({ name: 'tlb', limit });
const pause = () => rig.ask<StateAnswer>({ name: 'pause' });
const resume = () => rig.ask<StateAnswer>({ name: 'resume' });
const step = (what: 'dma' | 'register') => rig.ask<StepAnswer>({ name: 'step', what });

function start() {
  const iommu = rig.connect('iommu');
  const edu = rig.connect('edu0');
  rig.buildTables(Frame.data);
  rig.enableTranslation(iommu);
  return { iommu, edu };
}

describe('inspect', () => {
  it('describes every block by its definition, and every function', () => {
    rig.connect('edu0');
    const { registers, functions, state } = rig.ask<InspectionAnswer>({ name: 'inspect' });
    expect(registers.map(one => `${one.function}/${one.block}@${one.region}`)).toEqual([
      'iommu/vtd@0',
      'iommu/pci@7',
      'edu0/edu@0',
      'edu0/pci@7',
      'edu1/edu@0',
      'edu1/pci@7',
    ]);
    const capability = registers[0]!.registers.find(({ name }) => name === 'CAP')!;
    expect(capability).toMatchObject({ offset: 8, bytes: 8, section: '11.4.2' });
    expect(capability.fields.find(({ name }) => name === 'CM')).toMatchObject({ bits: [7, 7], access: 'ro' });
    const command = registers[3]!.registers.find(({ name }) => name === 'command')!;
    expect(command.fields.find(({ name }) => name === 'busMaster')).toEqual({
      name: 'busMaster',
      bits: [2, 2],
      access: 'rw',
    });
    expect(functions).toEqual([
      { name: 'iommu', kind: 'vtd', connected: false, busMaster: true },
      { name: 'edu0', kind: 'edu', requesterId: EDU0, connected: true, busMaster: true },
      { name: 'edu1', kind: 'edu', requesterId: EDU1, connected: false, busMaster: false },
    ]);
    expect(state).toBe('running');
  });

  it('has every register within the bytes that its block gives', () => {
    const { registers } = rig.ask<InspectionAnswer>({ name: 'inspect' });
    for (const { function: name, block, registers: all } of registers) {
      const { blocks } = rig.ask<RegistersAnswer>({ name: 'registers', function: name });
      const { bytes } = blocks.find(one => one.block === block)!;
      for (const register of all) {
        expect(register.offset + register.bytes).toBeLessThanOrEqual(bytes.length);
        for (const { bits } of register.fields) expect(bits[0]).toBeLessThan(register.bytes * 8);
      }
    }
  });
});

describe('registers', () => {
  const block = (name: string, which: string) =>
    rig.ask<RegistersAnswer>({ name: 'registers', function: name }).blocks.find(one => one.block === which)!.bytes;

  it('are those that the guest reads', () => {
    const { iommu, edu } = start();
    edu.regionWrite(BAR0, Edu.liveness, bytes32(0x1234_5678));
    for (const offset of [0x08, 0x0c, 0x10, Vtd.gsts, Vtd.rtaddr]) {
      expect([...block('iommu', 'vtd').subarray(offset, offset + 4)]).toEqual([...iommu.regionRead(BAR0, offset, 4)]);
    }
    expect([...block('edu0', 'edu').subarray(4, 8)]).toEqual([...edu.regionRead(BAR0, Edu.liveness, 4)]);
    expect([...block('edu0', 'pci').subarray(0, 64)]).toEqual([...edu.regionRead(7, 0, 64)]);
  });

  it('are a copy', () => {
    const { edu } = start();
    const before = block('edu0', 'edu');
    edu.regionWrite(BAR0, Edu.liveness, bytes32(0));
    expect([...before.subarray(4, 8)]).toEqual([0, 0, 0, 0]);
    expect([...block('edu0', 'edu').subarray(4, 8)]).toEqual([255, 255, 255, 255]);
  });

  it('of an unknown function are refused by name', () => {
    expect(() => rig.ask({ name: 'registers', function: 'nic' })).toThrow(/'nic': the machine has iommu, edu0, edu1/);
  });

  it('of a dma-iommu are computed where the guest would have them computed', () => {
    rig.close();
    rig = new InspectRig(describeMachine('dma-iommu', ['edu@01:00.0', 'edu@02:00.0']));
    const count = block('iommu', 'dma-iommu').subarray(0xc0, 0xc4);
    expect([...count]).toEqual([2, 0, 0, 0]);
  });
});

describe('a walk', () => {
  it('shows every entry on the way, decoded', () => {
    start();
    const answer = walk(IOVA + 0x123n);
    expect(answer).toMatchObject({
      status: 'mapped',
      address: BigInt(Frame.data * PAGE + 0x123),
      shift: 12,
      permissions: 3,
      domain: DOMAIN,
      agrees: true,
    });
    expect(answer.cached).toBeUndefined();
    expect(answer.steps.map(({ what, address, present }) => [what, Number(address), present])).toEqual([
      ['root entry', Frame.root * PAGE + 16, true],
      ['context entry', Frame.context * PAGE, true],
      ['level 4', Frame.level4 * PAGE, true],
      ['level 3', Frame.level3 * PAGE, true],
      ['level 2', Frame.level2 * PAGE + 8, true],
      ['level 1', Frame.level1 * PAGE + 0x800, true],
    ]);
    const field = (at: number, name: string) => answer.steps[at]!.fields.find(one => one.name === name)?.value;
    expect(field(0, 'CTP')).toBe(BigInt(Frame.context));
    expect([field(1, 'AW'), field(1, 'DID'), field(1, 'TT')]).toEqual([2n, BigInt(DOMAIN), 0n]);
    expect([field(5, 'R'), field(5, 'W'), field(5, 'ADDR')]).toEqual([1n, 1n, BigInt(Frame.data)]);
    expect(answer.steps[5]!.words).toEqual([BigInt(Frame.data * PAGE) | 3n]);
  });

  it('ends at the entry that is not present', () => {
    start();
    rig.entry(Frame.level2, 1, 0n);
    const answer = walk();
    expect(answer.status).toBe('not present');
    expect(answer.steps.at(-1)).toMatchObject({ what: 'level 2', present: false, words: [0n] });
    expect(answer.address).toBeUndefined();
  });

  it('shows reserved bits that are set', () => {
    start();
    rig.entry(Frame.level2, 1, (BigInt(Frame.level1) << 12n) | 3n | (1n << 50n));
    const answer = walk();
    expect(answer.status).toBe('malformed');
    expect(answer.steps.at(-1)!.fields).toContainEqual({ name: 'reserved', bits: [50, 50], value: 1n });
  });

  it('says that a device is attached to nothing, and where that is seen', () => {
    start();
    rig.entry(Frame.context, 0, 0n, 0n);
    expect(walk().status).toBe('not attached');
    expect(walk().steps.map(({ what, present }) => [what, present])).toEqual([
      ['root entry', true],
      ['context entry', false],
    ]);
    rig.entry(Frame.root, 2, 0n);
    expect(walk().steps.map(({ what, present }) => [what, present])).toEqual([['root entry', false]]);
  });

  it('shows a malformed context entry', () => {
    start();
    rig.entry(Frame.context, 0, (BigInt(Frame.level4) << 12n) | 1n, (7n << 8n) | 7n);
    expect(walk()).toMatchObject({ status: 'malformed', agrees: true });
    expect(walk().steps.map(({ what }) => what)).toEqual(['root entry', 'context entry']);
  });

  it('shows tables that cannot be read as empty', () => {
    start();
    rig.entry(Frame.level3, 0, (0x7000n << 12n) | 3n);
    expect(walk().status).toBe('malformed');
    expect(walk().steps.at(-1)).toEqual({
      what: 'level 2',
      address: (0x7000n << 12n) | 8n,
      words: [],
      fields: [],
      present: false,
    });
    rig.entry(Frame.root, 2, (0x7000n << 12n) | 1n, 0n);
    expect(walk().steps.at(-1)).toMatchObject({ what: 'context entry', words: [] });
  });

  it('knows pass-through, and that nothing is translated while translation is off', () => {
    const iommu = rig.connect('iommu');
    expect(walk()).toEqual({
      steps: [],
      status: 'untranslated',
      address: IOVA,
      shift: 12,
      permissions: 3,
      agrees: true,
    });
    rig.buildTables(Frame.data);
    rig.entry(Frame.context, 0, 1n | (2n << 2n), (7n << 8n) | 2n);
    rig.enableTranslation(iommu);
    expect(walk()).toMatchObject({ status: 'pass-through', address: IOVA, domain: DOMAIN });
  });

  it('beyond the width of the tables leads nowhere', () => {
    start();
    expect(walk(1n << 50n)).toMatchObject({ status: 'not present', agrees: true });
    expect(walk((1n << 64n) - 1n)).toMatchObject({ status: 'not present' });
  });

  it('to where interrupts are taken is not for the tables', () => {
    start();
    expect(walk(0xfee0_0000n)).toEqual({ steps: [], status: 'untranslated', agrees: true });
  });

  it('says what the IOTLB holds, and that it agrees', () => {
    const { edu } = start();
    rig.dma(edu, IOVA);
    expect(walk(IOVA + 8n)).toMatchObject({
      cached: { address: BigInt(Frame.data * PAGE + 8), shift: 12, permissions: 3 },
      agrees: true,
    });
  });

  it('says where the IOTLB disagrees with the tables', () => {
    const { edu } = start();
    rig.dma(edu, IOVA);
    rig.map(Frame.other);
    const moved = walk();
    expect(moved.address).toBe(BigInt(Frame.other * PAGE));
    expect(moved.cached?.address).toBe(BigInt(Frame.data * PAGE));
    expect(moved.agrees).toBe(false);
    rig.map(Frame.data, 1n);
    expect(walk().agrees).toBe(false);
    rig.map(0, 0n);
    expect(walk()).toMatchObject({ status: 'not present', agrees: false });
  });

  it('says where a cached table is not that of the tables any more', () => {
    const { edu } = start();
    rig.dma(edu, IOVA);
    rig.entry(Frame.level2, 1, (BigInt(Frame.other) << 12n) | 3n);
    expect(walk(IOVA + 0x1000n)).toMatchObject({ status: 'not present', agrees: true });
    rig.entry(Frame.level1, 0x101, (BigInt(Frame.data) << 12n) | 3n);
    const answer = walk(IOVA + 0x1000n);
    expect(answer.cached).toBeUndefined();
    expect(answer.agrees).toBe(false);
  });

  it('says where the context cache disagrees', () => {
    const { edu } = start();
    rig.dma(edu, IOVA);
    rig.entry(Frame.context, 0, (BigInt(Frame.level4) << 12n) | 1n, (9n << 8n) | 2n);
    expect(walk()).toMatchObject({ domain: 9, cached: { address: BigInt(Frame.data * PAGE) }, agrees: false });
  });

  it('knows no PASIDs', () => {
    start();
    expect(rig.ask<WalkAnswer>({ name: 'walk', requesterId: EDU0, pasid: 5, iova: IOVA })).toMatchObject({
      status: 'not attached',
    });
  });
});

describe('asking', () => {
  it('changes no counters, caches, registers or faults', () => {
    const { edu } = start();
    rig.dma(edu, IOVA);
    rig.map(Frame.other);
    const state = () => ({
      iommu: rig.machine.statistics().iommu,
      registers: rig.ask<RegistersAnswer>({ name: 'registers', function: 'iommu' }),
      tlb: tlb(),
      trace: rig.trace.events.length,
    });
    const before = state();
    walk();
    walk(IOVA + 0x5000n);
    walk(IOVA, EDU1);
    rig.ask({ name: 'inspect' });
    rig.ask({ name: 'queue' });
    expect(state()).toEqual(before);
    rig.dma(edu, IOVA);
    expect(walk().cached?.address).toBe(BigInt(Frame.data * PAGE));
  });
});

describe('the TLB', () => {
  it('lists what is cached', () => {
    const { edu } = start();
    expect(tlb()).toEqual({ entries: [], total: 0 });
    rig.dma(edu, IOVA);
    expect(tlb()).toEqual({
      entries: [{ domain: DOMAIN, iova: IOVA, address: BigInt(Frame.data * PAGE), shift: 12, permissions: 3 }],
      total: 1,
    });
    expect(tlb(0)).toEqual({ entries: [], total: 1 });
  });

  it('shows large pages by their start', () => {
    const { edu } = start();
    rig.entry(Frame.level2, 1, 3n | (1n << 7n));
    rig.dma(edu, IOVA + 0x5000n - 0x0030_0000n + 0x0020_0000n);
    expect(tlb().entries).toEqual([{ domain: DOMAIN, iova: 0x20_0000n, address: 0n, shift: 21, permissions: 3 }]);
  });
});

describe('the invalidation queue', () => {
  const queue = () => rig.ask<QueueAnswer>({ name: 'queue' });

  it('is empty of entries while it is off', () => {
    start();
    expect(queue()).toEqual({ enabled: false, base: 0n, bytes: 4096, head: 0, tail: 0, entries: [] });
  });

  it('shows what is done, what waits and what is free, in words', () => {
    const { iommu } = start();
    rig.enableQueue(iommu);
    rig.entry(Frame.queue, 0, 1n | (1n << 4n), 0n);
    rig.entry(Frame.queue, 2, 2n | (3n << 4n) | (7n << 16n), IOVA | 3n);
    rig.entry(Frame.queue, 4, 5n | (1n << 5n) | (0x55n << 32n), 0x9000n);
    iommu.regionWrite(BAR0, Vtd.iqt, bytes64(32n));
    rig.settle();
    pause();
    iommu.regionWrite(BAR0, Vtd.iqt, bytes64(48n), { posted: true });
    expect(step('register').stepped).toBe(true);
    const { head, tail, entries, enabled, base } = queue();
    expect({ head, tail, enabled, base }).toEqual({
      head: 32,
      tail: 48,
      enabled: true,
      base: BigInt(Frame.queue * PAGE),
    });
    expect(entries.length).toBeLessThanOrEqual(64);
    expect(new Set(entries.map(({ offset }) => offset)).size).toBe(entries.length);
    const at = (offset: number) => {
      const { text, state } = entries.find(one => one.offset === offset)!;
      return [text, state];
    };
    expect(at(0)).toEqual(['context-cache invalidate, global', 'done']);
    expect(at(16)).toEqual(['IOTLB invalidate, page-selective, domain 7, 0x300000, 8 pages', 'done']);
    expect(at(32)).toEqual(['invalidation wait, writes 0x55 to 0x9000', 'pending']);
    expect(at(48)).toEqual(['empty', 'free']);
    resume();
  });

  it('is only of vtd', () => {
    rig.close();
    rig = new InspectRig(describeMachine('dma-iommu', ['edu@01:00.0']));
    expect(() => rig.ask({ name: 'queue' })).toThrow(/only vtd/);
  });
});

describe('a machine without an IOMMU', () => {
  it('says so, and shows its endpoints', () => {
    rig.close();
    rig = new InspectRig(describeMachine('none', ['edu@01:00.0']));
    expect(() => walk()).toThrow(/no IOMMU/);
    expect(() => tlb()).toThrow(/no IOMMU/);
    const { registers } = rig.ask<InspectionAnswer>({ name: 'inspect' });
    expect(registers.map(one => `${one.function}/${one.block}`)).toEqual(['edu0/edu', 'edu0/pci']);
  });
});

describe('a paused machine', () => {
  it('keeps a register access of the guest waiting, and answers it when it goes on', () => {
    const { edu } = start();
    expect(pause()).toEqual({ state: 'paused' });
    rig.loop.after(20, () => rig.machine.control.resume());
    expect(read32(edu, 0)).toBe(0x0100_00ed);
    expect(rig.machine.control.state).toBe('running');
  });

  it('does no DMA, then one transfer at a step', () => {
    const { edu } = start();
    const other = rig.connect('edu1');
    pause();
    rig.startDma(edu, IOVA, true);
    rig.startDma(other, IOVA, true);
    for (let i = 0; i < 8; i++) expect(step('register')).toEqual({ stepped: true, state: 'paused' });
    const transfers = () =>
      Object.values(rig.machine.statistics().functions).reduce((sum, { dma }) => sum + (dma?.writes ?? 0), 0);
    expect(transfers()).toBe(0);
    expect(step('dma')).toEqual({ stepped: true, state: 'paused' });
    expect(transfers()).toBe(1);
    expect(step('dma')).toEqual({ stepped: true, state: 'paused' });
    expect(step('dma')).toEqual({ stepped: false, state: 'paused' });
    expect(transfers()).toBe(2);
    expect(resume()).toEqual({ state: 'running' });
  });

  it('serves exactly one register access at a step', () => {
    const { edu } = start();
    pause();
    edu.regionWrite(BAR0, Edu.liveness, bytes32(1), { posted: true });
    edu.regionWrite(BAR0, Edu.liveness, bytes32(2), { posted: true });
    expect(step('register').stepped).toBe(true);
    const bytes = () =>
      rig.ask<RegistersAnswer>({ name: 'registers', function: 'edu0' }).blocks[0]!.bytes.subarray(4, 8);
    expect([...bytes()]).toEqual([...bytes32(~1)]);
    expect(step('register').stepped).toBe(true);
    expect([...bytes()]).toEqual([...bytes32(~2)]);
    resume();
  });

  it('says that no register was accessed', () => {
    start();
    pause();
    expect(step('register')).toEqual({ stepped: false, state: 'paused' });
  });

  it('goes on being inspected', () => {
    const { edu } = start();
    rig.dma(edu, IOVA);
    pause();
    expect(walk()).toMatchObject({ status: 'mapped', agrees: true });
    expect(tlb().total).toBe(1);
    expect(rig.ask<InspectionAnswer>({ name: 'inspect' }).state).toBe('paused');
  });

  it('survives clients that go and come, and takes them as they were when it goes on', () => {
    const { iommu, edu } = start();
    pause();
    edu.regionWrite(BAR0, Edu.liveness, bytes32(5), { posted: true });
    edu.close();
    rig.settle();
    expect(rig.machine.functions.get('edu0')!.server.connected).toBe(true);
    expect(rig.machine.control.state).toBe('paused');
    expect(rig.trace.kinds()).not.toContain('client.closed');
    resume();
    const next = rig.connect('edu0');
    expect(read32(next, Edu.liveness)).toBe(0);
    expect(read32(iommu, Vtd.gsts) >>> 31).toBe(1);
  });

  it('can be ended', () => {
    const { edu } = start();
    pause();
    rig.startDma(edu, IOVA, true);
    rig.machine.close();
    rig.until(() => edu.endReason !== undefined);
  });

  it('does a transfer at a step also where memory is reached by messages', () => {
    const iommu = rig.connect('iommu', { mapped: false });
    const edu = rig.connect('edu0', { mapped: false });
    rig.buildTables(Frame.data);
    rig.store(
      Frame.data * PAGE,
      Uint8Array.from({ length: 16 }, (_, i) => i + 1),
    );
    rig.enableTranslation(iommu);
    rig.startDma(edu, IOVA, false);
    rig.finishDma(edu);
    pause();
    rig.startDma(edu, IOVA + 0x100n, true);
    for (let i = 0; i < 4; i++) step('register');
    expect([...rig.load(Frame.data * PAGE + 0x100, 2)]).toEqual([0, 0]);
    expect(step('dma').stepped).toBe(true);
    expect([...rig.load(Frame.data * PAGE + 0x100, 2)]).toEqual([1, 2]);
    expect(walk()).toMatchObject({ status: 'mapped' });
    // Clients are paused again after those who waited for them.
    edu.regionWrite(BAR0, Edu.liveness, bytes32(1), { posted: true });
    rig.settle();
    const { bytes } = rig.ask<RegistersAnswer>({ name: 'registers', function: 'edu0' }).blocks[0]!;
    expect([...bytes.subarray(4, 8)]).toEqual([0, 0, 0, 0]);
  });

  it('notes what happens', () => {
    const { edu } = start();
    pause();
    edu.regionWrite(BAR0, Edu.liveness, bytes32(1), { posted: true });
    step('register');
    step('dma');
    resume();
    const notes = rig.trace.events.filter(({ source }) => source === 'machine');
    expect(notes).toEqual([
      { kind: 'machine.paused', source: 'machine', detail: { jobs: 0 } },
      { kind: 'machine.stepped', source: 'machine', detail: { what: 'register', accesses: 1 } },
      { kind: 'machine.stepped', source: 'machine', detail: { what: 'dma', transfers: 0, jobs: 0 } },
      { kind: 'machine.resumed', source: 'machine', detail: { jobs: 0 } },
    ]);
  });
});
